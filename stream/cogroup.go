package stream

import (
	"fmt"
	"slices"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/window"
)

// CogroupedStream are groups of several streams that have their keys in common, ready to be aggregated into one value of
// each key.
type CogroupedStream[K, A any] struct {
	b      *dsl.Builder
	groups []cogroup[K, A]
}

// cogroup is one of the groups, without the type of its values.
type cogroup[K, A any] interface {
	// windows is nil for a group without.
	windows() interface{ same(o any) bool }
	// declare checks and completes the declaration of the store.
	declare(b *dsl.Builder, at, op string, d *state.Declaration, st state.Spec[K, A]) (key serde.Serde[K], ok bool)
	// source is what the aggregation reads of the group.
	source(at, store string, st state.Spec[K, A]) topo.Ref
	// needs are the nulls that the group cannot take.
	needs() task.Null
	closes() bool
	inSessions() bool
	// wire completes the node of the group. x is for groups with windows, o for the others.
	wire(n *topo.Node, x wiring, st state.Spec[K, A], f cofolding[A], t *dsl.TableNode, e task.Emission)
	// table is the result, without its Ref.
	table(b *dsl.Builder, x wiring, st state.Spec[K, A], key serde.Serde[K], e task.Emission) dsl.Table[K, A]
}

// cofolding is what all groups have in common.
type cofolding[A any] struct {
	init  func() A
	merge func(A, A) A
}

// Cogroup begins an aggregation of several groups with the first one. add adds one of its values to the accumulator, which it
// may change and return. For windows, each group is made a windowed one, with the same windows:
//
//	clicks, orders := stream.WindowedBy(clicksByUser, hourly), stream.WindowedBy(ordersByUser, hourly)
//	both := stream.CogroupWith(stream.Cogroup(clicks, Visit.AddClick), orders, Visit.AddOrder)
//	visits := stream.AggregateCogrouped(both, NewVisit, visitsStore)
func Cogroup[K, V, A any](g GroupedStream[K, V], add func(acc A, v V) A) CogroupedStream[K, A] {
	if !g.e.Valid() {
		return CogroupedStream[K, A]{}
	}
	g.e.B.Require(topo.Caller(), "Cogroup", add != nil)
	return CogroupedStream[K, A]{g.e.B, []cogroup[K, A]{&cogroupOf[K, V, A]{g, add}}}
}

// CogroupWith adds a group to others.
func CogroupWith[K, V, A any](c CogroupedStream[K, A], g GroupedStream[K, V], add func(acc A, v V) A) CogroupedStream[K, A] {
	if c.b == nil {
		return c
	}
	at := topo.Caller()
	if !g.e.Valid() {
		c.b.Graph.Mistakef(at, "CogroupWith: the group is the zero GroupedStream: it comes from no builder")
		return c
	}
	c.b.Require(at, "CogroupWith", add != nil)
	more := &cogroupOf[K, V, A]{g, add}
	if a, b := c.groups[0].windows(), more.windows(); (a == nil) != (b == nil) || a != nil && !a.same(b) {
		c.b.Graph.Mistakef(at, "CogroupWith: the groups have different windows")
	}
	c.groups = append(slices.Clip(c.groups), more)
	return c
}

// AggregateCogrouped folds the records of all groups into one value of each key, beginning with init. The time of the result
// is the largest of the records' times. A null result deletes the key. Each group has a time of its own, by
// which its records may be too late for a window; with EmitOnClose they have one together.
func AggregateCogrouped[K, A any](c CogroupedStream[K, A], init func() A, st state.Spec[K, A], opts ...Option) KTable[K, A] {
	return aggregateCogrouped(c, "AggregateCogrouped", init != nil, cofolding[A]{init: init}, st, opts)
}

// AggregateCogroupedSessions is AggregateCogrouped for sessions, which merge makes one value of two of, as in
// AggregateSessions.
func AggregateCogroupedSessions[K, A any](c CogroupedStream[window.SessionKey[K], A], init func() A, merge func(a, b A) A, st state.Spec[window.SessionKey[K], A], opts ...Option) KTable[window.SessionKey[K], A] {
	return aggregateCogrouped(c, "AggregateCogroupedSessions", init != nil && merge != nil, cofolding[A]{init, merge}, st, opts)
}

