// Package join joins streams and tables: one function for each kind of join. The types of the function that makes a result of
// two values say which side may be absent.
//
//	                 both sides     the right one   one side
//	                 are there      may be absent   may be absent    key
//	stream, stream   Streams        LeftStreams     OuterStreams     the same, within a Window of time
//	stream, table    Table          LeftTable                        the same
//	stream, global   Global         LeftGlobal                       made of the record of the stream
//	table, table     Tables         LeftTables      OuterTables      the same
//	table, table     ForeignKey     LeftForeignKey                   made of the row of the left table
//
// Each has a twin, whose name ends in WithKey, with functions that get the key too.
//
// The result of a join with a stream is a stream, and that of a join of two tables is a table. Both sides must have their keys
// in the same partitions: their topics have the same number of partitions, which is checked when the application starts, and
// are written with the same partitioner, which nobody can check. A stream whose key may have changed since it was read goes
// through a repartition topic by itself. Joins with a global table and foreign-key joins need none of that.
//
// # Null
//
// A null value of a stream joins with nothing: it is dropped and counted. So is a null key, but where a left or outer join has
// a result without a match, that is the result. (A function that gets the key, of a type that cannot be null, is not called;
// the record is dropped then.) A value that is there, but whose type can be null, is never null when a function gets it; what
// may be absent is a stream.Opt. A null result is a null value of a stream, and deletes a row of a table.
//
// # Time
//
// The time of a result is the later one of the two records or rows that it is made of; in joins of a stream with a
// table it is that of the stream's record, and a foreign-key result that follows from a change of the right table has the time
// of that change.
//
// # Invariants
//
//   - Results, their order, names, internal topics and formats are those of Kafka Streams for the same calls.
//   - What an operator keeps in memory beside its stores can be made again from them, and is, when changes were taken back.
package join

import (
	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/stream"
)

// joiner makes a result of two values. Which of them are there depends on the join.
type joiner[K, L, R, O any] func(k K, l stream.Opt[L], r stream.Opt[R]) O

// value is the value of a side that is there.
func value[T any](o stream.Opt[T]) T {
	v, _ := o.Get()
	return v
}

// kind says which sides of a join may be absent.
type kind uint8

const (
	inner kind = iota
	left       // the right one
	outer      // one of them
)

func both[K, L, R, O any](f func(L, R) O) joiner[K, L, R, O] {
	return func(_ K, l stream.Opt[L], r stream.Opt[R]) O { return f(value(l), value(r)) }
}

func bothWithKey[K, L, R, O any](f func(K, L, R) O) joiner[K, L, R, O] {
	return func(k K, l stream.Opt[L], r stream.Opt[R]) O { return f(k, value(l), value(r)) }
}

func leftOf[K, L, R, O any](f func(L, stream.Opt[R]) O) joiner[K, L, R, O] {
	return func(_ K, l stream.Opt[L], r stream.Opt[R]) O { return f(value(l), r) }
}

func leftWithKey[K, L, R, O any](f func(K, L, stream.Opt[R]) O) joiner[K, L, R, O] {
	return func(k K, l stream.Opt[L], r stream.Opt[R]) O { return f(k, value(l), r) }
}

func outerOf[K, L, R, O any](f func(stream.Opt[L], stream.Opt[R]) O) joiner[K, L, R, O] {
	return func(_ K, l stream.Opt[L], r stream.Opt[R]) O { return f(l, r) }
}

// call is one call of the DSL.
type call struct {
	at, op string
	kind   kind
	key    bool // the user's functions get the key
}

func newCall(op string, k kind, key bool) call {
	if key {
		op += "WithKey"
	}
	return call{at: topo.Caller(), op: op, kind: k, key: key}
}

// ready records what is wrong with the sides and the function, and is false if there is no builder to go on with.
func (c call) ready(l, r *dsl.Builder, ok bool) bool {
	b := l
	if b == nil {
		b = r
	}
	if b == nil {
		return false
	}
	b.Require(c.at, c.op, ok)
	switch {
	case l == nil:
		b.Graph.Mistakef(c.at, "%s: the left side is the zero value: it comes from no builder", c.op)
	case r == nil:
		b.Graph.Mistakef(c.at, "%s: the right side is the zero value: it comes from no builder", c.op)
	case l != r:
		l.Graph.Mistakef(c.at, "%s: the sides come from different builders", c.op)
	default:
		return true
	}
	return false
}

// meet makes the results of both sides: their topics must have the same number of partitions.
func (c call) meet(l, r topo.Ref) []*topo.Node {
	all := dsl.UnionSources(l.Sources, r.Sources)
	if len(all) > 1 {
		l.G.Copartition(c.at, all...)
	}
	return all
}
