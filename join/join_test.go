package join_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/join"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

type sent struct {
	left     bool
	key, val string
	at       int64
}

func records(t *rapid.T, late int64) []sent {
	now := int64(100)
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) sent {
		now += rapid.Int64Range(0, 6).Draw(t, "step")
		return sent{rapid.Bool().Draw(t, "left"), rapid.SampledFrom([]string{"a", "ab", "b"}).Draw(t, "key"),
			rapid.SampledFrom([]string{"x", "y", "z", ""}).Draw(t, "value"), now - rapid.Int64Range(0, late).Draw(t, "late")}
	}), 1, 60).Draw(t, "records")
}

// Records that come within the grace are joined as nested loops over all of them would.
func TestStreamsAreJoinedAsByNestedLoops(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		before, after := rapid.Int64Range(0, 10).Draw(rt, "before"), rapid.Int64Range(0, 10).Draw(rt, "after")
		in := records(rt, 20)
		b := stream.NewBuilder()
		ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
		w := join.Within(0).Before(ms(before)).After(ms(after)).Grace(ms(40))
		join.Streams(stream.From(b, orders), stream.From(b, payments), w, andThen).To(results)
		d := streamtest.New(t, b)
		l, r := streamtest.Input(d, orders), streamtest.Input(d, payments)
		var want, got []string
		for i, s := range in {
			to := r
			if s.left {
				to = l
			}
			to.SendAt(time.UnixMilli(s.at), s.key, fmt.Sprint(s.val, i))
			for j, o := range in[:i] {
				x, y, xi, yi := s, o, i, j
				if !s.left {
					x, y, xi, yi = o, s, j, i
				}
				if x.left != y.left && x.key == y.key && y.at >= x.at-before && y.at <= x.at+after {
					want = append(want, fmt.Sprintf("%s %s%d+%s%d @%d", x.key, x.val, xi, y.val, yi, max(x.at, y.at)))
				}
			}
		}
		for _, o := range streamtest.Output(d, results).Drain() {
			got = append(got, fmt.Sprintf("%s %s @%d", o.Key, o.Value, o.Time.UnixMilli()))
		}
		slices.Sort(want)
		slices.Sort(got)
		require.Equal(rt, want, got)
	})
}

// Whatever the order of changes, the table of results is the join of the tables as they are, on any number of partitions.
func TestForeignKeysEndAsTheJoinOfTheTables(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		isLeft := rapid.Bool().Draw(rt, "left join")
		in := records(rt, 0)
		b := stream.NewBuilder()
		l, r := tables(b)
		res := state.KeyValue("results", serde.String, serde.String)
		fk := func(v string) string { return map[string]string{"x": "a", "y": "b", "z": "ab", "": "none"}[v] }
		if isLeft {
			join.LeftForeignKey(l, r, fk, orNothing, stream.Materialized(res))
		} else {
			join.ForeignKey(l, r, fk, andThen, stream.Materialized(res))
		}
		d := streamtest.New(t, b, streamtest.Partitions("orders", 3), streamtest.Partitions("payments", 2))
		lin, rin := streamtest.Input(d, orders), streamtest.Input(d, payments)
		lt, rt2 := map[string]string{}, map[string]string{}
		for i, s := range in {
			if s.left {
				lin.SendAt(time.UnixMilli(s.at), s.key, s.val)
				lt[s.key] = s.val
			} else {
				v := fmt.Sprint(s.val, i)
				rin.SendAt(time.UnixMilli(s.at), s.key, v)
				rt2[s.key] = v
			}
		}
		want, got := map[string]string{}, map[string]string{}
		for k, v := range lt {
			if rv, ok := rt2[fk(v)]; ok {
				want[k] = v + "+" + rv
			} else if isLeft {
				want[k] = v + "+-"
			}
		}
		for _, e := range streamtest.Entries(d, res) {
			got[e.Key] = e.Value
		}
		require.Equal(rt, want, got)
	})
}

func TestDroppedRecordsAreCountedByReason(t *testing.T) {
	texts := serde.Nullable(serde.String)
	l, r := stream.NewTopic("l", texts, texts), stream.NewTopic("r", texts, texts)
	b := stream.NewBuilder()
	join.Streams(stream.From(b, l), stream.From(b, r), join.Within(time.Second),
		func(a, _ stream.Opt[string]) stream.Opt[string] { return a }).To(stream.NewTopic("out", texts, texts))
	d := streamtest.New(t, b)
	in := streamtest.Input(d, l)
	in.SendAt(time.Unix(100, 0), stream.Some("k"), stream.Opt[string]{})
	in.SendAt(time.Unix(100, 0), stream.Opt[string]{}, stream.Some("v"))
	in.SendAt(time.Unix(100, 0), stream.Some("k"), stream.Some("v"))
	in.SendAt(time.Unix(10, 0), stream.Some("k"), stream.Some("late"))
	require.Equal(t, map[string]int64{"null-key": 1, "null-value": 1, "expired": 1}, d.Dropped())
}

func TestMistakesAreReportedByBuild(t *testing.T) {
	b := stream.NewBuilder()
	l, r := stream.From(b, orders), stream.From(b, payments)
	join.Streams(l, stream.KStream[string, string]{}, window, andThen)
	join.Streams(l, r, join.Within(time.Second).Before(-2*time.Second), andThen)
	join.Streams(l, r, window.Grace(-1*time.Second), andThen)
	join.Streams[string, string, string, string](l, r, window, nil)
	join.Table(l, r.ToTable(state.KeyValue("t", serde.String, serde.String)), andThen, join.Grace(time.Second))
	other := stream.NewBuilder()
	join.Streams(l, stream.From(other, payments), window, andThen)
	_, err := b.Build()
	for _, want := range []string{
		"join_test.go:", "Streams: the right side is the zero value", "ends (1s after) before it begins (-2s before)",
		"Streams: a grace of -1s", "Streams: the function is nil", "Table: the option Grace needs a table that keeps versions",
		"the sides come from different builders",
	} {
		require.ErrorContains(t, err, want)
	}
}

func TestJoinedTopicsMustHaveTheSameNumberOfPartitions(t *testing.T) {
	b := stream.NewBuilder()
	join.Streams(stream.From(b, orders), stream.From(b, payments), window, andThen).To(results)
	topology, err := b.Build()
	require.NoError(t, err)
	_, err = topology.Graph().Plan("app", map[string]int32{"orders": 2, "payments": 3})
	require.ErrorContains(t, err, "orders has 2")
	require.ErrorContains(t, err, "payments has 3")
}
