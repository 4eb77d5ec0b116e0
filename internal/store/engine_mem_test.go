package store

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The tree equals a map after any changes, old trees stay as they were, and chunks keep their
// sizes.
func TestMemTreeEqualsMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree := &memTree{}
		want := map[string]string{}
		var old *memTree
		var oldWant []string
		for step := range rapid.IntRange(1, 8).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "keep") {
				old, oldWant = tree, treeItems(tree)
			}
			seen := map[string]bool{}
			var changes []item
			deletions := rapid.IntRange(0, 10).Draw(t, "deletions of 10")
			for range rapid.IntRange(1, 1500).Draw(t, "changes") {
				n := rapid.IntRange(0, 3000).Draw(t, "key")
				key := fmt.Sprintf("%05d", n)
				if seen[key] {
					continue
				}
				seen[key] = true
				if n%10 < deletions {
					changes = append(changes, item{key: key})
					delete(want, key)
				} else {
					v := fmt.Sprintf("%d", step)
					changes = append(changes, item{key: key, value: []byte(v)})
					want[key] = v
				}
			}
			tree = tree.apply(lastOfEach(changes))
			var all []string
			for k, v := range want {
				all = append(all, k+"="+v)
				it, ok := tree.get(k)
				require.True(t, ok)
				require.Equal(t, v, string(it.value))
			}
			slices.Sort(all)
			require.Equal(t, all, treeItems(tree))
			for i, c := range tree.chunks {
				require.NotEmpty(t, c)
				require.LessOrEqual(t, len(c), maxChunk)
				if i > 0 {
					require.Greater(t, len(c)+len(tree.chunks[i-1]), minChunk, "chunks %d and %d are small", i-1, i)
				}
			}
		}
		if old != nil {
			require.Equal(t, oldWant, treeItems(old))
		}
	})
}

func treeItems(t *memTree) (out []string) {
	for _, c := range t.chunks {
		for _, it := range c {
			out = append(out, it.key+"="+string(it.value))
		}
	}
	return out
}
