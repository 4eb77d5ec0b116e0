package store

// Rows that have expired go without a trace in the changelog: reads do not show them, and what holds them forgets them bit
// by bit, as the stream time of commits moves:
//
//	the engine          whole segments, with each write; versions one by one, see history.go
//	the index, cache    a few keys at each commit

// openIndex makes the index of a store; empty says that the engine has nothing.
func (k *KV) openIndex(empty bool) {
	if k.spec.Kind == KeyValue {
		if empty {
			k.openBelow()
		}
		return
	}
	k.t.indexes++
	k.index = newRowIndex(k)
	k.index.complete = empty
}

// toDrop is the segment before which a write removes all rows, at a stream time; 0: there is nothing new to remove.
func (k *KV) toDrop(time int64) uint32 {
	if !k.layout.segmented() || time < 0 {
		return 0
	}
	s := k.layout.segment(k.liveFrom(time))
	if s <= k.dropped {
		return 0
	}
	k.dropped = s
	return s
}

// sweepAtLeast is how many keys and entries are looked at in each commit, at least.
const sweepAtLeast = 128

// expire is called after a commit of n keys.
func (k *KV) expire(n int) {
	k.index.setLimit()
	from := k.liveFrom(k.committed)
	n = sweepAtLeast + 2*n
	if !k.layout.segmented() {
		return // versions go with rows of the open transaction: forgetHistory
	}
	k.index.sweep(n, from)
	if k.log != nil {
		k.log.expire(from)
	}
	if k.index.order != nil {
		k.index.order.expire(from)
	}
	segment := k.layout.segment(from)
	if segment == 0 {
		return
	}
	below := string(segmentKey(segment))
	for range min(n, int(k.entries.top)) {
		if k.sweeper++; k.sweeper > k.entries.top {
			k.sweeper = 1
		}
		if e := k.entries.at(k.sweeper); e.live && !k.t.pins(e) && e.key() < below {
			k.forget(e)
		}
	}
}

// lookOn calls f with rows of the engine, at most n, from where it ended the last time; behind the last one it begins anew.
func (k *KV) lookOn(n int, f func(row engineIterator) error) error {
	it, err := k.eng.scan(k.cursor, nil)
	if err != nil {
		return k.wrap("expire", err)
	}
	ok := it.first()
	for ; ok && n > 0 && err == nil; n-- {
		if err = f(it); err == nil {
			ok = it.next()
		}
	}
	k.cursor = nil
	if ok && err == nil {
		k.cursor = append([]byte{}, it.key()...)
	}
	if e := it.close(); err == nil {
		err = e
	}
	if err != nil {
		return k.wrap("expire", err)
	}
	return nil
}

// discard deletes a row in the open transaction, but not in the changelog. It does nothing with a row that the
// changelog has yet to get.
func (k *KV) discard(row []byte) bool {
	if d := k.dirtyOf(k.entry(row)); d != nil && !d.silent {
		return false
	}
	if err := k.Put(row, nil, NoTimestamp); err != nil {
		return false
	}
	k.dirtyOf(k.entry(row)).silent = true
	return true
}
