package dsl

import (
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/state"
)

// SourceTable adds the node that makes a table of the records of an edge. Without a named store it is stored
// only if an operator needs it to be.
func SourceTable[K, V any](in Edge[K, V], at, name string, st state.Spec[K, V], d state.Declaration, e task.Emission) Table[K, V] {
	b := in.B
	t := &TableNode{Stored: st.StoreName() != "", Versioned: d.Store.Kind == store.VersionedKeyValue}
	n := &topo.Node{Name: name, At: at}
	n.Wire = task.Wire(func(c *task.Context, outs []any) any {
		if !t.Stored {
			return unstoredInput[K, V](c, outs)
		}
		return sourceTableInput(NewTableStore(c, n, st, d.Store.Name, t.SendOld, e, outs))
	})
	materialize := func() {
		AddStore(b, n, at, st, d)
		t.Stored = true
	}
	t.Enable = func(force bool) bool {
		if !t.Stored && force {
			materialize()
		}
		return t.Stored
	}
	t.Read = func() []string {
		if !t.Stored {
			materialize()
		}
		return []string{d.Store.Name}
	}
	ref := in.Then(n)
	if t.Versioned {
		t.Stored = true // versions are what the table was declared for
	}
	if t.Stored {
		materialize()
	}
	key, value := StoreSerdes(st)
	return Table[K, V]{Edge: Edge[K, V]{B: b, Ref: ref, Key: key, Value: value}, T: t, Lookup: LookupStore(st, d.Store.Name)}
}

func unstoredInput[K, V any](c *task.Context, outs []any) any {
	out := task.Tables[K, V](outs)
	return task.Stream[K, V](func(k K, v V, m task.Meta) error {
		if m.Null&task.KeyIsNull != 0 {
			c.Drop(task.NullKey)
			return nil
		}
		var old V
		m.Null |= task.OldIsNull
		return out(k, v, old, m)
	})
}

func sourceTableInput[K, V any](s *TableStore[K, V]) task.Stream[K, V] {
	return func(k K, v V, m task.Meta) error {
		if m.Null&task.KeyIsNull != 0 {
			s.C.Drop(task.NullKey)
			return nil
		}
		key, err := s.T.EncodeKey(k)
		if err != nil {
			return task.Fail(s.N, task.Process, err)
		}
		old, had, err := s.Read(key)
		if err != nil {
			return err
		}
		if !had {
			m.Null |= task.OldIsNull
		}
		return s.Update(k, key, v, old, m)
	}
}
