package join

import (
	"fmt"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

// ForeignKey joins each row of the left table with the row of the right one whose key is made of its value. The result has the
// keys of the left table; it changes when either row does. A row whose foreign key is null has no result. The tables need not
// have their keys in the same partitions: rows of the left one subscribe to rows of the right one through two internal topics,
// <name>-subscription-registration-topic and <name>-subscription-response-topic.
//
// The result comes in time, not at once: a left row that changes is answered by the task that has the right row. An answer to
// a value that has changed meanwhile is dropped. Both are found by the serialized left value, so its serde must write
// equal values as equal bytes. A right value that is written as no bytes at all counts as absent, as in Kafka Streams.
//
// The options are stream.Named, SideSerdes (the key is that of the left table), stream.Materialized, and those of emission
// for the result.
func ForeignKey[K, L, FK, R, O any](l stream.KTable[K, L], r stream.KTable[FK, R], fk func(L) FK, f func(L, R) O, opts ...stream.Option) stream.KTable[K, O] {
	return foreignKey(l, r, newCall("ForeignKey", inner, false), ofValue[K](fk), f != nil, both[K](f), opts)
}

// ForeignKeyWithKey is ForeignKey with functions that get the key of the left row.
func ForeignKeyWithKey[K, L, FK, R, O any](l stream.KTable[K, L], r stream.KTable[FK, R], fk func(K, L) FK, f func(K, L, R) O, opts ...stream.Option) stream.KTable[K, O] {
	return foreignKey(l, r, newCall("ForeignKey", inner, true), fk, f != nil, bothWithKey(f), opts)
}

// LeftForeignKey is ForeignKey with a result for every row of the left table.
func LeftForeignKey[K, L, FK, R, O any](l stream.KTable[K, L], r stream.KTable[FK, R], fk func(L) FK, f func(L, stream.Opt[R]) O, opts ...stream.Option) stream.KTable[K, O] {
	return foreignKey(l, r, newCall("LeftForeignKey", left, false), ofValue[K](fk), f != nil, leftOf[K](f), opts)
}

// LeftForeignKeyWithKey is LeftForeignKey with functions that get the key of the left row.
func LeftForeignKeyWithKey[K, L, FK, R, O any](l stream.KTable[K, L], r stream.KTable[FK, R], fk func(K, L) FK, f func(K, L, stream.Opt[R]) O, opts ...stream.Option) stream.KTable[K, O] {
	return foreignKey(l, r, newCall("LeftForeignKey", left, true), fk, f != nil, leftWithKey(f), opts)
}

func ofValue[K, L, FK any](fk func(L) FK) func(K, L) FK {
	if fk == nil {
		return nil
	}
	return func(_ K, v L) FK { return fk(v) }
}

// foreignJoin is a foreign-key join. In tasks of the left table and of the right one it is
//
//	left changes -> send --(registration topic, by foreign key)--> receive: store -> look up -+
//	                                                               right changes -> tell all -+
//	result <- resolve: is it an answer to the value of now? <--(response topic)---------------+
type foreignJoin[K, L, FK, R, O any] struct {
	how     call
	l       dsl.Table[K, L]
	r       dsl.Table[FK, R]
	fk      func(K, L) FK
	f       joiner[K, L, R, O]
	store   string
	key     *dsl.Codec[K]
	foreign *dsl.Codec[FK]
	left    *dsl.Codec[L]
	right   *dsl.Codec[R]
}

func foreignKey[K, L, FK, R, O any](ls stream.KTable[K, L], rs stream.KTable[FK, R], c call, fk func(K, L) FK, ok bool, f joiner[K, L, R, O], opts []stream.Option) stream.KTable[K, O] {
	l, r := ls.Table(), rs.Table()
	if !c.ready(l.B, r.B, ok && fk != nil) {
		return stream.KTable[K, O]{}
	}
	b := l.B
	g := &b.Graph
	o := b.Options(c.at, c.op, dsl.OptName|dsl.OptSides|dsl.OptStore|dsl.OptEmission, opts)
	key, lv, rv := dsl.SidesOf[K, L, R](b, c.at, c.op, o)
	l.T.EnableOld(true)
	r.T.EnableOld(true)
	j := &foreignJoin[K, L, FK, R, O]{
		how: c, l: l, r: r, fk: fk, f: f,
		key:     dsl.Resolve(b, c.at, "key", key, l.Key),
		foreign: dsl.Resolve(b, c.at, "foreign key", nil, r.Key),
		left:    dsl.Resolve(b, c.at, "left value", lv, l.Value),
		right:   dsl.Resolve(b, c.at, "right value", rv, r.Value),
	}
	node := func(suffix, prefix string) *topo.Node {
		return &topo.Node{Name: named(g, o.Name, suffix, prefix), At: c.at}
	}
	const (
		registration = "KTABLE-FK-JOIN-SUBSCRIPTION-REGISTRATION-"
		response     = "KTABLE-FK-JOIN-SUBSCRIPTION-RESPONSE-"
		processor    = "KTABLE-FK-JOIN-SUBSCRIPTION-PROCESSOR-"
	)
	registrationTopic := named(g, o.Name, "-subscription-registration", registration) + "-topic"

	send := node("-subscription-registration-processor", registration)
	send.Wire = task.Wire(func(ctx *task.Context, outs []any) any { return j.send(ctx, send, outs[0].(messages)) })
	l.Then(send)
	sink := node("-subscription-registration-sink", "KTABLE-SINK-")
	sink.Wire = wireMessages(sink)
	source := node("-subscription-registration-source", "KTABLE-SOURCE-")
	source.Wire = wireMessageSource(source)
	g.AddInternal(c.at, registrationTopic, sink, source, send)
	c.meet(r.Ref, topo.Ref{G: r.Ref.G, Sources: []*topo.Node{source}})
	j.store = named(g, o.Name, "-subscription-store", "KTABLE-FK-JOIN-SUBSCRIPTION-STATE-STORE-")

	receive := node("-subscription-receive", processor)
	receive.Kind = topo.Processor
	receive.Wire = task.Wire(func(ctx *task.Context, outs []any) any { return j.receive(ctx, receive, outs[0].(messages)) })
	g.Add(receive, source)
	h := state.KeyValue(j.store, serde.Bytes, serde.Bytes)
	g.AddStore(&topo.Store{Name: j.store, At: c.at, Spec: state.Declare(h).Store, Handle: h}, receive)
	look := node("-subscription-join-foreign", processor)
	look.Kind = topo.Processor
	look.Wire = task.Wire(func(ctx *task.Context, outs []any) any { return j.look(ctx, look, outs[0].(messages)) })
	g.Add(look, receive)
	g.ConnectStores(look, r.T.Readable()...)
	tell := node("-foreign-join-subscription", processor)
	tell.Wire = task.Wire(func(ctx *task.Context, outs []any) any { return j.tell(ctx, tell, outs[0].(messages)) })
	r.Then(tell)
	g.ConnectStores(tell, j.store)

	responseTopic := named(g, o.Name, "-subscription-response", response) + "-topic"
	answerSink := node("-subscription-response-sink", "KTABLE-SINK-")
	answerSink.Wire = wireMessages(answerSink)
	answerSource := node("-subscription-response-source", "KTABLE-SOURCE-")
	answerSource.Wire = wireMessageSource(answerSource)
	g.AddInternal(c.at, responseTopic, answerSink, answerSource, look, tell)
	resolve := node("-subscription-response-resolver", "KTABLE-FK-JOIN-SUBSCRIPTION-RESPONSE-RESOLVER-PROCESSOR-")
	resolve.Kind = topo.Processor
	resolve.Wire = task.Wire(func(ctx *task.Context, outs []any) any {
		return j.resolve(ctx, resolve, task.Streams[K, O](outs))
	})
	g.Add(resolve, answerSource)
	g.ConnectStores(resolve, l.T.Readable()...)
	sources := c.meet(l.Ref, topo.Ref{G: l.Ref.G, Sources: []*topo.Node{answerSource}})

	name := named(g, o.Name, "-result", "KTABLE-FK-JOIN-OUTPUT-")
	in := dsl.Edge[K, O]{B: b, Ref: topo.Ref{G: l.Ref.G, N: resolve, Sources: sources}, Key: j.key}
	return stream.TableOf(j.result(in, name, o))
}

// result is the table of the results, in a store if the option names one or an operator needs it.
func (j *foreignJoin[K, L, FK, R, O]) result(in dsl.Edge[K, O], name string, o dsl.Options) dsl.Table[K, O] {
	const prefix = "KTABLE-FK-JOIN-OUTPUT-"
	b, c := in.B, j.how
	if st, d := materialized[K, O](b, c, o, prefix); st != nil {
		return dsl.SourceTable(in, c.at, name, st, d, o.Emission)
	}
	var t dsl.Table[K, O]
	value := dsl.ResolveIf[O](b, c.at, "result", func() bool { return t.T != nil && t.T.Stored })
	st := state.KeyValue[K, O]("", j.key, value)
	d := dsl.Declare(b, st, prefix)
	t = dsl.SourceTable[K, O](in, c.at, name, st, d, o.Emission)
	t.Value = nil // nobody knows it for certain
	return t
}

// messages takes a message of an internal topic: key and value as bytes, key nil for null, and the partition that it is for, or -1.
type messages func(key, value []byte, ts int64, partition int32) error

func wireMessages(n *topo.Node) topo.Wire {
	return task.Wire(func(c *task.Context, _ []any) any {
		topic := n.Topic.For(c.AppID())
		return messages(func(key, value []byte, ts int64, partition int32) error {
			if err := c.Room(); err != nil {
				return err
			}
			if key != nil {
				key = c.Bytes(func(dst []byte) []byte { return append(dst, key...) })
			}
			value = c.Bytes(func(dst []byte) []byte { return append(dst, value...) })
			o := c.Stage()
			o.Topic, o.Key, o.Value, o.Timestamp, o.Node, o.Partition = topic, key, value, ts, n, partition
			return nil
		})
	})
}

// messageSource reads an internal topic.
type messageSource struct {
	n   *topo.Node
	out messages
	r   *task.Record
}

func wireMessageSource(n *topo.Node) topo.Wire {
	return task.Wire(func(_ *task.Context, outs []any) any {
		return task.Input(&messageSource{n: n, out: outs[0].(messages)})
	})
}

// Load implements task.Input.
func (s *messageSource) Load(r *task.Record) (int64, error) {
	if r.Value == nil {
		return 0, task.Fail(s.n, task.Decode, fmt.Errorf("%w: a null value", errMessage))
	}
	s.r = r
	return r.Timestamp, nil
}

// Forward implements task.Input.
func (s *messageSource) Forward() error { return s.out(s.r.Key, s.r.Value, s.r.Timestamp, -1) }
