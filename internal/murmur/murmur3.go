package murmur

import (
	"encoding/binary"
	"math/bits"
)

const (
	seed3 = 104729 // Kafka Streams' seed
	c1    = 0x87c37b91114253d5
	c2    = 0x4cf5ad432745937f
)

// Sum128 is Kafka Streams' 128-bit hash of values: Murmur3 for x64. Its two halves are big-endian.
func Sum128(data []byte) [16]byte {
	h1, h2 := uint64(seed3), uint64(seed3)
	rest := data
	for ; len(rest) >= 16; rest = rest[16:] {
		h1 ^= mix1(binary.LittleEndian.Uint64(rest))
		h1 = bits.RotateLeft64(h1, 27) + h2
		h1 = h1*5 + 0x52dce729
		h2 ^= mix2(binary.LittleEndian.Uint64(rest[8:]))
		h2 = bits.RotateLeft64(h2, 31) + h1
		h2 = h2*5 + 0x38495ab5
	}
	var tail [16]byte
	copy(tail[:], rest)
	h2 ^= mix2(binary.LittleEndian.Uint64(tail[8:]))
	h1 ^= mix1(binary.LittleEndian.Uint64(tail[:]))
	h1 ^= uint64(len(data))
	h2 ^= uint64(len(data))
	h1 += h2
	h2 += h1
	h1, h2 = final(h1), final(h2)
	h1 += h2
	h2 += h1
	var sum [16]byte
	binary.BigEndian.PutUint64(sum[:], h1)
	binary.BigEndian.PutUint64(sum[8:], h2)
	return sum
}

func mix1(k uint64) uint64 { return bits.RotateLeft64(k*c1, 31) * c2 }

func mix2(k uint64) uint64 { return bits.RotateLeft64(k*c2, 33) * c1 }

func final(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
