package conformance

import (
	"errors"
	"fmt"
	"time"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/window"
)

// windowed is a table with windows; one of its parts is there.
type windowed struct {
	times    stream.KTable[window.Key[text], text]
	sessions stream.KTable[window.SessionKey[text], text]
	session  bool
}

// def makes the definition of windows that are no sessions.
func (w *windows) def() window.Def {
	switch w.Type {
	case "tumbling":
		return window.Tumbling(ms(w.Size)).Grace(ms(w.Grace))
	case "hopping":
		return window.Hopping(ms(w.Size), ms(w.Advance)).Grace(ms(w.Grace))
	case "sliding":
		return window.Sliding(ms(w.Diff)).Grace(ms(w.Grace))
	}
	return nil // a mistake, which Build reports
}

func (w *windows) session() window.SessionDef { return window.Session(ms(w.Gap)).Grace(ms(w.Grace)) }

// kept is how long the windows are where only their size is known to the store.
func (w *windows) length() time.Duration {
	if w.Type == "sliding" {
		return ms(w.Diff)
	}
	return ms(w.Size)
}

func windowKey(w *windows) func(window.Key[text]) row {
	return func(k window.Key[text]) row {
		return row{Key: k.Key.Or("null"), Start: millis(k.Start), End: millis(k.Start.Add(w.length()))}
	}
}

// aggregateWindows adds an aggregation over windows.
func (p *program) aggregateWindows(g stream.GroupedStream[text, text], o op) error {
	var opts []stream.Option
	if o.Emit == "close" {
		opts = append(opts, stream.EmitOnClose())
	}
	if o.Window.Type == "session" {
		return p.aggregateSessions(stream.SessionWindowedBy(g, o.Window.session()), o, opts)
	}
	w := stream.WindowedBy(g, o.Window.def())
	h := state.Window(o.Store, texts, texts)
	var t stream.KTable[window.Key[text], text]
	switch o.Kind {
	case "count":
		h := state.Window(o.Store, texts, serde.Int64)
		keepWindows(p, h, o.Window, showCount)
		p.windowed[o.Out] = windowed{times: stream.MapTable(stream.Count(w, h, opts...), decimal)}
		return nil
	case "reduce":
		t = stream.Reduce(w, appendCapped, h, opts...)
	case "aggregate":
		t = stream.Aggregate(w, empty, appendCapped, h, opts...)
	default:
		return errors.New("unknown kind " + o.Kind)
	}
	keepWindows(p, h, o.Window, showText)
	p.windowed[o.Out] = windowed{times: t}
	return nil
}

func (p *program) aggregateSessions(w stream.GroupedStream[window.SessionKey[text], text], o op, opts []stream.Option) error {
	h := state.Session(o.Store, texts, texts)
	t := windowed{session: true}
	switch o.Kind {
	case "count":
		h := state.Session(o.Store, texts, serde.Int64)
		keepSessions(p, h, showCount)
		p.windowed[o.Out] = windowed{sessions: stream.MapTable(stream.Count(w, h, opts...), decimal), session: true}
		return nil
	case "reduce":
		t.sessions = stream.Reduce(w, appendCapped, h, opts...)
	case "aggregate":
		t.sessions = stream.AggregateSessions(w, empty, appendCapped, appendCapped, h, opts...)
	default:
		return errors.New("unknown kind " + o.Kind)
	}
	keepSessions(p, h, showText)
	p.windowed[o.Out] = t
	return nil
}

// wToStream makes a stream with the windows in the text of the keys.
func wToStream(t windowed) stream.KStream[text, text] {
	if t.session {
		return unwindowed(t.sessions)
	}
	return unwindowed(t.times)
}

func unwindowed[W interface {
	window.Key[text] | window.SessionKey[text]
	window.Windowed
}](t stream.KTable[W, text]) stream.KStream[text, text] {
	return stream.MapKeys(t.ToStream(), func(k W) text {
		start, end := k.Window()
		var key text
		switch k := any(k).(type) {
		case window.Key[text]:
			key = k.Key
		case window.SessionKey[text]:
			key = k.Key
		}
		return stream.Some(fmt.Sprintf("[%s@%d/%d]", key.Or("null"), start.UnixMilli(), end.UnixMilli()))
	})
}

func (p *program) suppressClose(o op) {
	stream.Use(p.b, texts)
	in, name := p.windowed[o.In], stream.Named(o.Name)
	if in.session {
		p.windowed[o.Out] = windowed{sessions: stream.SuppressUntilClose(in.sessions, name), session: true}
		return
	}
	p.windowed[o.Out] = windowed{times: stream.SuppressUntilClose(in.times, name)}
}

// cogroup adds an aggregation of several groups, which become windowed one by one.
func (p *program) cogroup(o op) error {
	groups := make([]stream.GroupedStream[text, text], len(o.Ins))
	for i, in := range o.Ins {
		groups[i] = p.streams[in].GroupByKey(stream.Named(fmt.Sprintf("%s-%d", o.Name, i)))
	}
	switch {
	case o.Window == nil:
		h := textStore(o.Store)
		keep(p, h, showText)
		p.tables[o.Out] = stream.AggregateCogrouped(cogrouped(groups), empty, h)
	case o.Window.Type == "session":
		h := state.Session(o.Store, texts, texts)
		keepSessions(p, h, showText)
		t := stream.AggregateCogroupedSessions(cogrouped(each(groups, func(g stream.GroupedStream[text, text]) stream.GroupedStream[window.SessionKey[text], text] {
			return stream.SessionWindowedBy(g, o.Window.session())
		})), empty, appendCapped, h)
		p.windowed[o.Out] = windowed{sessions: t, session: true}
	default:
		h := state.Window(o.Store, texts, texts)
		keepWindows(p, h, o.Window, showText)
		t := stream.AggregateCogrouped(cogrouped(each(groups, func(g stream.GroupedStream[text, text]) stream.GroupedStream[window.Key[text], text] {
			return stream.WindowedBy(g, o.Window.def())
		})), empty, h)
		p.windowed[o.Out] = windowed{times: t}
	}
	return nil
}

func each[A, B any](all []A, f func(A) B) []B {
	out := make([]B, len(all))
	for i, a := range all {
		out[i] = f(a)
	}
	return out
}

// cogrouped puts groups together; the aggregator of each says which one it is.
func cogrouped[K any](groups []stream.GroupedStream[K, text]) stream.CogroupedStream[K, text] {
	add := func(i int) func(a, v text) text {
		return func(a, v text) text { return stream.Some(capped(a.Or("") + fmt.Sprint(i) + v.Or(""))) }
	}
	c := stream.Cogroup(groups[0], add(0))
	for i, g := range groups[1:] {
		c = stream.CogroupWith(c, g, add(i+1))
	}
	return c
}
