package store

import (
	"bytes"
	"errors"
)

// Iterator walks the keys of a store in byte order, with the open transaction in it:
//
//	it := kv.Range(from, to, false)
//	for it.Next() {
//		... it.Key(), it.Value(), it.Timestamp()
//	}
//	if err := it.Close(); err != nil { ... }
//
// Slices are valid until the next call of Next. Whether writes made during the walk show is
// not specified. It must be closed, and not be used after a Commit or
// Rollback.
type Iterator struct {
	k       *KV
	reverse bool
	epoch   int
	lower   []byte // included; nil: open
	upper   []byte // excluded; nil: open

	eng     engineIterator
	engOK   bool // eng is on a key
	started bool
	node    *orderedNode // overlay's key at hand, or nil

	onEngine, onOverlay bool // which of them gave the current key: they move first
	key                 []byte
	value               []byte
	ts                  int64
	err                 error
	closed              bool
}

// Range returns the keys from from to to, both included; nil is open. reverse goes from the last
// to the first.
func (k *KV) Range(from, to []byte, reverse bool) *Iterator {
	var upper []byte
	if to != nil {
		upper = after(to)
	}
	return k.scan(from, upper, reverse)
}

// Prefix returns the keys that begin with prefix.
func (k *KV) Prefix(prefix []byte, reverse bool) *Iterator {
	return k.scan(prefix, prefixEnd(prefix), reverse)
}

func (k *KV) scan(lower, upper []byte, reverse bool) *Iterator {
	it := &Iterator{k: k, reverse: reverse, epoch: k.t.epoch, upper: upper}
	if lower != nil {
		it.lower = append([]byte{}, lower...)
	}
	if it.err = k.t.usable(); it.err != nil {
		return it
	}
	if it.lower != nil && upper != nil && bytes.Compare(it.lower, upper) >= 0 {
		return it // an empty range; Pebble does not like it
	}
	if !k.order.on {
		k.order.on = true
		k.order.reset()
		k.addPinned()
	}
	if it.eng, it.err = k.eng.scan(it.lower, upper); it.err != nil {
		it.err = k.wrap("range", it.err)
		return it
	}
	k.t.iterators[it] = struct{}{}
	return it
}

// Next goes to the next key. It returns false at the end, and when reading failed: see Close.
func (it *Iterator) Next() bool {
	if it.eng == nil || it.err != nil || it.closed {
		return false
	}
	if it.epoch != it.k.t.epoch {
		it.err = it.k.wrap("range", errors.New("iterator used after a commit or rollback"))
		return false
	}
	for {
		it.advance()
		it.onEngine, it.onOverlay = it.engOK, it.node != nil
		if !it.onEngine && !it.onOverlay {
			return false
		}
		if it.onEngine && it.onOverlay {
			switch c := bytes.Compare(it.eng.key(), []byte(it.node.e.key())); {
			case c < 0 && !it.reverse, c > 0 && it.reverse:
				it.onOverlay = false
			case c != 0:
				it.onEngine = false
			}
		}
		if it.onOverlay {
			e := it.node.e
			if !e.present || it.k.expiredEntry(e.ts) {
				continue
			}
			it.key = append(it.key[:0], e.key()...)
			it.value, it.ts = e.val, it.k.time(e.ts)
			return true
		}
		it.key = append(it.key[:0], it.eng.key()...)
		if it.value, it.ts, it.err = it.eng.value(); it.err != nil {
			it.err = it.k.wrap("range", it.err)
			return false
		}
		if it.k.expiredEntry(it.ts) {
			continue
		}
		it.value = nonNil(it.value)
		return true
	}
}

// advance moves those that gave the last key.
func (it *Iterator) advance() {
	if !it.started {
		it.started = true
		if it.reverse {
			it.engOK = it.eng.last()
			if it.upper == nil {
				it.node = it.k.order.last()
			} else {
				_, it.node = it.k.order.seek(string(it.upper))
			}
		} else {
			it.engOK = it.eng.first()
			it.node, _ = it.k.order.seek(string(it.lower))
		}
		it.bound()
		return
	}
	if it.onEngine {
		if it.reverse {
			it.engOK = it.eng.prev()
		} else {
			it.engOK = it.eng.next()
		}
	}
	if it.onOverlay {
		it.step()
		it.bound()
	}
}

func (it *Iterator) step() {
	if it.reverse {
		_, it.node = it.k.order.seek(it.node.e.key())
	} else {
		it.node = it.node.next[0]
	}
}

// bound ends the overlay at the bounds.
func (it *Iterator) bound() {
	if it.node == nil {
		return
	}
	if it.reverse && it.lower != nil && it.node.e.key() < string(it.lower) ||
		!it.reverse && it.upper != nil && it.node.e.key() >= string(it.upper) {
		it.node = nil
	}
}

// Key returns the key at hand, never nil: an empty key is not a null one.
func (it *Iterator) Key() []byte {
	if it.key == nil {
		return []byte{}
	}
	return it.key
}

// Value returns the value at hand, never nil.
func (it *Iterator) Value() []byte { return it.value }

// Timestamp returns the timestamp at hand, NoTimestamp when the store does not keep them.
func (it *Iterator) Timestamp() int64 { return it.ts }

// Err returns the error that ended the walk, or nil.
func (it *Iterator) Err() error { return it.err }

// Close ends the walk, at any point, and returns the error that ended it before.
func (it *Iterator) Close() error {
	if it.closed || it.eng == nil {
		return it.err
	}
	it.closed = true
	delete(it.k.t.iterators, it)
	if err := it.eng.close(); err != nil && it.err == nil {
		it.err = it.k.wrap("range", err)
	}
	return it.err
}
