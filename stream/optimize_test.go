package stream_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/join"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
	"github.com/moldau-stream/moldau/window"
)

type (
	textStream = stream.KStream[string, string]
	textTable  = stream.KTable[string, string]
)

var yes = func(string, string) bool { return true }

func same(v string) string { return v }

func bothOf(a, b string) string { return a + b }

func from(b *stream.Builder, topic string) textStream {
	return stream.From(b, stream.NewTopic(topic, serde.String, serde.String))
}

func texted(names ...string) []stream.Topic[string, string] {
	var ts []stream.Topic[string, string]
	for _, n := range names {
		ts = append(ts, stream.NewTopic(n, serde.String, serde.String))
	}
	return ts
}

func byValue(s textStream) textStream { return stream.KeyBy(s, same) }

func textStore(name string) state.KV[string, string] {
	return state.KeyValue(name, serde.String, serde.String)
}

func tableFrom(b *stream.Builder, topic, store string) textTable {
	return stream.TableFrom(b, stream.NewTopic(topic, serde.String, serde.String), textStore(store))
}

func out(s textStream) { s.To(stream.NewTopic("out", serde.String, serde.String)) }

func group(s textStream, name string) stream.GroupedStream[string, string] {
	if name == "" {
		return s.GroupByKey()
	}
	return s.GroupByKey(stream.Named(name))
}

func countIn(s textStream, name, store string) {
	stream.Count(group(s, name), state.KeyValue(store, serde.String, serde.Int64))
}

func reduceIn(s textStream, name, store string) {
	stream.Reduce(group(s, name), bothOf, textStore(store))
}

func joinSelf(s textStream, name string) textStream {
	return join.Streams(s, s, join.Within(5*time.Second), bothOf, stream.Named(name), join.Stores(name))
}

