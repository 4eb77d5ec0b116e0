package broker

import "path/filepath"

// logDir is the directory of the logs as clients see it, and how to find the space of its volume; nil if that is not known, as of
// a file system in memory.
func (b *Broker) logDir() (dir string, space func() (total, usable int64, err error)) {
	if b.cfg.DataDir == "" || b.cfg.FS != nil {
		return "/" + memoryDir, nil
	}
	dir, err := filepath.Abs(b.cfg.DataDir)
	if err != nil {
		dir = b.cfg.DataDir
	}
	return dir, func() (int64, int64, error) { return diskSpace(dir) }
}
