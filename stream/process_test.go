package stream_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

var (
	processed = stream.NewTopic("processed", serde.String, serde.String)
	results   = stream.NewTopic("results", serde.String, serde.String)
	seenStore = state.KeyValue("seen", serde.String, serde.String).WithoutTimestamps()
)

type (
	textContext = stream.Context[string, string]
	textRecord  = stream.Record[string, string]
)

// ticker reports when it is called.
type ticker struct {
	schedule func(ctx *textContext, tick func(name string) func(time.Time) error)
	closed   *int
}

func (p *ticker) Init(ctx *textContext) error {
	p.schedule(ctx, func(name string) func(time.Time) error {
		return func(now time.Time) error {
			if _, ok := ctx.RecordMetadata(); ok || len(ctx.Headers()) > 0 {
				return errors.New("a punctuation has no record")
			}
			return ctx.Emit(name, fmt.Sprint(now.UnixMilli()))
		}
	})
	return nil
}

func (p *ticker) Process(*textContext, textRecord) error { return nil }

func (p *ticker) Close() error {
	*p.closed++
	return nil
}

func tickers(t *testing.T, schedule func(ctx *textContext, tick func(string) func(time.Time) error), opts ...streamtest.Option) (d *streamtest.Driver, ticks func() []string, closed *int) {
	closed = new(int)
	b := stream.NewBuilder()
	stream.Process(stream.From(b, processed), func() *ticker { return &ticker{schedule, closed} }).To(results)
	d = streamtest.New(t, b, append(opts, streamtest.StartTime(time.UnixMilli(1_000_000)))...)
	out := streamtest.Output(d, results)
	return d, func() (all []string) {
		for _, r := range out.Drain() {
			require.Equal(t, r.Value, fmt.Sprint(r.Time.UnixMilli()), "the time of the record is that of the punctuation")
			all = append(all, r.Key+r.Value)
		}
		return all
	}, closed
}

func instant(ms int64) time.Time { return time.UnixMilli(ms) }

func TestScheduleOnStreamTimeFiresFirstWithTheFirstRecord(t *testing.T) {
	d, ticks, _ := tickers(t, func(ctx *textContext, tick func(string) func(time.Time) error) {
		ctx.Schedule(100*time.Millisecond, stream.StreamTime, tick("s"))
	})
	in := streamtest.Input(d, processed)
	d.Advance(time.Hour)
	require.Empty(t, ticks())
	in.SendAt(instant(1234), "k", "v")
	require.Equal(t, []string{"s1234"}, ticks())
	in.SendAt(instant(1299), "k", "v")
	in.SendAt(instant(900), "k", "late")
	require.Empty(t, ticks())
	in.SendAt(instant(1300), "k", "v") // aligned to multiples of the interval
	require.Equal(t, []string{"s1300"}, ticks())
	in.SendAt(instant(1799), "k", "v") // what was missed becomes one
	require.Equal(t, []string{"s1799"}, ticks())
	in.SendAt(instant(1800), "k", "v")
	require.Equal(t, []string{"s1800"}, ticks())
}

func TestScheduleOnTheWallClockFiresOnceForEachAdvance(t *testing.T) {
	d, ticks, _ := tickers(t, func(ctx *textContext, tick func(string) func(time.Time) error) {
		ctx.Schedule(100*time.Millisecond, stream.WallClock, tick("w"))
	})
	d.Advance(99 * time.Millisecond)
	require.Empty(t, ticks())
	d.Advance(time.Millisecond)
	require.Equal(t, []string{"w1000100"}, ticks())
	d.Advance(350 * time.Millisecond)
	require.Equal(t, []string{"w1000450"}, ticks())
	d.Advance(50 * time.Millisecond)
	require.Equal(t, []string{"w1000500"}, ticks())
}

func TestScheduleFromAnAnchor(t *testing.T) {
	d, ticks, _ := tickers(t, func(ctx *textContext, tick func(string) func(time.Time) error) {
		ctx.ScheduleFrom(instant(1_000_030), 100*time.Millisecond, stream.WallClock, tick("later"))
		ctx.ScheduleFrom(instant(999_950), 100*time.Millisecond, stream.WallClock, tick("earlier"))
		ctx.ScheduleFrom(instant(500), 100*time.Millisecond, stream.StreamTime, tick("s"))
	})
	in := streamtest.Input(d, processed)
	d.Advance(30 * time.Millisecond)
	require.Equal(t, []string{"later1000030"}, ticks())
	d.Advance(20 * time.Millisecond)
	require.Equal(t, []string{"earlier1000050"}, ticks())
	d.Advance(80 * time.Millisecond)
	require.Equal(t, []string{"later1000130"}, ticks())
	in.SendAt(instant(499), "k", "v")
	require.Empty(t, ticks())
	in.SendAt(instant(777), "k", "v")
	in.SendAt(instant(799), "k", "v")
	in.SendAt(instant(800), "k", "v")
	require.Equal(t, []string{"s777", "s800"}, ticks())
}

