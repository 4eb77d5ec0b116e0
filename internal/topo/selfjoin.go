package topo

import "slices"

// SelfJoin is an inner join of two streams, and what it becomes if they are the same one:
//
//	     .--> This  --> Joins[0] --.
//	node |                         |--> Merge    =>    node --> This (Window) --> Merge (Join)
//	     '--> Other --> Joins[1] --'
type SelfJoin struct {
	This, Other *Node // put records into the windows
	Joins       [2]*Node
	Merge       *Node
	Store       string // the window that stays
	Dropped     string // the other one
	Window      Wire   // of This
	Join        Wire   // of Merge
}

// AddSelfJoin has Build look at an inner join of two streams.
func (g *Graph) AddSelfJoin(j SelfJoin) { g.selfJoins = append(g.selfJoins, j) }

// rewriteSelfJoins does to the graph what Kafka Streams does with single.store.self.join. It does so with left joins too, whose
// results then are others: left joins stay here. A window that other nodes use stays as well.
func (g *Graph) rewriteSelfJoins() {
	joins := g.selfJoins
	g.selfJoins = nil // once
	for _, j := range joins {
		if !slices.Equal(j.This.Parents, j.Other.Parents) || !slices.Equal(g.Store(j.Dropped).Nodes, []*Node{j.Other, j.Joins[0]}) {
			continue
		}
		gone := []*Node{j.Other, j.Joins[0], j.Joins[1]}
		g.nodes = slices.DeleteFunc(g.nodes, func(n *Node) bool { return slices.Contains(gone, n) })
		g.stores = slices.DeleteFunc(g.stores, func(s *Store) bool { return s.Name == j.Dropped })
		delete(g.storeByName, j.Dropped)
		kept := g.Store(j.Store)
		kept.Nodes = slices.DeleteFunc(kept.Nodes, func(n *Node) bool { return slices.Contains(gone, n) })
		j.This.Wire, j.Merge.Wire = j.Window, j.Join
		j.Merge.Times = j.Joins[0].Times
		j.Merge.Parents = []*Node{j.This}
		g.ConnectStores(j.Merge, j.Store)
	}
	g.sort(nil)
}
