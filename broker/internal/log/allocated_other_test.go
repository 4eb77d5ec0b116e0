//go:build !unix

package log

import "testing"

func allocated(*testing.T, string) int64 { return -1 }
