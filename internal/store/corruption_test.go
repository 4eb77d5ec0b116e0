package store

import (
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Nobody should delete a store because a disk was full.
func TestWhatAFailedStoreSaysToDoNext(t *testing.T) {
	full := &Corruption{"/state/1_0/kv", &fs.PathError{Op: "write", Path: "/state/1_0/kv/4.sst", Err: syscall.ENOSPC}}
	require.EqualError(t, full, "store: /state/1_0/kv: write /state/1_0/kv/4.sst: no space left on device: make room and start again: nothing is lost")
	require.ErrorIs(t, full, ErrCorrupt)

	damaged := &Corruption{"/state/1_0/kv", errors.New("checksum mismatch")}
	const says = "store: /state/1_0/kv: checksum mismatch: stop the process, check the disk, then delete this directory: the stores are restored from their changelogs"
	require.EqualError(t, damaged, says)
	require.EqualError(t, &Corruption{"/state/1_0/kv", damaged}, says)
}
