package store

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// Keys that left the cache are found, those that never came are known not to be there, and what is known of them stays
// small while entries come and go by their TTL.
func TestKeysBelowTheCache(t *testing.T) {
	for _, ttl := range []int64{0, 5000} {
		t.Run(fmt.Sprintf("ttl=%d", ttl), func(t *testing.T) {
			dir, err := OpenDir("/state", DirOptions{FS: vfs.NewMem(), MemoryBytes: 1 << 20})
			require.NoError(t, err)
			task, err := dir.OpenTask("0_0", []Spec{{Name: "s", TTL: ttl, Timestamped: true, Cached: true, Changelog: true}}, TaskOptions{})
			require.NoError(t, err)
			kv := task.KV("s")
			rng := rand.New(rand.NewPCG(1, 2))
			const records = 20_000
			name := func(i int) []byte { return fmt.Appendf(nil, "key-%d", i) }
			alive := func(i, now int) bool { return i >= 0 && i <= now && (ttl == 0 || int64(i) >= int64(now)-ttl) }
			for now := range records {
				require.NoError(t, kv.Put(name(now), name(now), int64(now)))
				for range 3 {
					i := now + 10 - rng.IntN(max(2*int(ttl), 10_000))
					value, ts, ok, err := kv.Get(name(i))
					require.NoError(t, err)
					require.Equal(t, alive(i, now), ok, "key %d at %d", i, now)
					if ok {
						require.Equal(t, string(name(i)), string(value))
						require.Equal(t, int64(i), ts)
					}
				}
				if now%500 == 0 {
					require.NoError(t, task.RemoveExpired())
					require.NoError(t, task.Commit(nil))
				}
			}
			require.NotNil(t, kv.below)
			require.True(t, kv.absent([]byte("never")))
			require.Less(t, kv.entries.n, records/2, "most have left the cache")
			if ttl > 0 {
				require.LessOrEqual(t, kv.below.size(), int64(16_384*segmentSlotSize))
			}
			require.NoError(t, task.Close())
			require.NoError(t, dir.Close())
		})
	}
}
