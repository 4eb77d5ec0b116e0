package streamtest_test

import (
	"iter"
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

// Null, empty and non-empty keys and values go through every operator and store, once with types that can be null and
// once with types that cannot. What comes out must equal what a plain loop over the input makes of it.

type opt = stream.Opt[string]

func some(s string) opt { return stream.Some(s) }

var null = opt{}

// pair is a record, or an entry of a store.
type pair struct{ K, V opt }

// The functions that operators are given, on values that may be null.

func pred(k, v opt) bool { return k == null || v == null || v == some("") || k.Or("") < v.Or("") }

// change makes null of "b" and a value of null.
func change(v opt) opt {
	switch v {
	case null:
		return some("was null")
	case some("b"):
		return null
	case some("c"):
		return some("")
	}
	return some(v.Or("") + "!")
}

func combine(a, b opt) opt {
	switch {
	case b == some("b"):
		return null
	case b == some("c"):
		return some("")
	}
	s := a.Or("∅") + b.Or("∅")
	return some(s[max(0, len(s)-9):])
}

// side is a type in which a text, or a null, is given to the functions of the program.
type side[T any] struct {
	canNull bool
	serde   serde.Serde[T]
	from    func(T) opt
	to      func(opt) T
}

var (
	nullable = side[opt]{true, serde.Nullable(serde.String), func(o opt) opt { return o }, func(o opt) opt { return o }}
	plain    = side[string]{false, serde.String, some, func(o opt) string { return o.Or("null") }}
)

func (s side[T]) one(f func(opt) opt) func(T) T {
	return func(v T) T { return s.to(f(s.from(v))) }
}

func (s side[T]) two(f func(a, b opt) opt) func(T, T) T {
	return func(a, b T) T { return s.to(f(s.from(a), s.from(b))) }
}

func (s side[T]) pred() func(T, T) bool {
	return func(k, v T) bool { return pred(s.from(k), s.from(v)) }
}

// operator is one topology from the topic "in" to the topic "out", and what a loop makes of the same input.
type operator[T any] struct {
	name  string
	build func(b *stream.Builder, in stream.KStream[T, T], out stream.Topic[T, T], store state.KV[T, T])
	// table is set instead of build when the input is read as a table.
	table func(in stream.KTable[T, T], out stream.Topic[T, T], view state.KV[T, T])
	model func(m model, in []pair) []pair
	// store is what the store holds in the end; nil: the operator has none.
	store func(m model, in []pair) map[opt]opt
}

// model is what loops know about the types of the program.
type model struct{ canNull bool }

// lacks tells whether no function can be called with this.
func (m model) lacks(v opt) bool { return !m.canNull && v == null }

// made is what a function's result becomes in the type of the program.
func (m model) made(v opt) opt {
	if m.canNull {
		return v
	}
	return some(v.Or("null"))
}

// each is the loop of an operator without memory.
func each(f func(m model, r pair, out func(k, v opt))) func(model, []pair) []pair {
	return func(m model, in []pair) []pair {
		var all []pair
		for _, r := range in {
			f(m, r, func(k, v opt) { all = append(all, pair{k, v}) })
		}
		return all
	}
}

// tabled is the loop of an operator on a table: update makes the new value of a key.
func tabled(update func(m model, table map[opt]opt, r pair) (k, v opt, emit bool)) (func(model, []pair) []pair, func(model, []pair) map[opt]opt) {
	run := func(m model, in []pair) (out []pair, table map[opt]opt) {
		table = map[opt]opt{}
		for _, r := range in {
			k, v, emit := update(m, table, r)
			if !emit {
				continue
			}
			if v == null {
				delete(table, k)
			} else {
				table[k] = v
			}
			out = append(out, pair{k, v})
		}
		return out, table
	}
	return func(m model, in []pair) []pair { out, _ := run(m, in); return out },
		func(m model, in []pair) map[opt]opt { _, table := run(m, in); return table }
}

func operators[T any](s side[T]) []operator[T] {
	ops := []operator[T]{
		{
			name: "nothing",
			build: func(_ *stream.Builder, in stream.KStream[T, T], out stream.Topic[T, T], _ state.KV[T, T]) {
				in.To(out)
			},
			model: each(func(_ model, r pair, out func(k, v opt)) { out(r.K, r.V) }),
		}, {
			name: "Filter",
			build: func(_ *stream.Builder, in stream.KStream[T, T], out stream.Topic[T, T], _ state.KV[T, T]) {
				in.Filter(s.pred()).To(out)
			},
			model: each(func(m model, r pair, out func(k, v opt)) {
				if m.lacks(r.K) || m.lacks(r.V) || pred(r.K, r.V) {
					out(r.K, r.V)
				}
			}),
		}, {
			name: "FilterNot",
			build: func(_ *stream.Builder, in stream.KStream[T, T], out stream.Topic[T, T], _ state.KV[T, T]) {
				in.FilterNot(s.pred()).To(out)
			},
			model: each(func(m model, r pair, out func(k, v opt)) {
				if m.lacks(r.K) || m.lacks(r.V) || !pred(r.K, r.V) {
					out(r.K, r.V)
				}
			}),
		}, {
			name: "MapValues",
			build: func(_ *stream.Builder, in stream.KStream[T, T], out stream.Topic[T, T], _ state.KV[T, T]) {
				stream.MapValues(in, s.one(change)).To(out)
			},
			model: each(func(m model, r pair, out func(k, v opt)) {
				if m.lacks(r.V) {
					out(r.K, null)
				} else {
					out(r.K, m.made(change(r.V)))
				}
			}),
		}, {
			name: "MapEntries",
			build: func(_ *stream.Builder, in stream.KStream[T, T], out stream.Topic[T, T], _ state.KV[T, T]) {
				stream.MapEntries(in, s.two(combine)).To(out)
			},
			model: each(func(m model, r pair, out func(k, v opt)) {
				switch {
				case m.lacks(r.V):
					out(r.K, null)
				case !m.lacks(r.K):
					out(r.K, m.made(combine(r.K, r.V)))
				}
			}),
		}, {
			name: "Map",
			build: func(_ *stream.Builder, in stream.KStream[T, T], out stream.Topic[T, T], _ state.KV[T, T]) {
				stream.Map(in, func(k, v T) (T, T) { return s.one(change)(v), s.one(change)(k) }).To(out)
			},
			model: each(func(m model, r pair, out func(k, v opt)) {
				if !m.lacks(r.K) && !m.lacks(r.V) {
					out(m.made(change(r.V)), m.made(change(r.K)))
				}
			}),
		}, {
			name: "KeyBy",
			build: func(_ *stream.Builder, in stream.KStream[T, T], out stream.Topic[T, T], _ state.KV[T, T]) {
				stream.KeyBy(in, s.one(change)).To(out)
			},
			model: each(func(m model, r pair, out func(k, v opt)) {
				if !m.lacks(r.V) {
					out(m.made(change(r.V)), r.V)
				}
			}),
		}, {
			name: "MapKeys",
			build: func(_ *stream.Builder, in stream.KStream[T, T], out stream.Topic[T, T], _ state.KV[T, T]) {
				stream.MapKeys(in, s.one(change)).To(out)
			},
			model: each(func(m model, r pair, out func(k, v opt)) {
				if !m.lacks(r.K) {
					out(m.made(change(r.K)), r.V)
				}
			}),
		}, {
			name: "FlatMapValues",
			build: func(_ *stream.Builder, in stream.KStream[T, T], out stream.Topic[T, T], _ state.KV[T, T]) {
				stream.FlatMapValues(in, func(v T) iter.Seq[T] { return slices.Values([]T{v, s.one(change)(v)}) }).To(out)
			},
			model: each(func(m model, r pair, out func(k, v opt)) {
				if !m.lacks(r.V) {
					out(r.K, r.V)
					out(r.K, m.made(change(r.V)))
				}
			}),
		}, {
			name: "FlatMap",
			build: func(_ *stream.Builder, in stream.KStream[T, T], out stream.Topic[T, T], _ state.KV[T, T]) {
				stream.FlatMap(in, func(k, v T) iter.Seq2[T, T] {
					return func(yield func(T, T) bool) {
						_ = yield(v, k) && yield(s.one(change)(v), k)
					}
				}).To(out)
			},
			model: each(func(m model, r pair, out func(k, v opt)) {
				if !m.lacks(r.K) && !m.lacks(r.V) {
					out(r.V, r.K)
					out(m.made(change(r.V)), r.K)
				}
			}),
		}, {
			name: "Merge",
			build: func(_ *stream.Builder, in stream.KStream[T, T], out stream.Topic[T, T], _ state.KV[T, T]) {
				stream.MapValues(in, s.one(change)).Merge(in).To(out)
			},
			model: each(func(m model, r pair, out func(k, v opt)) {
				if m.lacks(r.V) {
					out(r.K, null)
				} else {
					out(r.K, m.made(change(r.V)))
				}
				out(r.K, r.V)
			}),
		}, {
			name: "Split",
			build: func(_ *stream.Builder, in stream.KStream[T, T], out stream.Topic[T, T], _ state.KV[T, T]) {
				branches, rest := in.Split(s.pred())
				stream.MapValues(branches[0], s.one(change)).To(out)
				rest.To(out)
			},
			model: each(func(m model, r pair, out func(k, v opt)) {
				if m.lacks(r.K) || m.lacks(r.V) || !pred(r.K, r.V) {
					out(r.K, r.V)
				} else {
					out(r.K, m.made(change(r.V)))
				}
			}),
		},
	}
	stateful := func(name string, build func(b *stream.Builder, in stream.KStream[T, T], out stream.Topic[T, T], store state.KV[T, T]),
		update func(m model, table map[opt]opt, r pair) (k, v opt, emit bool)) {
		out, table := tabled(update)
		ops = append(ops, operator[T]{name: name, build: build, model: out, store: table})
	}
	stateful("ToTable", func(_ *stream.Builder, in stream.KStream[T, T], out stream.Topic[T, T], store state.KV[T, T]) {
		in.ToTable(store).ToStream().To(out)
	}, func(_ model, _ map[opt]opt, r pair) (k, v opt, emit bool) {
		return r.K, r.V, r.K != null
	})
	// A key or value that is null takes no part in an aggregation; a result that is null deletes.
	reduce := func(m model, table map[opt]opt, r pair) (k, v opt, emit bool) {
		if r.K == null || r.V == null {
			return null, null, false
		}
		if old, ok := table[r.K]; ok {
			return r.K, m.made(combine(old, r.V)), true
		}
		return r.K, r.V, true
	}
	stateful("Reduce", func(_ *stream.Builder, in stream.KStream[T, T], out stream.Topic[T, T], store state.KV[T, T]) {
		stream.Reduce(in.GroupByKey(), s.two(combine), store).ToStream().To(out)
	}, reduce)
	stateful("GroupBy, Reduce", func(_ *stream.Builder, in stream.KStream[T, T], out stream.Topic[T, T], store state.KV[T, T]) {
		grouped := stream.GroupBy(in, s.one(change), stream.Named("by"), stream.Serdes(s.serde, s.serde))
		stream.Reduce(grouped, s.two(combine), store).ToStream().To(out)
	}, func(m model, table map[opt]opt, r pair) (k, v opt, emit bool) {
		if m.lacks(r.V) {
			return null, null, false
		}
		return reduce(m, table, pair{m.made(change(r.V)), r.V})
	})
	stateful("Aggregate", func(_ *stream.Builder, in stream.KStream[T, T], out stream.Topic[T, T], store state.KV[T, T]) {
		stream.Aggregate(in.GroupByKey(), func() T { return s.to(some("")) }, s.two(combine), store).ToStream().To(out)
	}, func(m model, table map[opt]opt, r pair) (k, v opt, emit bool) {
		if r.K == null || r.V == null {
			return null, null, false
		}
		old, ok := table[r.K]
		if !ok {
			old = some("")
		}
		return r.K, m.made(combine(old, r.V)), true
	})
	fromTable := func(name string, build func(in stream.KTable[T, T], out stream.Topic[T, T], view state.KV[T, T]), view bool, f func(m model, k, v opt) opt) {
		out, table := tabled(func(m model, table map[opt]opt, r pair) (k, v opt, emit bool) {
			if r.V != null {
				v = f(m, r.K, r.V)
			}
			_, was := table[r.K]
			// A filter does not report that a key is absent which was absent before.
			return r.K, v, r.K != null && (v != null || was || name != "table Filter")
		})
		op := operator[T]{name: name, table: build, model: out}
		if view {
			op.store = table
		}
		ops = append(ops, op)
	}
	same := func(_ model, _, v opt) opt { return v }
	filter := func(_ model, k, v opt) opt {
		if pred(k, v) {
			return v
		}
		return null
	}
	fromTable("table", func(in stream.KTable[T, T], out stream.Topic[T, T], _ state.KV[T, T]) {
		in.ToStream().To(out)
	}, false, same)
	fromTable("table Filter", func(in stream.KTable[T, T], out stream.Topic[T, T], _ state.KV[T, T]) {
		in.Filter(s.pred()).ToStream().To(out)
	}, false, filter)
	fromTable("table MapTable", func(in stream.KTable[T, T], out stream.Topic[T, T], _ state.KV[T, T]) {
		stream.MapTable(in, s.one(change)).ToStream().To(out)
	}, false, func(m model, _, v opt) opt { return m.made(change(v)) })
	fromTable("table MapTable, materialized", func(in stream.KTable[T, T], out stream.Topic[T, T], view state.KV[T, T]) {
		stream.MapTable(in, s.one(change), stream.Materialized(view)).ToStream().To(out)
	}, true, func(m model, _, v opt) opt { return m.made(change(v)) })
	return ops
}

func TestNullEmptyAndOtherThroughEveryOperatorAndStore(t *testing.T) {
	t.Run("types that can be null", func(t *testing.T) { testOperators(t, nullable) })
	t.Run("types that cannot", func(t *testing.T) { testOperators(t, plain) })
}

func testOperators[T any](t *testing.T, s side[T]) {
	text := rapid.SampledFrom([]opt{null, some(""), some("a"), some("b"), some("c")})
	for _, op := range operators(s) {
		t.Run(op.name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				store := state.KeyValue("store", s.serde, s.serde)
				view := state.KeyValue("view", s.serde, s.serde)
				if rapid.Bool().Draw(rt, "in memory") {
					store, view = store.InMemory(), view.InMemory()
				}
				b := stream.NewBuilder()
				topic := stream.NewTopic("in", s.serde, s.serde)
				out := stream.NewTopic("out", s.serde, s.serde)
				read := store
				if op.table != nil {
					op.table(stream.TableFrom(b, topic, store), out, view)
					read = view
				} else {
					op.build(b, stream.From(b, topic), out, store)
				}
				d := streamtest.New(t, b)
				in := streamtest.Input(d, stream.NewTopic("in", nullable.serde, nullable.serde))
				var sent []pair
				for range rapid.IntRange(0, 25).Draw(rt, "records") {
					r := pair{text.Draw(rt, "key"), text.Draw(rt, "value")}
					in.Send(r.K, r.V)
					sent = append(sent, r)
					switch rapid.IntRange(0, 19).Draw(rt, "restart") {
					case 0:
						d.Restart()
					case 1:
						d.Restart(streamtest.LoseState())
					}
				}
				m := model{s.canNull}
				var got []pair
				for _, r := range streamtest.Output(d, stream.NewTopic("out", nullable.serde, nullable.serde)).Drain() {
					got = append(got, pair{r.Key, r.Value})
				}
				require.Equal(rt, op.model(m, sent), got)
				if op.store == nil {
					return
				}
				held := map[opt]opt{}
				for k, v := range streamtest.All(d, read) {
					held[s.from(k)] = s.from(v)
				}
				require.Equal(rt, op.store(m, sent), held)
			})
		})
	}
}

