package join

import (
	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
)

// mayBeSelf lets Build join a stream with itself (stream.SelfJoin) on one window. In a task that is two nodes:
//
//	stream --> window: encode key --> merge: look in the window for right records; put the record into it;
//	                                         look in it for left ones, of which the record is one
//
// Results and their order are those of two windows. Kafka Streams pairs a record with itself also if its window does not reach
// over its own time, or if it is too late to be kept; here it does not, as without the optimization.
func (j *streamJoin[K, L, R, O]) mayBeSelf(g *topo.Graph, thisWindow, otherWindow, this, other, merge *topo.Node) {
	g.AddSelfJoin(topo.SelfJoin{
		This: thisWindow, Other: otherWindow, Joins: [2]*topo.Node{this, other}, Merge: merge,
		Store: j.names.thisStore, Dropped: j.names.otherStore,
		Window: task.Wire(func(c *task.Context, outs []any) any {
			return j.selfKey(c, thisWindow, task.Streams[K, L](outs))
		}),
		Join: task.Wire(func(c *task.Context, outs []any) any {
			return j.self(c, thisWindow, merge, task.Streams[K, O](outs))
		}),
	})
}

func (j *streamJoin[K, L, R, O]) selfKey(c *task.Context, n *topo.Node, out task.Stream[K, L]) task.Stream[K, L] {
	cur := task.Shared(c, &j.this, newCurrent)
	return func(k K, v L, m task.Meta) error {
		cur.ready = false
		if m.Null == 0 {
			c.Node = n
			if err := encode(j.key.Serde, &cur.key, k); err != nil {
				return task.Fail(n, task.Process, err)
			}
		}
		return out(k, v, m)
	}
}

func (j *streamJoin[K, L, R, O]) self(c *task.Context, window, n *topo.Node, out task.Stream[K, O]) task.Stream[K, L] {
	// One node feeds both sides, so L and R are one type.
	right := any(func(v L) L { return v }).(func(L) R)
	one := *j // both sides have the same window and the same record
	one.names.otherStore, one.right = j.names.thisStore, &dsl.Codec[R]{Serde: any(j.left.Serde).(serde.Serde[R])}
	cur := task.Shared(c, &j.this, newCurrent)
	task.Shared(c, &one.this, func() *current { return cur })
	task.Shared(c, &one.other, func() *current { return cur })
	asLeft, asRight := one.leftSide(c, n, out), one.rightSide(c, n, out)
	put := windowPut(c, window, cur, j.names.thisStore, j.left.Serde)
	return func(k K, v L, m task.Meta) error {
		if err := asLeft(k, v, m); err != nil || m.Null != 0 {
			return err // without a key or a value it is dropped
		}
		if err := put(v, m.Time); err != nil {
			return err
		}
		return asRight(k, right(v), m)
	}
}