func TestScheduleCancelled(t *testing.T) {
	d, ticks, _ := tickers(t, func(ctx *textContext, tick func(string) func(time.Time) error) {
		n := 0
		var cancel func()
		f := tick("w")
		cancel = ctx.Schedule(time.Second, stream.WallClock, func(now time.Time) error {
			if n++; n == 2 {
				cancel() // itself
			}
			return f(now)
		})
		ctx.Schedule(time.Second, stream.WallClock, tick("never"))()
	})
	for range 4 {
		d.Advance(time.Second)
	}
	require.Equal(t, []string{"w1001000", "w1002000"}, ticks())
}

func TestSchedulesSurviveARestart(t *testing.T) {
	for _, opts := range [][]streamtest.Option{nil, {streamtest.OnDisk()}} {
		d, ticks, closed := tickers(t, func(ctx *textContext, tick func(string) func(time.Time) error) {
			ctx.Schedule(100*time.Millisecond, stream.StreamTime, tick("s"))
			ctx.Schedule(100*time.Millisecond, stream.WallClock, tick("w"))
		}, opts...)
		in := streamtest.Input(d, processed)
		in.SendAt(instant(1234), "k", "v")
		d.Advance(150 * time.Millisecond)
		require.Equal(t, []string{"s1234", "w1000150"}, ticks())
		d.Advance(40 * time.Millisecond)
		d.Restart(streamtest.LoseState())
		require.Equal(t, 1, *closed)
		d.Advance(10 * time.Millisecond)   // Kafka Streams would begin anew, at 1000290
		in.SendAt(instant(1299), "k", "v") // and here with the first record
		in.SendAt(instant(1300), "k", "v")
		require.Equal(t, []string{"w1000200", "s1300"}, ticks())
	}
}

func TestScheduleRefused(t *testing.T) {
	b := stream.NewBuilder()
	stream.ProcessFunc(stream.From(b, processed), func(ctx *textContext, r textRecord) error {
		ctx.Schedule(time.Microsecond, stream.WallClock, func(time.Time) error { return nil })
		return nil
	}).To(results)
	d := streamtest.New(t, b)
	err := streamtest.Input(d, processed).TrySend(textRecord{Key: "k"})
	require.ErrorContains(t, err, "the shortest interval is a millisecond")
	re, ok := errors.AsType[*stream.RecordError](err)
	require.True(t, ok)
	require.Equal(t, "KSTREAM-PROCESSOR-0000000001", re.Node)
}

func TestProcessorSeesItsRecord(t *testing.T) {
	b := stream.NewBuilder()
	s := stream.ProcessFunc(stream.From(b, processed), func(ctx *textContext, r textRecord) error {
		m, ok := ctx.RecordMetadata()
		require.True(t, ok)
		r.Value = fmt.Sprintf("%s %s %d/%d/%d %v %d %s", r.Value, m.Topic, m.Partition, ctx.Partition(), m.Offset, ctx.StreamTime().UnixMilli(), ctx.Now().UnixMilli(), ctx.TaskID())
		r.Headers = append(r.Headers, stream.Header{Key: "h", Value: []byte("2")})
		if err := ctx.Forward(r); err != nil {
			return err
		}
		require.Len(t, ctx.Headers(), 1, "what was forwarded has other headers")
		return ctx.Emit(r.Key, "same headers")
	})
	s.To(results)
	d := streamtest.New(t, b, streamtest.Partitions("processed", 2), streamtest.StartTime(instant(5)))
	in, out := streamtest.Input(d, processed), streamtest.Output(d, results)
	one := []stream.Header{{Key: "h", Value: []byte("1")}}
	in.SendTo(1, textRecord{Key: "k", Value: "a", Time: instant(20), Headers: one})
	in.SendTo(1, textRecord{Key: "k", Value: "b", Time: instant(10), Headers: one})
	got := out.Drain()
	require.Equal(t, "a processed 1/1/0 20 5 0_1", got[0].Value)
	require.Len(t, got[0].Headers, 2)
	require.Equal(t, "same headers", got[1].Value)
	require.Equal(t, one, got[1].Headers)
	require.Equal(t, "b processed 1/1/1 20 5 0_1", got[2].Value)
	require.Equal(t, instant(10).UTC(), got[2].Time)
}

