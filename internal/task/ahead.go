package task

import (
	"slices"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/topo"
)

// Ahead says that a node looks for the keys of its records in stores, which may then be shown the keys of records that come
// next (store.KV.Ahead).
func (c *Context) Ahead(n *topo.Node, stores ...string) {
	if c.ahead == nil {
		c.ahead = map[*topo.Node][]string{}
	}
	c.ahead[n] = append(c.ahead[n], stores...)
}

// looker is a store, for tests to take its place.
type looker interface{ Ahead(keys [][]byte) }

// lookers are the stores in which the records of a source are looked for by the bytes of their keys: those of the nodes
// that a record comes to at once and with its key. Serdes are not compared: that they differ is rare, and costs time only.
func (t *Task) lookers(source *topo.Node) (found []looker) {
	var walk func(n *topo.Node)
	walk = func(n *topo.Node) {
		for _, name := range t.c.ahead[n] {
			if kv := t.stores.KV(name); kv != nil && !slices.Contains(found, looker(kv)) {
				found = append(found, kv)
			}
		}
		if n.NewKey || n.Windows || slices.ContainsFunc(t.c.emitters, func(e *emitter) bool { return e.node == n }) {
			return
		}
		for _, child := range n.Children {
			walk(child)
		}
	}
	walk(source)
	return found
}

// lookAhead shows keys of the next records of a batch to the stores that will be asked for them.
func (t *Task) lookAhead(q *queue) {
	records := q.batches[0].Records[q.at:]
	n := 0
	for i := range records[:min(store.AheadKeys, len(records))] {
		if key := records[i].Key; key != nil {
			t.keys[n] = key
			n++
		}
	}
	for _, l := range q.ahead {
		l.Ahead(t.keys[:n])
	}
	clear(t.keys[:n]) // they are views into the batch
}
