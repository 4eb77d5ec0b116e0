// Package murmur is Kafka's default partitioner: murmur2 over the serialized key.
//
// Every client that shares a topic with us must place a key on the same partition,
// so these are the Java client's constants, seed and sign rule.
package murmur

import "encoding/binary"

const (
	seed uint32 = 0x9747b28c
	m    uint32 = 0x5bd1e995
	r           = 24
)

// Sum2 is the 32-bit murmur2 hash that Java's Utils.murmur2 computes.
func Sum2(b []byte) uint32 {
	h := seed ^ uint32(len(b))
	for len(b) >= 4 {
		k := binary.LittleEndian.Uint32(b)
		k *= m
		k ^= k >> r
		k *= m
		h *= m
		h ^= k
		b = b[4:]
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(b[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}

// Partition is the partition of n that holds key: (murmur2(key) & 0x7fffffff) mod n.
func Partition(key []byte, n int32) int32 {
	return int32(Sum2(key)&0x7fffffff) % n
}
