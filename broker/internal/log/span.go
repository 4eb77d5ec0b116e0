package log

import (
	"fmt"
	"os"
	"sync/atomic"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// Span is a run of whole batches, and maybe the beginning of another one (ReadResult.Tail), in the file of a segment, for who can send them from there without taking them into memory.
//
// Invariants: its bytes are below the limit of the read, so nobody changes them; it holds a reference to the segment and keeps the
// file open, hence they can be read until ReadResult.Free, also when the segment is deleted or compacted, or the log closed.
type Span struct {
	l    *Log
	s    *segment
	pos  int64 // in the file
	size int
}

// Len is the number of bytes.
func (s *Span) Len() int { return s.size }

// File calls f with the open file of the operating system and the position of the span's first byte in it. The file may be closed
// when f has returned; f must not wait for anything but the disk.
func (s *Span) File(f func(file *os.File, pos int64)) error {
	file, err := s.s.file.acquire()
	if err != nil {
		return fmt.Errorf("%s: %w", s.s.path, err)
	}
	defer s.s.file.mu.RUnlock()
	f(file.(vfs.OSFile).OS(), s.pos)
	return nil
}

// ReadAt reads bytes of the span into p, all of which must be in it.
func (s *Span) ReadAt(p []byte, off int) error {
	if err := readFull(s.s.file, p, s.pos+int64(off)); err != nil {
		return fmt.Errorf("%s: %w", s.s.path, err)
	}
	return nil
}

// Path names the file, for messages.
func (s *Span) Path() string { return s.s.path }

// free lets the segment go.
func (s *Span) free() {
	s.s.file.pins.Add(-1)
	if err := s.s.release(); err != nil {
		s.l.o.Logger.Warn("closing a deleted segment", "segment", s.s.path, "error", err)
	}
}

const (
	// leastSpan is how many bytes are worth more than one call to send them.
	leastSpan = 32 << 10
	// spanBatch is how many bytes a batch must have on average: the header of each is read, by a call of its own.
	spanBatch = 4 << 10
)

// span finds what readOnce would read, without reading more than headers. It returns nil where that is not worth it or something is
// in the way: then readOnce and who follows it tell what.
func (v *view) span(offset int64, maxBytes int, limit int64, minOne bool) (span *Span, next int64) {
	s, end := v.segs[v.i], v.size[v.i]
	if offset < v.unverified {
		return nil, 0 // somebody has to look at these bytes once
	}
	pos, _, err := v.start(offset)
	if err != nil || min(end-pos, int64(max(maxBytes, 0))) < leastSpan && !minOne {
		return nil, 0
	}
	if !s.file.pin() {
		return nil, 0
	}
	var head [batch.HeaderLen]byte
	first, size, seen, tail := pos, 0, 0, 0
	expected := s.base
	for pos+batch.HeaderLen <= end {
		if seen++; seen > 16 && size < seen*spanBatch {
			size = 0 // many small ones are better read at once
			break
		}
		if readFull(s.file, head[:], pos) != nil {
			break
		}
		b := batch.Batch(head[:])
		n, err := batch.PeekSize(b)
		if err != nil || b.Magic() != batch.Magic || int64(n) > end-pos || b.BaseOffset() < expected || b.LastOffsetDelta() < 0 ||
			b.LastOffset() >= v.end {
			break
		}
		expected = b.LastOffset() + 1
		if b.LastOffset() < offset {
			pos += int64(n)
			first = pos
			continue
		}
		if b.LastOffset() >= limit {
			break
		}
		if size+n > maxBytes && (size > 0 || !minOne) {
			tail = maxBytes - size
			break
		}
		size += n
		pos += int64(n)
		next = expected
		if size >= maxBytes {
			break
		}
	}
	if size < leastSpan {
		s.file.pins.Add(-1)
		return nil, 0
	}
	s.acquire()
	s.ends.put(next, pos)
	return &Span{l: v.l, s: s, pos: first, size: size + tail}, next
}

// start is where to begin the search for offset; exact says that it is there.
func (v *view) start(offset int64) (pos int64, exact bool, err error) {
	s := v.segs[v.i]
	if pos, exact = s.ends.get(offset); !exact {
		pos, err = s.resolve(v.hint[v.i], offset)
	}
	return pos, exact, err
}

// pin keeps the open file open until the pins are taken back. It reports false for one that is not of the operating system.
func (h *handle) pin() bool {
	f, err := h.acquire()
	if err != nil {
		return false
	}
	defer h.mu.RUnlock()
	if _, ok := f.(vfs.OSFile); !ok {
		return false
	}
	h.pins.Add(1)
	return true
}

// positions remembers where some reads have ended in a segment, so that the next ones need no index.
type positions struct {
	at   [4]atomic.Pointer[batchPlace]
	turn atomic.Uint32
}

// batchPlace says that the first batch with offset or a later one begins at pos.
type batchPlace struct{ offset, pos int64 }

func (p *positions) put(offset, pos int64) {
	p.at[p.turn.Add(1)%uint32(len(p.at))].Store(&batchPlace{offset, pos})
}

func (p *positions) get(offset int64) (pos int64, ok bool) {
	for i := range p.at {
		if e := p.at[i].Load(); e != nil && e.offset == offset {
			return e.pos, true
		}
	}
	return 0, false
}
