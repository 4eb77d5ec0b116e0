package server

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// newPipe makes the two ends of an in-process connection: a full duplex stream with a buffer in each direction and deadlines,
// which never touches the kernel. Unlike net.Pipe a write returns when the bytes are buffered, so the two sides overlap.
func newPipe(a, b net.Addr) (net.Conn, net.Conn) {
	ab, ba := newHalf(), newHalf()
	return &pipeConn{in: ba, out: ab, local: a, remote: b}, &pipeConn{in: ab, out: ba, local: b, remote: a}
}

// pipeBuffer is how many bytes one direction holds at most; more makes the writer wait.
const pipeBuffer = 256 << 10

type pipeConn struct {
	in, out       *half
	local, remote net.Addr
}

func (c *pipeConn) Read(p []byte) (int, error)         { return c.in.read(p) }
func (c *pipeConn) Write(p []byte) (int, error)        { return c.out.write(p) }
func (c *pipeConn) LocalAddr() net.Addr                { return c.local }
func (c *pipeConn) RemoteAddr() net.Addr               { return c.remote }
func (c *pipeConn) SetReadDeadline(t time.Time) error  { c.in.readDeadline.set(t); return nil }
func (c *pipeConn) SetWriteDeadline(t time.Time) error { c.out.writeDeadline.set(t); return nil }
func (c *pipeConn) SetDeadline(t time.Time) error {
	c.in.readDeadline.set(t)
	c.out.writeDeadline.set(t)
	return nil
}

func (c *pipeConn) Close() error {
	c.in.close(&c.in.readerGone)
	c.out.close(&c.out.writerGone)
	c.in.readDeadline.set(time.Time{})
	c.out.writeDeadline.set(time.Time{})
	return nil
}

// half is one direction: a ring of bytes that grows up to pipeBuffer.
type half struct {
	mu                          sync.Mutex
	changed                     sync.Cond
	ring                        []byte
	start, n                    int
	readerGone, writerGone      bool
	readDeadline, writeDeadline pipeDeadline
}

func newHalf() *half {
	h := &half{}
	h.changed.L = &h.mu
	h.readDeadline.half, h.writeDeadline.half = h, h
	return h
}

func (h *half) close(gone *bool) {
	h.mu.Lock()
	*gone = true
	if h.readerGone {
		h.ring, h.n = nil, 0
	}
	h.changed.Broadcast()
	h.mu.Unlock()
}

// readIdle waits for bytes before it takes a buffer.
func (c *pipeConn) readIdle(in *input) (int, error) {
	if err := c.in.await(); err != nil {
		return 0, err
	}
	return c.in.read(in.take())
}

// await waits until read does not wait.
func (h *half) await() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.readerGone:
			return net.ErrClosed
		case h.readDeadline.passed:
			return os.ErrDeadlineExceeded
		case h.n > 0:
			return nil
		case h.writerGone:
			return io.EOF
		}
		h.changed.Wait()
	}
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.readerGone:
			return 0, net.ErrClosed
		case h.readDeadline.passed:
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case h.n > 0:
			n := copy(p, h.ring[h.start:min(h.start+h.n, len(h.ring))])
			if n < len(p) && n < h.n {
				n += copy(p[n:], h.ring[:h.n-n])
			}
			h.start, h.n = (h.start+n)%len(h.ring), h.n-n
			if h.n == 0 {
				h.start = 0
			}
			h.changed.Broadcast()
			return n, nil
		case h.writerGone:
			return 0, io.EOF
		}
		h.changed.Wait()
	}
}

func (h *half) write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	total := 0
	for {
		switch {
		case h.writerGone:
			return total, net.ErrClosed
		case h.readerGone:
			return total, io.ErrClosedPipe
		case h.writeDeadline.passed:
			return total, os.ErrDeadlineExceeded
		case len(p) == 0:
			return total, nil
		}
		h.grow(len(p))
		if free := len(h.ring) - h.n; free > 0 {
			end := (h.start + h.n) % len(h.ring)
			part := min(free, len(p))
			n := copy(h.ring[end:], p[:part])
			n += copy(h.ring, p[n:part])
			h.n, total, p = h.n+n, total+n, p[n:]
			h.changed.Broadcast()
			continue
		}
		h.changed.Wait()
	}
}

// grow makes room for n more bytes, as far as the limit allows.
func (h *half) grow(n int) {
	need := min(h.n+n, pipeBuffer)
	if need <= len(h.ring) {
		return
	}
	size := max(len(h.ring), 2<<10)
	for size < need {
		size *= 2
	}
	ring := make([]byte, size)
	k := copy(ring, h.ring[h.start:min(h.start+h.n, len(h.ring))])
	copy(ring[k:], h.ring[:h.n-k])
	h.ring, h.start = ring, 0
}

// pipeDeadline is a deadline of one direction of one end; half.mu guards it.
type pipeDeadline struct {
	half   *half
	timer  *time.Timer
	turn   int // tells a timer that fired late from the current one
	passed bool
}

func (d *pipeDeadline) set(t time.Time) {
	h := d.half
	h.mu.Lock()
	defer h.mu.Unlock()
	d.turn++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.passed = false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.passed = true
		h.changed.Broadcast()
		return
	}
	turn := d.turn
	d.timer = time.AfterFunc(wait, func() {
		h.mu.Lock()
		if d.turn == turn {
			d.passed = true
			h.changed.Broadcast()
		}
		h.mu.Unlock()
	})
}

// inProcessAddr is the address of an end of an in-process connection.
type inProcessAddr string

func (inProcessAddr) Network() string  { return "in-process" }
func (a inProcessAddr) String() string { return string(a) }
