package topo

import "slices"

// Optimization is a set of changes that Build makes to the graph to save topics.
type Optimization uint8

const (
	// MergeRepartitions makes one repartition topic of those that lead away from the same operator with new keys.
	MergeRepartitions Optimization = 1 << iota
	// OneStoreSelfJoins has inner joins of a stream with itself keep one window.
	OneStoreSelfJoins
	// ReuseSources has tables restored from the topics that they are read from, without changelogs.
	ReuseSources
)

// Optimize sets the optimizations of Build.
func (g *Graph) Optimize(o Optimization) { g.optimize = o }

// optimized does to the graph what is set. Streams may prove to be one when their repartition topics are merged.
func (g *Graph) optimized() {
	if g.optimize&ReuseSources != 0 {
		g.reuseSources()
	}
	if g.optimize&MergeRepartitions != 0 {
		g.mergeRepartitions()
	}
	if g.optimize&OneStoreSelfJoins != 0 {
		g.rewriteSelfJoins()
	}
}

// reuseSources takes the changelogs of tables that can be made again from their topics, as Kafka Streams does with
// reuse.ktable.source.topics. It does so also where the timestamps of the topic are not those of the table; those keep
// their changelogs here, and so do tables that do not begin with the first record, and stores from which entries go by themselves.
func (g *Graph) reuseSources() {
	for _, s := range g.stores {
		if s.Source != nil && s.Source.reading.Table && s.Source.Start == (Start{}) && !s.Source.EventTime && s.Spec.Changelog && s.Spec.TTL == 0 {
			s.Spec.Changelog, s.FromSource = false, true
		}
	}
}

// mergeRepartitions does to the graph what Kafka Streams does with merge.repartition.topics:
//
//	KEY-SELECT --> FILTER --> first-repartition           KEY-SELECT --> first-repartition
//	     |                          '--> AGGREGATE   =>                     |--> FILTER --> AGGREGATE
//	     '--> second-repartition                                            '--> REDUCE
//	                '--> REDUCE
//
// The topic and its nodes are those of the first; they move up to the operator that makes the keys (or, below a merge of
// several streams, to the merge), and what lay between moves behind them. Kafka Streams fails where two of the topics lie behind
// the same child of that operator; here they are merged too. It moves topics up over processValues, which may change the type of
// values; here they stay below.
func (g *Graph) mergeRepartitions() {
	type group struct {
		anchor *Node
		topics []*Repartition
	}
	var groups []*group
	for _, r := range g.repartitions {
		anchor := r.anchor()
		if anchor == nil {
			continue
		}
		i := slices.IndexFunc(groups, func(x *group) bool { return x.anchor == anchor })
		if i < 0 {
			i, groups = len(groups), append(groups, &group{anchor: anchor})
		}
		groups[i].topics = append(groups[i].topics, r)
	}
	if len(groups) == 0 {
		return
	}
	slices.SortStableFunc(groups, func(a, b *group) int { // merges come last
		switch {
		case a.anchor.Merges != b.anchor.Merges:
			if b.anchor.Merges {
				return -1
			}
			return 1
		default:
			return a.anchor.Index - b.anchor.Index
		}
	})
	first := map[*Node]*Node{} // by node of a merged repartition topic: where it stands now
	for _, x := range groups {
		first[x.topics[0].filter] = x.anchor
		first[x.topics[0].Sink] = x.anchor
		first[x.topics[0].Source] = x.anchor
		g.mergeInto(x.anchor, x.topics)
	}
	g.sort(first)
}

// anchor is the node that a repartition topic may move up to, nil if it stays where it is.
func (r *Repartition) anchor() *Node {
	if !r.Mergeable {
		return nil
	}
	// Kafka Streams looks for the next operator up that makes keys, and leaves the topic alone if one that makes values is nearer.
	key := r.filter.above(func(n *Node) bool { return n.NewKey })
	if key == nil || r.filter.above(func(n *Node) bool { return n.NewKey || n.NewValue }) != key {
		return nil
	}
	n := r.filter.Parents[0]
	for n.Same && len(n.Parents) == 1 {
		n = n.Parents[0]
	}
	if n.NewKey || n.Merges {
		return n
	}
	return nil
}

