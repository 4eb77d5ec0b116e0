package broker

import (
	"fmt"

	"golang.org/x/sys/windows"
)

// diskSpace gives the bytes of the volume that holds dir, and those of them that the process may still use.
func diskSpace(dir string) (total, usable int64, err error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, fmt.Errorf("space of the volume of %s: %w", dir, err)
	}
	var free, all, allFree uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, &all, &allFree); err != nil {
		return 0, 0, fmt.Errorf("space of the volume of %s: %w", dir, err)
	}
	return int64(all), int64(free), nil
}
