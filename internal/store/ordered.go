package store

import "math/bits"

// ordered is an index by key of the pinned entries of a store: a skip list. It costs nothing
// until the first Range of the store; from then on it follows each first write.
//
// Entries are not taken out one by one: when some are not pinned any more, the index is made anew.
type ordered struct {
	on    bool
	level int
	head  *orderedNode
	seed  uint64
	path  [maxLevel]*orderedNode
}

const maxLevel = 16

type orderedNode struct {
	e    *entry
	next []*orderedNode
}

// reset empties the index.
func (o *ordered) reset() {
	if o.on {
		o.head = &orderedNode{next: make([]*orderedNode, maxLevel)}
		o.level = 1
		o.seed = 0x9e3779b97f4a7c15
	}
}

func (o *ordered) add(e *entry) {
	if !o.on {
		return
	}
	n := o.head
	for l := o.level - 1; l >= 0; l-- {
		for n.next[l] != nil && n.next[l].e.key() < e.key() {
			n = n.next[l]
		}
		o.path[l] = n
	}
	if at := o.path[0].next[0]; at != nil && at.e.key() == e.key() {
		at.e = e
		return
	}
	o.seed ^= o.seed << 13
	o.seed ^= o.seed >> 7
	o.seed ^= o.seed << 17
	height := min(1+bits.TrailingZeros64(o.seed|1<<62)/2, maxLevel) // each level has a quarter of the one below
	for ; o.level < height; o.level++ {
		o.path[o.level] = o.head
	}
	node := &orderedNode{e: e, next: make([]*orderedNode, height)}
	for l := range height {
		node.next[l] = o.path[l].next[l]
		o.path[l].next[l] = node
	}
}

// addRow is add for a row that has no entry.
func (o *ordered) addRow(row, value []byte, ts int64) {
	if o.on {
		e := new(entry)
		e.init(row)
		e.set(value, ts)
		o.add(e)
	}
}

// removeRow takes a row back.
func (o *ordered) removeRow(row []byte) {
	if o.on {
		if n, _ := o.seek(string(row)); n != nil && n.e.key() == string(row) {
			n.e.present = false
		}
	}
}

// seek returns the first node with a key >= key, and the one before it (nil: none).
func (o *ordered) seek(key string) (at, before *orderedNode) {
	n := o.head
	for l := o.level - 1; l >= 0; l-- {
		for n.next[l] != nil && n.next[l].e.key() < key {
			n = n.next[l]
		}
	}
	if n == o.head {
		return n.next[0], nil
	}
	return n.next[0], n
}

// last returns the last node, or nil.
func (o *ordered) last() *orderedNode {
	n := o.head
	for l := o.level - 1; l >= 0; l-- {
		for n.next[l] != nil {
			n = n.next[l]
		}
	}
	if n == o.head {
		return nil
	}
	return n
}
