package stream

import (
	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
)

// KStream is a stream of records. Handles are values: an operator returns a new
// one and leaves its input, which can have any number of operators. Operators
// that keep both types are methods; those that change one are functions of this
// package with the stream as first argument.
type KStream[K, V any] struct {
	e dsl.Edge[K, V]
}

// Filter keeps the records for which pred is true. Records whose key or value is
// null, and of a type that cannot be null, pass.
func (s KStream[K, V]) Filter(pred func(K, V) bool, opts ...Option) KStream[K, V] {
	return s.filter("Filter", pred, true, opts)
}

// FilterNot keeps the records for which pred is false, and those that Filter passes unseen.
func (s KStream[K, V]) FilterNot(pred func(K, V) bool, opts ...Option) KStream[K, V] {
	return s.filter("FilterNot", pred, false, opts)
}

func (s KStream[K, V]) filter(op string, pred func(K, V) bool, want bool, opts []Option) KStream[K, V] {
	if !s.e.Valid() {
		return s
	}
	at := topo.Caller()
	s.e.B.Require(at, op, pred != nil)
	c := s.e.B.Options(at, op, dsl.OptName, opts)
	n := &topo.Node{Name: s.e.B.Graph.Name(c.Name, "KSTREAM-FILTER-"), At: at, Same: true}
	n.Wire = task.Wire(func(c *task.Context, outs []any) any {
		out, needs := task.Streams[K, V](outs), dsl.Needs[K, V]()
		return task.Stream[K, V](func(k K, v V, m task.Meta) error {
			if m.Null&needs == 0 {
				c.Node = n
				if pred(k, v) != want {
					return nil
				}
			}
			return out(k, v, m)
		})
	})
	s.e.Ref = s.e.Then(n)
	return s
}

// Peek calls f with each record and passes it on unchanged. It is not called for
// a null of a type that cannot be null.
func (s KStream[K, V]) Peek(f func(K, V), opts ...Option) KStream[K, V] {
	if !s.e.Valid() {
		return s
	}
	s.e.Ref = s.look("Peek", "KSTREAM-PEEK-", f, opts)
	return s
}

// ForEach calls f with each record and ends the stream. It is not called for
// a null of a type that cannot be null.
func (s KStream[K, V]) ForEach(f func(K, V), opts ...Option) {
	if s.e.Valid() {
		s.look("ForEach", "KSTREAM-FOREACH-", f, opts)
	}
}

func (s KStream[K, V]) look(op, prefix string, f func(K, V), opts []Option) topo.Ref {
	at := topo.Caller()
	s.e.B.Require(at, op, f != nil)
	c := s.e.B.Options(at, op, dsl.OptName, opts)
	n := &topo.Node{Name: s.e.B.Graph.Name(c.Name, prefix), At: at, Same: true}
	n.Wire = task.Wire(func(c *task.Context, outs []any) any {
		out, needs := task.Streams[K, V](outs), dsl.Needs[K, V]()
		return task.Stream[K, V](func(k K, v V, m task.Meta) error {
			if m.Null&needs == 0 {
				c.Node = n
				f(k, v)
			}
			return out(k, v, m)
		})
	})
	return s.e.Then(n)
}

// Merge is the stream of the records of this and the other streams. Records of
// one stream keep their order. Those of several topics are taken in the order of their times, as far
// as the cluster has them: a topic that is read to its end is not waited for.
func (s KStream[K, V]) Merge(others ...KStream[K, V]) KStream[K, V] {
	if !s.e.Valid() {
		return s
	}
	at := topo.Caller()
	for _, o := range others {
		if !o.e.Valid() {
			s.e.B.Graph.Mistakef(at, "Merge: a stream is the zero KStream: it comes from no builder")
			continue
		}
		n := &topo.Node{Kind: topo.Processor, Name: s.e.B.Graph.Name("", "KSTREAM-MERGE-"), At: at, Wire: dsl.PassThrough[K, V](), Merges: true}
		s.e.Ref.N = s.e.B.Graph.Add(n, s.e.Ref.N, o.e.Ref.N)
		s.e.Ref.Rekeyed = s.e.Ref.Rekeyed || o.e.Ref.Rekeyed
		s.e.Ref.Sources = dsl.UnionSources(s.e.Ref.Sources, o.e.Ref.Sources)
		// Two serdes of one type may differ, so none is taken over.
		s.e.Key, s.e.Value = nil, nil
	}
	return s
}

// Branch is a case of SplitNamed.
type Branch[K, V any] struct {
	Name string
	When func(K, V) bool
}

// Split divides the stream: a record goes to the first branch whose predicate is
// true, else to the rest. A record whose key or value is null, and of a type that
// cannot be null, goes to the rest.
func (s KStream[K, V]) Split(preds ...func(K, V) bool) (branches []KStream[K, V], rest KStream[K, V]) {
	cases := make([]Branch[K, V], len(preds))
	for i, p := range preds {
		cases[i].When = p
	}
	return s.split("", "", cases)
}

// SplitNamed is Split with names: the nodes are named name, name+branch.Name
// for each branch, and name+rest.
func (s KStream[K, V]) SplitNamed(name, rest string, cases ...Branch[K, V]) (branches []KStream[K, V], other KStream[K, V]) {
	if s.e.Valid() && (name == "" || rest == "") {
		s.e.B.Graph.Mistakef(topo.Caller(), "SplitNamed: a name is empty")
	}
	return s.split(name, rest, cases)
}

func (s KStream[K, V]) split(name, rest string, cases []Branch[K, V]) (branches []KStream[K, V], other KStream[K, V]) {
	if !s.e.Valid() {
		return make([]KStream[K, V], len(cases)), s
	}
	at := topo.Caller()
	preds := make([]func(K, V) bool, len(cases))
	for i, b := range cases {
		s.e.B.Require(at, "Split", b.When != nil)
		preds[i] = b.When
	}
	g := &s.e.B.Graph
	n := &topo.Node{Name: g.Name(name, "KSTREAM-BRANCH-"), At: at, Same: true}
	n.Wire = task.Wire(func(c *task.Context, outs []any) any {
		to := make([]task.Stream[K, V], len(outs))
		for i, o := range outs {
			to[i] = o.(task.Stream[K, V])
		}
		needs := dsl.Needs[K, V]()
		return task.Stream[K, V](func(k K, v V, m task.Meta) error {
			if m.Null&needs == 0 {
				c.Node = n
				for i, p := range preds {
					if p(k, v) {
						return to[i](k, v, m)
					}
				}
			}
			return to[len(to)-1](k, v, m)
		})
	})
	s.e.Ref = s.e.Then(n)
	child := func(given, byNumber string) KStream[K, V] {
		if given == "" {
			given = byNumber
		}
		b := s
		b.e.Ref = s.e.Then(&topo.Node{Name: g.Name(n.Name+given, ""), At: at, Wire: dsl.PassThrough[K, V](), Same: true})
		return b
	}
	for i, b := range cases {
		branches = append(branches, child(b.Name, itoa(i+1)))
	}
	return branches, child(rest, "0")
}
