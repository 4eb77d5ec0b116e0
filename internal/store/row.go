package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Rows of window and session stores have Kafka Streams' keys; numbers are big-endian:
//
//	window   key ‖ start (8) ‖ sequence number (4)
//	session  key ‖ end (8) ‖ start (8)
//
// Keys have any length, so rows of another key can lie between two rows of a key: they have another length.
const (
	windowSuffix  = 12
	sessionSuffix = 16
)

func appendWindow(dst, key []byte, start int64, seq uint32) []byte {
	dst = append(dst, key...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(start))
	return binary.BigEndian.AppendUint32(dst, seq)
}

func splitWindow(row []byte) (key []byte, start int64, seq uint32) {
	n := len(row) - windowSuffix
	return row[:n], int64(binary.BigEndian.Uint64(row[n:])), binary.BigEndian.Uint32(row[n+8:])
}

func appendSession(dst, key []byte, start, end int64) []byte {
	dst = append(dst, key...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(end))
	return binary.BigEndian.AppendUint64(dst, uint64(start))
}

func splitSession(row []byte) (key []byte, start, end int64) {
	n := len(row) - sessionSuffix
	return row[:n], int64(binary.BigEndian.Uint64(row[n+8:])), int64(binary.BigEndian.Uint64(row[n:]))
}

// Rows of versioned stores are not those of the changelog, where all versions have the same key:
//
//	live    0x00 ‖ key ‖ time (8)   ->  0x00 (a tombstone) or 0x01 ‖ value
//	logged  0x01 ‖ key ‖ time (8)   ->  the same: a version that was too old to be kept, for the changelog only
const (
	versionLive   = 0
	versionLogged = 1
	versionSuffix = 8
)

func appendVersion(dst []byte, kind byte, key []byte, ts int64) []byte {
	dst = append(append(dst, kind), key...)
	return binary.BigEndian.AppendUint64(dst, uint64(ts))
}

func splitVersion(row []byte) (kind byte, key []byte, ts int64) {
	n := len(row) - versionSuffix
	return row[0], row[1:n], int64(binary.BigEndian.Uint64(row[n:]))
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

// toChangelog makes a row of the store a record of the changelog.
func (s *Spec) toChangelog(d *Dirty) {
	if s.Kind != VersionedKeyValue {
		return
	}
	_, d.Key, d.Timestamp = splitVersion(d.Key)
	d.Value = versionValue(d.Value)
}

// fromChangelog is the reverse of toChangelog.
func (s *Spec) fromChangelog(r *ChangelogRecord) (ChangelogRecord, error) {
	short := 0
	switch s.Kind {
	case KeyValue:
		return *r, nil
	case Window:
		short = windowSuffix
	case Session:
		short = sessionSuffix
	case VersionedKeyValue:
		return ChangelogRecord{
			Key:       appendVersion(nil, versionLive, r.Key, r.Timestamp),
			Value:     appendVersionValue(nil, r.Value),
			Timestamp: r.Timestamp,
		}, nil
	}
	if len(r.Key) < short {
		return *r, fmt.Errorf("a record of the changelog has a key of %d bytes, a %s needs at least %d", len(r.Key), s.Kind, short)
	}
	return *r, nil
}

// rowsOf makes records of the changelog rows of the store.
func (k *KV) rowsOf(recs []ChangelogRecord) ([]ChangelogRecord, error) {
	if k.spec.Kind == KeyValue {
		return recs, nil
	}
	rows := make([]ChangelogRecord, len(recs))
	for i := range recs {
		var err error
		if rows[i], err = k.spec.fromChangelog(&recs[i]); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// isWindowOf tells whether a row of a window store is one of key.
func isWindowOf(row, key []byte) bool {
	return len(row) == len(key)+windowSuffix && bytes.HasPrefix(row, key)
}

func isSessionOf(row, key []byte) bool {
	return len(row) == len(key)+sessionSuffix && bytes.HasPrefix(row, key)
}
