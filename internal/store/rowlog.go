package store

import (
	"bytes"
	"encoding/binary"
	"math"
	"unsafe"
)

// rowLog has the rows that were put into a store with duplicates, the window of one side of a join of two streams, in the
// order in which they came:
//
//	[ block ][ block ][ block ][ block ][ blo
//	         ^ oldest that the engine    ^ the open transaction begins
//	           does not have
//
// Such a row never changes and is never deleted: it expires. So a row is one copy of its bytes, found by its sequence
// number; a commit copies nothing, its run is a part of the log; and a rollback cuts the end off. Rows stay until they
// expire, in the engine or not, as long as there is memory: a join whose rows expire within some seconds never
// brings them to the engine.
type rowLog struct {
	k      *KV
	blocks []*rowBlock
	gaps   bool // not all blocks but the last are full, or numbers are left out
	open   int  // rows of the open transaction
	size   int  // of their keys and values
}

func newRowLog(k *KV) *rowLog {
	return &rowLog{k: k}
}

// rowBlock is some rows with sequence numbers without a gap. What is committed of it does not change any more: runs, and so
// Views, share it.
type rowBlock struct {
	first     uint32 // sequence number
	rows      []loggedRow
	data      []byte // keys and values, one behind the other
	committed int    // rows
	latest    int64  // of their times
	gen       uint32 // of the write that brings the last of them to the engine: see Task.gen
}

type loggedRow struct {
	ts         int64
	at         uint32 // in data; the value follows the key
	key, value uint32 // bytes; no key: the row was taken back
}

const (
	blockRows     = 512
	loggedRowSize = int(unsafe.Sizeof(loggedRow{}))
	seqMask       = math.MaxInt32
)

func (b *rowBlock) bytes() int64 { return int64(cap(b.data) + cap(b.rows)*loggedRowSize) }

func (b *rowBlock) keyOf(r loggedRow) []byte { return b.data[r.at : r.at+r.key : r.at+r.key] }

func (b *rowBlock) valueOf(r loggedRow) []byte {
	at := r.at + r.key
	return b.data[at : at+r.value : at+r.value]
}

// add appends a row.
func (l *rowLog) add(row, value []byte, ts int64) {
	b := l.last()
	_, r := l.k.layout.split(row)
	seq := uint32(r.sub)
	if b == nil || len(b.rows) == blockRows || seq != (b.first+uint32(len(b.rows)))&seqMask || len(b.data) > 1<<30 {
		b = l.newBlock(b, seq)
	}
	before := b.bytes()
	b.rows = append(b.rows, loggedRow{ts, uint32(len(b.data)), uint32(len(row)), uint32(len(value))})
	b.data = append(append(b.data, row...), value...)
	b.latest = max(b.latest, r.at)
	l.open++
	l.size += len(row) + len(value)
	l.k.t.bytes += b.bytes() - before
	l.k.t.dirtyBytes += loggedRowSize + len(row) + len(value)
}

func (l *rowLog) last() *rowBlock {
	if n := len(l.blocks); n > 0 {
		return l.blocks[n-1]
	}
	return nil
}

// newBlock appends a block, with room for what the one before has.
func (l *rowLog) newBlock(before *rowBlock, seq uint32) *rowBlock {
	b := &rowBlock{first: seq, latest: math.MinInt64}
	if before != nil && len(before.rows) == blockRows {
		b.rows = make([]loggedRow, 0, blockRows)
		b.data = make([]byte, 0, len(before.data)+len(before.data)/16)
	}
	l.gaps = before != nil && (l.gaps || seq != (before.first+blockRows)&seqMask)
	l.blocks = append(l.blocks, b)
	l.k.t.bytes += b.bytes()
	return b
}

// find returns the value of a row.
func (l *rowLog) find(key []byte, r rowRef) (value []byte, ts int64, ok bool) {
	seq := uint32(r.sub)
	if b, i := l.locate(seq); b != nil {
		if value, ts, ok = b.find(&l.k.layout, key, r, i); ok {
			return value, ts, true
		}
	}
	if l.gaps {
		for _, b := range l.blocks {
			if i := b.place(seq); i < len(b.rows) {
				if value, ts, ok = b.find(&l.k.layout, key, r, i); ok {
					return value, ts, true
				}
			}
		}
	}
	return nil, 0, false
}

// locate returns where the row with a sequence number is, if it is there and there are no gaps; nil: it is not.
func (l *rowLog) locate(seq uint32) (b *rowBlock, i int) {
	if len(l.blocks) == 0 {
		return nil, 0
	}
	n := l.blocks[0].place(seq) / blockRows
	if n >= len(l.blocks) {
		return nil, 0
	}
	b = l.blocks[n]
	if i = b.place(seq); i >= len(b.rows) {
		return nil, 0
	}
	return b, i
}

// place is where in the block a sequence number would be.
func (b *rowBlock) place(seq uint32) int { return int((seq - b.first) & seqMask) }

func (l *rowLog) has(key []byte, r rowRef) bool {
	_, _, ok := l.find(key, r)
	return ok
}

func (b *rowBlock) find(l *layout, key []byte, r rowRef, i int) (value []byte, ts int64, ok bool) {
	row := b.rows[i]
	if int(row.key) != l.prefix+len(key)+l.suffix {
		return nil, 0, false
	}
	if k := b.keyOf(row); !bytes.Equal(k[l.prefix:l.prefix+len(key)], key) || int64(binary.BigEndian.Uint64(k[l.prefix+len(key):])) != r.at {
		return nil, 0, false // after so many rows a number comes again
	}
	return b.valueOf(row), row.ts, true
}

