package store

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
)

// Rows of stores that are not key-value stores; numbers are big-endian:
//
//	window     segment (4) ‖ key ‖ start (8) ‖ sequence number (4)
//	session    segment (4) ‖ key ‖ end (8) ‖ start (8)
//	versioned  0x00 ‖ key ‖ time (8)   ->  0x00 (a tombstone) or 0x01 ‖ value
//	           0x01 ‖ key ‖ time (8)   ->  the same: a version from before the history, for the changelog only
//
// The segment is the part of the time that a row begins (sessions: ends) in. It makes rows that expire together
// neighbours, so that they go at once, without a look at them. What follows it is the key that Kafka Streams gives to a row, and
// that the changelog has. In a versioned store's changelog all versions have the key itself, and their times.
//
// Keys have any length, so rows of another key can lie between two rows of a key: they have another length.
type layout struct {
	kind     Kind
	interval int64 // milliseconds of a segment
	prefix   int   // bytes before the key
	suffix   int   // bytes behind it
}

const (
	versionLive   = 0
	versionLogged = 1
)

// rowRef is a row of a key: its start and sequence number, its end and start, or its time.
type rowRef struct{ at, sub int64 }

func (a rowRef) compare(b rowRef) int {
	if a.at != b.at {
		return cmp.Compare(a.at, b.at)
	}
	return cmp.Compare(a.sub, b.sub)
}

// segmentsPerRetention is into how many segments the rows that have not expired are divided.
const segmentsPerRetention = 8

func layoutOf(s *Spec) layout {
	l := layout{kind: s.Kind, interval: max(s.Retention/segmentsPerRetention, 1000)}
	switch s.Kind {
	case Window:
		l.prefix, l.suffix = 4, 12
	case Session:
		l.prefix, l.suffix = 4, 16
	case VersionedKeyValue:
		l.prefix, l.suffix = 1, 8
	}
	return l
}

// segmented tells whether rows begin with a segment.
func (l *layout) segmented() bool { return l.kind == Window || l.kind == Session }

// segment is the one that a time is in; stores without segments have one.
func (l *layout) segment(at int64) uint32 {
	if at <= 0 || !l.segmented() {
		return 0
	}
	return uint32(min(at/l.interval, math.MaxUint32-1)) // there is one behind the last
}

func segmentKey(segment uint32) []byte { return binary.BigEndian.AppendUint32(nil, segment) }

func (l *layout) append(dst, key []byte, r rowRef) []byte {
	return l.appendSuffix(append(l.appendPrefix(dst, l.segment(r.at)), key...), r)
}

func (l *layout) appendPrefix(dst []byte, segment uint32) []byte {
	if l.kind == VersionedKeyValue {
		return append(dst, versionLive)
	}
	return binary.BigEndian.AppendUint32(dst, segment)
}

func (l *layout) appendSuffix(dst []byte, r rowRef) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.at))
	switch l.kind {
	case Window:
		dst = binary.BigEndian.AppendUint32(dst, uint32(r.sub))
	case Session:
		dst = binary.BigEndian.AppendUint64(dst, uint64(r.sub))
	}
	return dst
}

// split is the reverse of append.
func (l *layout) split(row []byte) (key []byte, r rowRef) {
	n := len(row) - l.suffix
	key, row = row[l.prefix:n], row[n:]
	r.at = int64(binary.BigEndian.Uint64(row))
	switch l.kind {
	case Window:
		r.sub = int64(binary.BigEndian.Uint32(row[8:]))
	case Session:
		r.sub = int64(binary.BigEndian.Uint64(row[8:]))
	}
	return key, r
}

// logged tells whether a row is for the changelog only.
func (l *layout) logged(row string) bool {
	return l.kind == VersionedKeyValue && row[0] == versionLogged
}

func appendVersionValue(dst, value []byte) []byte {
	if value == nil {
		return append(dst, 0)
	}
	return append(append(dst, 1), value...)
}

// versionValue is nil for a tombstone.
func versionValue(stored []byte) []byte {
	if len(stored) == 0 || stored[0] == 0 {
		return nil
	}
	return stored[1:]
}

// toChangelog makes a row a record of the changelog.
func (l *layout) toChangelog(d *Dirty) {
	switch l.kind {
	case Window, Session:
		d.Key = d.Key[l.prefix:]
	case VersionedKeyValue:
		var r rowRef
		d.Key, r = l.split(d.Key)
		d.Timestamp = r.at
		d.Value = versionValue(d.Value)
	}
}

// rowsOf makes records of the changelog rows of the store, and moves the time that the store has seen: what it had not
// taken, because it was too old, it does not take now.
func (k *KV) rowsOf(recs []ChangelogRecord) ([]ChangelogRecord, error) {
	if k.spec.Kind == KeyValue {
		if k.timed() {
			for i := range recs {
				k.seen = max(k.seen, recs[i].Timestamp)
			}
		}
		return recs, nil
	}
	l := &k.layout
	size := 0
	for i := range recs {
		size += len(recs[i].Key) + l.prefix + l.suffix + len(recs[i].Value) + 1
	}
	arena := make([]byte, 0, size)
	cut := func(start int) []byte { return arena[start:len(arena):len(arena)] }
	rows := make([]ChangelogRecord, 0, len(recs))
	for _, r := range recs {
		start := len(arena)
		if l.kind == VersionedKeyValue {
			if r.Timestamp < since(k.seen, k.spec.Retention) {
				continue
			}
			k.seen = max(k.seen, r.Timestamp)
			arena = l.append(arena, r.Key, rowRef{at: r.Timestamp})
			r.Key = cut(start)
			start = len(arena)
			arena = appendVersionValue(arena, r.Value)
			r.Value = cut(start)
			rows = append(rows, r)
			continue
		}
		if len(r.Key) < l.suffix {
			return nil, fmt.Errorf("a record of the changelog has a key of %d bytes, in a %s it has at least %d", len(r.Key), l.kind, l.suffix)
		}
		at := int64(binary.BigEndian.Uint64(r.Key[len(r.Key)-l.suffix:]))
		k.seen = max(k.seen, at)
		arena = binary.BigEndian.AppendUint32(arena, l.segment(at))
		arena = append(arena, r.Key...)
		r.Key = cut(start)
		rows = append(rows, r)
	}
	return rows, nil
}

// since is the time less the retention, without an overflow.
func since(time, retention int64) int64 {
	if time < math.MinInt64+retention {
		return math.MinInt64
	}
	return time - retention
}

// liveFrom is the first time of which rows may still be needed.
func (k *KV) liveFrom(time int64) int64 {
	from := since(time, k.spec.Retention)
	if k.spec.Kind == Session {
		return sessionsFrom(from, k.spec.Retention)
	}
	return from
}

// sessionsFrom is the first end of the sessions that Kafka Streams still has when those that end before from have
// expired: it lets whole segments go only, and sessions that are emitted when they close are looked for there.
func sessionsFrom(from, retention int64) int64 {
	interval := max(retention/2, 60_000)
	if from <= 0 {
		return 0
	}
	return from / interval * interval
}
