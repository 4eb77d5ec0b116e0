package share

import (
	"cmp"
	"slices"
)

// compare orders the states of one record: the larger is the later.
func (b Batch) compare(c Batch) int {
	return cmp.Or(cmp.Compare(b.Count, c.Count), cmp.Compare(b.State, c.State))
}

// combine merges states of records, in any order and overlapping, into batches that ascend, do not overlap and are as long as can
// be. For each record the largest state wins. Records before start are left out; a start of -1 leaves out none.
func combine(start int64, sets ...[]Batch) []Batch {
	var edges []int64
	var all []Batch
	for _, set := range sets {
		for _, b := range set {
			if start != noChange {
				b.First = max(b.First, start)
			}
			if b.First > b.Last {
				continue
			}
			all = append(all, b)
			edges = append(edges, b.First, b.Last+1)
		}
	}
	if len(all) < 2 {
		return all
	}
	slices.SortFunc(all, func(a, b Batch) int { return cmp.Compare(a.First, b.First) })
	slices.Sort(edges)
	edges = slices.Compact(edges)
	var out []Batch
	var open []Batch // that cover the present edge
	for i, from := range edges[:len(edges)-1] {
		for len(all) > 0 && all[0].First <= from {
			open = append(open, all[0])
			all = all[1:]
		}
		open = slices.DeleteFunc(open, func(b Batch) bool { return b.Last < from })
		if len(open) == 0 {
			continue
		}
		b := slices.MaxFunc(open, Batch.compare)
		b.First, b.Last = from, edges[i+1]-1
		if n := len(out) - 1; n >= 0 && out[n].Last+1 == b.First && out[n].State == b.State && out[n].Count == b.Count {
			out[n].Last = b.Last
			continue
		}
		out = append(out, b)
	}
	return out
}