// optimized are the topologies of internal/topo/testdata/optimize, under the same names.
var optimized = map[string]func(b *stream.Builder){
	"tableOfATopic":     func(b *stream.Builder) { out(tableFrom(b, "users", "users-store").ToStream()) },
	"tableWithoutStore": func(b *stream.Builder) { out(stream.MapTable(tableFrom(b, "users", ""), same).ToStream()) },
	"tableJoinOfTables": func(b *stream.Builder) {
		users, places := tableFrom(b, "users", "users-store"), tableFrom(b, "places", "places-store")
		out(join.Tables(users, places, bothOf, stream.Materialized(textStore("joined"))).ToStream())
	},
	"tableForeignKey": func(b *stream.Builder) {
		orders, users := tableFrom(b, "orders", "orders-store"), tableFrom(b, "users", "users-store")
		joined := join.ForeignKey(orders, users, same, bothOf, stream.Named("fk"), stream.Materialized(textStore("joined")))
		out(joined.ToStream())
	},
	"tableAggregated": func(b *stream.Builder) {
		g := stream.GroupTableBy(tableFrom(b, "users", "users-store"), func(_, v string) (string, string) { return v, v }, stream.Named("by-value"))
		out(stream.ReduceTable(g, bothOf, bothOf, textStore("reduced")).ToStream())
	},
	"severalTopics": func(b *stream.Builder) {
		out(stream.FromTopics(b, texted("zeta", "alpha", "mid-topic")))
		out(stream.FromTopics(b, texted("mid-topic", "zeta", "alpha", "zeta")).Filter(func(string, string) bool { return true }))
	},
	"severalTopicsJoinedAndCounted": func(b *stream.Builder) {
		s := stream.FromTopics(b, texted("b", "a"))
		j := join.Table(s, tableFrom(b, "users", "users-store"), bothOf)
		stream.Count(group(byValue(j), "by-value"), state.KeyValue("counts", serde.String, serde.Int64))
	},
	"pattern": func(b *stream.Builder) {
		out(stream.FromPattern(b, "sensor-.*", texted("")[0]))
		out(stream.FromPattern(b, "other-.*", texted("")[0]))
		out(stream.FromPattern(b, "sensor-.*", texted("")[0]).Filter(func(string, string) bool { return true }))
	},
	"patternWithANewKey": func(b *stream.Builder) {
		s := byValue(stream.FromPattern(b, "sensor-.*", texted("")[0]))
		stream.Count(group(s, "first"), state.KeyValue("counts", serde.String, serde.Int64))
		stream.Reduce(group(s, "second"), bothOf, textStore("reduced"))
	},
	"twoAggregations": func(b *stream.Builder) {
		s := byValue(from(b, "clicks"))
		countIn(s, "", "counts")
		reduceIn(s, "", "reduced")
	},
	"twoAggregationsWithNames": func(b *stream.Builder) {
		s := byValue(from(b, "clicks"))
		countIn(s, "first", "counts")
		reduceIn(s, "second", "reduced")
	},
	"twoAggregationsBehindFilters": func(b *stream.Builder) {
		s := byValue(from(b, "clicks"))
		countIn(s.Filter(yes), "first", "counts")
		reduceIn(s.Filter(yes).FilterNot(yes), "second", "reduced")
		out(s)
	},
	"aggregationBehindMapValues": func(b *stream.Builder) {
		s := byValue(from(b, "clicks"))
		countIn(stream.MapValues(s, same), "first", "counts")
		reduceIn(s, "second", "reduced")
		countIn(s.Filter(yes), "third", "more")
	},
	"mapValuesBeforeTheKey": func(b *stream.Builder) {
		s := byValue(stream.MapValues(from(b, "clicks"), same))
		stream.Count(stream.WindowedBy(group(s, "first"), window.Tumbling(time.Minute)), state.Window("windows", serde.String, serde.Int64))
		stream.Count(stream.SessionWindowedBy(group(s, "second"), window.Session(time.Minute)), state.Session("sessions", serde.String, serde.Int64))
		countIn(s, "third", "counts")
	},
	"oneGroupTwice": func(b *stream.Builder) {
		g := stream.GroupBy(from(b, "clicks"), same, stream.Named("grouped"))
		stream.Count(g, state.KeyValue("counts", serde.String, serde.Int64))
		stream.Reduce(g, bothOf, textStore("reduced"))
	},
	"twoGroups": func(b *stream.Builder) {
		s := from(b, "clicks")
		stream.Count(stream.GroupBy(s, same, stream.Named("first")), state.KeyValue("counts", serde.String, serde.Int64))
		stream.Reduce(stream.GroupBy(s, same, stream.Named("second")), bothOf, textStore("reduced"))
	},
	"joinAndAggregation": func(b *stream.Builder) {
		s := byValue(from(b, "clicks"))
		out(join.Streams(s, from(b, "views"), join.Within(5*time.Second), bothOf, stream.Named("joined"), join.Stores("joined")))
		countIn(s, "grouped", "counts")
	},
	"tableJoinAndAggregation": func(b *stream.Builder) {
		s := byValue(from(b, "clicks"))
		users := tableFrom(b, "users", "users-store")
		countIn(s, "grouped", "counts")
		out(join.Table(s.Filter(yes), users, bothOf, stream.Named("joined")))
	},
	"toTableAndAggregation": func(b *stream.Builder) {
		s := byValue(from(b, "clicks"))
		out(s.ToTable(textStore("table")).ToStream())
		countIn(s, "grouped", "counts")
	},
	"mergeOfTwoKeys": func(b *stream.Builder) {
		m := byValue(from(b, "clicks"))
		m = m.Merge(byValue(from(b, "views")))
		countIn(m, "first", "counts")
		reduceIn(m, "second", "reduced")
	},
	"mergeOfOneKey": func(b *stream.Builder) {
		m := byValue(from(b, "clicks"))
		m = m.Merge(from(b, "views"))
		countIn(m, "first", "counts")
		reduceIn(m.Filter(yes), "second", "reduced")
	},
	"branchesOfOneKey": func(b *stream.Builder) {
		s := byValue(from(b, "clicks"))
		branches, rest := s.SplitNamed("part-", "rest", stream.Branch[string, string]{Name: "0", When: yes})
		countIn(branches[0], "first", "counts")
		reduceIn(rest, "second", "reduced")
	},
	"twoAggregationsBehindOneFilter": func(b *stream.Builder) {
		s := byValue(from(b, "clicks")).Filter(yes)
		countIn(s, "first", "counts")
		reduceIn(s, "second", "reduced")
	},
	"repartitionedByHand": func(b *stream.Builder) {
		s := byValue(from(b, "clicks"))
		countIn(s.Repartition(stream.Named("by-hand")), "first", "counts")
		reduceIn(s, "second", "reduced")
	},
	"cogroupOfOneKey": func(b *stream.Builder) {
		s := byValue(from(b, "clicks"))
		c := stream.Cogroup(group(s, "first"), bothOf)
		c = stream.CogroupWith(c, group(s.Filter(yes), "second"), bothOf)
		out(stream.AggregateCogrouped(c, func() string { return "" }, textStore("cogrouped")).ToStream())
	},
	"keysInARow": func(b *stream.Builder) {
		s := stream.Map(from(b, "clicks"), func(k, v string) (string, string) { return k, v })
		countIn(s, "first", "counts")
		t := byValue(s)
		countIn(t, "second", "more")
		reduceIn(t, "third", "reduced")
	},
	"processedValues": func(b *stream.Builder) {
		s := byValue(from(b, "clicks"))
		pass := stream.ProcessValuesFunc(s, func(c *stream.ValueContext[string], r stream.Record[string, string]) error { return c.Emit(r.Value) }, stream.Named("pass"))
		countIn(pass, "first", "counts")
		reduceIn(s, "second", "reduced")
	},
	"selfJoin": func(b *stream.Builder) { out(joinSelf(from(b, "clicks"), "joined")) },
	"selfJoinWithoutNames": func(b *stream.Builder) {
		s := from(b, "clicks").Filter(yes)
		out(join.Streams(s, s, join.Within(5*time.Second), bothOf))
	},
	"selfJoinLeft": func(b *stream.Builder) {
		s := from(b, "clicks")
		f := func(a string, o stream.Opt[string]) string { return a }
		out(join.LeftStreams(s, s, join.Within(5*time.Second), f, stream.Named("joined"), join.Stores("joined")))
	},
	"selfJoinOfANewKey": func(b *stream.Builder) { out(joinSelf(byValue(from(b, "clicks")), "joined")) },
	"selfJoinTwice": func(b *stream.Builder) {
		s := from(b, "clicks")
		one := joinSelf(s, "one")
		out(join.Streams(one, s, join.Within(5*time.Second), bothOf, stream.Named("two"), join.Stores("two")))
		out(joinSelf(s, "three"))
	},
}

