package task

import (
	"errors"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/topo"
)

// lifecycle is what a processor wants to do when its task starts and ends.
type lifecycle struct {
	node  *topo.Node
	start func() error
	end   func() error
}

// OnStart has start called when the task starts, and end when it is closed. Nodes start in topological order.
func (c *Context) OnStart(n *topo.Node, start, end func() error) {
	c.processors = append(c.processors, lifecycle{n, start, end})
}

// Start calls what processors do first. It comes after LoadMetadata and before the first record. After an error the task
// must be closed.
func (t *Task) Start() error {
	slices.SortStableFunc(t.c.processors, func(a, b lifecycle) int { return a.node.Index - b.node.Index })
	t.c.starting, t.started = true, true
	defer func() { t.c.starting = false }()
	for i := range t.c.processors {
		p := &t.c.processors[i]
		if p.start == nil {
			continue
		}
		t.cur = nil
		if err := t.call(p.node, t.c.WallClock(), p.start, t.send); err != nil {
			e := t.recordError(nil, err, 1)
			e.final = true
			return e
		}
	}
	return nil
}

// end calls what processors do last. What they forward or write then is lost: there is no commit after it.
func (t *Task) end() error {
	if !t.started {
		return nil
	}
	var errs []error
	for i := range t.c.processors {
		p := &t.c.processors[i]
		if p.end == nil {
			continue
		}
		t.cur = nil
		if err := t.call(p.node, t.c.WallClock(), p.end, func() error { return nil }); err != nil {
			errs = append(errs, t.recordError(nil, err, 1))
		}
	}
	t.c.done()
	t.c.processors = nil
	return errors.Join(errs...)
}

// Input says where the record comes from that is being processed; ok is false when there is none: at the start of a task, in a
// punctuation, and at an emission.
func (c *Context) Input() (tp TopicPartition, offset int64, ok bool) {
	if c.record == nil {
		return TopicPartition{}, -1, false
	}
	return c.queue.tp, c.record.Offset, true
}

// Now is the time, in milliseconds, of what is being processed: that of the record, or of the punctuation.
func (c *Context) Now() int64 { return c.now }

// SetNow sets what Now returns, and returns what it was. A processor sets it to the time of the record that it gets, and back.
func (c *Context) SetNow(now int64) (was int64) {
	was, c.now = c.now, now
	return was
}

// StreamTime is the largest timestamp of the records of the task, that of the one at hand included; -1 if there was none.
func (c *Context) StreamTime() int64 { return c.streamTime }

// WallClock is the time by the clock that the task was given, in milliseconds.
func (c *Context) WallClock() int64 {
	if c.clock == nil {
		return 0
	}
	return c.clock().UnixMilli()
}

// ID is the task.
func (c *Context) ID() ID { return c.id }

// RequestCommit asks for a commit after the current record.
func (c *Context) RequestCommit() { c.commit = true }

// CommitRequested tells whether an operator asked for a commit since the last one.
func (t *Task) CommitRequested() bool { return t.c.commit }

// Refuse makes what is being processed fail, whatever the user's function returns: for methods that return no error.
func (c *Context) Refuse(err error) {
	if c.refused == nil {
		c.refused = err
	}
}

// Ended is the error of a user's function of a node that has returned: its own, or one that it was refused with. It is attributed
// to the node, unless it came from another one further down.
func (c *Context) Ended(n *topo.Node, err error) error {
	if c.refused != nil {
		err = errors.Join(err, c.refused)
		c.refused = nil
	}
	if err == nil {
		return nil
	}
	var ne *nodeError
	var re *RecordError
	if errors.As(err, &ne) || errors.As(err, &re) {
		return err
	}
	return Fail(n, Process, err)
}

// Watched is a store of the task whose changes are undone with the record, whoever makes them.
func (c *Context) Watched(name string) *store.KV {
	kv := c.KV(name)
	if kv != nil && c.undoable && kv.Spec().Kind == store.KeyValue && !slices.Contains(c.watched, kv) {
		c.watched = append(c.watched, kv)
		kv.OnWrite(func(key, old []byte, ts int64, ok bool) {
			if !c.undoing {
				c.Saved(kv, key, old, ts, ok)
			}
		})
	}
	return kv
}

// Moment is a time in milliseconds as user code sees it.
func Moment(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
