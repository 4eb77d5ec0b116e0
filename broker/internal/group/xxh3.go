package group

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
)

// XXH3, 64 bits, seed 0, as specified by its author (xxhash.com): Kafka puts it into
// the record of a group to tell when its topics changed (KIP-1101), so a log that
// Kafka wrote must not make every group rebalance.

const (
	prime32x1 = 0x9E3779B1
	prime32x2 = 0x85EBCA77
	prime32x3 = 0xC2B2AE3D
	prime64x1 = 0x9E3779B185EBCA87
	prime64x2 = 0xC2B2AE3D27D4EB4F
	prime64x3 = 0x165667B19E3779F9
	prime64x4 = 0x85EBCA77C2B2AE63
	prime64x5 = 0x27D4EB2F165667C5
	primeMX1  = 0x165667919E3779F9
	primeMX2  = 0x9FB21C651E98DF25
)

const xxh3SecretHex = "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f" +
	"cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c" +
	"3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8" +
	"a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364" +
	"eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e" +
	"2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"

// xxh3 hashes with the default secret.
type xxh3 struct{ secret []byte }

func newXXH3() xxh3 {
	secret, err := hex.DecodeString(xxh3SecretHex)
	if err != nil {
		panic(err)
	}
	return xxh3{secret}
}

func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
func le32(b []byte) uint64 { return uint64(binary.LittleEndian.Uint32(b)) }

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

func xxh64Avalanche(h uint64) uint64 {
	h = (h ^ h>>33) * prime64x2
	h = (h ^ h>>29) * prime64x3
	return h ^ h>>32
}

func xxh3Avalanche(h uint64) uint64 {
	h = (h ^ h>>37) * primeMX1
	return h ^ h>>32
}

// mix16 takes in 16 bytes with 16 bytes of the secret.
func mix16(b, secret []byte) uint64 {
	return fold(le64(b)^le64(secret), le64(b[8:])^le64(secret[8:]))
}

func (x xxh3) sum(b []byte) uint64 {
	s, n := x.secret, len(b)
	switch {
	case n == 0:
		return xxh64Avalanche(le64(s[56:]) ^ le64(s[64:]))
	case n <= 3:
		v := uint64(b[0])<<16 | uint64(b[n>>1])<<24 | uint64(b[n-1]) | uint64(n)<<8
		return xxh64Avalanche(v ^ (le32(s) ^ le32(s[4:])))
	case n <= 8:
		v := le32(b[n-4:]) + le32(b)<<32
		h := v ^ (le64(s[8:]) ^ le64(s[16:]))
		h ^= bits.RotateLeft64(h, 49) ^ bits.RotateLeft64(h, 24)
		h *= primeMX2
		h ^= h>>35 + uint64(n)
		h *= primeMX2
		return h ^ h>>28
	case n <= 16:
		lo := le64(b) ^ (le64(s[24:]) ^ le64(s[32:]))
		hi := le64(b[n-8:]) ^ (le64(s[40:]) ^ le64(s[48:]))
		return xxh3Avalanche(uint64(n) + bits.ReverseBytes64(lo) + hi + fold(lo, hi))
	case n <= 128:
		acc := uint64(n) * prime64x1
		for i := (n - 1) / 32; i >= 0; i-- {
			acc += mix16(b[16*i:], s[32*i:]) + mix16(b[n-16*(i+1):], s[32*i+16:])
		}
		return xxh3Avalanche(acc)
	case n <= 240:
		acc := uint64(n) * prime64x1
		for i := range 8 {
			acc += mix16(b[16*i:], s[16*i:])
		}
		acc = xxh3Avalanche(acc)
		for i := 8; i < n/16; i++ {
			acc += mix16(b[16*i:], s[16*(i-8)+3:])
		}
		return xxh3Avalanche(acc + mix16(b[n-16:], s[136-17:]))
	}
	return x.long(b)
}

// long hashes more than 240 bytes, in stripes of 64.
func (x xxh3) long(b []byte) uint64 {
	const stripe = 64
	s, n := x.secret, len(b)
	acc := [8]uint64{prime32x3, prime64x1, prime64x2, prime64x3, prime64x4, prime32x2, prime64x5, prime32x1}
	take := func(b, s []byte) {
		for i := range acc {
			v := le64(b[8*i:])
			k := v ^ le64(s[8*i:])
			acc[i^1] += v
			acc[i] += (k & 0xffffffff) * (k >> 32)
		}
	}
	stripes := (len(s) - stripe) / 8 // of one block
	block := stripe * stripes
	blocks := (n - 1) / block
	for i := range blocks {
		for j := range stripes {
			take(b[i*block+j*stripe:], s[8*j:])
		}
		for j := range acc { // scramble
			a := acc[j]
			acc[j] = (a ^ a>>47 ^ le64(s[len(s)-stripe+8*j:])) * prime32x1
		}
	}
	for j := range (n - 1 - block*blocks) / stripe {
		take(b[blocks*block+j*stripe:], s[8*j:])
	}
	take(b[n-stripe:], s[len(s)-stripe-7:])
	h := uint64(n) * prime64x1
	for i := range 4 {
		h += fold(acc[2*i]^le64(s[11+16*i:]), acc[2*i+1]^le64(s[11+16*i+8:]))
	}
	return xxh3Avalanche(h)
}
