package store

// An entry of a store with a TTL is over when its timestamp is before the stream time of the store less the TTL; the
// stream time is the latest timestamp that was put. It is not shown any more from then on, by a restored store neither, and
// is removed bit by bit: each commit looks at some keys, and removes those that are over, in the changelog too, which
// would otherwise keep them for ever.

// timed tells whether a store has a stream time.
func (s *Spec) timed() bool { return s.Kind != KeyValue || s.TTL > 0 }

func (k *KV) timed() bool { return k.spec.timed() }

// over tells whether an entry with a timestamp is over at a stream time.
func (s *Spec) over(ts, time int64) bool { return s.TTL > 0 && ts < since(time, s.TTL) }

func (k *KV) expiredEntry(ts int64) bool { return k.spec.TTL > 0 && k.spec.over(ts, k.now()) }

// KeepTime has a store with a TTL keep its stream time (-1: none yet) where the task keeps that of its operators: in the metadata
// of its offsets. What the changelog says is less, if the record that moved it was written over in its transaction. The
// task takes it back when it rolls back.
func (k *KV) KeepTime(time *int64) { k.clock = time }

// RemoveExpired deletes, in the open transaction, entries whose TTL is over: some of them, so that each commit can call it.
// It is for stores with a changelog, which has to get the deletions; Commit does it for the others.
func (t *Task) RemoveExpired() error {
	for _, k := range t.stores {
		if k.spec.TTL > 0 && k.spec.Changelog {
			if err := k.removeExpired(sweepAtLeast + 2*len(k.dirty)); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeExpired looks at n keys of the engine, from where it ended the last time.
func (k *KV) removeExpired(n int) error {
	if err := k.t.usable(); err != nil {
		return err
	}
	var over [][]byte
	err := k.lookOn(n, func(it engineIterator) error {
		_, ts, err := it.value()
		if err == nil && k.expiredEntry(ts) {
			over = append(over, append([]byte{}, it.key()...))
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, key := range over {
		if e := k.entries.find(key); e != nil && (e.dirtyAt != 0 || !e.present || !k.expiredEntry(e.ts)) {
			continue // the engine does not have the last of it
		}
		if err := k.Put(key, nil, k.now()); err != nil {
			return err
		}
	}
	return nil
}
