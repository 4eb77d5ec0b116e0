package server

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// smallInput is the size of the buffer that requests are read through. After a larger request it is largeInput: who sends such ones
// sends several, and one read takes up all that are there.
const (
	smallInput = 4 << 10
	largeInput = 64 << 10
)

// Only memory, no state.
var (
	smallInputs = sync.Pool{New: func() any { return new(make([]byte, smallInput)) }}
	largeInputs = sync.Pool{New: func() any { return new(make([]byte, largeInput)) }}
)

// input reads from a connection. It holds a buffer only while there is something in it, so that an idle connection costs none.
//
// Invariants: buf is nil iff r == w and nothing waits for bytes of a frame that has begun; 0 <= r <= w <= len(buf).
type input struct {
	nc   net.Conn
	idle idleReader // nil: the connection cannot wait without a buffer
	buf  *[]byte
	r, w int
	last int // size of the last frame
}

// idleReader waits for bytes before it takes a buffer.
type idleReader interface {
	// readIdle waits until something can be read, and only then reads it into in.take().
	readIdle(in *input) (n int, err error)
}

func newInput(nc net.Conn) *input {
	return &input{nc: nc, idle: idleReaderOf(nc)}
}

func (in *input) take() []byte {
	if in.buf == nil {
		if in.last > smallInput && in.last <= largeInput {
			in.buf = largeInputs.Get().(*[]byte)
		} else {
			in.buf = smallInputs.Get().(*[]byte)
		}
	}
	return (*in.buf)[in.w:]
}

// release gives the buffer back when it is empty.
func (in *input) release() {
	if in.r == in.w && in.buf != nil {
		if len(*in.buf) == largeInput {
			largeInputs.Put(in.buf)
		} else {
			smallInputs.Put(in.buf)
		}
		in.buf, in.r, in.w = nil, 0, 0
	}
}

// buffered is the number of bytes that were read and not taken up.
func (in *input) buffered() int { return in.w - in.r }

// await waits until n bytes, which are few, are buffered.
func (in *input) await(n int) error {
	for empty := 0; in.buffered() < n; {
		var got int
		var err error
		if in.buffered() == 0 && in.idle != nil {
			in.release()
			got, err = in.idle.readIdle(in)
		} else {
			if in.buf != nil && in.r > 0 { // at most n-1 bytes
				in.w = copy(*in.buf, (*in.buf)[in.r:in.w])
				in.r = 0
			}
			got, err = in.nc.Read(in.take())
		}
		in.w += got
		if got == 0 && err == nil {
			if empty++; empty > 100 {
				err = io.ErrNoProgress
			}
		}
		if err != nil && in.buffered() < n {
			if errors.Is(err, io.EOF) && in.buffered() > 0 {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// Read gives what is buffered, or else reads; large pieces go past the buffer.
func (in *input) Read(p []byte) (int, error) {
	if in.buffered() == 0 {
		in.r, in.w = 0, 0
		if len(p) >= smallInput && (in.buf == nil || len(p) >= len(*in.buf)) {
			return in.nc.Read(p)
		}
		n, err := in.nc.Read(in.take())
		in.w = n
		if n == 0 {
			return 0, err
		}
	}
	n := copy(p, (*in.buf)[in.r:in.w])
	in.r += n
	return n, nil
}

// whole tells whether a whole Produce is buffered, which is taken up before the one in front of it is answered.
func (in *input) whole() bool {
	if in.buffered() < frameLength+2 {
		return false
	}
	b := (*in.buf)[in.r:in.w]
	n := int64(binary.BigEndian.Uint32(b))
	key := int16(binary.BigEndian.Uint16(b[frameLength:]))
	return n <= int64(len(b)-frameLength) && key == int16(kmsg.Produce)
}
