package join

import (
	"strings"
	"time"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

// Streams joins each record of a stream with all records of the other that have its key and are near it in time. Both streams
// are kept in stores for as long as the window and its grace take. The options are stream.Named, Stores and SideSerdes.
func Streams[K, L, R, O any](l stream.KStream[K, L], r stream.KStream[K, R], w Window, f func(L, R) O, opts ...stream.Option) stream.KStream[K, O] {
	return streams(l, r, newCall("Streams", inner, false), w, f != nil, both[K](f), opts)
}

// StreamsWithKey is Streams with a function that gets the key.
func StreamsWithKey[K, L, R, O any](l stream.KStream[K, L], r stream.KStream[K, R], w Window, f func(K, L, R) O, opts ...stream.Option) stream.KStream[K, O] {
	return streams(l, r, newCall("Streams", inner, true), w, f != nil, bothWithKey(f), opts)
}

// LeftStreams is Streams with a result for each record of the left stream that has found none of the right one when its window
// and its grace are over. That result has the time of the record, and comes as soon as a record of either stream, in the
// same partition, moves the time on. (Kafka Streams looks once a second by default; here it is at each record.)
func LeftStreams[K, L, R, O any](l stream.KStream[K, L], r stream.KStream[K, R], w Window, f func(L, stream.Opt[R]) O, opts ...stream.Option) stream.KStream[K, O] {
	return streams(l, r, newCall("LeftStreams", left, false), w, f != nil, leftOf[K](f), opts)
}

// LeftStreamsWithKey is LeftStreams with a function that gets the key.
func LeftStreamsWithKey[K, L, R, O any](l stream.KStream[K, L], r stream.KStream[K, R], w Window, f func(K, L, stream.Opt[R]) O, opts ...stream.Option) stream.KStream[K, O] {
	return streams(l, r, newCall("LeftStreams", left, true), w, f != nil, leftWithKey(f), opts)
}

// OuterStreams is LeftStreams for the records of both streams; one of the values is there.
func OuterStreams[K, L, R, O any](l stream.KStream[K, L], r stream.KStream[K, R], w Window, f func(stream.Opt[L], stream.Opt[R]) O, opts ...stream.Option) stream.KStream[K, O] {
	return streams(l, r, newCall("OuterStreams", outer, false), w, f != nil, outerOf[K](f), opts)
}

// OuterStreamsWithKey is OuterStreams with a function that gets the key.
func OuterStreamsWithKey[K, L, R, O any](l stream.KStream[K, L], r stream.KStream[K, R], w Window, f func(K, stream.Opt[L], stream.Opt[R]) O, opts ...stream.Option) stream.KStream[K, O] {
	return streams(l, r, newCall("OuterStreams", outer, true), w, f != nil, f, opts)
}

func streams[K, L, R, O any](ls stream.KStream[K, L], rs stream.KStream[K, R], c call, w Window, ok bool, f joiner[K, L, R, O], opts []stream.Option) stream.KStream[K, O] {
	l, r := ls.Edge(), rs.Edge()
	if !c.ready(l.B, r.B, ok) {
		return stream.KStream[K, O]{}
	}
	b := l.B
	g := &b.Graph
	o := b.Options(c.at, c.op, dsl.OptName|dsl.OptBaseStore|dsl.OptSides, opts)
	within := w.bounds(c, g.Mistakef)
	key, lv, rv := dsl.SidesOf[K, L, R](b, c.at, c.op, o)
	if key == nil {
		key = l.Key
	}
	if key == nil {
		key = r.Key
	}
	l = l.ForJoin(c.at, o.Name, "-left", key, lv)
	r = r.ForJoin(c.at, o.Name, "-right", key, rv)
	n := streamNames(g, c.kind, o)
	j := &streamJoin[K, L, R, O]{
		how:    c,
		bounds: within,
		names:  n,
		key:    dsl.Resolve(b, c.at, "key", key, nil),
		left:   dsl.Resolve(b, c.at, "left value", lv, l.Value),
		right:  dsl.Resolve(b, c.at, "right value", rv, r.Value),
		f:      f,
	}

	thisWindow := &topo.Node{Name: n.thisWindow, At: c.at, Times: times(n.thisStore)}
	thisWindow.Wire = task.Wire(func(ctx *task.Context, outs []any) any {
		return windowed(ctx, thisWindow, &j.this, n.thisStore, j.key.Serde, j.left.Serde, task.Streams[K, L](outs))
	})
	otherWindow := &topo.Node{Name: n.otherWindow, At: c.at, Times: times(n.otherStore)}
	otherWindow.Wire = task.Wire(func(ctx *task.Context, outs []any) any {
		return windowed(ctx, otherWindow, &j.other, n.otherStore, j.key.Serde, j.right.Serde, task.Streams[K, R](outs))
	})
	this := &topo.Node{Kind: topo.Processor, Name: n.this, At: c.at, Times: []string{joinTime(n.thisStore)}}
	this.Wire = task.Wire(func(ctx *task.Context, outs []any) any { return j.leftSide(ctx, this, task.Streams[K, O](outs)) })
	other := &topo.Node{Kind: topo.Processor, Name: n.other, At: c.at}
	other.Wire = task.Wire(func(ctx *task.Context, outs []any) any { return j.rightSide(ctx, other, task.Streams[K, O](outs)) })
	merge := &topo.Node{Kind: topo.Processor, Name: n.merge, At: c.at, Wire: dsl.PassThrough[K, O](), KeepNullKeys: c.kind != inner}

	lref, rref := l.Then(thisWindow), r.Then(otherWindow)
	g.Add(this, lref.N)
	g.Add(other, rref.N)
	ref := topo.Ref{G: l.Ref.G, N: g.Add(merge, this, other), Sources: c.meet(l.Ref, r.Ref)}
	addWindow(g, c.at, n.thisStore, within, j.key, j.left, thisWindow)
	addWindow(g, c.at, n.otherStore, within, j.key, j.right, otherWindow)
	g.ConnectStores(this, n.otherStore)
	g.ConnectStores(other, n.thisStore)
	if c.kind == inner {
		j.mayBeSelf(g, thisWindow, otherWindow, this, other, merge)
	} else {
		this.Times = append(this.Times, leastTime(n.thisStore))
		h := state.KeyValue(n.shared, serde.Bytes, serde.Bytes)
		spec := state.Declare(h).Store
		spec.Timestamped = false
		g.AddStore(&topo.Store{Name: n.shared, At: c.at, Spec: spec, Handle: h}, this)
		g.ConnectStores(other, n.shared)
	}
	return stream.StreamOf(dsl.Edge[K, O]{B: b, Ref: ref, Key: key})
}

// streamJoinNames are the names of the nodes and stores of a join of two streams.
type streamJoinNames struct {
	thisWindow, otherWindow, this, other, merge string
	thisStore, otherStore, shared               string
}

func streamNames(g *topo.Graph, how kind, o dsl.Options) streamJoinNames {
	thisPrefix, otherPrefix, thisSuffix, otherSuffix, sharedSuffix := "KSTREAM-JOINTHIS-", "KSTREAM-JOINOTHER-", "-this-join", "-other-join", "-left-shared-join"
	if how != inner {
		otherPrefix, otherSuffix = "KSTREAM-OUTEROTHER-", "-outer-other-join"
	}
	if how == outer {
		thisPrefix, thisSuffix, sharedSuffix = "KSTREAM-OUTERTHIS-", "-outer-this-join", "-outer-shared-join"
	}
	n := streamJoinNames{
		thisWindow:  named(g, o.Name, "-this-windowed", "KSTREAM-WINDOWED-"),
		otherWindow: named(g, o.Name, "-other-windowed", "KSTREAM-WINDOWED-"),
		this:        g.Name("", thisPrefix),
		other:       g.Name("", otherPrefix),
	}
	n.thisStore, n.otherStore = n.this, n.other
	n.shared = "KSTREAM-OUTERSHARED-" + strings.TrimPrefix(n.this, thisPrefix)
	if o.BaseStore != "" {
		n.thisStore, n.otherStore, n.shared = o.BaseStore+thisSuffix, o.BaseStore+otherSuffix, o.BaseStore+sharedSuffix
	}
	n.thisStore += "-store"
	n.otherStore += "-store"
	n.shared += "-store"
	if o.Name != "" {
		n.this, n.other = o.Name+thisSuffix, o.Name+otherSuffix
	}
	n.merge = named(g, o.Name, "-merge", "KSTREAM-MERGE-")
	return n
}

// times are the names of the times of a window store.
func times(name string) []string { return []string{store.TimeName(name), store.SeqName(name)} }

// joinTime and leastTime are the names of the times of a join, after its first store.
func joinTime(name string) string { return name + "/j" }

func leastTime(name string) string { return name + "/m" }

func addWindow[K, V any](g *topo.Graph, at, name string, within bounds, key *dsl.Codec[K], val *dsl.Codec[V], n *topo.Node) {
	h := state.Window[K, V](name, key, val).
		Retention(time.Duration(within.retention()) * time.Millisecond).
		Size(time.Duration(within.before+within.after) * time.Millisecond)
	spec := state.Declare(h).Store
	spec.Duplicates = true
	g.AddStore(&topo.Store{Name: name, At: at, Spec: spec, Handle: h}, n)
}
