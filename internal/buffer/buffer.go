// Package buffer recycles the large pieces of memory through which requests and fetched records pass. Made anew for each
// request they would be most of what a broker allocates, and the collector would run all the time.
//
//	Get(n) --> use --> Free        a Buffer that nobody frees is left to the collector
//
// Pieces have a few sizes, a little above what batches and frames usually have, so that a frame that holds a batch of 16 KiB or of
// 1 MiB wastes little. Larger ones than the largest are not recycled.
package buffer

import (
	"sync"
)

// Buffer is a piece of memory. B has the length that was asked for and any content. One that Get has not made is not recycled.
type Buffer struct {
	B     []byte
	class int // 1 for the first of sizes; 0: not recycled
}

var sizes = [...]int{4 << 10, 20 << 10, 72 << 10, 288 << 10, 1<<20 + 64<<10, 4<<20 + 64<<10}

var pools [len(sizes)]sync.Pool // only memory, no state

// Get returns a Buffer of n bytes.
func Get(n int) *Buffer {
	for class, size := range sizes {
		if n > size {
			continue
		}
		b, ok := pools[class].Get().(*Buffer)
		if !ok {
			b = &Buffer{B: make([]byte, size), class: class + 1}
		}
		b.B = b.B[:n]
		return b
	}
	return &Buffer{B: make([]byte, n)}
}

// Free gives the memory back. Nobody may use it, or free it again, after that. A nil Buffer is none.
func (b *Buffer) Free() {
	if b == nil || b.class == 0 {
		return
	}
	b.B = b.B[:cap(b.B)]
	pools[b.class-1].Put(b)
}

// Grow makes the buffer at least n bytes long, keeping its content, by taking another piece where it has not the room. It returns the
// buffer to use from now on.
func (b *Buffer) Grow(n int) *Buffer {
	if n <= cap(b.B) {
		b.B = b.B[:max(n, len(b.B))]
		return b
	}
	bigger := Get(n)
	copy(bigger.B, b.B)
	b.Free()
	return bigger
}
