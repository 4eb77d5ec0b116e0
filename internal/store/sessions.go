package store

// Sessions is a store of sessions by key, end and start. The goroutine that owns the task uses it.
//
// A session has expired when its end is not later than the stream time less the retention: it is not shown any more, but
// by Ended, as in Kafka Streams.
type Sessions struct {
	k    *KV
	time *int64
	row  []byte
}

// OpenSessions opens a store of kind Session. time is that of OpenWindows.
func OpenSessions(kv *KV, time *int64) *Sessions {
	kv.clock = time
	return &Sessions{k: kv, time: time}
}

// KV returns the store below.
func (s *Sessions) KV() *KV { return s.k }

// First is the first end that has not expired.
func (s *Sessions) First() int64 { return s.k.spec.firstSession(s.k.now()) }

func (s *Spec) firstSession(time int64) int64 { return max(since(time, s.Retention)+1, 0) }

// Put sets the value of a session; nil removes it. The time of the store becomes end, if that is later. kept is false if
// the session has expired: it is in the changelog, as in Kafka Streams, but nobody will find it.
func (s *Sessions) Put(key []byte, start, end int64, value []byte, ts int64, headers []byte) (kept bool, err error) {
	if end > *s.time {
		*s.time = end
	}
	s.row = s.k.layout.append(s.row[:0], key, rowRef{end, start})
	if err := s.k.putRow(s.row, value, ts, headers); err != nil {
		return false, err
	}
	return end >= s.First(), nil
}

// Get returns the value of a session and the time of the record that wrote it. The value is valid until the next call of
// a method of the store.
func (s *Sessions) Get(key []byte, start, end int64) (value []byte, ts int64, ok bool, err error) {
	if end < s.First() {
		return nil, 0, false, nil
	}
	s.row = s.k.layout.append(s.row[:0], key, rowRef{end, start})
	return s.k.Get(s.row)
}

// Sent is Get of what went on from the table of the store, see KV.Sent.
func (s *Sessions) Sent(key []byte, start, end int64) (value []byte, ts int64, ok bool, err error) {
	if end < s.First() {
		return nil, 0, false, nil
	}
	s.row = s.k.layout.append(s.row[:0], key, rowRef{end, start})
	return s.k.Sent(s.row)
}

// Find returns the sessions of a key that end at earliestEnd or later and start at latestStart or earlier, by end and
// start.
func (s *Sessions) Find(key []byte, earliestEnd, latestStart int64) *Rows {
	from := max(earliestEnd, s.First())
	kr, err := s.k.index.lookup(key, from)
	if err != nil {
		return s.k.failedRows(err)
	}
	rows := s.k.rows()
	if kr == nil {
		return rows
	}
	refs := kr.refs()
	for _, r := range refs[kr.seek(rowRef{at: from}):] {
		if r.sub <= latestStart {
			rows.refs = append(rows.refs, r)
		}
	}
	rows.keys = append(rows.keys, key...)
	return rows
}

// Ended returns the sessions of all keys with an end between from and to, both included, by end, start and key. It has also
// those that expired not long ago: the last chance for an aggregation that emits on close.
func (s *Sessions) Ended(from, to int64) *Rows {
	return s.k.allRows(max(from, s.k.liveFrom(s.k.now())), to)
}
