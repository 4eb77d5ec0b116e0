package store

import (
	"bytes"
	"cmp"
	"math"
	"slices"
)

// Windows is a store of rows by key and start of window. The goroutine that owns the task uses it.
//
// A row has expired when its start is not later than the stream time less the retention: it is not shown any more.
type Windows struct {
	k         *KV
	time, seq *int64
	row       []byte
}

// OpenWindows opens a store of kind Window. time is the stream time that it has seen and seq the last sequence number
// (-1: none yet); the store moves them, the task keeps them in the metadata of its offsets and takes them back when it
// rolls back. seq is needed for stores with duplicates only.
func OpenWindows(kv *KV, time, seq *int64) *Windows { return &Windows{k: kv, time: time, seq: seq} }

// KV returns the store below.
func (w *Windows) KV() *KV { return w.k }

// expired is the last start that has expired.
func expired(time, retention int64) int64 {
	if retention > 0 && time < math.MinInt64+retention {
		return math.MinInt64
	}
	return time - retention
}

// Row returns the key of the row that the last Put wrote, valid until the next call of a method of the store.
func (w *Windows) Row() []byte { return w.row }

// Put sets the value of a row; nil deletes it. In a store with duplicates it adds a row, and does nothing if value is nil.
// The time of the store becomes start, if that is later. kept is false if the row has expired: it is in
// the changelog, as in Kafka Streams, but nobody will see it.
func (w *Windows) Put(key []byte, start int64, value []byte, ts int64, headers []byte) (kept bool, err error) {
	seq := uint32(0)
	if w.k.spec.Duplicates {
		if value == nil {
			return true, nil
		}
		*w.seq = (max(*w.seq, 0) + 1) & math.MaxInt32
		seq = uint32(*w.seq)
	}
	*w.time = max(*w.time, start)
	w.row = appendWindow(w.row[:0], key, start, seq)
	if err := w.k.PutWithHeaders(w.row, value, ts, headers); err != nil {
		return false, err
	}
	return start > expired(*w.time, w.k.spec.Retention), nil
}

// Get returns the value of a row and the time of the record that wrote it. The value is valid until the next call of a
// method of the store.
func (w *Windows) Get(key []byte, start int64) (value []byte, ts int64, ok bool, err error) {
	if start <= expired(*w.time, w.k.spec.Retention) {
		return nil, 0, false, nil
	}
	w.row = appendWindow(w.row[:0], key, start, 0)
	return w.k.Get(w.row)
}

// Range returns the rows of a key with a start between from and to, both included, by start and sequence number.
func (w *Windows) Range(key []byte, from, to int64, reverse bool) *Rows {
	from = max(from, 0, expired(*w.time, w.k.spec.Retention)+1)
	if from > to {
		return &Rows{}
	}
	return w.k.collect(appendWindow(nil, key, from, 0), appendWindow(nil, key, to, math.MaxUint32), reverse, func(r []byte) (row, bool) {
		if !isWindowOf(r, key) {
			return row{}, false
		}
		key, start, seq := splitWindow(r)
		return row{key: key, start: start, seq: seq}, true
	})
}

// All returns the rows of all keys with a start between from and to, both included, by start, key and sequence number.
func (w *Windows) All(from, to int64) *Rows {
	from = max(from, 0, expired(*w.time, w.k.spec.Retention)+1)
	if from > to {
		return &Rows{}
	}
	rows := w.k.collect(nil, nil, false, func(r []byte) (row, bool) {
		key, start, seq := splitWindow(r)
		return row{key: key, start: start, seq: seq}, start >= from && start <= to
	})
	slices.SortFunc(rows.rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.start, b.start), bytes.Compare(a.key, b.key), cmp.Compare(a.seq, b.seq))
	})
	return rows
}
