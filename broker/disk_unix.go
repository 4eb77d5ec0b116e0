//go:build linux || darwin

package broker

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// diskSpace gives the bytes of the volume that holds dir, and those of them that the process may still use.
func diskSpace(dir string) (total, usable int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("space of the volume of %s: %w", dir, err)
	}
	block := int64(st.Bsize)
	return int64(st.Blocks) * block, int64(st.Bavail) * block, nil
}
