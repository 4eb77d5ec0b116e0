package stream_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/join"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
	"github.com/moldau-stream/moldau/window"
)

type maybe = stream.Opt[string]

var (
	maybes  = serde.Nullable(serde.String)
	updates = stream.NewTopic("updates", serde.String, maybes)
	others  = stream.NewTopic("others", serde.String, maybes)
	emitted = stream.NewTopic("emitted", serde.String, maybes)
)

// emissions is a driver with the topics of these tests.
type emissions struct {
	*streamtest.Driver
	out *streamtest.Out[string, maybe]
}

func newEmissions(t testing.TB, b *stream.Builder, opts ...streamtest.Option) *emissions {
	d := streamtest.New(t, b, opts...)
	return &emissions{d, streamtest.Output(d, emitted)}
}

// send sends "key=value @ms"; a value of - is null.
func (e *emissions) send(topic stream.Topic[string, maybe], records ...string) {
	for _, s := range records {
		var ms int64
		kv, at, _ := strings.Cut(s, " @")
		_, _ = fmt.Sscan(at, &ms)
		k, v, _ := strings.Cut(kv, "=")
		r := stream.Record[string, maybe]{Key: k, Time: time.UnixMilli(ms)}
		if v != "-" {
			r.Value = stream.Some(v)
		}
		streamtest.Input(e.Driver, topic).SendRecord(r)
	}
}

// sent is what was written to the topic since the last call, as send takes it.
func (e *emissions) sent() []string {
	got := []string{}
	for _, r := range e.out.Drain() {
		got = append(got, fmt.Sprintf("%s=%s @%d", r.Key, r.Value.Or("-"), r.Time.UnixMilli()))
	}
	return got
}

var lastLetters = state.KeyValue("last", serde.String, maybes)

// lastLetter is the last letter of what it is given; a dot is none.
func lastLetter(_, v maybe) maybe {
	s := v.Or(".")
	if s == "." {
		return maybe{}
	}
	return stream.Some(s[len(s)-1:])
}

func nothing() maybe { return maybe{} }

func TestOnChangeNothingGoesOnOfAnUpdateThatChangesNothing(t *testing.T) {
	b := stream.NewBuilder()
	letters := stream.Aggregate(stream.From(b, updates).GroupByKey(), nothing, lastLetter, lastLetters, stream.EmitPerUpdate(), stream.EmitOnChange())
	letters.ToStream().To(emitted)
	d := newEmissions(t, b)
	d.send(updates, "a=1x @1", "a=2x @5", "a=y @3", "a=. @6", "a=. @7", "b=. @7", "a=y @8", "b=z @9", "b=3z @10")
	require.Equal(t, []string{"a=x @1", "a=y @5", "a=- @6", "a=y @8", "b=z @9"}, d.sent())
	entries := streamtest.Entries(d.Driver, lastLetters)
	require.Equal(t, int64(10), entries[1].Time.UnixMilli(), "the store takes the update")
}

func TestOnChangeACommitSendsWhatDiffersFromTheLastOne(t *testing.T) {
	b := stream.NewBuilder()
	letters := stream.Aggregate(stream.From(b, updates).GroupByKey(), nothing, lastLetter, lastLetters, stream.EmitPerCommit(), stream.EmitOnChange())
	letters.ToStream().To(emitted)
	d := newEmissions(t, b, streamtest.ManualCommit())
	d.send(updates, "a=x @1", "b=x @1")
	d.Commit()
	require.Equal(t, []string{"a=x @1", "b=x @1"}, d.sent())
	d.send(updates, "a=y @2", "a=x @3", "b=y @4", "c=q @5", "c=. @6")
	d.Commit()
	require.Equal(t, []string{"b=y @4"}, d.sent())
}

