package store

import "math"

// Windows is a store of rows by key and start of window. The goroutine that owns the task uses it.
//
// A row has expired when its start is not later than the stream time less the retention: it is not shown any more. In the
// store of an aggregation that emits on close it has when its start is earlier than that. Both are as in Kafka Streams.
type Windows struct {
	k    *KV
	seq  *int64
	time *int64
	row  []byte
}

// OpenWindows opens a store of kind Window. time is the stream time that it has seen and seq the last sequence number
// (-1: none yet); the store moves them, the task keeps them in the metadata of its offsets and takes them back when it
// rolls back. seq is needed for stores with duplicates only. Who opens a store again gives the same pointers.
func OpenWindows(kv *KV, time, seq *int64) *Windows {
	kv.clock = time
	return &Windows{k: kv, time: time, seq: seq}
}

// KV returns the store below.
func (w *Windows) KV() *KV { return w.k }

// first is the first start that has not expired.
func (w *Windows) first() int64 { return w.k.spec.firstWindow(w.k.now()) }

func (s *Spec) firstWindow(time int64) int64 {
	first := since(time, s.Retention)
	if !s.OnClose {
		first++
	}
	return max(first, 0)
}

// Row returns the key of the row that the last Put wrote, valid until the next call of a method of the store.
func (w *Windows) Row() []byte { return w.row }

// Put sets the value of a row; nil deletes it. In a store with duplicates it adds a row, and does nothing if value is nil.
// The time of the store becomes start, if that is later. kept is false if the row has expired: it is in
// the changelog, as in Kafka Streams, but nobody will see it.
func (w *Windows) Put(key []byte, start int64, value []byte, ts int64, headers []byte) (kept bool, err error) {
	r := rowRef{at: start}
	if w.k.spec.Duplicates {
		if value == nil {
			return true, nil
		}
		*w.seq = (max(*w.seq, 0) + 1) & math.MaxInt32
		r.sub = *w.seq
	}
	if start > *w.time {
		*w.time = start
	}
	w.row = w.k.layout.append(w.row[:0], key, r)
	if err := w.k.putRow(w.row, value, ts, headers); err != nil {
		return false, err
	}
	return start >= w.first(), nil
}

// Get returns the value of a row and the time of the record that wrote it. The value is valid until the next call of a
// method of the store.
func (w *Windows) Get(key []byte, start int64) (value []byte, ts int64, ok bool, err error) {
	if start < w.first() {
		return nil, 0, false, nil
	}
	w.row = w.k.layout.append(w.row[:0], key, rowRef{at: start})
	return w.k.Get(w.row)
}

// Sent is Get of what went on from the table of the store, see KV.Sent.
func (w *Windows) Sent(key []byte, start int64) (value []byte, ts int64, ok bool, err error) {
	if start < w.first() {
		return nil, 0, false, nil
	}
	w.row = w.k.layout.append(w.row[:0], key, rowRef{at: start})
	return w.k.Sent(w.row)
}

// Range returns the rows of a key with a start between from and to, both included, by start and sequence number.
func (w *Windows) Range(key []byte, from, to int64, reverse bool) *Rows {
	from = max(from, w.first())
	kr, err := w.k.index.lookup(key, from)
	if err != nil {
		return w.k.failedRows(err)
	}
	rows := w.k.rows()
	if kr == nil || from > to {
		return rows
	}
	refs := kr.refs()
	for i := kr.seek(rowRef{at: from}); i < len(refs) && refs[i].at <= to; i++ {
		rows.refs = append(rows.refs, refs[i])
	}
	rows.keys = append(rows.keys, key...)
	return rows.Reverse(reverse)
}

// All returns the rows of all keys with a start between from and to, both included, by start, key and sequence number.
func (w *Windows) All(from, to int64) *Rows { return w.k.allRows(max(from, w.first()), to) }
