package state

import (
	"bytes"
	"context"
	"slices"

	"github.com/moldau-stream/moldau/internal/store"
)

// A page of an uncommitted scan holds its task's goroutine for as long as reading this takes.
const (
	pageEntries = 256
	pageBytes   = 64 << 10
)

// ownerReads reads on the goroutine that owns the task.
type ownerReads struct {
	ctx context.Context
	p   store.Partition
}

func (r ownerReads) get(key []byte) ([]byte, int64, bool, error) {
	// f may run late, after Do gave up: what it writes must then be nobody else's.
	res := new(struct {
		value []byte
		ts    int64
		ok    bool
	})
	err := r.p.Do(r.ctx, func(kv *store.KV) error {
		b, ts, ok, err := kv.Get(key)
		if err == nil && ok {
			res.value, res.ts, res.ok = append([]byte{}, b...), ts, true
		}
		return err
	})
	if err != nil {
		return nil, 0, false, err
	}
	return res.value, res.ts, res.ok, nil
}

func (r ownerReads) many(keys [][]byte) ([][]byte, error) {
	values := make([][]byte, 0, len(keys))
	for some := range slices.Chunk(keys, pageEntries) {
		res := new([pageEntries][]byte) // see get
		err := r.p.Do(r.ctx, func(kv *store.KV) error {
			for i, key := range some {
				b, _, ok, err := kv.Get(key)
				if err != nil {
					return err
				}
				if ok {
					res[i] = append([]byte{}, b...)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		values = append(values, res[:len(some)]...)
	}
	return values, nil
}

func (r ownerReads) scan(b byteRange, reverse bool) entries {
	return &pagedScan{r: r, b: b, reverse: reverse}
}

// pagedScan reads page by page, each from where the last one ended.
type pagedScan struct {
	r       ownerReads
	b       byteRange
	reverse bool
	page    *page
	i       int
	done    bool // no page after this one
	err     error
}

type page struct {
	keys, values [][]byte
	more         bool
}

func (s *pagedScan) Next() bool {
	if s.err != nil {
		return false
	}
	if s.page != nil && s.i+1 < len(s.page.keys) {
		s.i++
		return true
	}
	if s.done {
		return false
	}
	var after []byte
	if s.page != nil {
		after = s.page.keys[s.i]
	}
	p := &page{} // a new one each time: if Do gives up, its function may still be running
	s.err = s.r.p.Do(s.r.ctx, func(kv *store.KV) error { return p.read(kv, s.b, s.reverse, after) })
	if s.err != nil {
		return false
	}
	s.page, s.i, s.done = p, 0, !p.more
	return len(p.keys) > 0
}

// read fills the page with the entries behind after (nil: from the beginning).
func (p *page) read(kv *store.KV, b byteRange, reverse bool, after []byte) error {
	from, to := b.from, b.to
	if after != nil && !reverse {
		from = after
	}
	if after != nil && reverse {
		to = after
	}
	var it *store.Iterator
	switch {
	case b.prefix != nil && after == nil:
		it = kv.Prefix(b.prefix, reverse)
	case b.prefix != nil && reverse:
		it = kv.Range(b.prefix, after, true)
	default:
		it = kv.Range(from, to, reverse)
	}
	size := 0
	for it.Next() {
		if after != nil && bytes.Equal(it.Key(), after) {
			continue
		}
		if b.prefix != nil && !bytes.HasPrefix(it.Key(), b.prefix) {
			break
		}
		if len(p.keys) > 0 && (len(p.keys) >= pageEntries || size >= pageBytes) {
			p.more = true
			break
		}
		size += len(it.Key()) + len(it.Value())
		p.keys = append(p.keys, append([]byte{}, it.Key()...))
		p.values = append(p.values, append([]byte{}, it.Value()...))
	}
	return it.Close()
}

func (s *pagedScan) Key() []byte   { return s.page.keys[s.i] }
func (s *pagedScan) Value() []byte { return s.page.values[s.i] }
func (s *pagedScan) Err() error    { return s.err }
func (s *pagedScan) Close() error  { return s.err }
