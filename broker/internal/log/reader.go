package log

import (
	"fmt"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// batchReader reads whole batches and checks them.
type batchReader struct {
	file vfs.File
	pos  int64 // of the next batch
	end  int64
	buf  []byte
	at   int64 // file position of buf
	// chunk is how much is read at a time; 0: readBuffer.
	chunk int
}

// orderError is an intact batch at a place where its offset cannot be.
type orderError struct{ got, want int64 }

func (e *orderError) Error() string {
	return fmt.Sprintf("offset %d where %d must follow", e.got, e.want)
}

const readBuffer = 256 << 10

// next returns the next batch, valid until the call after, or nil at the end. The
// batch must begin at expected or later. On an error pos is where the bad batch begins.
func (r *batchReader) next(expected int64) (batch.Batch, error) {
	left := r.end - r.pos
	if left == 0 {
		return nil, nil
	}
	if left < batch.HeaderLen {
		return nil, fmt.Errorf("%d bytes at the end are less than a batch header: %w", left, batch.ErrTruncated)
	}
	head, err := r.bytes(batch.HeaderLen)
	if err != nil {
		return nil, err
	}
	size, err := batch.PeekSize(head)
	if err != nil {
		return nil, err
	}
	if m := batch.Batch(head).Magic(); m != batch.Magic {
		return nil, &batch.CorruptError{Reason: fmt.Sprintf("record format version (magic) %d", m)}
	}
	if int64(size) > left {
		return nil, fmt.Errorf("batch of %d bytes with %d left: %w", size, left, batch.ErrTruncated)
	}
	p, err := r.bytes(size)
	if err != nil {
		return nil, err
	}
	b := batch.Batch(p)
	if err := b.Check(); err != nil {
		return nil, err
	}
	if b.BaseOffset() < expected || b.LastOffset() < 0 {
		return nil, &orderError{got: b.BaseOffset(), want: expected}
	}
	r.pos += int64(size)
	return b, nil
}

// bytes returns n bytes from pos on.
func (r *batchReader) bytes(n int) ([]byte, error) {
	if r.pos < r.at || r.pos+int64(n) > r.at+int64(len(r.buf)) {
		chunk := r.chunk
		if chunk <= 0 {
			chunk = readBuffer
		}
		want := int(min(int64(max(n, chunk)), r.end-r.pos))
		if cap(r.buf) < want {
			r.buf = make([]byte, want)
		}
		r.buf = r.buf[:want]
		if err := readFull(r.file, r.buf, r.pos); err != nil {
			r.buf = r.buf[:0]
			return nil, err
		}
		r.at = r.pos
	}
	return r.buf[r.pos-r.at:][:n:n], nil
}
