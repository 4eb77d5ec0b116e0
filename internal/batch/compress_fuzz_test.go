package batch

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzDecompress decompresses any bytes by every codec with a limit: never more than the limit, in memory that is bounded by it whatever
// the bytes claim, and what was compressed again comes back.
func FuzzDecompress(f *testing.F) {
	const limit = 1 << 20
	var c Compressor
	for codec := None; codec <= Zstd; codec++ {
		for _, n := range []int{0, 100, limit, limit + 1, 64 << 20} {
			p, err := c.Compress(codec, 1, nil, make([]byte, n))
			require.NoError(f, err)
			if len(p) <= 256<<10 {
				f.Add(byte(codec), p)
			}
		}
	}
	f.Add(byte(Snappy), append(append([]byte{}, xerialMagic...), 0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff))
	f.Add(byte(Zstd), []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}) // claims much
	f.Fuzz(func(t *testing.T, codec byte, p []byte) {
		var before, after runtime.MemStats
		d := NewDecompressor(limit)
		runtime.ReadMemStats(&before)
		out, err := d.Decompress(Codec(codec%8), p)
		runtime.ReadMemStats(&after)
		// Growing doubles; lz4 keeps blocks of 4 MiB, zstd and gzip their windows.
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(24<<20), "codec %d", codec%8)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(out), limit)
		out = bytes.Clone(out)
		again, err := c.Compress(Codec(codec%8), 1, nil, out)
		require.NoError(t, err)
		got, err := d.Decompress(Codec(codec%8), again)
		require.NoError(t, err)
		require.True(t, bytes.Equal(out, got))
	})
}
