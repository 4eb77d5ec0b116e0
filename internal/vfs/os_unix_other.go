//go:build unix && !linux

package vfs

import "os"

// lockRange does nothing: POSIX locks would be lost when any descriptor of the file is closed.
func lockRange(*os.File) error { return nil }
