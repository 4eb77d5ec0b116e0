package conformance

import (
	"errors"

	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

// addTable adds the operations of tables without windows.
func (p *program) addTable(o op) error {
	table := p.tables[o.In]
	switch o.Op {
	case "table":
		if o.Versioned != nil {
			h := state.Versioned(o.Store, texts, texts, ms(*o.Versioned))
			keepVersions(p, h)
			p.tables[o.Out] = stream.TableFrom(p.b, topic(o.Topic), h)
			return nil
		}
		h := textStore(o.Store)
		keep(p, h, showText)
		p.tables[o.Out] = stream.TableFrom(p.b, topic(o.Topic), h)
	case "globalTable":
		h := textStore(o.Store)
		keep(p, h, showText)
		p.globals[o.Out] = stream.GlobalFrom(p.b, topic(o.Topic), h)
	case "toTable":
		h := textStore(o.Store)
		keep(p, h, showText)
		p.tables[o.Out] = p.streams[o.In].ToTable(h)
	case "tFilter":
		p.tables[o.Out] = table.Filter(predicate(o.Pred), p.materialized(o)...)
	case "tMapValues":
		p.tables[o.Out] = stream.MapTable(table, mapper(o.Fn), p.materialized(o)...)
	case "tToStream":
		p.streams[o.Out] = table.ToStream()
	case "tAggregate":
		return p.tableAggregate(table, o)
	case "suppressTime":
		limit := 1_000_000
		if o.MaxRecords != nil {
			limit = *o.MaxRecords
		}
		stream.Use(p.b, texts)
		p.tables[o.Out] = table.SuppressFor(ms(o.Millis), stream.Named(o.Name), stream.MaxRecords(limit), stream.EmitEarlyWhenFull())
	}
	return nil
}

func (p *program) tableAggregate(table stream.KTable[text, text], o op) error {
	kfn := keyMapper(o.Kfn)
	g := stream.GroupTableBy(table, func(k, v text) (text, text) { return kfn(k, v), v }, stream.Named(o.Name))
	switch o.Kind {
	case "count":
		h := countStore(o.Store)
		keep(p, h, showCount)
		p.tables[o.Out] = stream.MapTable(stream.CountTable(g, h), decimal)
	case "reduce":
		h := textStore(o.Store)
		keep(p, h, showText)
		p.tables[o.Out] = stream.ReduceTable(g, plus, minus, h)
	case "aggregate":
		h := textStore(o.Store)
		keep(p, h, showText)
		p.tables[o.Out] = stream.AggregateTable(g, empty, plus, minus, h)
	default:
		return errors.New("unknown kind " + o.Kind)
	}
	return nil
}

func plus(a, v text) text  { return stream.Some(capped(a.Or("") + "+" + v.Or(""))) }
func minus(a, v text) text { return stream.Some(capped(a.Or("") + "-" + v.Or(""))) }
