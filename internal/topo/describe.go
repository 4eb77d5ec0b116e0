package topo

import (
	"fmt"
	"slices"
	"strings"
)

// String is the text of Kafka Streams' Topology#describe.
func (t *Topology) String() string {
	var b strings.Builder
	b.WriteString("Topologies:\n ")
	for _, s := range t.all() {
		s.describe(&b)
	}
	return b.String()
}

// described is a node in the making of its description. Kafka Streams sorts
// nodes and arrows by size (the number of paths down from a node), but keeps
// arrows in a sorted set while sizes still grow, so that their order depends on
// the order in which it visits nodes: that of a Java hash map. To print the
// same text, this does the same.
type described struct {
	*Node
	size     int
	from, to arrows
}

func (d *described) before(o *described) bool {
	if d.size != o.size {
		return d.size > o.size
	}
	return d.Name < o.Name
}

func (s *Subtopology) describe(b *strings.Builder) {
	byNode := map[*Node]*described{}
	names := make([]string, len(s.Nodes))
	byName := map[string]*described{}
	for i, n := range s.Nodes {
		d := &described{Node: n, size: 1}
		byNode[n], byName[n.Name], names[i] = d, d, n.Name
	}
	// Once through the set of names of the sub-topology, once through the map of
	// its nodes: the order within a bucket is that of insertion.
	var grow func(d *described, by int)
	grow = func(d *described, by int) {
		d.size += by
		d.from.each(func(p *described) { grow(p, by) })
	}
	for _, name := range javaHashOrder(javaHashOrder(names)) {
		d := byName[name]
		for _, parent := range d.Parents {
			p := byNode[parent]
			d.from.add(p)
			p.to.add(d)
			grow(p, d.size)
		}
	}
	all := make([]*described, 0, len(s.Nodes))
	for _, n := range s.Nodes {
		all = append(all, byNode[n])
	}
	slices.SortFunc(all, func(x, y *described) int {
		if x.before(y) {
			return -1
		}
		return 1
	})

	fmt.Fprintf(b, "  Sub-topology: %d", s.ID)
	global := s.Nodes[0].Global
	if global {
		b.WriteString(" for global store (will not generate tasks)")
	}
	b.WriteString("\n")
	for _, d := range all {
		switch d.Kind {
		case Source:
			fmt.Fprintf(b, "    Source: %s (topics: %s)\n      --> %s\n", d.Name, d.subscription(), d.to.names())
		case Processor:
			fmt.Fprintf(b, "    Processor: %s (stores: [%s])\n      --> %s\n      <-- %s\n", d.Name, strings.Join(d.Stores, ", "), d.to.names(), d.from.names())
		case Sink:
			if d.Router != "" {
				fmt.Fprintf(b, "    Sink: %s (extractor class: %s)\n      <-- %s\n", d.Name, d.Router, d.from.names())
				continue
			}
			fmt.Fprintf(b, "    Sink: %s (topic: %s)\n      <-- %s\n", d.Name, d.Topic.Name, d.from.names())
		}
	}
	if !global {
		b.WriteString("\n")
	}
}

// subscription is what a source reads, in the order of a Java HashSet that is made of a list of topics.
func (n *Node) subscription() string {
	if n.Pattern != nil {
		return n.Pattern.text
	}
	buckets := 16
	for buckets < len(n.Topics)*4/3+1 {
		buckets *= 2
	}
	return "[" + strings.Join(javaHashOrderIn(buckets, n.topicNames()), ", ") + "]"
}

// javaHashOrder is the order in which a Java HashSet iterates over strings that
// were added one by one.
func javaHashOrder(names []string) []string {
	buckets := 16
	for len(names)*4 > buckets*3 {
		buckets *= 2
	}
	return javaHashOrderIn(buckets, names)
}

func javaHashOrderIn(buckets int, names []string) []string {
	table := make([][]string, buckets)
	for _, s := range names {
		var h uint32
		for _, c := range []byte(s) { // legal names are ASCII
			h = 31*h + uint32(c)
		}
		h ^= h >> 16
		i := int(h) & (buckets - 1)
		table[i] = append(table[i], s)
	}
	return slices.Concat(table...)
}

// arrows is a sorted set whose order may change under it: like Java's TreeSet,
// a red-black tree, because with sizes that change only the same tree puts the
// same elements in the same places.
type arrows struct {
	root *arrow
}

type arrow struct {
	d                   *described
	left, right, parent *arrow
	red                 bool
}

func (t *arrows) each(f func(*described)) {
	var walk func(a *arrow)
	walk = func(a *arrow) {
		if a != nil {
			walk(a.left)
			f(a.d)
			walk(a.right)
		}
	}
	walk(t.root)
}

func (t *arrows) names() string {
	var names []string
	t.each(func(d *described) { names = append(names, d.Name) })
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (t *arrows) add(d *described) {
	a := &arrow{d: d, red: true}
	at := &t.root
	for *at != nil {
		a.parent = *at
		switch {
		case (*at).d == d:
			return
		case d.before((*at).d):
			at = &(*at).left
		default:
			at = &(*at).right
		}
	}
	*at = a
	t.balance(a)
}

// balance is the textbook repair of a red-black tree after an insertion.
func (t *arrows) balance(a *arrow) {
	for a.parent != nil && a.parent.red {
		p, g := a.parent, a.parent.parent
		uncle, inner, outer := g.right, (*arrows).rotateLeft, (*arrows).rotateRight
		innerChild := p.right
		if p == g.right {
			uncle, inner, outer = g.left, (*arrows).rotateRight, (*arrows).rotateLeft
			innerChild = p.left
		}
		if uncle != nil && uncle.red {
			p.red, uncle.red, g.red = false, false, true
			a = g
			continue
		}
		if a == innerChild {
			a = p
			inner(t, a)
		}
		a.parent.red = false
		g.red = true
		outer(t, g)
	}
	t.root.red = false
}

func (t *arrows) rotateLeft(a *arrow) {
	r := a.right
	a.right = r.left
	if r.left != nil {
		r.left.parent = a
	}
	t.replace(a, r)
	r.left, a.parent = a, r
}

func (t *arrows) rotateRight(a *arrow) {
	l := a.left
	a.left = l.right
	if l.right != nil {
		l.right.parent = a
	}
	t.replace(a, l)
	l.right, a.parent = a, l
}

func (t *arrows) replace(a, by *arrow) {
	by.parent = a.parent
	switch {
	case a.parent == nil:
		t.root = by
	case a.parent.left == a:
		a.parent.left = by
	default:
		a.parent.right = by
	}
}
