package buffer

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBuffersHaveTheLengthAskedForAndKeepTheirContentWhenTheyGrow(t *testing.T) {
	for _, n := range []int{0, 1, 4 << 10, 4<<10 + 1, 16 << 10, 1 << 20, 5 << 20} {
		b := Get(n)
		require.Len(t, b.B, n)
		for i := range b.B {
			b.B[i] = byte(i)
		}
		b = b.Grow(2*n + 10)
		require.Len(t, b.B, 2*n+10)
		for i := range n {
			if b.B[i] != byte(i) {
				t.Fatalf("byte %d of %d is %d", i, n, b.B[i])
			}
		}
		b = b.Grow(5)
		require.Len(t, b.B, 2*n+10, "it does not shrink")
		b.Free()
	}
	var none *Buffer
	none.Free()
	(&Buffer{B: make([]byte, 10)}).Free()
	require.Len(t, Get(3000).B, 3000, "a foreign one is not among the recycled")
}

func TestGettingAndFreeingDoesNotAllocate(t *testing.T) {
	Get(16 << 10).Free()
	require.Less(t, testing.AllocsPerRun(100, func() { Get(16 << 10).Free() }), 1.0)
}