// Every operator that makes a table in a store: the same value twice goes on once.
func TestOnChangeOfEveryTable(t *testing.T) {
	store := state.KeyValue("table", serde.String, maybes)
	first := func(a, v maybe) maybe { return stream.Some(a.Or(v.Or("?"))) }
	windowed := func(s stream.KStream[window.Key[string], maybe]) {
		stream.Map(s, func(k window.Key[string], v maybe) (string, maybe) { return fmt.Sprint(k.Key, k.Start.UnixMilli()), v }).To(emitted)
	}
	opts := []stream.Option{stream.EmitPerUpdate(), stream.EmitOnChange()}
	for name, c := range map[string]struct {
		program func(b *stream.Builder)
		want    []string
	}{
		"table": {func(b *stream.Builder) {
			stream.TableFrom(b, updates, state.KeyValue("", serde.String, maybes), opts...).ToStream().To(emitted)
		}, []string{"a=x @1", "a=y @3"}},
		"stream to table": {func(b *stream.Builder) {
			stream.From(b, updates).ToTable(store, opts...).ToStream().To(emitted)
		}, []string{"a=x @1", "a=y @3"}},
		"filter": {func(b *stream.Builder) {
			stream.TableFrom(b, updates, state.KeyValue("", serde.String, maybes)).
				Filter(func(_ string, v maybe) bool { return v.Or("") == "x" }, append(opts, stream.Materialized(store))...).ToStream().To(emitted)
		}, []string{"a=x @1", "a=- @3"}},
		"map": {func(b *stream.Builder) {
			stream.MapTable(stream.TableFrom(b, updates, state.KeyValue("", serde.String, maybes)), func(maybe) maybe { return stream.Some("v") },
				append(opts, stream.Materialized(store))...).ToStream().To(emitted)
		}, []string{"a=v @1"}},
		"reduce": {func(b *stream.Builder) {
			stream.Reduce(stream.From(b, updates).GroupByKey(), first, store, opts...).ToStream().To(emitted)
		}, []string{"a=x @1"}},
		"cogroup": {func(b *stream.Builder) {
			stream.AggregateCogrouped(stream.Cogroup(stream.From(b, updates).GroupByKey(), first), nothing, store, opts...).ToStream().To(emitted)
		}, []string{"a=x @1"}},
		"tumbling windows": {func(b *stream.Builder) {
			g := stream.WindowedBy(stream.From(b, updates).GroupByKey(), window.Tumbling(time.Second))
			windowed(stream.Aggregate(g, nothing, first, state.Window("w", serde.String, maybes), opts...).ToStream())
		}, []string{"a0=x @1"}},
		"sliding windows": {func(b *stream.Builder) {
			g := stream.WindowedBy(stream.From(b, updates).GroupByKey(), window.Sliding(time.Second))
			windowed(stream.Aggregate(g, nothing, first, state.Window("w", serde.String, maybes), opts...).ToStream())
		}, []string{"a0=x @1", "a2=x @2", "a3=y @3"}},
		"sessions": {func(b *stream.Builder) {
			g := stream.SessionWindowedBy(stream.From(b, updates).GroupByKey(), window.Session(time.Second))
			s := stream.AggregateSessions(g, nothing, first, first, state.Session("s", serde.String, maybes), opts...).ToStream()
			stream.Map(s, func(k window.SessionKey[string], v maybe) (string, maybe) {
				return fmt.Sprintf("%s%d-%d", k.Key, k.Start.UnixMilli(), k.End.UnixMilli()), v
			}).To(emitted)
		}, []string{"a1-1=x @1", "a1-1=- @1", "a1-2=x @2", "a1-2=- @2", "a1-3=x @3"}},
		"aggregated table": {func(b *stream.Builder) {
			t := stream.TableFrom(b, updates, state.KeyValue("", serde.String, maybes))
			keep := func(a, _ maybe) maybe { return a }
			stream.ReduceTable(stream.GroupTableBy(t, func(k string, v maybe) (string, maybe) { return "g" + k, v }), first, keep, store, opts...).ToStream().To(emitted)
		}, []string{"ga=x @1"}},
		"join": {func(b *stream.Builder) {
			l := stream.TableFrom(b, updates, state.KeyValue("", serde.String, maybes))
			r := stream.TableFrom(b, others, state.KeyValue("", serde.String, maybes))
			join.LeftTables(l, r, func(l maybe, _ stream.Opt[maybe]) maybe { return l }, append(opts, stream.Materialized(store))...).ToStream().To(emitted)
		}, []string{"a=x @1", "a=y @3"}},
		"foreign-key join": {func(b *stream.Builder) {
			l := stream.TableFrom(b, updates, state.KeyValue("", serde.String, maybes))
			r := stream.TableFrom(b, others, state.KeyValue("", serde.String, maybes))
			join.LeftForeignKey(l, r, func(v maybe) string { return v.Or("") }, func(maybe, stream.Opt[maybe]) maybe { return stream.Some("j") },
				append(opts, stream.Materialized(store))...).ToStream().To(emitted)
		}, []string{"a=j @1"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := stream.NewBuilder()
			c.program(b)
			d := newEmissions(t, b)
			d.send(updates, "a=x @1", "a=x @2", "a=y @3", "a=y @3")
			require.Equal(t, c.want, d.sent())
		})
	}
}

