package store

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A merge gives the newest change of each key, in the order of keys: of a few and of many, of keys that differ in their first
// bytes or only far behind, that are the beginning of one another, empty, or end with zeros.
func TestMergeGivesTheNewestChangeOfEachKeyInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := bytes.Repeat([]byte{'k'}, rapid.IntRange(0, 20).Draw(t, "prefix"))
		letters := rapid.SampledFrom([]int{1, 2, 4, 255}).Draw(t, "letters")
		longest := rapid.SampledFrom([]int{1, 3, 8, 9, 20}).Draw(t, "longest")
		changes := rapid.SampledFrom([]int{3, 300, 3000}).Draw(t, "changes")
		next := rapid.Uint64().Draw(t, "seed")
		random := func(n int) int {
			next = next*6364136223846793005 + 1442695040888963407
			return int(next>>33) % n
		}
		want := map[string]byte{}
		runs := make([]*run, rapid.IntRange(1, 5).Draw(t, "runs"))
		for i := range runs {
			runs[i] = &run{}
			in := map[string]bool{}
			for range changes {
				key := slices.Clone(prefix)
				for range random(longest + 1) {
					key = append(key, byte(random(letters)))
				}
				if in[string(key)] {
					continue // a run has each key once
				}
				in[string(key)] = true
				runs[i].items = append(runs[i].items, item{key: string(key), value: []byte{byte(i)}})
				if _, newer := want[string(key)]; !newer {
					want[string(key)] = byte(i)
				}
			}
		}
		var m merger
		for range 2 { // the second time in memory that was used
			var keys []string
			m.merge(runs, 0).each(func(it *item) bool {
				keys = append(keys, it.key)
				require.Equal(t, []byte{want[it.key]}, it.value, "%q", it.key)
				return true
			})
			require.Equal(t, slices.Sorted(maps.Keys(want)), keys)
		}
	})
}
