package topo

import (
	"cmp"
	"encoding/base64"
	"slices"
)

// Topology is a finished graph, divided into sub-topologies.
type Topology struct {
	Nodes        []*Node        // in topological order, those of global stores included
	Subs         []*Subtopology // by ID, which global stores have too: there may be gaps
	Stores       []*Store       // of Subs
	Globals      []*Subtopology // one for each global store: its source, the processor that fills it, and the store
	Repartitions []*Repartition

	copartition []copartition
}

// Subtopology is a set of nodes that run in the same task, because records go
// from one to another without a topic between, or because they share a store.
type Subtopology struct {
	ID      int32
	Nodes   []*Node // in topological order
	Sources []*Node
	Stores  []*Store // in topological order of the nodes that own them
}

// Sub is the sub-topology with an ID, nil if that is no one's or a global store's.
func (t *Topology) Sub(id int32) *Subtopology {
	for _, s := range t.Subs {
		if s.ID == id {
			return s
		}
	}
	return nil
}

// GlobalStores are the stores that every instance has as a whole.
func (t *Topology) GlobalStores() []*Store {
	var stores []*Store
	for _, s := range t.Globals {
		stores = append(stores, s.Stores...)
	}
	return stores
}

// divide finds the sub-topologies: the connected parts of the graph, numbered
// in the order of their first node.
func (g *Graph) divide() *Topology {
	parent := make([]int, len(g.nodes))
	for i := range parent {
		parent[i] = i
	}
	root := func(i int) int {
		for parent[i] != i {
			parent[i] = parent[parent[i]]
			i = parent[i]
		}
		return i
	}
	for _, n := range g.nodes {
		for _, p := range n.Parents {
			parent[root(n.Index)] = root(p.Index)
		}
	}
	for _, s := range g.stores {
		for _, n := range s.Nodes[1:] {
			parent[root(n.Index)] = root(s.Nodes[0].Index)
		}
	}
	t := &Topology{Nodes: g.nodes, Repartitions: g.repartitions, copartition: g.copartition}
	byRoot := map[int]*Subtopology{}
	for _, n := range g.nodes {
		r := root(n.Index)
		s := byRoot[r]
		if s == nil {
			s = &Subtopology{ID: int32(len(byRoot))}
			byRoot[r] = s
			if n.Global { // its source comes first
				t.Globals = append(t.Globals, s)
			} else {
				t.Subs = append(t.Subs, s)
			}
		}
		s.Nodes = append(s.Nodes, n)
		if n.Kind == Source {
			s.Sources = append(s.Sources, n)
		}
	}
	for _, s := range g.stores {
		sub := byRoot[root(s.Nodes[0].Index)]
		sub.Stores = append(sub.Stores, s)
		if !s.Global {
			t.Stores = append(t.Stores, s)
		}
	}
	for _, s := range t.Subs {
		slices.SortStableFunc(s.Stores, func(a, b *Store) int { return cmp.Compare(a.Nodes[0].Index, b.Nodes[0].Index) })
	}
	return t
}

// MaxMetadata is the limit of brokers for the metadata of a committed offset
// (offset.metadata.max.bytes by default).
const MaxMetadata = 4096

// MetadataSize is the size of the metadata of a committed offset that carries
// operator time under these names: base64 of a magic byte, the partition time
// and the map of names to times, with a version in it.
func MetadataSize(names []string) int {
	n := 1 + 8
	if len(names) > 0 {
		n += 4 + 4 + 8 // their number, and a version that has no name
	}
	for _, s := range names {
		n += 4 + len(s) + 8
	}
	return base64.StdEncoding.EncodedLen(n)
}

// Times are the names under which a sub-topology keeps operator time.
func (s *Subtopology) Times() []string {
	var names []string
	for _, n := range s.Nodes {
		names = append(names, n.Times...)
	}
	return names
}

// checkMetadata finds sub-topologies whose operator times don't fit in the
// metadata of an offset.
func (t *Topology) checkMetadata(g *Graph) {
	for _, s := range t.Subs {
		names := s.Times()
		size := MetadataSize(names)
		if size <= MaxMetadata {
			continue
		}
		for _, n := range s.Nodes {
			if len(n.Times) > 0 {
				g.Mistakef(n.At, "the %d windowed operators of sub-topology %d, of which this is the first, need %d bytes of offset metadata, but brokers take %d: give them shorter names or divide them with a Repartition",
					len(names), s.ID, size, MaxMetadata)
				break
			}
		}
	}
}