func TestEverySendsTheLastUpdateOfEachKeyOnceAnInterval(t *testing.T) {
	b := stream.NewBuilder()
	stream.TableFrom(b, updates, lastLetters, stream.EmitEvery(time.Second)).ToStream().To(emitted)
	d := newEmissions(t, b)
	d.send(updates, "a=1 @1")
	require.Equal(t, []string{"a=1 @1"}, d.sent(), "nothing went on before")
	d.send(updates, "a=2 @2", "b=1 @3", "a=3 @4", "c=1 @5", "c=- @6")
	d.Advance(999 * time.Millisecond)
	require.Empty(t, d.sent())
	d.Advance(time.Millisecond)
	require.Equal(t, []string{"a=3 @4", "b=1 @3"}, d.sent())
	require.Empty(t, d.Records("app-last-emission-changelog")[0].Headers[1:], "a version")
	d.send(updates, "b=2 @7")
	d.Advance(10 * time.Second)
	require.Equal(t, []string{"b=2 @7"}, d.sent())
	d.Advance(10 * time.Second)
	require.Empty(t, d.sent())
	d.send(updates, "b=- @8", "a=4 @9")
	require.Equal(t, []string{"b=- @8"}, d.sent(), "it was quiet for longer than the interval")
	d.Advance(time.Second)
	require.Equal(t, []string{"a=4 @9"}, d.sent())
}

func TestEveryOnChangeSendsWhatDiffersFromWhatWentOnBefore(t *testing.T) {
	b := stream.NewBuilder()
	stream.TableFrom(b, updates, lastLetters, stream.EmitEvery(time.Second), stream.EmitOnChange()).ToStream().To(emitted)
	d := newEmissions(t, b)
	d.send(updates, "a=1 @1", "a=2 @2", "b=1 @3", "a=1 @4")
	d.Advance(time.Second)
	require.Equal(t, []string{"a=1 @1", "b=1 @3"}, d.sent())
}

// The headers of an update go on with it, however long it waited.
func TestEveryKeepsHeaders(t *testing.T) {
	b := stream.NewBuilder()
	stream.TableFrom(b, updates, lastLetters, stream.EmitEvery(time.Second)).ToStream().To(emitted)
	d := newEmissions(t, b)
	d.send(updates, "x=1 @1")
	headers := []stream.Header{{Key: "h", Value: []byte("1")}, {Key: "n"}}
	streamtest.Input(d.Driver, updates).SendRecord(stream.Record[string, maybe]{Key: "a", Value: stream.Some("1"), Time: time.UnixMilli(2), Headers: headers})
	d.Restart(streamtest.LoseState())
	d.Advance(time.Second)
	out := d.out.Drain()
	require.Equal(t, headers, out[1].Headers)
}

// What is owed survives crashes, and the interval goes on.
func TestEverySurvivesCrashes(t *testing.T) {
	for _, opts := range [][]streamtest.Option{nil, {streamtest.OnDisk()}} {
		for _, how := range [][]streamtest.RestartOption{nil, {streamtest.LoseState()}} {
			b := stream.NewBuilder()
			stream.TableFrom(b, updates, lastLetters, stream.EmitEvery(time.Second)).ToStream().To(emitted)
			d := newEmissions(t, b, opts...)
			d.send(updates, "a=1 @1", "a=2 @2", "b=1 @3")
			d.Advance(time.Second / 2)
			d.Restart(how...)
			require.Equal(t, []string{"a=1 @1"}, d.sent())
			d.CrashBeforeCommit(how...)
			d.Advance(time.Second / 2)
			require.True(t, d.Crashed())
			require.Equal(t, []string{"a=2 @2", "b=1 @3"}, d.sent(), "the commit that crashed was made again")
			d.send(updates, "a=3 @4", "b=2 @5")
			d.CrashDuringCommit(how...)
			d.Advance(time.Second)
			require.True(t, d.Crashed())
			require.Equal(t, []string{"a=3 @4", "b=2 @5"}, d.sent(), "not again: it was committed")
			d.Advance(time.Second)
			require.Empty(t, d.sent())
		}
	}
}