func aggregateCogrouped[K, A any](c CogroupedStream[K, A], op string, ok bool, f cofolding[A], st state.Spec[K, A], opts []Option) KTable[K, A] {
	if c.b == nil {
		return KTable[K, A]{}
	}
	at, b := topo.Caller(), c.b
	b.Require(at, op, ok)
	first := c.groups[0]
	known := dsl.OptName | dsl.OptEmission
	if first.windows() != nil {
		known |= dsl.OptOnClose
	}
	o := b.Options(at, op, known, opts)
	if st == nil {
		b.Graph.Mistakef(at, "%s: the store is nil", op)
		return KTable[K, A]{}
	}
	if first.inSessions() && f.merge == nil {
		b.Graph.Mistakef(at, "%s: sessions that grow together must be merged: use AggregateCogroupedSessions", op)
	}
	checkOnClose(b, at, op, o, first.closes())
	d := dsl.Declare(b, st, "COGROUPKSTREAM-AGGREGATE-")
	x := wiring{store: d.Store.Name, handle: st, onClose: o.Used&dsl.OptOnClose != 0}
	d.Store.OnClose = x.onClose
	key, fits := first.declare(b, at, op, &d, st)
	if !fits {
		return KTable[K, A]{}
	}

	refs := make([]topo.Ref, len(c.groups))
	for i, g := range c.groups {
		refs[i] = g.source(at, d.Store.Name, st)
	}
	t := first.table(b, x, st, key, o.Emission)
	var nodes, sources []*topo.Node
	for i, g := range c.groups {
		given := ""
		if o.Name != "" {
			given = fmt.Sprintf("%s-cogroup-agg-%d", o.Name, i)
		}
		n := &topo.Node{Kind: topo.Processor, Name: b.Graph.Name(given, "COGROUPKSTREAM-AGGREGATE-"), At: at}
		x.observed = d.Store.Name + "/o"
		if !x.onClose {
			x.observed += fmt.Sprint(i)
		}
		x.needs = g.needs()
		g.wire(n, x, st, f, t.T, o.Emission)
		b.Graph.Add(n, refs[i].N)
		if i == 0 {
			dsl.AddStore(b, n, at, st, d, o.Emission)
		} else {
			b.Graph.ConnectStores(n, dsl.TableStores(d.Store.Name, o.Emission)...)
		}
		nodes = append(nodes, n)
		sources = dsl.UnionSources(sources, refs[i].Sources)
	}
	given := ""
	if o.Name != "" {
		given = o.Name + "-cogroup-merge"
	}
	merge := &topo.Node{Kind: topo.Processor, Name: b.Graph.Name(given, "COGROUPKSTREAM-MERGE-"), At: at}
	merge.Wire = task.Wire(func(_ *task.Context, outs []any) any { return task.Tables[K, A](outs) })
	b.Graph.Add(merge, nodes...)
	b.Graph.Copartition(at, sources...)
	t.Ref = topo.Ref{G: &b.Graph, N: merge, Sources: sources}
	return TableOf(t)
}

// cogroupOf is a cogroup with its type.
type cogroupOf[K, V, A any] struct {
	g   GroupedStream[K, V]
	add func(A, V) A
}

func (c *cogroupOf[K, V, A]) windows() interface{ same(o any) bool } {
	if c.g.w == nil {
		return nil
	}
	return c.g.w
}

func (c *cogroupOf[K, V, A]) closes() bool     { return c.g.w != nil && c.g.w.closes() }
func (c *cogroupOf[K, V, A]) inSessions() bool { return c.g.w != nil && c.g.w.inSessions() }

func (c *cogroupOf[K, V, A]) declare(b *dsl.Builder, at, op string, d *state.Declaration, st state.Spec[K, A]) (serde.Serde[K], bool) {
	if c.g.w == nil {
		if d.Store.Kind != store.KeyValue {
			b.Graph.Mistakef(at, "%s: store %s is a %s, groups together need a %s", op, d.Store.Name, d.Store.Kind, store.KeyValue)
			return nil, false
		}
		key, _ := dsl.StoreSerdes(st)
		return key, true
	}
	return c.g.w.declare(b, at, op, d, st)
}

func (c *cogroupOf[K, V, A]) source(at, store string, st state.Spec[K, A]) topo.Ref {
	if c.g.w == nil {
		key, _ := dsl.StoreSerdes(st)
		return c.g.forAggregation(at, store, key).Ref
	}
	return c.g.w.source(at, store, st)
}

func (c *cogroupOf[K, V, A]) needs() task.Null { return task.KeyIsNull | dsl.NeedsValue[V]() }

func (c *cogroupOf[K, V, A]) wire(n *topo.Node, x wiring, st state.Spec[K, A], f cofolding[A], t *dsl.TableNode, e task.Emission) {
	a := aggregation[V, A]{init: f.init, add: c.add, merge: f.merge}
	if c.g.w != nil {
		c.g.w.node(n, x)
		n.Wire = wireWindowed(n, x, c.g.w, st, a, t, e)
		return
	}
	n.Wire = task.Wire(func(ctx *task.Context, outs []any) any {
		return aggregateInput[K](dsl.NewTableStore(ctx, n, st, x.store, t.SendOld, e, outs), a)
	})
}

func (c *cogroupOf[K, V, A]) table(b *dsl.Builder, x wiring, st state.Spec[K, A], key serde.Serde[K], e task.Emission) dsl.Table[K, A] {
	if c.g.w != nil {
		return windowedTable(b, x, c.g.w, st, key, e)
	}
	_, value := dsl.StoreSerdes(st)
	t := dsl.Table[K, A]{Edge: dsl.Edge[K, A]{B: b, Key: key, Value: value}, T: &dsl.TableNode{Stored: true}}
	t.Lookup = dsl.LookupStore(st, x.store, e)
	t.T.Enable = func(bool) bool { return true }
	t.T.Read = func() []string { return dsl.TableStores(x.store, e) }
	return t
}
