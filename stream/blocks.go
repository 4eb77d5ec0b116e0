package stream

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/internal/task"
)

const (
	blockRecords = 256
	blockHeaders = 64
	blockBytes   = 32 << 10
	freeBlocks   = 192 // kept for reuse, at most
)

// block is memory for output records that is handed out record by record and comes back as a whole when the last of
// them is acknowledged: no allocation per record. It is the context of its records, which is how a
// promise finds it; as a context it is the background.
type block struct {
	context.Context
	owner   *blocks
	records [blockRecords]kgo.Record
	headers [blockHeaders]kgo.RecordHeader
	bytes   []byte
	used    int
	hused   int

	// open counts records that are not acknowledged, plus one while the block is being filled.
	open atomic.Int32
}

// blocks hands out records. One goroutine calls record; done may come from any other.
type blocks struct {
	cur *block

	mu   sync.Mutex
	free []*block
}

// record copies an output record into a block.
func (bs *blocks) record(o *task.Out) *kgo.Record {
	size := len(o.Key) + len(o.Value)
	for _, h := range o.Headers {
		size += len(h.Value)
	}
	b := bs.cur
	if b == nil || b.used == blockRecords || len(b.bytes)+size > cap(b.bytes) || b.hused+len(o.Headers) > blockHeaders {
		b = bs.next(size)
	}
	r := &b.records[b.used]
	b.used++
	b.open.Add(1)
	r.Topic = o.Topic
	r.Partition = o.Partition
	r.Key = b.copy(o.Key)
	r.Value = b.copy(o.Value)
	r.Timestamp = time.UnixMilli(o.Timestamp)
	r.Context = b
	if n := len(o.Headers); n > 0 {
		hs := b.headers[b.hused:min(b.hused+n, blockHeaders):min(b.hused+n, blockHeaders)]
		if n > blockHeaders {
			hs = make([]kgo.RecordHeader, n) // more than a whole block has room for
		} else {
			b.hused += n
		}
		for i, h := range o.Headers {
			hs[i] = kgo.RecordHeader{Key: h.Key, Value: b.copy(h.Value)}
		}
		r.Headers = hs
	}
	return r
}

// copy keeps null and empty apart.
func (b *block) copy(v []byte) []byte {
	if v == nil {
		return nil
	}
	at := len(b.bytes)
	b.bytes = append(b.bytes, v...)
	return b.bytes[at:len(b.bytes):len(b.bytes)]
}

// next closes the block that is being filled and starts another with room for size bytes.
func (bs *blocks) next(size int) *block {
	if bs.cur != nil {
		bs.cur.done()
	}
	bs.mu.Lock()
	var b *block
	if n := len(bs.free); n > 0 {
		b, bs.free = bs.free[n-1], bs.free[:n-1]
	}
	bs.mu.Unlock()
	if b == nil {
		b = &block{Context: context.Background(), owner: bs, bytes: make([]byte, 0, blockBytes)}
	}
	if cap(b.bytes) < size {
		b.bytes = make([]byte, 0, size)
	}
	b.open.Store(1)
	bs.cur = b
	return b
}

// done gives one record back.
func (b *block) done() {
	if b.open.Add(-1) > 0 {
		return
	}
	clear(b.records[:b.used])
	clear(b.headers[:b.hused])
	b.used, b.hused = 0, 0
	if cap(b.bytes) > 4*blockBytes {
		b.bytes = make([]byte, 0, blockBytes) // one huge record should not stay for ever
	}
	b.bytes = b.bytes[:0]
	bs := b.owner
	bs.mu.Lock()
	if len(bs.free) < freeBlocks {
		bs.free = append(bs.free, b)
	}
	bs.mu.Unlock()
}