// Final values are those of emission per update, with any emission, and what is made of changes of tables is right: adders
// and subtractors get each value that went on, and get it taken back.
func TestEmissionsChangeNoResult(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		emission := func(label string) []stream.Option {
			all := [][]stream.Option{nil, {stream.EmitPerUpdate()}, {stream.EmitPerCommit()}, {stream.EmitEvery(2 * time.Second)}, {stream.EmitEvery(3 * time.Second)}}
			opts := rapid.SampledFrom(all).Draw(r, label)
			if rapid.Bool().Draw(r, label+" on change") {
				opts = append(opts[:len(opts):len(opts)], stream.EmitOnChange())
			}
			return opts
		}
		kind := rapid.SampledFrom([]string{"inner", "left", "outer", "foreign"}).Draw(r, "join")
		stored := rapid.Bool().Draw(r, "stored")
		pair := func(l, r string) maybe { return stream.Some(l + r) }
		b := stream.NewBuilder()
		left := stream.TableFrom(b, updates, state.KeyValue("left", serde.String, maybes), emission("left")...)
		right := stream.TableFrom(b, others, state.KeyValue("right", serde.String, maybes), emission("right")...)
		var opts []stream.Option
		if stored || kind == "foreign" {
			opts = append(emission("result"), stream.Materialized(state.KeyValue("result", serde.String, maybes)))
		}
		var joined stream.KTable[string, maybe]
		switch kind {
		case "inner":
			joined = join.Tables(left, right, func(l, r maybe) maybe { return pair(l.Or(""), r.Or("")) }, opts...)
		case "left":
			joined = join.LeftTables(left, right, func(l maybe, r stream.Opt[maybe]) maybe { return pair(l.Or(""), r.Or(maybe{}).Or("")) }, opts...)
		case "outer":
			joined = join.OuterTables(left, right, func(l, r stream.Opt[maybe]) maybe { return pair(l.Or(maybe{}).Or(""), r.Or(maybe{}).Or("")) }, opts...)
		default:
			joined = join.ForeignKey(left, right, func(l maybe) string { return l.Or("") }, func(l, r maybe) maybe { return pair(l.Or(""), r.Or("")) }, opts...)
		}
		counts := state.KeyValue("counts", serde.String, serde.Int64)
		byValue := stream.GroupTableBy(joined, func(k string, v maybe) (string, maybe) { return v.Or("?"), v })
		stream.MapTable(stream.CountTable(byValue, counts, emission("counts")...), func(n int64) maybe { return stream.Some(fmt.Sprint(n)) }).ToStream().To(emitted)

		driver := []streamtest.Option{streamtest.Instances(1)}
		if rapid.Bool().Draw(r, "per commit") {
			driver = append(driver, streamtest.EmitPerCommit(), streamtest.ManualCommit())
		}
		d := newEmissions(t, b, driver...)
		l, rt := map[string]string{}, map[string]string{}
		now := int64(0)
		for range rapid.IntRange(1, 25).Draw(r, "steps") {
			now++
			switch rapid.IntRange(0, 9).Draw(r, "step") {
			case 0:
				d.Advance(time.Duration(rapid.IntRange(0, 3000).Draw(r, "ms")) * time.Millisecond)
			case 1:
				d.Commit()
			case 2:
				if rapid.Bool().Draw(r, "lose state") {
					d.Restart(streamtest.LoseState())
				} else {
					d.Restart()
				}
			default:
				topic, m, keys := updates, l, []string{"a", "b", "c"}
				if rapid.Bool().Draw(r, "of the right table") {
					topic, m = others, rt
					if kind == "foreign" {
						keys = []string{"x", "y"}
					}
				}
				k, v := rapid.SampledFrom(keys).Draw(r, "key"), rapid.SampledFrom([]string{"x", "y", "-"}).Draw(r, "value")
				if m[k] = v; v == "-" {
					delete(m, k)
				}
				d.send(topic, fmt.Sprintf("%s=%s @%d", k, v, now))
			}
		}
		for range 8 { // from table to table, and through the topics between them
			d.Commit()
			d.Advance(3 * time.Second)
		}
		want := map[string]int64{}
		for _, k := range []string{"a", "b", "c"} {
			lv, lok := l[k]
			rv, rok := rt[k]
			if kind == "foreign" {
				rv, rok = rt[lv]
			}
			if lok && rok || lok && kind == "left" || (lok || rok) && kind == "outer" {
				want[lv+rv]++
			}
		}
		got := maps.Collect(streamtest.All(d.Driver, counts))
		maps.DeleteFunc(got, func(_ string, n int64) bool { return n == 0 })
		require.Equal(r, want, got)
		final := map[string]string{}
		for _, s := range d.sent() {
			kv, _, _ := strings.Cut(s, " ")
			k, v, _ := strings.Cut(kv, "=")
			if final[k] = v; v == "0" || v == "-" {
				delete(final, k)
			}
		}
		require.Len(r, final, len(want))
		for k, n := range want {
			require.Equal(r, fmt.Sprint(n), final[k], "what was sent on last")
		}
	})
}

