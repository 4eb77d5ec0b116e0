package conformance

import (
	"iter"
	"strconv"

	"github.com/moldau-stream/moldau/stream"
)

// addStream adds the operations of streams without state.
func (p *program) addStream(o op) error {
	in := p.streams[o.In]
	switch o.Op {
	case "stream":
		p.streams[o.Out] = stream.From(p.b, topic(o.Topic))
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
	case "to":
		p.sink(o.Topic)
		in.To(topic(o.Topic))
	}
	return nil
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
		cases[i] = stream.Branch[text, text]{Name: strconv.Itoa(i), When: predicate(pred)}
	}
	branches, rest := in.SplitNamed(o.Outs[0]+"-", "rest", cases...)
	for i, s := range append(branches, rest) {
		p.streams[o.Outs[i]] = s
	}
}
