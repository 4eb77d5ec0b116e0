package store

import (
	"encoding/binary"
	"iter"
)

// engine holds the committed data of one store. The goroutine that owns the task reads it. Changes are
// made by a write, see write.go, or by the owner while there is none.
type engine interface {
	// get returns the value of a key. The value is valid until the next call of the engine.
	get(key []byte) (value []byte, ts int64, ok bool, err error)
	// scan iterates over lower <= key < upper; nil is open.
	scan(lower, upper []byte) (engineIterator, error)
	// walk calls f with each key of lower <= key < upper, in order: a scan for few keys. Slices are valid until f returns,
	// which must not use the engine.
	walk(lower, upper []byte, f func(key, value []byte, ts int64)) error
	// clear removes everything; from a store on disk when the batch is written.
	clear() error
}

// engineIterator walks an engine in key order. All its slices are valid until it moves.
type engineIterator interface {
	first() bool
	last() bool
	next() bool
	prev() bool
	key() []byte
	value() (value []byte, ts int64, err error)
	close() error
}

// item is one key with its value: what an engine holds, or a committed change of it; there, value nil deletes.
type item struct {
	key   string
	value []byte
	ts    int64
}

func eachItem(items []item) iter.Seq[*item] {
	return func(yield func(*item) bool) {
		for i := range items {
			if !yield(&items[i]) {
				return
			}
		}
	}
}

// The stored form of a value is the value itself, or in a store with timestamps
//
//	timestamp (8 bytes, big-endian) ‖ value
//
// so that an empty value and no value differ in both.
const timestampSize = 8

// engineOverhead is about what a row takes in a batch besides its key and value.
const engineOverhead = 4 + timestampSize + 5

func appendStored(dst []byte, timestamped bool, value []byte, ts int64) []byte {
	if timestamped {
		dst = binary.BigEndian.AppendUint64(dst, uint64(ts))
	}
	return append(dst, value...)
}

// splitStored is the reverse of appendStored; ok is false when the bytes are too few.
func splitStored(timestamped bool, stored []byte) (value []byte, ts int64, ok bool) {
	if !timestamped {
		if stored == nil {
			stored = []byte{}
		}
		return stored, NoTimestamp, true
	}
	if len(stored) < timestampSize {
		return nil, 0, false
	}
	return stored[timestampSize:], int64(binary.BigEndian.Uint64(stored)), true
}

// after returns the first key behind key, and prefixEnd the first key behind all that begin with
// prefix (nil: there is none).
func after(key []byte) []byte { return append(append(make([]byte, 0, len(key)+1), key...), 0) }

func prefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			end := append([]byte{}, prefix[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}
