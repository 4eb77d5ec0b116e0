package dsl

import (
	"fmt"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/state"
)

// UseStores connects the stores of handles to a node: each is declared by its first use, and then shared.
func (b *Builder) UseStores(at, op string, n *topo.Node, handles []state.Handle) {
	for _, h := range handles {
		d := state.Declare(h)
		if d.Store.Name == "" {
			b.Graph.Mistakef(at, "%s: a store has no name: a processor finds its stores by name", op)
			continue
		}
		old := b.Graph.Store(d.Store.Name)
		if old == nil {
			b.Graph.AddStore(&topo.Store{Name: d.Store.Name, At: at, Spec: d.Store, Handle: h}, n)
		} else {
			if old.Spec.Kind != d.Store.Kind || old.Spec.Types != d.Store.Types {
				b.Graph.Mistakef(at, "%s: store %s is a %s of %s here, but of %s, %s, at %s: use one handle for both",
					op, d.Store.Name, d.Store.Kind, d.Store.Types, old.Spec.Kind, old.Spec.Types, old.At)
				continue
			}
			b.Graph.ConnectStores(n, d.Store.Name)
		}
		if old == nil || !old.Global {
			n.Times = append(n.Times, timesOf(d.Store)...)
		}
	}
}

// ReadsWith demands that the records of a processor are divided as those of the read-only stores that it uses, of which its task
// has only its own partition.
func (b *Builder) ReadsWith(n *topo.Node, ref topo.Ref) {
	for _, name := range n.Stores {
		if s := b.Graph.Store(name); s != nil && s.ReadOnly {
			b.Graph.Copartition(n.At, UnionSources(ref.Sources, []*topo.Node{s.Source})...)
		}
	}
}

// timesOf are the names under which a store keeps times: all but key-value stores without a TTL.
func timesOf(s store.Spec) []string {
	switch s.Kind {
	case store.Window:
		return []string{store.TimeName(s.Name), store.SeqName(s.Name)}
	case store.Session, store.VersionedKeyValue:
		return []string{store.TimeName(s.Name)}
	}
	if s.TTL > 0 {
		return []string{store.TimeName(s.Name)}
	}
	return nil
}

// Scope are the stores that one processor sees in one task. It implements state.Scope.
type Scope struct {
	c      *task.Context
	n      *topo.Node
	g      *topo.Graph
	opened map[string]any
}

// NewScope makes the scope of a node.
func NewScope(b *Builder, c *task.Context, n *topo.Node) *Scope {
	return &Scope{c: c, n: n, g: &b.Graph, opened: map[string]any{}}
}

// StateStore implements state.Scope.
func (s *Scope) StateStore(name string) (any, error) {
	if st, ok := s.opened[name]; ok {
		return st, nil
	}
	declared := s.g.Store(name)
	if declared == nil {
		return nil, fmt.Errorf("processor %s: store %q: %w: the topology has none", s.n.Name, name, state.ErrUnknownStore)
	}
	st, err := s.open(declared)
	if err != nil {
		return nil, err
	}
	s.opened[name] = st
	return st, nil
}

func (s *Scope) open(declared *topo.Store) (any, error) {
	name := declared.Name
	h, _ := declared.Handle.(state.Handle)
	uses := false
	for _, used := range s.n.Stores {
		uses = uses || used == name
	}
	switch {
	case h == nil || !uses && !declared.Global:
		return nil, fmt.Errorf("processor %s: store %q: %w: the processor was not given it to use (%s)", s.n.Name, name, state.ErrUnknownStore, s.n.At)
	case uses:
		st := state.Declare(h).Open(s.c.Watched(name), s.c.Now, s.c.Time)
		if declared.ReadOnly {
			st = state.ReadOnly(name, st)
		}
		return st, nil
	}
	view := state.Declare(h).View
	if view == nil {
		return nil, fmt.Errorf("processor %s: store %q: %w: global stores are key-value stores", s.n.Name, name, state.ErrUnknownStore)
	}
	return view(s.c.Global(name)), nil
}
