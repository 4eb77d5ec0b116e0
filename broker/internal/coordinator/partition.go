package coordinator

import (
	"cmp"
	"slices"
)

// PartitionFor is Kafka's choice among the n partitions of a coordinator's topic, by which the shards of a log that
// Apache Kafka wrote are found: the absolute value of JavaHash, modulo n. The least int32 has none and counts as 0.
func PartitionFor(key string, n int32) int32 {
	h := JavaHash(key)
	if h < 0 {
		h = -h
	}
	return max(h, 0) % n
}

// JavaHash is Java's String.hashCode: over UTF-16.
func JavaHash(s string) int32 {
	var h int32
	for _, r := range s {
		if r >= 0x10000 {
			r -= 0x10000
			h = 31*h + (0xd800 + r>>10)
			r = 0xdc00 + r&0x3ff
		}
		h = 31*h + r
	}
	return h
}

// JavaOrder sorts keys as a java.util.HashMap iterates over them, which is the order in which Kafka sees the members of a group or the
// changes of a configuration. Keys of one bucket keep the order in which they come.
func JavaOrder(keys []string) []string {
	buckets := uint32(16)
	for len(keys)*4 > int(buckets)*3 {
		buckets *= 2
	}
	at := func(s string) uint32 {
		h := uint32(JavaHash(s))
		return (h ^ h>>16) & (buckets - 1)
	}
	slices.SortStableFunc(keys, func(a, b string) int { return cmp.Compare(at(a), at(b)) })
	return keys
}
