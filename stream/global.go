package stream

import (
	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/state"
)

// GlobalKTable is a table that every instance has as a whole, so that streams can be joined with it by any key.
type GlobalKTable[K, V any] struct {
	g dsl.Global[K, V]
}

// GlobalFrom reads all partitions of a topic into a table that every instance has. Records with a null key are dropped.
// The topic has no other reader in the program, and the store has no changelog, because the topic is one.
func GlobalFrom[K, V any](b *Builder, t Topic[K, V], st state.KV[K, V], opts ...Option) GlobalKTable[K, V] {
	at := topo.Caller()
	c := b.d.Options(at, "GlobalFrom", dsl.OptName|dsl.OptSource, opts)
	d := dsl.Declare(&b.d, st, t.name+"-")
	return GlobalKTable[K, V]{dsl.GlobalTable(&b.d, at, sourceNames(b, c), t.source(), st, d)}
}

// sourceNames are the names of the source and the processor of a store that is filled from a topic.
func sourceNames(b *Builder, c dsl.Options) [2]string {
	source := b.d.Graph.Name(c.Source, "KSTREAM-SOURCE-")
	if c.Source == "" && c.Name != "" {
		source = c.Name + "-source"
	}
	return [2]string{source, b.d.Graph.Name(c.Name, "KTABLE-SOURCE-")}
}

// Global is for the packages of this module that add operators.
func (t GlobalKTable[K, V]) Global() dsl.Global[K, V] { return t.g }

// GlobalProcessor fills a global store from the records of its topic.
type GlobalProcessor[K, V any] interface {
	Process(ctx *TaskContext, r Record[K, V]) error
}

// AddGlobalStore has a processor of the program's own fill a store that every instance has, from all partitions of a
// topic. All processors can read the store, and only this one writes it. When the store is lost, the processor gets the
// topic again from its beginning. The processor may implement Initializer[*TaskContext] and Closer.
func AddGlobalStore[K, V, SK, SV any, P GlobalProcessor[K, V]](b *Builder, t Topic[K, V], st state.KV[SK, SV], newP func() P, opts ...Option) {
	at := topo.Caller()
	b.d.Require(at, "AddGlobalStore", newP != nil)
	c := b.d.Options(at, "AddGlobalStore", dsl.OptName|dsl.OptSource, opts)
	if st.StoreName() == "" {
		b.d.Graph.Mistakef(at, "AddGlobalStore: the store has no name: processors find stores by name")
		return
	}
	s := &topo.Store{Name: st.StoreName(), At: at, Spec: state.Declare(st).Store, Handle: st}
	dsl.AddGlobal(&b.d, at, sourceNames(b, c), t.source(), s, func(n *topo.Node) topo.Wire {
		return task.Wire(func(c *task.Context, _ []any) any {
			ctx := &TaskContext{Context: c.Context(), c: c, n: n, scope: dsl.NewScope(&b.d, c, n)}
			p, needs := newP(), dsl.Needs[K, V]()
			manage(ctx, ctx, p)
			return task.Stream[K, V](func(k K, v V, m task.Meta) error {
				if m.Null&needs != 0 {
					dsl.DropNull(c, m.Null&needs)
					return nil
				}
				was := ctx.enter(m)
				return ctx.leave(was, p.Process(ctx, Record[K, V]{k, v, task.Moment(m.Time), clip(c.Headers)}))
			})
		})
	})
}
