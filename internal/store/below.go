package store

// A key-value store that was empty when it was opened knows which keys the engine has that the cache has not: those that left the
// cache. A search for another one, which has never come before, ends in memory; in the engine it would cost as much as a
// search for one that is there.

// openBelow begins to keep account of the keys below the cache; the engine has none.
func (k *KV) openBelow() {
	if k.spec.Kind == KeyValue {
		k.below = newKeySegments()
		k.t.bytes += k.below.size()
	}
}

// closeBelow ends it: the engine may have any key.
func (k *KV) closeBelow() {
	if k.below != nil {
		k.t.bytes -= k.below.size()
		k.below = nil
	}
}

// sink tells that a key, of which it gets the hash, is in the engine, and not in the cache.
func (k *KV) sink(hash uint32, ts int64) {
	if k.below == nil {
		return
	}
	k.t.bytes += k.below.add(hash, k.age(ts), k.ages())
	if k.below.size() > k.t.dir.cacheShare()/2/int64(len(k.t.stores)) {
		k.closeBelow()
	}
}

// age is the segment of an entry: one that a TTL has ended need not be known any more.
func (k *KV) age(ts int64) uint32 {
	if k.spec.TTL == 0 || ts <= 0 {
		return 0
	}
	return uint32(ts / (k.spec.TTL/segmentsPerRetention + 1) % (1 << 31))
}

// ages are the segments of entries whose TTL is not over, after a rollback neither.
func (k *KV) ages() uint32 {
	if k.spec.TTL == 0 {
		return segmentBit(0)
	}
	return segmentBits(k.age(since(k.committed, k.spec.TTL)), k.age(max(k.now(), 0))) | segmentBit(0)
}

// absent tells that the store is known not to have a key that the cache has not.
func (k *KV) absent(key []byte) bool {
	if k.index != nil {
		return k.index.absent(key)
	}
	return k.below != nil && k.below.of(k.entries.hash(key)) == 0
}