// above is the ancestor for which ok holds, as Kafka Streams finds it: a parent, else what the last parent has above.
func (n *Node) above(ok func(*Node) bool) (found *Node) {
	for _, p := range n.Parents {
		if ok(p) {
			return p
		}
		found = p.above(ok)
	}
	return found
}

// mergeInto moves the first of the topics up to the anchor and takes the others out.
func (g *Graph) mergeInto(anchor *Node, topics []*Repartition) {
	r := topics[0]
	partitions := r.Partitions
	for _, o := range topics {
		if o.Partitions > 0 && partitions > 0 && o.Partitions != partitions {
			continue // another number is demanded: it stays
		}
		partitions = max(partitions, o.Partitions)
		// The child of the anchor on the way to the topic, which is the topic's own filter if nothing is between.
		child := o.filter
		for child.Parents[0] != anchor && child.Parents[0] != r.Source {
			child = child.Parents[0]
		}
		behind, read := o.filter.Parents[0], slices.Clone(o.Source.Children)
		if child == o.filter {
			behind = r.Source
		} else {
			child.move(anchor, r.Source)
		}
		if behind != o.Source {
			for _, c := range read {
				c.move(o.Source, behind)
			}
		}
		o.filter.leave(o.filter.Parents[0])
		if o != r {
			g.remove(o, r)
		}
	}
	r.Partitions = partitions
	r.filter.Parents = []*Node{anchor}
	anchor.Children = append(anchor.Children, r.filter)
	g.BurnRepartition()
	topic := r.Topic.Name // the nodes are named after the topic, also if that has a generated name
	r.Sink.Name, r.filter.Name, r.Source.Name = topic+"-sink", topic+"-filter", topic+"-source"
}

// remove takes a repartition topic out whose records go through another one.
func (g *Graph) remove(o, r *Repartition) {
	g.nodes = slices.DeleteFunc(g.nodes, func(n *Node) bool { return n == o.filter || n == o.Sink || n == o.Source })
	g.repartitions = slices.DeleteFunc(g.repartitions, func(x *Repartition) bool { return x == o })
	for i := range g.copartition {
		for j, s := range g.copartition[i].sources {
			if s == o.Source {
				g.copartition[i].sources[j] = r.Source
			}
		}
	}
}

// move gives a node another parent in the place of one.
func (n *Node) move(from, to *Node) {
	if from == to {
		return
	}
	from.Children = slices.DeleteFunc(from.Children, func(c *Node) bool { return c == n })
	n.Parents = slices.DeleteFunc(n.Parents, func(p *Node) bool { return p == from })
	if !slices.Contains(n.Parents, to) {
		n.Parents = append(n.Parents, to)
		to.Children = append(to.Children, n)
	}
}

// leave takes a node from under a parent.
func (n *Node) leave(p *Node) {
	p.Children = slices.DeleteFunc(p.Children, func(c *Node) bool { return c == n })
	n.Parents = nil
}

// sort puts the nodes, and children under each, in topological order: among those whose parents are there, the oldest. A
// repartition topic that has moved is as old as the operator that it moved to.
func (g *Graph) sort(moved map[*Node]*Node) {
	age := func(n *Node) int {
		if a := moved[n]; a != nil {
			return a.Index
		}
		return n.Index
	}
	sink := map[*Node]*Node{}
	for _, r := range g.repartitions {
		sink[r.Source] = r.Sink // a topic is written before it is read
	}
	var order []*Node
	placed := map[*Node]bool{}
	for len(order) < len(g.nodes) {
		var next *Node
		for _, n := range g.nodes {
			s := sink[n]
			ready := !placed[n] && (s == nil || placed[s]) && !slices.ContainsFunc(n.Parents, func(p *Node) bool { return !placed[p] })
			if ready && (next == nil || age(n) < age(next)) {
				next = n
			}
		}
		placed[next] = true
		order = append(order, next)
	}
	g.nodes = order
	for i, n := range order {
		n.Index = i
		n.Children = nil
	}
	for _, n := range order {
		for _, p := range n.Parents {
			p.Children = append(p.Children, n)
		}
	}
}
