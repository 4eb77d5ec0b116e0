package conformance

import (
	"github.com/moldau-stream/moldau/join"
	"github.com/moldau-stream/moldau/stream"
)

// addJoin adds the joins.
func (p *program) addJoin(o op) error {
	switch o.Op {
	case "joinSS":
		p.streamStream(o)
	case "joinST":
		p.streamTable(o)
	case "joinSG":
		p.streamGlobal(o)
	case "joinTT":
		p.tableTable(o)
	case "joinFK":
		p.foreignKey(o)
	}
	return nil
}

// pair is the function of all joins: a side that is missing is null.
func pair(l, r text) text { return stream.Some("(" + l.Or("null") + "," + r.Or("null") + ")") }

func leftPair(l text, r stream.Opt[text]) text { return pair(l, r.Or(text{})) }

func outerPair(l, r stream.Opt[text]) text { return pair(l.Or(text{}), r.Or(text{})) }

func (p *program) streamTable(o op) {
	l, r := p.streams[o.Left], p.tables[o.Right]
	opts := []stream.Option{stream.Named(o.Name)}
	if o.Grace != nil {
		p.unlisted = append(p.unlisted, o.Name)
		opts = append(opts, join.Grace(ms(*o.Grace)))
	}
	if o.Kind == "left" {
		p.streams[o.Out] = join.LeftTable(l, r, leftPair, opts...)
		return
	}
	p.streams[o.Out] = join.Table(l, r, pair, opts...)
}

func (p *program) tableTable(o op) {
	l, r, opts := p.tables[o.Left], p.tables[o.Right], p.materialized(o)
	switch o.Kind {
	case "inner":
		p.tables[o.Out] = join.Tables(l, r, pair, opts...)
	case "left":
		p.tables[o.Out] = join.LeftTables(l, r, leftPair, opts...)
	case "outer":
		p.tables[o.Out] = join.OuterTables(l, r, outerPair, opts...)
	}
}

func (p *program) streamGlobal(o op) {
	l, r, key := p.streams[o.Left], p.globals[o.Right], keyMapper(o.Kfn)
	if o.Kind == "left" {
		p.streams[o.Out] = join.LeftGlobal(l, r, key, leftPair)
		return
	}
	p.streams[o.Out] = join.Global(l, r, key, pair)
}

func (p *program) streamStream(o op) {
	p.unlisted = append(p.unlisted, o.Name)
	l, r := p.streams[o.Left], p.streams[o.Right]
	w := join.Within(0).Before(ms(o.Before)).After(ms(o.After)).Grace(ms(*o.Grace))
	opts := []stream.Option{stream.Named(o.Name), join.Stores(o.Name)}
	switch o.Kind {
	case "inner":
		p.streams[o.Out] = join.Streams(l, r, w, pair, opts...)
	case "left":
		p.streams[o.Out] = join.LeftStreams(l, r, w, leftPair, opts...)
	case "outer":
		p.streams[o.Out] = join.OuterStreams(l, r, w, outerPair, opts...)
	}
}

// foreignKeyOf is the first letter of a value.
func foreignKeyOf(v text) text {
	for _, r := range v.Or("") {
		return stream.Some(string(r))
	}
	return text{}
}

func (p *program) foreignKey(o op) {
	p.unlisted = append(p.unlisted, o.Name)
	l, r := p.tables[o.Left], p.tables[o.Right]
	opts := append(p.materialized(o), stream.Named(o.Name))
	if o.Kind == "left" {
		p.tables[o.Out] = join.LeftForeignKey(l, r, foreignKeyOf, leftPair, opts...)
		return
	}
	p.tables[o.Out] = join.ForeignKey(l, r, foreignKeyOf, pair, opts...)
}
