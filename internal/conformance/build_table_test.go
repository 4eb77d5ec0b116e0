package conformance

import "github.com/moldau-stream/moldau/stream"

// addTable adds the operations of tables without windows.
func (p *program) addTable(o op) error {
	table := p.tables[o.In]
	switch o.Op {
	case "table":
		if o.Versioned != nil {
			p.versioned[o.Store] = true
			return errNotBuilt
		}
		h := textStore(o.Store)
		keep(p, h, plainKey, showText)
		p.tables[o.Out] = stream.TableFrom(p.b, topic(o.Topic), h)
	case "globalTable":
		p.globals[o.Out] = stream.GlobalFrom(p.b, topic(o.Topic), textStore(o.Store))
		return errNotBuilt
	case "toTable":
		h := textStore(o.Store)
		keep(p, h, plainKey, showText)
		p.tables[o.Out] = p.streams[o.In].ToTable(h)
	case "tFilter":
		p.tables[o.Out] = table.Filter(predicate(o.Pred), p.materialized(o)...)
	case "tMapValues":
		p.tables[o.Out] = stream.MapTable(table, mapper(o.Fn), p.materialized(o)...)
	case "tToStream":
		p.streams[o.Out] = table.ToStream()
	case "tAggregate":
		return errNotBuilt
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
