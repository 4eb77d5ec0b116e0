package store

import "math"

// Snapshot is one commit of a store of rows, for any goroutine. It must be closed.
type Snapshot struct {
	v View
	p *published
}

// Snapshot returns the last commit.
func (v View) Snapshot() (*Snapshot, error) {
	p, err := v.acquire()
	if err != nil {
		return nil, err
	}
	return &Snapshot{v, p}, nil
}

// Close gives the commit back.
func (s *Snapshot) Close() { s.p.release() }

// Time returns the stream time of the store.
func (s *Snapshot) Time() int64 { return s.p.stores[s.v.index].time }

// Rows calls f with the rows of a key, in their order, or if key is nil of all keys, in no order, that begin (sessions: end)
// between from and to, both included. Slices are valid until f returns.
func (s *Snapshot) Rows(key []byte, from, to int64, f func(Row) error) error {
	k := s.v.kv()
	return k.eachRow(key, from, to, s.Time(), func(lower, upper []byte) rowIterator {
		if s.p.disk != nil {
			s.p.disk.acquire() // cannot fail: we have one
		}
		it := s.v.scan(lower, upper, false)
		it.p = s.p
		return it
	}, f)
}

// Now is the stream time of the store as its task sees it.
func (k *KV) Now() int64 { return k.now() }

// Rows is Snapshot.Rows with the open transaction, for the goroutine that owns the task.
func (k *KV) Rows(key []byte, from, to int64, f func(Row) error) error {
	if !k.order.on { // a query must not make the task slower for good
		defer func() { k.order = ordered{} }()
	}
	return k.eachRow(key, from, to, k.now(), func(lower, upper []byte) rowIterator {
		return k.scan(lower, upper, false)
	}, f)
}

// Row is a row of a store of windows, sessions or versions.
type Row struct {
	Key        []byte
	Start, End int64 // End is that of sessions only
	Seq        uint32
	Value      []byte // nil: the tombstone of a version
	Timestamp  int64
}

// First is the first start of windows, end of sessions or time as of which versions are known, that has not expired at a
// stream time.
func (s Spec) First(time int64) int64 {
	switch s.Kind {
	case Window:
		return s.firstWindow(time)
	case Session:
		return s.firstSession(time)
	}
	return since(time, s.Retention)
}

type rowIterator interface {
	Next() bool
	Key() []byte
	Value() []byte
	Timestamp() int64
	Close() error
}

// eachRow walks the segments, so that the rows of a key are in order.
func (k *KV) eachRow(key []byte, from, to, now int64, scan func(lower, upper []byte) rowIterator, f func(Row) error) error {
	l := &k.layout
	if !l.segmented() {
		return k.rowsBetween([]byte{versionLive}, key, from, to, scan, f)
	}
	from, to = max(from, k.liveFrom(now), 0), min(to, now)
	if from > to {
		return nil
	}
	first, last := l.segment(from), l.segment(to)
	if key == nil {
		it := scan(segmentKey(first), prefixEnd(segmentKey(last)))
		return k.eachOf(it, nil, from, to, f)
	}
	for s := first; ; s++ {
		if err := k.rowsBetween(segmentKey(s), key, from, to, scan, f); err != nil || s == last {
			return err
		}
	}
}

// rowsBetween walks the rows of a key behind a prefix.
func (k *KV) rowsBetween(prefix, key []byte, from, to int64, scan func(lower, upper []byte) rowIterator, f func(Row) error) error {
	if key == nil {
		return k.eachOf(scan(prefix, prefixEnd(prefix)), nil, from, to, f)
	}
	lower := append(append([]byte{}, prefix...), key...)
	upper := after(append(append([]byte{}, lower...), maxSuffix[:k.layout.suffix]...))
	return k.eachOf(scan(lower, upper), key, from, to, f)
}

func (k *KV) eachOf(it rowIterator, key []byte, from, to int64, f func(Row) error) error {
	l := &k.layout
	for it.Next() {
		if key != nil && len(it.Key()) != l.prefix+len(key)+l.suffix {
			continue
		}
		rowKey, r := l.split(it.Key())
		if r.at < from || r.at > to {
			continue
		}
		row := Row{Key: rowKey, Start: r.at, End: math.MaxInt64, Value: it.Value(), Timestamp: it.Timestamp()}
		switch l.kind {
		case Window:
			row.Seq = uint32(r.sub)
		case Session:
			row.Start, row.End = r.sub, r.at
		case VersionedKeyValue:
			row.Value, row.Timestamp = versionValue(row.Value), r.at
		}
		if err := f(row); err != nil {
			_ = it.Close()
			return err
		}
	}
	return it.Close()
}