// descriptions are what Kafka Streams says of the topologies: by name and setting.
func descriptions(t *testing.T) map[string]map[string]string {
	b, err := os.ReadFile("../internal/topo/testdata/optimize/descriptions.txt")
	require.NoError(t, err)
	all := map[string]map[string]string{}
	for _, part := range strings.Split(string(b), "=== ")[1:] {
		head, text, _ := strings.Cut(part, "\n")
		name, setting, _ := strings.Cut(head, " ")
		if all[name] == nil {
			all[name] = map[string]string{}
		}
		if text == "as none\n" {
			text = all[name]["none"]
		}
		all[name][setting] = text
	}
	return all
}

// described is the text of descriptions.txt for a topology.
func described(t *stream.Topology) string {
	lines := strings.Split(strings.TrimRight(t.String(), "\n"), "\n")
	for i, line := range lines {
		before, rest, ok := strings.Cut(line, "[")
		names, after, ok2 := strings.Cut(rest, "]")
		if ok && ok2 {
			set := strings.Split(names, ", ")
			slices.Sort(set)
			lines[i] = before + "[" + strings.Join(set, ", ") + "]" + after
		}
	}
	topics := func(names []string) []string {
		for i := range names {
			names[i] = "app-" + names[i]
		}
		slices.Sort(names)
		return names
	}
	changelogs := topics(t.ChangelogTopics())
	var d struct {
		Subtopologies []struct{ Stores []struct{ Source string } }
	}
	if err := json.Unmarshal(t.JSON(), &d); err != nil {
		panic(err)
	}
	for _, s := range d.Subtopologies {
		for _, s := range s.Stores {
			if s.Source != "" {
				changelogs = append(changelogs, s.Source)
			}
		}
	}
	slices.Sort(changelogs)
	return fmt.Sprintf("%s\nrepartition topics: %s\nchangelogs: %s\n", strings.Join(lines, "\n"), strings.Join(topics(t.RepartitionTopics()), ", "), strings.Join(changelogs, ", "))
}