func TestProcessorChangesAreUndoneWithTheRecord(t *testing.T) {
	b := stream.NewBuilder()
	stream.ProcessFunc(stream.From(b, processed), func(ctx *textContext, r textRecord) error {
		st := seenStore.In(ctx)
		old, _, err := st.Get(r.Key)
		if err != nil {
			return err
		}
		if err := st.Put(r.Key, old+r.Value); err != nil {
			return err
		}
		if err := ctx.Emit(r.Key, old+r.Value); err != nil {
			return err
		}
		if r.Value == "bad" {
			return errors.New("no")
		}
		return nil
	}, seenStore).To(results)
	d := streamtest.New(t, b, streamtest.ManualCommit(), streamtest.OnError(func(*stream.RecordError) stream.Action { return stream.Skip }))
	in := streamtest.Input(d, processed)
	for i, v := range []string{"a", "bad", "b"} {
		in.SendAt(instant(int64(10*i+10)), "k", v)
	}
	in.SendAt(instant(50), "new", "bad")
	d.Commit()
	var values []string
	for _, r := range streamtest.Output(d, results).Drain() {
		values = append(values, r.Value)
	}
	require.Equal(t, []string{"a", "ab"}, values)
	changes := d.Changelog(seenStore)
	require.Len(t, changes, 1)
	require.Equal(t, "ab", string(changes[0].Value))
	require.EqualValues(t, 30, changes[0].Time.UnixMilli())
	require.Equal(t, map[string]int64{"process": 2}, d.Dropped())
}

func TestPunctuationsFailAsRecordsDo(t *testing.T) {
	failures := 0
	b := stream.NewBuilder()
	stream.Process(stream.From(b, processed), func() *ticker {
		return &ticker{func(ctx *textContext, tick func(string) func(time.Time) error) {
			f := tick("w")
			ctx.Schedule(time.Second, stream.WallClock, func(now time.Time) error {
				if err := f(now); err != nil {
					return err
				}
				if failures++; failures < 3 {
					panic("not yet")
				}
				return nil
			})
		}, new(int)}
	}).To(results)
	var tries []int
	d := streamtest.New(t, b, streamtest.OnError(func(e *stream.RecordError) stream.Action {
		require.Equal(t, stream.Processing, e.Phase)
		require.Empty(t, e.Topic)
		require.Equal(t, "KSTREAM-PROCESSOR-0000000001", e.Node)
		tries = append(tries, e.Attempt)
		return stream.Retry
	}))
	d.Advance(time.Second)
	require.Equal(t, []int{1, 2}, tries)
	require.Len(t, streamtest.Output(d, results).Drain(), 1)
}

func TestProcessValuesKeepsTheKey(t *testing.T) {
	b := stream.NewBuilder()
	s := stream.ProcessValuesFunc(stream.From(b, processed), func(ctx *stream.ValueContext[string], r textRecord) error {
		return errors.Join(ctx.Emit(r.Value+"1"), ctx.Forward(stream.ValueRecord[string]{Value: r.Value + "2", Time: instant(7)}))
	})
	s.To(results)
	stream.Count(s.GroupByKey(), state.KeyValue("n", serde.String, serde.Int64))
	topology, err := b.Build()
	require.NoError(t, err)
	require.NotContains(t, topology.String(), "repartition")
	d := streamtest.NewTopology(t, topology)
	streamtest.Input(d, processed).SendAt(instant(5), "k", "v")
	got := streamtest.Output(d, results).Drain()
	require.Equal(t, []textRecord{{Key: "k", Value: "v1", Time: instant(5).UTC()}, {Key: "k", Value: "v2", Time: instant(7).UTC()}}, got)
}

