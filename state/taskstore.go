package state

import (
	"fmt"
	"time"

	"github.com/moldau-stream/moldau/internal/store"
)

// taskStore is the Store that a processor has: the table of its task.
type taskStore[K, V any] struct {
	t   *Table[K, V]
	now func() int64
	err error // why it cannot be used
	fix error // why it cannot be written; nil: it can
}

// lock makes the store one that only reads.
func (s *taskStore[K, V]) lock(name string) { s.fix = readOnlyError(name) }

func (s *taskStore[K, V]) types() string { return typesOf[K, V]() }

func (s *taskStore[K, V]) Get(k K) (v V, ok bool, err error) {
	if s.err != nil {
		return v, false, s.err
	}
	v, _, ok, err = s.t.Get(k)
	return v, ok, err
}

func (s *taskStore[K, V]) GetWithTime(k K) (v V, at time.Time, ok bool, err error) {
	if s.err != nil {
		return v, at, false, s.err
	}
	v, ts, ok, err := s.t.Get(k)
	if !ok {
		return v, at, false, err
	}
	return v, timeOf(ts), true, nil
}

func (s *taskStore[K, V]) Put(k K, v V) error {
	if s.err != nil {
		return s.err
	}
	if s.fix != nil {
		return s.fix
	}
	return s.t.Put(k, v, s.now())
}

func (s *taskStore[K, V]) Delete(k K) error {
	if s.err != nil {
		return s.err
	}
	if s.fix != nil {
		return s.fix
	}
	return s.t.Delete(k, s.now())
}

func (s *taskStore[K, V]) Range(from, to K) *Cursor[K, V] {
	lo, err := s.bound(from)
	if err != nil {
		return &Cursor[K, V]{err: err}
	}
	hi, err := s.bound(to)
	if err != nil {
		return &Cursor[K, V]{err: err}
	}
	return s.cursor(func(reverse bool) *store.Iterator { return s.t.kv.Range(lo, hi, reverse) })
}

func (s *taskStore[K, V]) RangeFrom(from K) *Cursor[K, V] {
	lo, err := s.bound(from)
	if err != nil {
		return &Cursor[K, V]{err: err}
	}
	return s.cursor(func(reverse bool) *store.Iterator { return s.t.kv.Range(lo, nil, reverse) })
}

func (s *taskStore[K, V]) RangeTo(to K) *Cursor[K, V] {
	hi, err := s.bound(to)
	if err != nil {
		return &Cursor[K, V]{err: err}
	}
	return s.cursor(func(reverse bool) *store.Iterator { return s.t.kv.Range(nil, hi, reverse) })
}

// bound encodes an end of a range into a slice of its own.
func (s *taskStore[K, V]) bound(k K) ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	b, err := s.t.EncodeKey(k)
	return append([]byte{}, b...), err
}

func (s *taskStore[K, V]) Many(keys []K) *Cursor[K, V] {
	return &Cursor[K, V]{err: s.err, scan: func(reverse bool, yield func(K, V) bool) error {
		for i := range keys {
			if reverse {
				i = len(keys) - 1 - i
			}
			v, ok, err := s.Get(keys[i])
			if err != nil {
				return err
			}
			if ok && !yield(keys[i], v) {
				return nil
			}
		}
		return nil
	}}
}

func (s *taskStore[K, V]) Prefix(prefix []byte) *Cursor[K, V] {
	return s.cursor(func(reverse bool) *store.Iterator { return s.t.kv.Prefix(prefix, reverse) })
}

func (s *taskStore[K, V]) All() *Cursor[K, V] {
	return s.cursor(func(reverse bool) *store.Iterator { return s.t.kv.Range(nil, nil, reverse) })
}

func (s *taskStore[K, V]) cursor(open func(reverse bool) *store.Iterator) *Cursor[K, V] {
	if s.err != nil {
		return &Cursor[K, V]{err: s.err}
	}
	return &Cursor[K, V]{scan: func(reverse bool, yield func(K, V) bool) (err error) {
		it := open(reverse)
		defer func() {
			if e := it.Close(); err == nil {
				err = e
			}
		}()
		for it.Next() {
			k, err := s.t.DecodeKey(it.Key())
			if err != nil {
				return err
			}
			v, err := s.t.DecodeValue(it.Value())
			if err != nil {
				return err
			}
			if !yield(k, v) {
				return nil
			}
		}
		return it.Err()
	}}
}

func typeError(name, holds, wanted string) error {
	return fmt.Errorf("state: store %q holds %s, the handle declares %s: use the handle that the topology uses", name, holds, wanted)
}

// timeOf is zero for a store that keeps no times.
func timeOf(ts int64) time.Time {
	if ts == store.NoTimestamp {
		return time.Time{}
	}
	return time.UnixMilli(ts).UTC()
}
