package store

import (
	"bytes"
	"cmp"
	"math"
	"slices"
)

// Sessions is a store of sessions by key, end and start. The goroutine that owns the task uses it.
//
// A session has expired when its end is not later than the stream time less the retention: it is not shown any more.
type Sessions struct {
	k    *KV
	time *int64
	row  []byte
}

// OpenSessions opens a store of kind Session. time is that of OpenWindows.
func OpenSessions(kv *KV, time *int64) *Sessions { return &Sessions{k: kv, time: time} }

// KV returns the store below.
func (s *Sessions) KV() *KV { return s.k }

// Put sets the value of a session; nil removes it. The time of the store becomes end, if that is later. kept is false if
// the session has expired: it is in the changelog, as in Kafka Streams, but nobody will see it.
func (s *Sessions) Put(key []byte, start, end int64, value []byte, ts int64, headers []byte) (kept bool, err error) {
	*s.time = max(*s.time, end)
	s.row = appendSession(s.row[:0], key, start, end)
	if err := s.k.PutWithHeaders(s.row, value, ts, headers); err != nil {
		return false, err
	}
	return end > expired(*s.time, s.k.spec.Retention), nil
}

// Get returns the value of a session and the time of the record that wrote it. The value is valid until the next call of
// a method of the store.
func (s *Sessions) Get(key []byte, start, end int64) (value []byte, ts int64, ok bool, err error) {
	if end <= expired(*s.time, s.k.spec.Retention) {
		return nil, 0, false, nil
	}
	s.row = appendSession(s.row[:0], key, start, end)
	return s.k.Get(s.row)
}

// Find returns the sessions of a key that end at earliestEnd or later and start at latestStart or earlier, by end and
// start.
func (s *Sessions) Find(key []byte, earliestEnd, latestStart int64) *Rows {
	earliestEnd = max(earliestEnd, 0, expired(*s.time, s.k.spec.Retention)+1)
	return s.k.collect(appendSession(nil, key, 0, earliestEnd), appendSession(nil, key, math.MaxInt64, math.MaxInt64), false, func(r []byte) (row, bool) {
		if !isSessionOf(r, key) {
			return row{}, false
		}
		key, start, end := splitSession(r)
		return row{key: key, start: start, end: end}, start <= latestStart
	})
}

// Ended returns the sessions of all keys with an end between from and to, both included, by end, start and key.
func (s *Sessions) Ended(from, to int64) *Rows {
	from = max(from, 0, expired(*s.time, s.k.spec.Retention)+1)
	rows := s.k.collect(nil, nil, false, func(r []byte) (row, bool) {
		key, start, end := splitSession(r)
		return row{key: key, start: start, end: end}, end >= from && end <= to
	})
	slices.SortFunc(rows.rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.end, b.end), cmp.Compare(a.start, b.start), bytes.Compare(a.key, b.key))
	})
	return rows
}
