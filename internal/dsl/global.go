package dsl

import (
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
)

// Global is a global table: what operators can ask of it. Every task can read it, without being connected to its store.
type Global[K, V any] struct {
	B     *Builder
	Key   serde.Serde[K]
	Value serde.Serde[V]
	// Lookup makes, in a task, what reads a key as the table has it now.
	Lookup func(c *task.Context) Lookup[K, V]
}

// Valid tells whether a handle came from a builder.
func (g Global[K, V]) Valid() bool { return g.B != nil }

// AddGlobal adds a global store that wire fills from a topic.
func AddGlobal[K, V any](b *Builder, at string, names [2]string, t Topic[K, V], s *topo.Store, wire func(processor *topo.Node) topo.Wire) {
	CheckSerdes(b, at, t)
	source := &topo.Node{Name: names[0], At: at, Topics: []topo.Topic{{Name: t.Name}}}
	source.Wire = wireSource(source, &Codec[K]{t.Key}, &Codec[V]{t.Value}, t.Time, t.Stamp)
	processor := &topo.Node{Name: names[1], At: at}
	processor.Wire = wire(processor)
	b.Graph.AddGlobal(source, processor, s, topo.Reading{})
}

// GlobalTable adds a table that every instance has as a whole.
func GlobalTable[K, V any](b *Builder, at string, names [2]string, t Topic[K, V], st state.KV[K, V], d state.Declaration) Global[K, V] {
	s := &topo.Store{Name: d.Store.Name, At: at, Spec: d.Store, Handle: st}
	AddGlobal(b, at, names, t, s, func(n *topo.Node) topo.Wire {
		return task.Wire(func(c *task.Context, outs []any) any {
			return sourceTableInput(NewTableStore(c, n, st, d.Store.Name, false, task.Emission{When: task.EmitPerUpdate}, outs))
		})
	})
	return Global[K, V]{B: b, Key: st.KeySerde(), Value: st.ValueSerde(), Lookup: func(c *task.Context) Lookup[K, V] {
		return Lookup[K, V]{Get: state.OpenView(st, c.Global(d.Store.Name)).Lookup}
	}}
}
