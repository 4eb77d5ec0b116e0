//go:build unix

package server

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// idleReaderOf gives how a connection waits without a buffer; nil if it cannot.
func idleReaderOf(nc net.Conn) idleReader {
	switch nc := nc.(type) {
	case *pipeConn:
		return nc
	case *net.TCPConn:
		raw, err := nc.SyscallConn()
		if err != nil {
			return nil
		}
		t := &idleTCP{raw: raw}
		t.try = t.read
		return t
	}
	return nil
}

// idleTCP tries to read when the poller says that there is something, and takes a buffer just for that.
type idleTCP struct {
	raw syscall.RawConn
	try func(fd uintptr) bool // read; made once

	// Of the call of readIdle.
	in  *input
	n   int
	err error
}

func (t *idleTCP) readIdle(in *input) (n int, err error) {
	t.in, t.n, t.err = in, 0, nil
	err = t.raw.Read(t.try)
	switch {
	case err != nil:
		return 0, err
	case t.err != nil:
		return 0, os.NewSyscallError("read", t.err)
	case t.n == 0:
		return 0, io.EOF
	}
	return t.n, nil
}

// read reports false if there is nothing to read yet.
func (t *idleTCP) read(fd uintptr) bool {
	buf := t.in.take()
	for {
		t.n, t.err = syscall.Read(int(fd), buf)
		if !errors.Is(t.err, syscall.EINTR) {
			break
		}
	}
	if errors.Is(t.err, syscall.EAGAIN) {
		t.n, t.err = 0, nil
		t.in.release()
		return false
	}
	t.n = max(t.n, 0) // -1 with an error
	return true
}
