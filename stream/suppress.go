package stream

import (
	"math"
	"reflect"
	"time"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/window"
)

// SuppressUntilClose holds the changes of a table of windows or sessions back until their windows close, and then sends the
// last one of each: one result for each window. A window closes when the largest time that has come by has reached its end
// and the grace of the aggregation that made the table. Deletions, as of sessions that have grown, are not sent.
//
// What is held back is in a store with a changelog, named <name>-store with the option Named. It grows without limit
// unless MaxRecords or MaxBytes bound it; when it is full then, the application stops: a result sent early would not
// be the last one.
func SuppressUntilClose[W window.Windowed, V any](t KTable[W, V], opts ...Option) KTable[W, V] {
	if !t.e.Valid() {
		return t
	}
	at, b := topo.Caller(), t.e.B
	o := b.Options(at, "SuppressUntilClose", dsl.OptName|dsl.OptMaxRecords|dsl.OptMaxBytes|dsl.OptWhenFull, opts)
	if o.Used&dsl.OptWhenFull != 0 && !o.StopWhenFull {
		b.Graph.Mistakef(at, "SuppressUntilClose: EmitEarlyWhenFull: a result sent before its window closes is not the last one")
	}
	o.StopWhenFull = true
	grace, ok := b.Graph.WindowGrace(t.e.Ref.N)
	if !ok {
		b.Graph.Mistakef(at, "SuppressUntilClose: the table comes from no aggregation over windows, so it is not known when its windows close")
	}
	return suppress(t, at, "SuppressUntilClose", o, suppression[W]{
		delay:         grace,
		time:          func(k W, _ task.Meta) int64 { _, end := k.Window(); return end.UnixMilli() },
		dropDeletions: true,
	})
}

// SuppressFor holds the changes of each key back for a while after the first one, and then sends the last of them. The while
// is measured by the times of changes of any key: while nothing comes, nothing goes.
//
// What is held back is in a store with a changelog, named <name>-store with the option Named. MaxRecords and MaxBytes bound
// it; when it is full the oldest changes are sent early, or the application stops with StopWhenFull.
func (t KTable[K, V]) SuppressFor(d time.Duration, opts ...Option) KTable[K, V] {
	if !t.e.Valid() {
		return t
	}
	at, b := topo.Caller(), t.e.B
	o := b.Options(at, "SuppressFor", dsl.OptName|dsl.OptMaxRecords|dsl.OptMaxBytes|dsl.OptWhenFull, opts)
	if d < 0 {
		b.Graph.Mistakef(at, "SuppressFor: the time is %v, it must not be negative", d)
	}
	return suppress(t, at, "SuppressFor", o, suppression[K]{
		delay: d.Milliseconds(),
		time:  func(_ K, m task.Meta) int64 { return m.Time },
	})
}

// MaxRecords bounds how many keys SuppressFor and SuppressUntilClose hold back.
func MaxRecords(n int) Option {
	return dsl.NewOption(dsl.OptMaxRecords, func(c *dsl.Options) { c.MaxRecords = int64(n) })
}

// MaxBytes bounds how many bytes, of keys and values, SuppressFor and SuppressUntilClose hold back.
func MaxBytes(n int64) Option {
	return dsl.NewOption(dsl.OptMaxBytes, func(c *dsl.Options) { c.MaxBytes = n })
}

// EmitEarlyWhenFull makes SuppressFor send the oldest changes before their time when more are held back than MaxRecords or
// MaxBytes allow. It does so by itself.
func EmitEarlyWhenFull() Option {
	return dsl.NewOption(dsl.OptWhenFull, func(c *dsl.Options) { c.StopWhenFull = false })
}

// StopWhenFull makes it an error that more changes are held back than MaxRecords or MaxBytes allow.
func StopWhenFull() Option {
	return dsl.NewOption(dsl.OptWhenFull, func(c *dsl.Options) { c.StopWhenFull = true })
}

// suppression is which changes are held back how long.
type suppression[K any] struct {
	delay         int64                    // milliseconds after time
	time          func(K, task.Meta) int64 // of the first change of a key
	dropDeletions bool                     // they are not sent
	maxRecords    int64
	maxBytes      int64
	stopWhenFull  bool
}

// suppress adds the node.
func suppress[K, V any](t KTable[K, V], at, op string, o dsl.Options, s suppression[K]) KTable[K, V] {
	b := t.e.B
	s.maxRecords, s.maxBytes, s.stopWhenFull = math.MaxInt64, math.MaxInt64, o.StopWhenFull
	bounded := o.Used&(dsl.OptMaxRecords|dsl.OptMaxBytes) != 0
	if o.Used&dsl.OptWhenFull != 0 && !bounded {
		b.Graph.Mistakef(at, "%s: what to do when it is full needs MaxRecords or MaxBytes", op)
	}
	if o.Used&dsl.OptMaxRecords != 0 {
		s.maxRecords = o.MaxRecords
	}
	if o.Used&dsl.OptMaxBytes != 0 {
		s.maxBytes = o.MaxBytes
	}
	if min(s.maxRecords, s.maxBytes) < 0 {
		b.Graph.Mistakef(at, "%s: a limit is negative", op)
	}
	if t.e.T.Versioned {
		b.Graph.Mistakef(at, "%s: the table keeps versions, whose changes cannot be held back", op)
	}
	name, storeName := o.Name, o.Name+"-store"
	if name == "" { // a given name does not use up a number here
		name = b.Graph.Name("", "KTABLE-SUPPRESS-")
		storeName = b.Graph.StoreName("KTABLE-SUPPRESS-")
	}
	t.e.T.EnableOld(true) // the first old value is what the table below still has
	key := dsl.Resolve(b, at, "key", nil, t.e.Key)
	value := dsl.Resolve(b, at, "value", nil, t.e.Value)

	out := &dsl.TableNode{}
	out.Enable = func(bool) bool { return true }
	out.Read = func() []string { return append([]string{storeName}, t.e.T.Readable()...) }
	n := &topo.Node{Name: name, At: at, Times: []string{suppressTime(storeName)}}
	n.Wire = task.Wire(func(c *task.Context, outs []any) any {
		return newSuppressTask(c, n, storeName, key.Serde, value.Serde, s, out.SendOld, task.Tables[K, V](outs)).input()
	})
	r := dsl.Table[K, V]{Edge: t.e.Edge, T: out}
	r.Ref = t.e.Then(n)
	b.Graph.AddStore(&topo.Store{Name: storeName, At: at, Spec: store.Spec{
		Name:        storeName,
		Timestamped: true,
		Changelog:   true,
		Cached:      true,
		LogVersion:  task.HeldVersion,
		Types:       reflect.TypeFor[K]().String() + " to held-back changes of " + reflect.TypeFor[V]().String(),
	}}, n)
	r.Lookup = func(c *task.Context) dsl.Lookup[K, V] {
		return lookupSuppressed(c, storeName, key.Serde, value.Serde, t.e.Lookup(c))
	}
	return TableOf(r)
}

// suppressTime is the name of the largest time that the node of the store has seen.
func suppressTime(store string) string { return store + "/o" }
