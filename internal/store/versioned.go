package store

import "math"

// Versioned is a store of versions of values by key and time. The goroutine that owns the task uses it.
//
// The history is the retention of its spec: what was valid at a time before the stream time less the history is not known
// any more, and versions from before it are not taken, but the latest version of a key stays.
type Versioned struct {
	k     *KV
	time  *int64
	row   []byte
	value []byte
}

// Put is what became of a version.
type Put struct {
	Latest bool // it is the newest version of its key
	Kept   bool // false: it is older than the history; only the changelog has it, as in Kafka Streams
}

// OpenVersioned opens a store of kind Versioned. time is that of OpenWindows.
func OpenVersioned(kv *KV, time *int64) *Versioned { return &Versioned{k: kv, time: time} }

// KV returns the store below.
func (v *Versioned) KV() *KV { return v.k }

// Put makes a version of a key; value nil says that it has no value from ts on.
func (v *Versioned) Put(key, value []byte, ts int64) (Put, error) {
	kind := byte(versionLive)
	p := Put{Kept: ts >= expired(*v.time, v.k.spec.Retention)}
	if p.Kept {
		*v.time = max(*v.time, ts)
		it := v.versions(key, ts, math.MaxInt64, true)
		p.Latest = !it.Next() || it.Start() <= ts
		if err := it.Close(); err != nil {
			return p, err
		}
	} else {
		kind = versionLogged
	}
	v.row = appendVersion(v.row[:0], kind, key, ts)
	v.value = appendVersionValue(v.value[:0], value)
	return p, v.k.Put(v.row, v.value, ts)
}

func (v *Versioned) versions(key []byte, from, to int64, reverse bool) *Rows {
	from = max(from, 0)
	if from > to {
		return &Rows{}
	}
	rows := v.k.collect(appendVersion(nil, versionLive, key, from), appendVersion(nil, versionLive, key, to), reverse, func(r []byte) (row, bool) {
		_, k, ts := splitVersion(r)
		return row{key: k, start: ts, end: math.MaxInt64}, len(k) == len(key)
	})
	for i := range rows.rows {
		r := &rows.rows[i]
		r.ts = r.start
		r.value = versionValue(r.value)
	}
	return rows
}

// Get returns the latest value of a key and its time. The value is valid until the next call of a method of the store.
func (v *Versioned) Get(key []byte) (value []byte, ts int64, ok bool, err error) {
	return v.last(key, math.MaxInt64)
}

func (v *Versioned) last(key []byte, asOf int64) (value []byte, ts int64, ok bool, err error) {
	rows := v.versions(key, 0, asOf, true)
	if rows.Next() && rows.Value() != nil {
		value, ts, ok = rows.Value(), rows.Start(), true
	}
	return value, ts, ok, rows.Close()
}

// GetAsOf returns the value that was valid at ts, and since when it was.
func (v *Versioned) GetAsOf(key []byte, ts int64) (value []byte, at int64, ok bool, err error) {
	if ts < expired(*v.time, v.k.spec.Retention) {
		value, at, ok, err = v.Get(key)
		if !ok || at > ts {
			return nil, 0, false, err
		}
		return value, at, ok, err
	}
	return v.last(key, ts)
}

// Versions returns the versions of a key that were valid at some time between from and to, both included, by time.
// Rows' Start is the time of a version and End that of the next one (math.MaxInt64: there is none); tombstones are left out.
func (v *Versioned) Versions(key []byte, from, to int64) *Rows {
	all := v.versions(key, 0, math.MaxInt64, false)
	if all.err != nil {
		return all
	}
	out := &Rows{}
	for i := range all.rows {
		r := all.rows[i]
		if i+1 < len(all.rows) {
			r.end = all.rows[i+1].start
		}
		if r.start <= to && r.end > from && r.value != nil {
			out.rows = append(out.rows, r)
		}
	}
	return out
}
