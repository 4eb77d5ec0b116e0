//go:build !linux

package vfs

// BootID is unknown: there is no source that a clock change cannot alter.
func (osFS) BootID() string { return "" }