// takeBack removes a row that the open transaction has put, if it has: as a rule the last one.
func (l *rowLog) takeBack(row []byte) {
	for n, left := len(l.blocks)-1, l.open; n >= 0 && left > 0; n-- {
		b := l.blocks[n]
		for i := len(b.rows) - 1; i >= b.committed; i-- {
			r := b.rows[i]
			if !bytes.Equal(b.keyOf(r), row) {
				left--
				continue
			}
			l.k.index.changed(row, false)
			l.k.order.removeRow(row)
			l.size -= int(r.key + r.value)
			l.k.t.dirtyBytes -= loggedRowSize + int(r.key+r.value)
			if i == len(b.rows)-1 {
				b.rows, b.data = b.rows[:i], b.data[:r.at]
				l.open--
				l.trim()
			} else {
				b.rows[i].key = 0
			}
			return
		}
	}
}

// trim forgets blocks without rows at the end.
func (l *rowLog) trim() {
	for b := l.last(); b != nil && len(b.rows) == 0; b = l.last() {
		l.k.t.bytes -= b.bytes()
		l.blocks[len(l.blocks)-1] = nil
		l.blocks = l.blocks[:len(l.blocks)-1]
	}
}

// opened is the first block with rows of the open transaction.
func (l *rowLog) opened() int {
	i := len(l.blocks)
	for left := l.open; left > 0; {
		i--
		left -= len(l.blocks[i].rows) - l.blocks[i].committed
	}
	return i
}

// each calls f with the rows that the open transaction has put.
func (l *rowLog) each(f func(row, value []byte, ts int64) error) error {
	for _, b := range l.blocks[l.opened():] {
		if err := (rowPart{b.rows[b.committed:], b.data}).each(f); err != nil {
			return err
		}
	}
	return nil
}

// eachPinned calls f with the rows that the engine does not have, and maybe others.
func (l *rowLog) eachPinned(f func(row, value []byte, ts int64)) {
	for _, b := range l.blocks {
		if !b.pinned(l.k) {
			continue
		}
		_ = rowPart{b.rows, b.data}.each(func(row, value []byte, ts int64) error {
			f(row, value, ts)
			return nil
		})
	}
}

// pinned tells whether the engine does not have all rows.
func (b *rowBlock) pinned(k *KV) bool { return b.gen > k.writtenGen() || b.committed < len(b.rows) }

// commit ends the open transaction, and returns its rows. Half of their size counts for the run: the log has them too.
func (l *rowLog) commit() *run {
	r := &run{gen: l.k.t.gen, size: int64(l.size+l.open*loggedRowSize) / 2, bytes: l.size + l.open*engineOverhead}
	for _, b := range l.blocks[l.opened():] {
		n := len(b.rows)
		r.rows = append(r.rows, rowPart{b.rows[b.committed:n:n], b.data[:len(b.data):len(b.data)]})
		b.committed, b.gen = n, l.k.t.gen
	}
	l.open, l.size = 0, 0
	return r
}

// rollback forgets the open transaction.
func (l *rowLog) rollback() {
	for _, b := range l.blocks[l.opened():] {
		if b.committed < len(b.rows) {
			b.rows, b.data = b.rows[:b.committed], b.data[:b.rows[b.committed].at]
		}
	}
	l.open, l.size = 0, 0
	l.trim()
}

// expire forgets blocks of which all rows are before a time; a run may still have them.
func (l *rowLog) expire(from int64) {
	for len(l.blocks) > 0 && l.blocks[0].latest < from && l.blocks[0].committed == len(l.blocks[0].rows) {
		l.dropFirst()
	}
}

// clear forgets all rows. There is no open transaction, and the engine has everything.
func (l *rowLog) clear() {
	for len(l.blocks) > 0 {
		l.dropFirst()
	}
}

// evict forgets the oldest block, if the engine has it.
func (l *rowLog) evict() bool {
	if len(l.blocks) == 0 || l.blocks[0].pinned(l.k) {
		return false
	}
	l.dropFirst()
	return true
}

// evictAll is evict for a store that is not Cached.
func (l *rowLog) evictAll() {
	for more := true; more; more = l.evict() {
	}
}

func (l *rowLog) dropFirst() {
	l.k.t.bytes -= l.blocks[0].bytes()
	l.blocks[0] = nil
	l.blocks = l.blocks[1:]
}

// rowPart is rows of a block.
type rowPart struct {
	rows []loggedRow
	data []byte
}

// each calls f with the rows; f must not keep the slices.
func (p rowPart) each(f func(row, value []byte, ts int64) error) error {
	for _, r := range p.rows {
		if r.key == 0 {
			continue
		}
		at := r.at + r.key
		if err := f(p.data[r.at:at:at], p.data[at:at+r.value:at+r.value], r.ts); err != nil {
			return err
		}
	}
	return nil
}

// appendItems appends the rows from a segment on.
func (p rowPart) appendItems(items []item, segment uint32) []item {
	for _, r := range p.rows {
		if r.key == 0 || binary.BigEndian.Uint32(p.data[r.at:]) < segment {
			continue
		}
		at := r.at + r.key
		key := unsafe.String(&p.data[r.at], r.key) // nobody changes it any more
		items = append(items, item{key, p.data[at : at+r.value : at+r.value], r.ts})
	}
	return items
}
