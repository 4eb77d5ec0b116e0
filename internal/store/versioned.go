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

// OpenVersioned opens a store of kind VersionedKeyValue. time is that of OpenWindows.
func OpenVersioned(kv *KV, time *int64) *Versioned {
	kv.clock = time
	return &Versioned{k: kv, time: time}
}

// KV returns the store below.
func (v *Versioned) KV() *KV { return v.k }

// begin is the beginning of the history.
func (v *Versioned) begin() int64 { return since(v.k.now(), v.k.spec.Retention) }

// Put makes a version of a key; value nil says that it has no value from ts on.
func (v *Versioned) Put(key, value []byte, ts int64) (Put, error) {
	if ts < v.begin() {
		v.row = append(append(v.row[:0], versionLogged), key...)
		v.row = v.k.layout.appendSuffix(v.row, rowRef{at: ts})
		v.value = appendVersionValue(v.value[:0], value)
		return Put{}, v.k.putRow(v.row, v.value, ts, nil)
	}
	if ts > *v.time {
		*v.time = ts
	}
	p := Put{Kept: true, Latest: true}
	kr, err := v.k.index.lookup(key, math.MinInt64)
	if err != nil {
		return p, err
	}
	tombstone := true
	if kr != nil {
		refs := kr.refs()
		n := len(refs)
		p.Latest = n == 0 || refs[n-1].at <= ts
		if value == nil && n > 0 && refs[n-1].at == ts {
			if tombstone, err = v.ends(key, refs); err != nil {
				return p, err
			}
		}
	}
	v.row = v.k.layout.append(v.row[:0], key, rowRef{at: ts})
	v.value = appendVersionValue(v.value[:0], value)
	if !tombstone {
		err = v.k.putRow(v.row, nil, ts, nil)
	} else {
		err = v.k.putRow(v.row, v.value, ts, nil)
	}
	if err != nil {
		return p, err
	}
	return p, v.forget(key)
}

// ends tells whether a tombstone in the place of the last version leaves a trace: Kafka Streams then removes the
// version, and knows of the tombstone only as the end of the version before, if there is one with a value.
func (v *Versioned) ends(key []byte, refs []rowRef) (bool, error) {
	n := len(refs)
	last, err := v.valueAt(key, refs[n-1])
	if err != nil || last == nil {
		return true, err // a tombstone itself
	}
	if n == 1 {
		return false, nil
	}
	before, err := v.valueAt(key, refs[n-2])
	return before != nil, err
}

func (v *Versioned) valueAt(key []byte, r rowRef) ([]byte, error) {
	v.row = v.k.layout.append(v.row[:0], key, r)
	stored, _, ok, err := v.k.Get(v.row)
	if err != nil || !ok {
		return nil, err
	}
	return versionValue(stored), nil
}

// forget removes versions of a key that were over before the history began.
func (v *Versioned) forget(key []byte) error {
	kr := v.k.index.find(key)
	begin := v.begin()
	for kr != nil {
		refs := kr.refs()
		if len(refs) < 2 || refs[1].at > begin {
			return nil
		}
		v.row = v.k.layout.append(v.row[:0], key, refs[0])
		if !v.k.discard(v.row) {
			return nil
		}
	}
	return nil
}

// Get returns the latest value of a key and its time. The value is valid until the next call of a method of the store.
func (v *Versioned) Get(key []byte) (value []byte, ts int64, ok bool, err error) {
	return v.last(key, math.MaxInt64)
}

// last returns the value of the last version that is not later than asOf.
func (v *Versioned) last(key []byte, asOf int64) (value []byte, ts int64, ok bool, err error) {
	kr, err := v.k.index.lookup(key, math.MinInt64)
	if err != nil || kr == nil {
		return nil, 0, false, err
	}
	refs := kr.refs()
	n := kr.seek(rowRef{asOf, math.MaxInt64})
	if n == 0 {
		return nil, 0, false, nil
	}
	value, err = v.valueAt(key, refs[n-1])
	return value, refs[n-1].at, value != nil, err
}

// GetAsOf returns the value that was valid at ts, and since when it was.
func (v *Versioned) GetAsOf(key []byte, ts int64) (value []byte, at int64, ok bool, err error) {
	if ts < v.begin() {
		value, at, ok, err = v.Get(key)
		if !ok || at > ts {
			return nil, 0, false, err
		}
		return value, at, ok, err
	}
	return v.last(key, ts)
}

// Versions returns the versions of a key that were valid at some time between from and to, both included, by time;
// tombstones are left out. Of the time before the history it knows the latest version only.
func (v *Versioned) Versions(key []byte, from, to int64) *Rows {
	kr, err := v.k.index.lookup(key, math.MinInt64)
	if err != nil {
		return v.k.failedRows(err)
	}
	rows := v.k.rows()
	if kr == nil {
		return rows
	}
	refs := kr.refs()
	from = max(from, v.begin())
	for i, r := range refs {
		end := int64(math.MaxInt64)
		if i+1 < len(refs) {
			end = refs[i+1].at
		}
		if r.at <= to && end > from {
			rows.refs = append(rows.refs, r)
			rows.to = append(rows.to, end)
		}
	}
	rows.keys = append(rows.keys, key...)
	return rows
}
