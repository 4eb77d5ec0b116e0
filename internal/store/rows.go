package store

import "slices"

// Rows walks rows of a store:
//
//	rows := windows.Range(key, from, to, false)
//	for rows.Next() {
//		... rows.Key(), rows.Start(), rows.Value()
//	}
//	if err := rows.Close(); err != nil { ... }
//
// Which rows it gives is decided when it is made; the store can be written meanwhile. Slices are valid until the next
// call of Next.
type Rows struct {
	rows []row
	i    int
	err  error
}

type row struct {
	key        []byte
	start, end int64
	seq        uint32
	value      []byte
	ts         int64
}

// Next goes to the next row. It returns false at the end, and when reading failed: see Close.
func (r *Rows) Next() bool {
	if r.err != nil || r.i >= len(r.rows) {
		return false
	}
	r.i++
	return true
}

func (r *Rows) at() *row { return &r.rows[r.i-1] }

// Key returns the key of the row, without its times.
func (r *Rows) Key() []byte { return r.at().key }

// Start returns the start of the window or session, or the time of the version.
func (r *Rows) Start() int64 { return r.at().start }

// End returns the end of the session. The size of windows is not known to their store.
func (r *Rows) End() int64 { return r.at().end }

// Seq returns the sequence number of the row, 0 if the store has no duplicates.
func (r *Rows) Seq() uint32 { return r.at().seq }

// Value returns the value: nil for a tombstone of a versioned store, else not nil.
func (r *Rows) Value() []byte { return r.at().value }

// Timestamp returns the time of the record that wrote the row.
func (r *Rows) Timestamp() int64 { return r.at().ts }

// Close ends the walk, at any point, and returns the error that ended it before.
func (r *Rows) Close() error {
	r.i = len(r.rows)
	return r.err
}

// collect reads rows of a store between two keys, both included.
func (k *KV) collect(from, to []byte, reverse bool, take func(r []byte) (row, bool)) *Rows {
	out := &Rows{}
	it := k.Range(from, to, reverse)
	for it.Next() {
		if r, ok := take(append([]byte{}, it.Key()...)); ok {
			r.value, r.ts = append([]byte{}, it.Value()...), it.Timestamp()
			out.rows = append(out.rows, r)
		}
	}
	out.err = it.Close()
	return out
}

// Reverse turns the order of the rows around if reverse is set. It must be called before Next.
func (r *Rows) Reverse(reverse bool) *Rows {
	if reverse {
		slices.Reverse(r.rows)
	}
	return r
}
