package dsl

import (
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
)

// SourceTable adds the node that makes a table of the records of an edge. Without a named store it is stored
// only if an operator needs it to be.
func SourceTable[K, V any](in Edge[K, V], at, name string, st state.Spec[K, V], d state.Declaration, e task.Emission) Table[K, V] {
	b := in.B
	t := &TableNode{Stored: st.StoreName() != "" || e.NeedsStore(), Versioned: d.Store.Kind == store.VersionedKeyValue}
	n := &topo.Node{Name: name, At: at}
	n.Wire = task.Wire(func(c *task.Context, outs []any) any {
		if !t.Stored {
			return unstoredInput[K, V](c, outs)
		}
		return sourceTableInput(NewTableStore(c, n, st, d.Store.Name, t.SendOld, e, outs))
	})
	materialize := func() {
		AddStore(b, n, at, st, d, e)
		if s, src := b.Graph.Store(d.Store.Name), in.Ref.N; s != nil && len(src.Topics) == 1 && !src.Topics[0].Internal {
			s.Source, s.Reread = src, reread(in, st, t.Versioned)
		}
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
		return TableStores(d.Store.Name, e)
	}
	ref := in.Then(n)
	if t.Versioned {
		t.Stored = true // versions are what the table was declared for
	}
	if t.Stored {
		materialize()
	}
	key, value := StoreSerdes(st)
	return Table[K, V]{Edge: Edge[K, V]{B: b, Ref: ref, Key: key, Value: value}, T: t, Lookup: LookupStore(st, d.Store.Name, e)}
}

// ReadOnlyStore adds a source and the processor that puts its records into a store, which is restored from the topic itself.
func ReadOnlyStore[K, V any](b *Builder, at string, names [2]string, t Topic[K, V], st state.Spec[K, V], d state.Declaration) {
	src := AddSource(b, &topo.Node{Name: names[0], At: at, Topics: []topo.Topic{{Name: t.Name}}}, t, true)
	in := Edge[K, V]{B: b, Ref: topo.Ref{G: &b.Graph, N: src, Sources: []*topo.Node{src}}, Key: t.Key, Value: t.Value}
	n := &topo.Node{Name: names[1], At: at}
	n.Wire = task.Wire(func(c *task.Context, outs []any) any {
		return sourceTableInput(NewTableStore(c, n, st, d.Store.Name, false, task.Emission{When: task.EmitPerUpdate}, outs))
	})
	in.Then(n)
	d.Store.Changelog = false
	b.Graph.AddStore(&topo.Store{Name: d.Store.Name, At: at, Spec: d.Store, Handle: st,
		Source: src, Reread: reread(in, st, false), FromSource: true, ReadOnly: true}, n)
}

// reread is what a table has of a record of its topic: the bytes of its own serdes, as if the record was processed. A record
// that they cannot read is none, since the application has gone on behind it.
func reread[K, V any](in Edge[K, V], st state.Spec[K, V], versioned bool) func(key, value []byte, headers []serde.Header, ts int64) (store.ChangelogRecord, bool) {
	keyH, valH := withHeaders(in.Key), withHeaders(in.Value)
	nullKey, nullVal := serde.IsNull[K](), serde.IsNull[V]()
	storedKey, storedVal := StoreSerdes(st)
	return func(key, value []byte, headers []serde.Header, ts int64) (r store.ChangelogRecord, ok bool) {
		defer func() {
			if recover() != nil {
				ok = false
			}
		}()
		if key == nil {
			return r, false
		}
		r.Timestamp = ts
		k, err := decode(in.Key, keyH, key, headers)
		if err != nil || nullKey != nil && nullKey(k) {
			return r, false
		}
		if r.Key, err = storedKey.Append([]byte{}, k); err != nil || value == nil {
			return r, err == nil
		}
		v, err := decode(in.Value, valH, value, headers)
		if err != nil {
			return r, false
		}
		if !versioned && nullVal != nil && nullVal(v) {
			return r, true
		}
		r.Value, err = storedVal.Append([]byte{}, v)
		return r, err == nil
	}
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
