package join_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/join"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

// TestRecordsWithoutAMatchNeedNoOtherRecord: when input is idle for long enough, outer joins give the results alone, each once.
func TestRecordsWithoutAMatchNeedNoOtherRecord(t *testing.T) {
	b := stream.NewBuilder()
	w := join.Within(0).Before(30 * time.Second).After(10 * time.Second).Grace(5 * time.Second)
	var got []string
	join.OuterStreams(stream.From(b, orders), stream.From(b, payments), w, func(l, r stream.Opt[string]) string {
		return l.Or("-") + r.Or("-")
	}).ForEach(func(_, v string) { got = append(got, v) })
	d := streamtest.New(t, b, streamtest.IdleAdvance(time.Second))
	l, r := streamtest.Input(d, orders), streamtest.Input(d, payments)
	start := d.Now()
	r.SendAt(start, "k", "R")
	l.SendAt(start.Add(time.Minute), "k", "L")
	l.SendAt(start.Add(time.Minute), "other", "M")
	r.SendAt(start.Add(time.Minute+time.Second), "other", "N")
	require.Equal(t, []string{"-R", "MN"}, got)
	d.Advance(14 * time.Second)
	require.Len(t, got, 2)
	d.Advance(2 * time.Second)
	d.Advance(time.Hour)
	require.Equal(t, []string{"-R", "MN", "L-"}, got)
}

// TestRecordsThatAreHeldBackNeedNoOtherRecord: a join with a grace joins them when input is idle for long enough.
func TestRecordsThatAreHeldBackNeedNoOtherRecord(t *testing.T) {
	b := stream.NewBuilder()
	table := stream.TableFrom(b, payments, state.Versioned("versions", serde.String, serde.String, time.Hour))
	var got []string
	join.Table(stream.From(b, orders), table, func(l, r string) string { return l + r }, join.Grace(30*time.Second)).
		ForEach(func(_, v string) { got = append(got, v) })
	d := streamtest.New(t, b, streamtest.IdleAdvance(time.Second))
	streamtest.Input(d, payments).SendAt(d.Now(), "k", "R")
	streamtest.Input(d, orders).SendAt(d.Now(), "k", "L")
	d.Advance(29 * time.Second)
	require.Empty(t, got)
	d.Advance(time.Second)
	d.Advance(time.Hour)
	require.Equal(t, []string{"LR"}, got)
}
