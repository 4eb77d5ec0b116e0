package store

import (
	"bytes"
	"slices"
	"sort"
	"strings"
	"unsafe"
)

// rowOrder has the rows of all keys of a store by time, once a walk over a part of the time was asked for:
//
//	bucket 0 .. w | bucket w .. 2w | ...    each sorted, but for what came since it was last read
//
// Rows that went stay in it until they expire: who reads asks the index of the key whether a row is there.
type rowOrder struct {
	ix      *rowIndex
	width   int64
	buckets []*bucket // by number
	last    *bucket   // that was added to
	spare   []orderRef
}

type bucket struct {
	n      int64 // number: of the times from n*width on
	refs   []orderRef
	sorted int // refs before it are
}

type orderRef struct {
	rowRef
	id, gen uint32 // of the key's rows
}

const orderRefSize = int64(unsafe.Sizeof(orderRef{}))

// bucketsPerRetention is how many buckets the rows of a store are divided into.
const bucketsPerRetention = 64

func newRowOrder(ix *rowIndex) *rowOrder {
	o := &rowOrder{ix: ix, width: max(ix.k.spec.Retention/bucketsPerRetention, 1)}
	for id := uint32(1); id <= ix.top; id++ {
		if kr := ix.at(id); kr.live {
			for _, r := range kr.refs() {
				o.add(r, kr)
			}
		}
	}
	return o
}

// size is how much memory it takes.
func (o *rowOrder) size() (n int64) {
	if o != nil {
		for _, b := range o.buckets {
			n += int64(len(b.refs)) * orderRefSize
		}
	}
	return n
}

func (o *rowOrder) add(r rowRef, kr *keyRows) {
	n := r.at / o.width
	b := o.last
	if b == nil || b.n != n {
		i := sort.Search(len(o.buckets), func(i int) bool { return o.buckets[i].n >= n })
		if i == len(o.buckets) || o.buckets[i].n != n {
			o.buckets = slices.Insert(o.buckets, i, &bucket{n: n})
		}
		b = o.buckets[i]
		o.last = b
	}
	b.refs = append(b.refs, orderRef{r, kr.id, kr.gen})
	o.ix.grew(orderRefSize)
}

// compare orders windows by start, key and sequence number, and sessions by end, start and key.
func (o *rowOrder) compare(a, b orderRef) int {
	if a.at != b.at || o.ix.k.spec.Kind == Session && a.sub != b.sub {
		return a.rowRef.compare(b.rowRef)
	}
	if c := strings.Compare(o.ix.at(a.id).key(), o.ix.at(b.id).key()); c != 0 {
		return c
	}
	return a.rowRef.compare(b.rowRef)
}

// there tells whether a row has not gone.
func (o *rowOrder) there(r orderRef) bool {
	kr := o.ix.at(r.id)
	return kr.live && kr.gen == r.gen && kr.has(r.rowRef)
}

// sort brings what was added into its place.
func (o *rowOrder) sort(b *bucket) {
	if b.sorted == len(b.refs) {
		return
	}
	tail := b.refs[b.sorted:]
	n := 0
	for _, r := range tail { // a key that went has no name to sort by
		if o.there(r) {
			tail[n] = r
			n++
		}
	}
	o.ix.grew(int64(n-len(tail)) * orderRefSize)
	tail = tail[:n]
	b.refs = b.refs[:b.sorted+n]
	slices.SortFunc(tail, o.compare)
	if b.sorted > 0 && n > 0 && tail[0].at <= b.refs[b.sorted-1].at {
		o.merge(b, tail)
	}
	b.sorted = len(b.refs)
}

// merge merges the tail into the part of the bucket that is not before it.
func (o *rowOrder) merge(b *bucket, tail []orderRef) {
	from := sort.Search(b.sorted, func(i int) bool { return b.refs[i].at >= tail[0].at })
	o.spare = append(o.spare[:0], b.refs[from:]...)
	// Of what was sorted before, keys that went have no name any more.
	n := 0
	for i, r := range o.spare {
		if i >= b.sorted-from || o.there(r) {
			o.spare[n] = r
			n++
		}
	}
	slices.SortFunc(o.spare[:n], o.compare)
	before := len(b.refs)
	b.refs = append(b.refs[:from], slices.Compact(o.spare[:n])...)
	o.ix.grew(int64(len(b.refs)-before) * orderRefSize)
}

// walk adds the rows from from to to, in order.
func (o *rowOrder) walk(from, to int64, out *Rows) {
	i := sort.Search(len(o.buckets), func(i int) bool { return o.buckets[i].n >= from/o.width })
	for ; i < len(o.buckets) && o.buckets[i].n <= to/o.width; i++ {
		b := o.buckets[i]
		o.sort(b)
		at := sort.Search(len(b.refs), func(i int) bool { return b.refs[i].at >= from })
		for ; at < len(b.refs) && b.refs[at].at <= to; at++ {
			if r := b.refs[at]; o.there(r) && (at == 0 || r != b.refs[at-1]) {
				key := o.ix.at(r.id).key()
				out.add(unsafe.Slice(unsafe.StringData(key), len(key)), r.rowRef)
			}
		}
	}
}

// expire forgets buckets of which nothing is needed any more.
func (o *rowOrder) expire(from int64) {
	n := 0
	for n < len(o.buckets) && (o.buckets[n].n+1)*o.width <= from {
		o.ix.grew(-int64(len(o.buckets[n].refs)) * orderRefSize)
		n++
	}
	if n > 0 {
		o.buckets = slices.Delete(o.buckets, 0, n)
		o.last = nil
	}
}

// byTime sorts rows that were found without the order.
func (l *layout) byTime(a, b timeRow) int {
	if a.ref.at != b.ref.at || l.kind == Session && a.ref.sub != b.ref.sub {
		return a.ref.compare(b.ref)
	}
	if c := bytes.Compare(a.key, b.key); c != 0 {
		return c
	}
	return a.ref.compare(b.ref)
}

type timeRow struct {
	key []byte
	ref rowRef
}
