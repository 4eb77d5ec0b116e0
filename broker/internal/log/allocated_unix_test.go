//go:build unix

package log

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// allocated is the space that a file takes on disk, or -1 if unknown.
func allocated(t *testing.T, path string) int64 {
	var st unix.Stat_t
	require.NoError(t, unix.Stat(path, &st))
	return int64(st.Blocks) * 512
}
