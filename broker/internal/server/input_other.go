//go:build !unix

package server

import "net"

// idleReaderOf gives how a connection waits without a buffer; nil if it cannot.
func idleReaderOf(nc net.Conn) idleReader {
	if p, ok := nc.(*pipeConn); ok {
		return p
	}
	return nil
}
