package stream

import (
	"fmt"
	"reflect"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/state"
)

// A ProcessorOption is what a processor can be given beside its code: handles of the stores that it uses, and the options
// Named and AndFrom. A store belongs to all processors that are given its handle; they run in one task. Global stores can be read without
// being given.
type ProcessorOption interface{ Use() }

// Process sends each record through a processor of the program's own, which newP makes for each task. The keys of the
// result may be others. A record with a null that the processor's types cannot hold is dropped and counted.
func Process[K, V, KO, VO any, P Processor[K, V, KO, VO]](s KStream[K, V], newP func() P, uses ...ProcessorOption) KStream[KO, VO] {
	return process(s, "Process", newP != nil, uses, func(ctx *Context[KO, VO]) func(Record[K, V]) error {
		p := newP()
		manage(ctx, &ctx.TaskContext, p)
		return func(r Record[K, V]) error { return p.Process(ctx, r) }
	})
}

// ProcessFunc is Process with a function that keeps nothing of its own between records.
func ProcessFunc[K, V, KO, VO any](s KStream[K, V], f func(ctx *Context[KO, VO], r Record[K, V]) error, uses ...ProcessorOption) KStream[KO, VO] {
	return process(s, "ProcessFunc", f != nil, uses, func(ctx *Context[KO, VO]) func(Record[K, V]) error {
		return func(r Record[K, V]) error { return f(ctx, r) }
	})
}

// ProcessValues is Process with a processor that keeps the keys, so that no repartition is needed after it.
func ProcessValues[K, V, VO any, P ValueProcessor[K, V, VO]](s KStream[K, V], newP func() P, uses ...ProcessorOption) KStream[K, VO] {
	return processValues(s, "ProcessValues", newP != nil, uses, func(ctx *ValueContext[VO]) func(Record[K, V]) error {
		p := newP()
		manage(ctx, &ctx.TaskContext, p)
		return func(r Record[K, V]) error { return p.Process(ctx, r) }
	})
}

// ProcessValuesFunc is ProcessValues with a function that keeps nothing of its own between records.
func ProcessValuesFunc[K, V, VO any](s KStream[K, V], f func(ctx *ValueContext[VO], r Record[K, V]) error, uses ...ProcessorOption) KStream[K, VO] {
	return processValues(s, "ProcessValuesFunc", f != nil, uses, func(ctx *ValueContext[VO]) func(Record[K, V]) error {
		return func(r Record[K, V]) error { return f(ctx, r) }
	})
}

func process[K, V, KO, VO any](s KStream[K, V], op string, ok bool, uses []ProcessorOption, open func(*Context[KO, VO]) func(Record[K, V]) error) KStream[KO, VO] {
	if !s.e.Valid() {
		return KStream[KO, VO]{}
	}
	b := s.e.B
	n, handles, c := processorNode(b, topo.Caller(), op, "KSTREAM-PROCESSOR-", ok, uses)
	n.NewKey = true
	n.Wire = task.Wire(func(c *task.Context, outs []any) any {
		ctx := newContext[KO, VO](b, c, n, outs)
		f, needs := open(ctx), dsl.Needs[K, V]()
		return task.Stream[K, V](func(k K, v V, m task.Meta) error {
			if m.Null&needs != 0 {
				dsl.DropNull(c, m.Null&needs)
				return nil
			}
			was := ctx.enter(m)
			return ctx.leave(was, f(Record[K, V]{k, v, task.Moment(m.Time), clip(c.Headers)}))
		})
	})
	ref := s.e.ThenAlso(n, dsl.ParentsOf[K, V](b, n.At, op, c))
	b.UseStores(n.At, op, n, handles)
	b.ReadsWith(n, ref)
	ref.Rekeyed = true
	return StreamOf(dsl.Edge[KO, VO]{B: b, Ref: ref})
}

func processValues[K, V, VO any](s KStream[K, V], op string, ok bool, uses []ProcessorOption, open func(*ValueContext[VO]) func(Record[K, V]) error) KStream[K, VO] {
	if !s.e.Valid() {
		return KStream[K, VO]{}
	}
	b := s.e.B
	n, handles, c := processorNode(b, topo.Caller(), op, "KSTREAM-PROCESSVALUES-", ok, uses)
	more := dsl.ParentsOf[K, V](b, n.At, op, c)
	n.NewValue = true
	n.Wire = task.Wire(func(c *task.Context, outs []any) any {
		to := newContext[K, VO](b, c, n, outs)
		var key K
		ctx := &ValueContext[VO]{TaskContext: to.TaskContext, nullVal: to.nullVal}
		ctx.out = func(name string, v VO, m task.Meta) error {
			if name == "" {
				return to.out(key, v, m)
			}
			for i := range to.children {
				if to.children[i].name == name {
					return to.children[i].in(key, v, m)
				}
			}
			return fmt.Errorf("no operator %s comes after %s (%s)", name, n.Name, n.At)
		}
		f, needs := open(ctx), dsl.Needs[K, V]()
		return task.Stream[K, V](func(k K, v V, m task.Meta) error {
			if m.Null&needs != 0 {
				dsl.DropNull(c, m.Null&needs)
				return nil
			}
			was := ctx.enter(m)
			key, ctx.keyNull = k, m.Null&task.KeyIsNull
			return ctx.leave(was, f(Record[K, V]{k, v, task.Moment(m.Time), clip(c.Headers)}))
		})
	})
	ref := s.e.ThenAlso(n, more)
	b.UseStores(n.At, op, n, handles)
	b.ReadsWith(n, ref)
	out := dsl.Edge[K, VO]{B: b, Ref: ref, Key: s.e.Key}
	if len(more) > 0 {
		out.Key = nil // two serdes of one type may differ
	}
	return StreamOf(out)
}

// processorNode makes the node of a processor and finds out what it was given.
func processorNode(b *dsl.Builder, at, op, prefix string, ok bool, uses []ProcessorOption) (*topo.Node, []state.Handle, dsl.Options) {
	b.Require(at, op, ok)
	var opts []Option
	var handles []state.Handle
	for _, u := range uses {
		switch u := u.(type) {
		case Option:
			opts = append(opts, u)
		case state.Handle:
			handles = append(handles, u)
		default:
			b.Graph.Mistakef(at, "%s: %v is neither a store nor an option", op, reflect.TypeOf(u))
		}
	}
	c := b.Options(at, op, dsl.OptName|dsl.OptParents, opts)
	name := c.Name
	if name == "" { // a given name does not use up a number here
		name = b.Graph.Name("", prefix)
	}
	return &topo.Node{Name: name, At: at}, handles, c
}

// manage has Init and Close of a processor called, if it has them.
func manage[C any](ctx C, t *TaskContext, p any) {
	var start, end func() error
	if i, ok := p.(Initializer[C]); ok {
		start = func() error { return i.Init(ctx) }
	}
	if c, ok := p.(Closer); ok {
		end = c.Close
	}
	if start != nil || end != nil {
		t.c.OnStart(t.n, start, end)
	}
}
