package conformance

import (
	"time"

	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

func processStore(name string) state.KV[text, text] { return textStore(name).WithoutTimestamps() }

// addProcess adds processors with a store of their own.
func (p *program) addProcess(o op) error {
	in := p.streams[o.In]
	st := processStore(o.Store)
	keepPlain(p, st)
	switch o.Op {
	case "process":
		var out stream.KStream[text, text]
		switch o.Kind {
		case "dedupe", "running":
			kind := o.Kind
			out = stream.ProcessFunc(in, func(ctx *stream.Context[text, text], r stream.Record[text, text]) error {
				v, ok, err := keyed(kind, st.In(ctx), r)
				if err != nil || !ok {
					return err
				}
				return ctx.Forward(stream.WithValue(r, v))
			}, st, stream.Named(o.Name))
		default:
			clock := stream.StreamTime
			if o.Kind == "wall-clock" {
				clock = stream.WallClock
			}
			every := time.Duration(o.Interval) * time.Millisecond
			out = stream.Process(in, func() *flusher { return &flusher{st, clock, every} }, st, stream.Named(o.Name))
		}
		p.streams[o.Out] = out
	case "processValues":
		kind := o.Kind
		p.streams[o.Out] = stream.ProcessValuesFunc(in, func(ctx *stream.ValueContext[text], r stream.Record[text, text]) error {
			v, ok, err := keyed(kind, st.In(ctx), r)
			if err != nil || !ok {
				return err
			}
			return ctx.Forward(stream.ValueRecord[text]{Value: v, Time: r.Time, Headers: r.Headers})
		}, st, stream.Named(o.Name))
	}
	return nil
}

// keyed is what dedupe and running do with a record: the value to forward, if any.
func keyed(kind string, s state.Store[text, text], r stream.Record[text, text]) (text, bool, error) {
	k, v := stream.Some(r.Key.Or("_")), r.Value.Or("")
	old, had, err := s.Get(k)
	if err != nil {
		return text{}, false, err
	}
	if kind == "dedupe" {
		if had && old.Or("") == v {
			return text{}, false, nil
		}
		return r.Value, true, s.Put(k, stream.Some(v))
	}
	sum := stream.Some(capped(old.Or("") + v))
	return sum, true, s.Put(k, sum)
}

// flusher collects, and forwards what it has at each punctuation.
type flusher struct {
	store state.KV[text, text]
	clock stream.Clock
	every time.Duration
}

func (f *flusher) Init(ctx *stream.Context[text, text]) error {
	ctx.Schedule(f.every, f.clock, func(now time.Time) error {
		st := f.store.In(ctx)
		all := st.All()
		for k, v := range all.All() {
			if err := ctx.Forward(stream.Record[text, text]{Key: k, Value: v, Time: now}); err != nil {
				return err
			}
			if err := st.Delete(k); err != nil {
				return err
			}
		}
		return all.Err()
	})
	return nil
}

func (f *flusher) Process(ctx *stream.Context[text, text], r stream.Record[text, text]) error {
	st := f.store.In(ctx)
	k := stream.Some(r.Key.Or("_"))
	old, _, err := st.Get(k)
	if err != nil {
		return err
	}
	return st.Put(k, stream.Some(capped(old.Or("")+r.Value.Or(""))))
}
