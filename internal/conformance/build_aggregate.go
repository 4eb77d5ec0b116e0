package conformance

import (
	"errors"

	"github.com/moldau-stream/moldau/stream"
)

// addAggregate adds the aggregations of streams, and the operations of windowed tables.
func (p *program) addAggregate(o op) error {
	switch o.Op {
	case "aggregate":
		g := group(p.streams[o.In], o)
		if o.Window != nil {
			return p.aggregateWindows(g, o)
		}
		return p.aggregate(g, o)
	case "wToStream":
		p.streams[o.Out] = wToStream(p.windowed[o.In])
	case "suppressClose":
		p.suppressClose(o)
	case "cogroup":
		return p.cogroup(o)
	}
	return nil
}

// group groups by the key or by a function.
func group(in stream.KStream[text, text], o op) stream.GroupedStream[text, text] {
	name := stream.Named(o.Name)
	switch o.By {
	case "key":
		return in.GroupByKey(name)
	case "key-upper":
		return rekey(in, o.By, name).GroupByKey(name) // GroupBy gets the value only
	}
	f := keyMapper(o.By)
	return stream.GroupBy(in, func(v text) text { return f(text{}, v) }, name)
}

func (p *program) aggregate(g stream.GroupedStream[text, text], o op) error {
	switch o.Kind {
	case "count":
		h := countStore(o.Store)
		keep(p, h, showCount)
		p.tables[o.Out] = stream.MapTable(stream.Count(g, h), decimal)
	case "reduce":
		h := textStore(o.Store)
		keep(p, h, showText)
		p.tables[o.Out] = stream.Reduce(g, appendCapped, h)
	case "aggregate":
		h := textStore(o.Store)
		keep(p, h, showText)
		p.tables[o.Out] = stream.Aggregate(g, empty, appendCapped, h)
	default:
		return errors.New("unknown kind " + o.Kind)
	}
	return nil
}

func empty() text { return stream.Some("") }
