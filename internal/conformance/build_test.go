package conformance

import (
	"iter"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

var texts = serde.Nullable(serde.String)

func topic(name string) stream.Topic[text, text] { return stream.NewTopic(name, texts, texts) }

func textStore(name string) state.KV[text, text] { return state.KeyValue(name, texts, texts) }

// program is a scenario's topology in the making.
type program struct {
	b       *stream.Builder
	streams map[string]stream.KStream[text, text]
	tables  map[string]stream.KTable[text, text]
	counts  map[string]bool // stores that hold numbers
	sinks   []string
}

// build makes the DSL calls of a scenario.
func build(s *scenario) *program {
	p := &program{
		b:       stream.NewBuilder(),
		streams: map[string]stream.KStream[text, text]{},
		tables:  map[string]stream.KTable[text, text]{},
		counts:  map[string]bool{},
	}
	for _, o := range s.Topology {
		p.add(o)
	}
	return p
}

func (p *program) add(o op) {
	in, table := p.streams[o.In], p.tables[o.In]
	switch o.Op {
	case "stream":
		p.streams[o.Out] = stream.From(p.b, topic(o.Topic))
	case "table":
		p.tables[o.Out] = stream.TableFrom(p.b, topic(o.Topic), textStore(o.Store))
	case "filter":
		p.streams[o.Out] = in.Filter(predicate(o.Pred))
	case "filterNot":
		p.streams[o.Out] = in.FilterNot(predicate(o.Pred))
	case "mapValues":
		p.streams[o.Out] = stream.MapValues(in, mapper(o.Fn))
	case "map":
		kfn, fn := keyMapper(o.Kfn), mapper(o.Fn)
		p.streams[o.Out] = stream.Map(in, func(k, v text) (text, text) { return kfn(k, v), fn(v) })
	case "selectKey":
		p.streams[o.Out] = rekey(in, o.Kfn)
	case "flatMapValues":
		p.streams[o.Out] = stream.FlatMapValues(in, flat(o.Fn))
	case "flatMap":
		f := flat(o.Fn)
		p.streams[o.Out] = stream.FlatMap(in, func(_, v text) iter.Seq2[text, text] {
			return func(yield func(text, text) bool) {
				for w := range f(v) {
					if !yield(w, v) {
						return
					}
				}
			}
		})
	case "merge":
		p.streams[o.Out] = in.Merge(p.streams[o.With])
	case "branch":
		p.branch(in, o)
	case "repartition":
		p.streams[o.Out] = in.Repartition(stream.Named(o.Name))
	case "toTable":
		p.tables[o.Out] = in.ToTable(textStore(o.Store))
	case "to":
		p.sinks = append(p.sinks, o.Topic)
		in.To(topic(o.Topic))
	case "tFilter":
		p.tables[o.Out] = table.Filter(predicate(o.Pred), materialized(o)...)
	case "tMapValues":
		p.tables[o.Out] = stream.MapTable(table, mapper(o.Fn), materialized(o)...)
	case "tToStream":
		p.streams[o.Out] = table.ToStream()
	case "aggregate":
		p.tables[o.Out] = p.aggregate(in, o)
	default:
		panic("operation " + o.Op)
	}
}

func materialized(o op) []stream.Option {
	if o.Store == "" {
		return nil
	}
	return []stream.Option{stream.Materialized(textStore(o.Store))}
}

// rekey makes a new key, by the operator that fits the function.
func rekey(in stream.KStream[text, text], kfn string, opts ...stream.Option) stream.KStream[text, text] {
	f := keyMapper(kfn)
	if kfn == "key-upper" {
		return stream.MapKeys(in, func(k text) text { return f(k, text{}) }, opts...)
	}
	return stream.KeyBy(in, func(v text) text { return f(text{}, v) }, opts...)
}

func (p *program) branch(in stream.KStream[text, text], o op) {
	cases := make([]stream.Branch[text, text], len(o.Preds))
	for i, pred := range o.Preds {
		cases[i] = stream.Branch[text, text]{Name: string(rune('0' + i)), When: predicate(pred)}
	}
	branches, rest := in.SplitNamed(o.Outs[0]+"-", "rest", cases...)
	for i, s := range append(branches, rest) {
		p.streams[o.Outs[i]] = s
	}
}

func (p *program) aggregate(in stream.KStream[text, text], o op) stream.KTable[text, text] {
	name := stream.Named(o.Name)
	var g stream.GroupedStream[text, text]
	switch o.By {
	case "key":
		g = in.GroupByKey(name)
	case "key-upper":
		g = rekey(in, o.By, name).GroupByKey(name) // GroupBy gets the value only
	default:
		f := keyMapper(o.By)
		g = stream.GroupBy(in, func(v text) text { return f(text{}, v) }, name)
	}
	switch o.Kind {
	case "count":
		p.counts[o.Store] = true
		return stream.MapTable(stream.Count(g, state.KeyValue(o.Store, texts, serde.Int64)), decimal)
	case "reduce":
		return stream.Reduce(g, appendCapped, textStore(o.Store))
	case "aggregate":
		return stream.Aggregate(g, func() text { return stream.Some("") }, appendCapped, textStore(o.Store))
	}
	panic("kind " + o.Kind)
}