// No key goes on twice within an interval.
func TestEveryIsAtMostOncePerKeyAndInterval(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		b := stream.NewBuilder()
		g := stream.WindowedBy(stream.From(b, updates).GroupByKey(), window.Tumbling(50*time.Millisecond))
		counts := stream.Count(g, state.Window("counts", serde.String, serde.Int64), stream.EmitEvery(time.Second))
		stream.Map(counts.ToStream(), func(k window.Key[string], n int64) (string, maybe) {
			return fmt.Sprint(k.Key, k.Start.UnixMilli()), stream.Some(fmt.Sprint(n))
		}).To(emitted)
		d := newEmissions(t, b)
		want, got, last := map[string]string{}, map[string]string{}, map[string]time.Time{}
		n := map[string]int{}
		look := func() {
			for _, s := range d.sent() {
				kv, _, _ := strings.Cut(s, " ")
				k, v, _ := strings.Cut(kv, "=")
				if at, ok := last[k]; ok {
					require.GreaterOrEqual(r, d.Now().Sub(at), time.Second, k)
				}
				got[k], last[k] = v, d.Now()
			}
		}
		ts := 0
		for range rapid.IntRange(1, 30).Draw(r, "steps") {
			switch rapid.IntRange(0, 4).Draw(r, "step") {
			case 0:
				d.Advance(time.Duration(rapid.IntRange(1, 1500).Draw(r, "ms")) * time.Millisecond)
			case 1:
				d.Restart()
			default:
				ts += rapid.IntRange(0, 500).Draw(r, "later") // so that windows that wait expire from their store
				k := rapid.SampledFrom([]string{"a", "b"}).Draw(r, "key")
				d.send(updates, fmt.Sprintf("%s=v @%d", k, ts))
				k = fmt.Sprint(k, ts/50*50)
				n[k]++
				want[k] = fmt.Sprint(n[k])
			}
			look()
		}
		d.Advance(time.Second)
		look()
		require.Equal(r, want, got)
	})
}

func TestMistakesOfEmission(t *testing.T) {
	b := stream.NewBuilder()
	s := stream.From(b, updates)
	s.ToTable(state.KeyValue("none", serde.String, maybes), stream.EmitEvery(0))
	s.ToTable(state.KeyValue("two", serde.String, maybes), stream.EmitEvery(time.Second), stream.EmitPerCommit())
	s.ToTable(state.Versioned("versions", serde.String, maybes, time.Hour), stream.EmitOnChange(), stream.EmitEvery(time.Second))
	table := s.ToTable(state.KeyValue("fine", serde.String, maybes), stream.EmitOnChange())
	table.Filter(func(string, maybe) bool { return true }, stream.EmitOnChange())
	join.Tables(table, table, func(l, _ maybe) maybe { return l }, stream.EmitEvery(time.Second))
	stream.Count(stream.WindowedBy(s.GroupByKey(), window.Tumbling(time.Second)), state.Window("w", serde.String, serde.Int64), stream.EmitOnClose(), stream.EmitOnChange())
	_, err := b.Build()
	require.Error(t, err)
	var got []string
	for _, line := range strings.Split(err.Error(), "\n") {
		_, at, ok := strings.Cut(line, "stream/emission_test.go:")
		require.True(t, ok, line)
		_, what, _ := strings.Cut(at, ": ")
		got = append(got, what)
	}
	require.Equal(t, []string{
		"ToTable: EmitEvery(0s): the shortest interval is a millisecond",
		"ToTable: EmitPerUpdate, EmitPerCommit and EmitEvery exclude each other",
		`ToTable: EmitEvery is not for tables that keep versions: store "versions"`,
		`ToTable: EmitOnChange is not for tables that keep versions: store "versions"`,
		"Filter: options of emission need the option Materialized with a named store",
		"Tables: options of emission need the option Materialized",
		"Count: EmitOnClose sends one result of each window, at its time: the other options of emission do not go with it",
	}, got)
}