func TestOptimizedTopologiesAreThoseOfKafkaStreams(t *testing.T) {
	for name, want := range descriptions(t) {
		f := optimized[name]
		if f == nil {
			continue
		}
		for setting, opts := range map[string][]stream.BuildOption{
			"none":                       nil,
			"merge.repartition.topics":   {stream.Optimize(stream.MergeRepartitionTopics)},
			"single.store.self.join":     {stream.Optimize(stream.SelfJoin)},
			"reuse.ktable.source.topics": {stream.Optimize(stream.ReuseSourceTopics)},
			"all":                        {stream.Optimize(stream.OptimizeAll)},
		} {
			t.Run(name+"/"+setting, func(t *testing.T) {
				b := stream.NewBuilder()
				f(b)
				topology, err := b.Build(opts...)
				require.NoError(t, err)
				if name == "selfJoinLeft" { // Kafka Streams makes an inner join of it, whose results are others
					setting = "none"
				}
				merges := setting == "merge.repartition.topics" || setting == "all"
				if strings.HasPrefix(want[setting], "Kafka Streams fails") {
					require.Equal(t, []string{"first-repartition"}, topology.RepartitionTopics())
					return
				}
				if name == "processedValues" && merges { // Kafka Streams moves a topic up over them, whatever they do to values
					require.ElementsMatch(t, []string{"first-repartition", "second-repartition"}, topology.RepartitionTopics())
					return
				}
				require.Equal(t, want[setting], described(topology))
			})
		}
	}
}

// What comes out is the same with and without optimization.
func TestOptimizedTopologiesAnswerTheSame(t *testing.T) {
	run := func(f func(*stream.Builder), opts ...stream.BuildOption) (records []string, stores map[string]map[string]string) {
		b := stream.NewBuilder()
		f(b)
		topology, err := b.Build(opts...)
		require.NoError(t, err)
		d := streamtest.NewTopology(t, topology)
		at := time.UnixMilli(1_000_000)
		read := map[string]bool{}
		for _, line := range strings.Split(topology.String(), "\n") {
			if _, topics, ok := strings.Cut(line, "(topics: "); ok && !strings.Contains(topics, "-repartition") {
				for _, topic := range strings.Split(strings.Trim(topics, "[])"), ", ") {
					read[strings.ReplaceAll(topic, ".*", "x")] = true // x matches the pattern
				}
			}
		}
		for i := range 60 {
			for _, topic := range []string{"clicks", "views", "users", "places", "a", "b", "zeta", "sensor-x", "other-x"} {
				if read[topic] {
					streamtest.Input(d, stream.NewTopic(topic, serde.String, serde.String)).SendRecord(stream.Record[string, string]{
						Key: fmt.Sprint("k", i%4), Value: fmt.Sprint("k", i%3), Time: at.Add(time.Duration(i) * time.Second)})
				}
			}
		}
		stores = map[string]map[string]string{} // their last rows: one commit may have several changes of a row
		for _, topic := range topology.ChangelogTopics() {
			stores[topic] = map[string]string{}
			for _, r := range d.Records("app-" + topic) {
				stores[topic][string(r.Key)] = fmt.Sprintf("%q %d", r.Value, r.Time.UnixMilli())
			}
		}
		if strings.Contains(topology.String(), "(topic: out)") {
			for _, r := range d.Records("out") {
				records = append(records, fmt.Sprintf("%q %q %d", r.Key, r.Value, r.Time.UnixMilli()))
			}
		}
		return records, stores
	}
	for name, f := range optimized {
		t.Run(name, func(t *testing.T) {
			records, stores := run(f)
			merged, mergedStores := run(f, stream.Optimize(stream.MergeRepartitionTopics))
			require.ElementsMatch(t, records, merged)
			require.Equal(t, stores, mergedStores)
			one, oneStores := run(f, stream.Optimize(stream.SelfJoin))
			require.Equal(t, records, one)
			reused, _ := run(f, stream.Optimize(stream.ReuseSourceTopics))
			require.Equal(t, records, reused)
			for topic, written := range oneStores {
				require.Equal(t, stores[topic], written)
			}
		})
	}
}
