package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/replica"
	"github.com/moldau-stream/moldau/internal/buffer"
)

// spanSender sends records from the file that they are in to a socket, without taking them into memory.
type spanSender interface {
	// announce sends bytes that others follow at once.
	announce(p []byte) (n int, err error)
	// span sends bytes of a span from the one at position from on. errNoSendfile says that it cannot be done for this file.
	span(s *replica.Span, from int) (n int, err error)
}

// errNoSendfile says that the operating system does not send from this file.
var errNoSendfile = errors.New("the file system has no sendfile")

// send writes answers in order; a peer that takes nothing for Limits.Stall is given up.
func (c *Conn) send(outs []*output, bufs net.Buffers) (net.Buffers, error) {
	bufs = bufs[:0]
	for _, o := range outs {
		from := 0
		for _, cut := range o.cuts {
			meta := o.meta[from:cut.at]
			from = cut.at
			if cut.span == nil {
				bufs = appendPiece(appendPiece(bufs, meta), cut.data)
				continue
			}
			if err := c.sendBytes(bufs); err != nil {
				return bufs, err
			}
			bufs = bufs[:0]
			if err := c.announce(meta); err != nil {
				return bufs, err
			}
			if err := c.sendSpan(cut.span); err != nil {
				return bufs, err
			}
		}
		bufs = appendPiece(bufs, o.meta[from:])
	}
	return bufs, c.sendBytes(bufs)
}

func appendPiece(bufs net.Buffers, p []byte) net.Buffers {
	if len(p) == 0 {
		return bufs
	}
	return append(bufs, p)
}

// tlsPiece is how much a TLS connection writes at once. It is of no use any more after a write that has timed out, so a client that takes
// its answer slowly must take this much in time.
const tlsPiece = 64 << 10

// sendBytes writes all of bufs.
func (c *Conn) sendBytes(bufs net.Buffers) error {
	if _, ok := c.nc.(*tls.Conn); ok {
		for _, b := range bufs {
			for piece := range slices.Chunk(b, tlsPiece) {
				if err := c.sendAll(net.Buffers{piece}); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return c.sendAll(bufs)
}

func (c *Conn) sendAll(bufs net.Buffers) error {
	for len(bufs) > 0 {
		n := int64(0)
		done, err := c.step(func() (bool, error) {
			var err error
			n, err = bufs.WriteTo(c.nc) // consumes what it wrote
			return n > 0, err
		})
		if done || err != nil {
			return err
		}
	}
	return nil
}

// announce writes p, which a span follows.
func (c *Conn) announce(p []byte) error {
	for len(p) > 0 {
		_, err := c.step(func() (bool, error) {
			n, err := c.spans.announce(p)
			p = p[n:]
			return n > 0, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sendSpan writes a span.
func (c *Conn) sendSpan(s *replica.Span) error {
	for sent := 0; sent < s.Len(); {
		_, err := c.step(func() (bool, error) {
			n, err := c.spans.span(s, sent)
			sent += n
			return n > 0, err
		})
		if errors.Is(err, errNoSendfile) {
			return c.copySpan(s, sent)
		}
		if err != nil {
			return fmt.Errorf("send records from %s: %w", s.Path(), err)
		}
	}
	return nil
}

// copySpan is sendSpan by way of memory.
func (c *Conn) copySpan(s *replica.Span, sent int) error {
	buf := buffer.Get(smallFrame)
	defer buf.Free()
	for sent < s.Len() {
		p := buf.B[:min(len(buf.B), s.Len()-sent)]
		if err := s.ReadAt(p, sent); err != nil {
			return err
		}
		if err := c.sendBytes(net.Buffers{p}); err != nil {
			return err
		}
		sent += len(p)
	}
	return nil
}

// step writes a piece within the time that the peer has to take some of it. done says that all of it is written; the error of a
// peer that took something in time is none.
func (c *Conn) step(write func() (some bool, err error)) (done bool, err error) {
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.s.cfg.Limits.Stall)); err != nil {
		return false, err
	}
	some, err := write()
	switch {
	case err == nil && !some:
		return false, io.ErrNoProgress
	case err == nil:
		return true, nil
	case errors.Is(err, os.ErrDeadlineExceeded) && some:
		return false, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false, fmt.Errorf("the client has not taken an answer for %v", c.s.cfg.Limits.Stall)
	}
	return false, err
}