func TestForwardToOneOfSeveral(t *testing.T) {
	b := stream.NewBuilder()
	s := stream.ProcessFunc(stream.From(b, processed), func(ctx *textContext, r textRecord) error { return ctx.ForwardTo(r.Key, r) })
	s.To(results, stream.Named("a"))
	s.To(stream.NewTopic("others", serde.String, serde.String), stream.Named("b"))
	d := streamtest.New(t, b)
	in := streamtest.Input(d, processed)
	in.Send("a", "1")
	in.Send("b", "2")
	require.Len(t, streamtest.Output(d, results).Drain(), 1)
	require.ErrorContains(t, in.TrySend(textRecord{Key: "c"}), "no operator c comes after KSTREAM-PROCESSOR-0000000001")
}

func TestProcessorsShareAStore(t *testing.T) {
	b := stream.NewBuilder()
	stream.ProcessFunc(stream.From(b, processed, stream.Named("in-a")), func(ctx *textContext, r textRecord) error {
		return seenStore.In(ctx).Put(r.Key, r.Value)
	}, seenStore, stream.Named("write"))
	stream.ProcessFunc(stream.From(b, stream.NewTopic("asked", serde.String, serde.String), stream.Named("in-b")), func(ctx *textContext, r textRecord) error {
		v, _, err := seenStore.In(ctx).Get(r.Key)
		return errors.Join(err, ctx.Emit(r.Key, v))
	}, seenStore, stream.Named("read")).To(results, stream.Named("out"))
	topology, err := b.Build()
	require.NoError(t, err)
	require.Equal(t, `Topologies:
   Sub-topology: 0
    Source: in-b (topics: [asked])
      --> read
    Source: in-a (topics: [processed])
      --> write
    Processor: read (stores: [seen])
      --> out
      <-- in-b
    Sink: out (topic: results)
      <-- read
    Processor: write (stores: [seen])
      --> none
      <-- in-a

`, topology.String())
	d := streamtest.NewTopology(t, topology)
	streamtest.Input(d, processed).Send("k", "v")
	streamtest.Input(d, stream.NewTopic("asked", serde.String, serde.String)).Send("k", "?")
	require.Equal(t, "v", streamtest.Output(d, results).Drain()[0].Value)
}

func TestStoreThatAProcessorWasNotGiven(t *testing.T) {
	b := stream.NewBuilder()
	stream.ProcessFunc(stream.From(b, processed), func(ctx *textContext, r textRecord) error {
		_, _, err := seenStore.In(ctx).Get(r.Key)
		return err
	}).To(results)
	d := streamtest.New(t, b)
	require.ErrorIs(t, streamtest.Input(d, processed).TrySend(textRecord{Key: "k"}), state.ErrUnknownStore)
}

func TestMistakesOfProcessors(t *testing.T) {
	b := stream.NewBuilder()
	s := stream.From(b, processed)
	stream.ProcessFunc[string, string, string, string](s, nil)
	f := func(*textContext, textRecord) error { return nil }
	stream.ProcessFunc(s, f, state.KeyValue("", serde.String, serde.String))
	stream.ProcessFunc(s, f, seenStore)
	stream.ProcessFunc(s, f, state.KeyValue("seen", serde.String, serde.Int64))
	stream.ProcessFunc(s, f, stream.Partitions(3))
	_, err := b.Build()
	require.ErrorContains(t, err, "ProcessFunc: the function is nil")
	require.ErrorContains(t, err, "a store has no name")
	require.ErrorContains(t, err, "use one handle for both")
	require.ErrorContains(t, err, "does not take the option Partitions")
}

func TestDropByAReasonOfTheProgram(t *testing.T) {
	b := stream.NewBuilder()
	stream.ProcessFunc(stream.From(b, processed), func(ctx *textContext, r textRecord) error {
		ctx.Drop("too small")
		return nil
	})
	d := streamtest.New(t, b)
	streamtest.Input(d, processed).Send("k", "v")
	require.Equal(t, map[string]int64{"too small": 1}, d.Dropped())
}

func TestCommitRequested(t *testing.T) {
	b := stream.NewBuilder()
	stream.ProcessFunc(stream.From(b, processed), func(ctx *textContext, r textRecord) error {
		if r.Value == "now" {
			ctx.Commit()
		}
		return ctx.Forward(r)
	}).To(results)
	d := streamtest.New(t, b, streamtest.ManualCommit())
	in, out := streamtest.Input(d, processed), streamtest.Output(d, results)
	in.Send("k", "later")
	require.Empty(t, out.Drain())
	in.Send("k", "now")
	require.Len(t, out.Drain(), 2)
	in.Send("k", "later")
	require.Empty(t, out.Drain())
}
