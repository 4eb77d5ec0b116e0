package store

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/internal/invariants"
)

// aheadOfAny is Ahead as if the store had many keys.
func aheadOfAny(t *rapid.T, kv *KV, keys *rapid.Generator[string]) {
	var list [][]byte
	for range rapid.IntRange(0, AheadKeys).Draw(t, "keys") {
		list = append(list, []byte(keys.Draw(t, "key")))
	}
	if kv.index != nil {
		kv.touched += kv.index.ahead(list)
	} else {
		kv.touched += kv.entries.ahead(list)
	}
}

func TestAheadOnlyReads(t *testing.T) {
	const keys = 2 * aheadFrom
	for name, spec := range map[string]Spec{
		"key-value":  {},
		"window":     {Kind: Window, Retention: 1000},
		"duplicates": {Kind: Window, Retention: 1000, Duplicates: true},
		"session":    {Kind: Session, Retention: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			spec.Name, spec.Cached = "s", true
			task := openMemory(t, spec)
			kv := task.KV("s")
			var input [][]byte
			for i := range keys {
				key := fmt.Appendf(nil, "key-%d", i)
				var err error
				switch spec.Kind {
				case KeyValue:
					err = kv.Put(key, []byte("a value that an entry has no room for"), 0)
				case Window:
					_, err = OpenWindows(kv, new(int64), new(int64)).Put(key, 0, []byte("v"), 0, nil)
				case Session:
					_, err = OpenSessions(kv, new(int64)).Put(key, 0, 5, []byte("v"), 0, nil)
				}
				require.NoError(t, err)
				input = append(input, key, fmt.Appendf(nil, "none-%d", i))
			}
			if kv.index != nil { // so that it knows the rows
				_, err := kv.index.lookup(input[0], 0)
				require.NoError(t, err)
			}
			input[3] = make([]byte, 1<<16)
			kv.entries.each(func(e *entry) { e.used = false })
			last, bytes := kv.last, task.bytes
			before := kv.touched
			allocs := testing.AllocsPerRun(1, func() {
				for i := 0; i < len(input); i += AheadKeys {
					kv.Ahead(input[i : i+AheadKeys])
				}
				kv.Ahead(nil)
			})
			require.NotEqual(t, before, kv.touched)
			if !invariants.Enabled {
				require.Zero(t, allocs)
			}
			require.Same(t, last, kv.last)
			require.Equal(t, bytes, task.bytes)
			kv.entries.each(func(e *entry) { require.False(t, e.used) })
		})
	}
}

// One record of a count of random keys, of which there are more than the processor's cache holds.
func BenchmarkAhead(b *testing.B) {
	for _, keys := range []int{1000, 30_000, 1_000_000} {
		for _, ahead := range []bool{false, true} {
			b.Run(fmt.Sprintf("keys=%d/ahead=%v", keys, ahead), func(b *testing.B) {
				dir := OpenMemory(DirOptions{MemoryBytes: 1 << 30})
				task, err := dir.OpenTask("0_0", []Spec{{Name: "s", Timestamped: true, Cached: true}}, TaskOptions{})
				require.NoError(b, err)
				kv := task.KV("s")
				for i := range keys {
					require.NoError(b, kv.Put(fmt.Appendf(nil, "word-%07d", i), make([]byte, 8), 0))
				}
				require.NoError(b, task.Commit(nil))
				rng := rand.New(rand.NewPCG(1, 2))
				input := make([][]byte, 1<<16) // as records are: one behind the other
				for i := range input {
					input[i] = fmt.Appendf(nil, "word-%07d", rng.IntN(keys))
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					at := i % len(input)
					if ahead && at%AheadKeys == 0 {
						kv.Ahead(input[at : at+AheadKeys])
					}
					v, ts, _, _ := kv.Get(input[at])
					var buf [8]byte
					binary.BigEndian.PutUint64(buf[:], binary.BigEndian.Uint64(v)+1)
					_ = kv.Put(input[at], buf[:], ts+1)
				}
			})
		}
	}
}