// Functions that only look see every null that their types can hold, and no made-up value.
func TestPeekAndForEachSeeNullsOnlyWhereTypesHaveThem(t *testing.T) {
	in := []pair{{null, null}, {some(""), null}, {null, some("")}, {some(""), some("")}, {some("a"), some("b")}}
	require.Equal(t, in, looked(t, nullable, in))
	require.Equal(t, in[3:], looked(t, plain, in))
}

func looked[T any](t *testing.T, s side[T], in []pair) []pair {
	var peeked, ended []pair
	b := stream.NewBuilder()
	stream.From(b, stream.NewTopic("in", s.serde, s.serde)).
		Peek(func(k, v T) { peeked = append(peeked, pair{s.from(k), s.from(v)}) }).
		ForEach(func(k, v T) { ended = append(ended, pair{s.from(k), s.from(v)}) })
	d := streamtest.New(t, b)
	input := streamtest.Input(d, stream.NewTopic("in", nullable.serde, nullable.serde))
	for _, r := range in {
		input.Send(r.K, r.V)
	}
	require.Equal(t, peeked, ended)
	return peeked
}

func TestCountLeavesOutNullsAndCountsThemAsDropped(t *testing.T) {
	counts := state.KeyValue("counts", serde.String, serde.Int64)
	b := stream.NewBuilder()
	stream.Count(stream.From(b, stream.NewTopic("in", serde.String, serde.String)).GroupByKey(), counts)
	d := streamtest.New(t, b)
	in := streamtest.Input(d, stream.NewTopic("in", nullable.serde, nullable.serde))
	for _, r := range []pair{{null, some("x")}, {some(""), some("")}, {some(""), null}, {some("a"), some("")}, {some(""), some("y")}} {
		in.Send(r.K, r.V)
	}
	require.Equal(t, map[string]int64{"": 2, "a": 1}, maps.Collect(streamtest.All(d, counts)))
	require.Equal(t, map[string]int64{"null-key": 1, "null-value": 1}, d.Dropped())
	var log []string
	for _, r := range d.Changelog(counts) {
		log = append(log, string(r.Key)+"="+strconv.Itoa(int(r.Value[7])))
	}
	require.Equal(t, []string{"=1", "a=1", "=2"}, log)
}

// A header keeps apart null and empty on its way from source to sink.
func TestHeadersKeepNullAndEmptyApart(t *testing.T) {
	b := stream.NewBuilder()
	in, out := stream.NewTopic("in", serde.String, serde.String), stream.NewTopic("out", serde.String, serde.String)
	stream.MapValues(stream.From(b, in), func(v string) string { return v + "!" }).To(out)
	d := streamtest.New(t, b)
	headers := []stream.Header{{Key: "a", Value: []byte("1")}, {Key: "b"}, {Key: "c", Value: []byte{}}, {Key: "a", Value: []byte("2")}}
	streamtest.Input(d, in).SendRecord(stream.Record[string, string]{Key: "k", Value: "v", Headers: headers})
	r, ok := streamtest.Output(d, out).Read()
	require.True(t, ok)
	require.Equal(t, headers, r.Headers)
	require.Equal(t, "v!", r.Value)
}
