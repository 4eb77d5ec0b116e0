package task

import (
	"bytes"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/topo"
)

// Emission says which changes of a table go on, and when.
type Emission struct {
	When     When
	Every    time.Duration // of EmitEvery
	OnChange bool          // not those that leave the value as it was
}

// When is when changes of a table go on.
type When uint8

// The times.
const (
	EmitDefault   When = iota // as the task is configured
	EmitPerUpdate             // each at once
	EmitPerCommit             // the last one of a key, at the next commit
	EmitEvery                 // the last one of a key, at a commit that comes an interval after the one before at which changes went on
)

// NeedsStore tells whether the table must have a store for it.
func (e Emission) NeedsStore() bool { return e.When == EmitEvery || e.OnChange }

// PerUpdate resolves an operator's choice.
func (c *Context) PerUpdate(e Emission) bool {
	return e.When == EmitPerUpdate || e.When == EmitDefault && c.perUpdate
}

// Emitted is a change of a table that goes on after the update: the last one of its key. Its slices are valid until the
// function that got it returns.
type Emitted struct {
	Key       []byte
	Value     []byte // nil: deleted
	Timestamp int64
	dirty     *store.Dirty // nil: it was held back since an earlier commit
	held      *Held        // nil: it was not held back
}

// Old returns the value of the key that went on before; nil: none.
func (d *Emitted) Old() ([]byte, error) {
	if d.held != nil {
		return d.held.Prior, nil
	}
	old, _, ok, err := d.dirty.Old()
	switch {
	case err != nil || !ok:
		return nil, err
	case old == nil:
		return []byte{}, nil
	}
	return old, nil
}

// emitter is a table whose changes do not go on at once, or a node that waits for those above it (settle).
type emitter struct {
	node     *topo.Node
	settle   func() error // nil: a table
	kv       *store.KV
	onChange bool
	forward  func(d *Emitted) error
	interval *interval // nil: at each commit
}

// OnEmit has forward called at a commit for keys of the store that were written, unless a key is deleted and nothing of it
// went on before either: at each commit, or as the emission says. Nodes emit in topological order. Where nodes share a
// store, the first one's call counts.
func (c *Context) OnEmit(n *topo.Node, kv *store.KV, e Emission, forward func(d *Emitted) error) {
	for _, o := range c.emitters {
		if o.kv == kv {
			return
		}
	}
	m := &emitter{node: n, kv: kv, onChange: e.OnChange, forward: forward}
	if e.When == EmitEvery {
		m.interval = newInterval(c, kv, e.Every)
	}
	c.emitters = append(c.emitters, m)
}

// OnSettle has f called at a commit when all tables above the node have sent on what they have to. While Emitting is true they do
// so, and not in the order of times: a node that lets time decide takes what comes, and decides when it is called.
func (c *Context) OnSettle(n *topo.Node, f func() error) {
	c.emitters = append(c.emitters, &emitter{node: n, settle: f})
}

// Emitting tells whether what comes is sent by a commit, of which more may come before the node is settled; see OnSettle.
func (c *Context) Emitting() bool { return c.emitting }

// OutputsFirst says that a table with this emission must not find a change in its store, after a failure, of which nothing
// was sent: it would not be sent again.
func (c *Context) OutputsFirst(e Emission) { c.outputsFirst = c.outputsFirst || e.NeedsStore() }

// emitAll sends on what a commit has to.
func (t *Task) emitAll() error {
	t.c.emitting = true
	defer func() { t.c.emitting = false }()
	for _, e := range t.c.emitters {
		var err error
		switch {
		case e.settle != nil:
			err = t.fire(e.node, max(t.time, 0), e.settle)
		case e.interval != nil:
			err = t.emitEvery(e)
		default:
			err = e.kv.Dirty(func(d *store.Dirty) error { return t.emitDirty(e, d) })
		}
		if err != nil {
			return fmt.Errorf("task %s: emit %s: %w", t.id, e.node.Name, err)
		}
	}
	return nil
}

// emitDirty sends on what the transaction changed in a key.
func (t *Task) emitDirty(e *emitter, d *store.Dirty) error {
	if same, err := t.asBefore(d); err != nil || same {
		return err
	}
	t.emitted = Emitted{Key: d.Key, Value: d.Value, Timestamp: d.Timestamp, dirty: d}
	_, err := t.emit(e, &t.emitted)
	return err
}

// asBefore tells whether a key has what it had at the last commit, because the
// records that changed it were undone.
func (t *Task) asBefore(d *store.Dirty) (bool, error) {
	if !t.c.undone {
		return false, nil
	}
	return d.AsBefore()
}

// emit sends one changed key of a table on, under the policy for errors. went says that there was something to send.
func (t *Task) emit(e *emitter, d *Emitted) (went bool, err error) {
	if d.dirty != nil {
		d.dirty.Emitted() // even if it fails: nobody tries again
	}
	if d.Value == nil || e.onChange {
		old, err := d.Old()
		switch {
		case err != nil:
			return false, err
		case d.Value == nil && old == nil: // it came and went: nobody saw it
			return false, nil
		case e.onChange && d.Value != nil && old != nil && bytes.Equal(d.Value, old):
			return false, nil
		}
	}
	done, err := t.underPolicy(
		func() error { return t.forward(e, d) },
		func(re *RecordError) error { return t.deadLetter(re, d.Key, d.Value, d.Timestamp, t.c.Headers) })
	if done {
		t.metrics.Emitted.Add(1)
	}
	return true, err
}

func (t *Task) forward(e *emitter, d *Emitted) (err error) {
	defer func() {
		if p := recover(); p != nil {
			t.stack = debug.Stack()
			err = &PanicError{p}
		}
	}()
	c := t.c
	c.Node = e.node
	c.Headers = nil
	c.begin()
	if d.dirty == nil {
		c.Headers = d.held.DecodeHeaders()
	} else if c.Headers, err = c.headersOf(d.dirty); err != nil {
		return err
	}
	if err := e.forward(d); err != nil {
		return err
	}
	return t.send()
}

// headersOf are the headers of the last update of a key, valid until the next call.
func (c *Context) headersOf(d *store.Dirty) (hs []Header, err error) {
	if d.Headers == nil {
		return nil, nil
	}
	c.hdec, err = decodeHeaders(c.hdec[:0], d.Headers)
	return c.hdec, err
}
