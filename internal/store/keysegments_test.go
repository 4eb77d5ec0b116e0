package store

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// No row of a segment that is live is ever forgotten, whatever comes, expires and is swept meanwhile.
func TestKeySegmentsForgetNoLiveRow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newKeySegments()
		type row struct{ hash, segment uint32 }
		rows := map[row]bool{}
		first, last := uint32(0), uint32(0)
		for range rapid.IntRange(0, 400).Draw(t, "steps") {
			live := segmentBits(first, last)
			switch rapid.IntRange(0, 9).Draw(t, "do") {
			case 0:
				last += rapid.Uint32Range(0, 40).Draw(t, "time")
				first = max(first, last-min(last, rapid.Uint32Range(0, 40).Draw(t, "live")))
			case 1:
				s.sweep(rapid.IntRange(0, 100).Draw(t, "sweep"), live)
			default:
				r := row{rapid.Uint32Range(0, 200).Draw(t, "hash") * 0x9e3779b1, rapid.Uint32Range(first, last).Draw(t, "segment")}
				before := int64(len(s.slots))
				grew := s.add(r.hash, r.segment, live)
				require.Equal(t, (int64(len(s.slots))-before)*segmentSlotSize, grew)
				rows[r] = true
			}
			for r := range rows {
				if r.segment < first {
					delete(rows, r)
				} else if s.of(r.hash)&segmentBit(r.segment) == 0 {
					t.Fatalf("row %v is forgotten; live are %d to %d", r, first, last)
				}
			}
		}
	})
}

// What has expired does not fill the memory, nor keep looking alive, if the keys stay.
func TestKeySegmentsForgetExpired(t *testing.T) {
	s := newKeySegments()
	for segment := uint32(8); segment < 1000; segment++ {
		live := segmentBits(segment-8, segment)
		for n := range uint32(100) {
			s.add((segment*100+n)*0x9e3779b1, segment, live) // new keys
			if segment%2 == 0 {
				s.add(n, segment, live) // and some that stay
			}
		}
		s.sweep(1000, live)
	}
	require.LessOrEqual(t, len(s.slots), 4096)
	require.Zero(t, s.of(1)&segmentBits(993, 993), "there was never a row in an odd segment")
}
