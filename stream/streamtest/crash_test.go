package streamtest_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

var (
	sentences = stream.NewTopic("sentences", serde.String, serde.String)
	perWord   = stream.NewTopic("per-word", serde.String, serde.Int64)
	words     = state.KeyValue("words", serde.String, serde.Int64)
)

func countWords() *stream.Builder {
	b := stream.NewBuilder()
	split := stream.FlatMapValues(stream.From(b, sentences), strings.FieldsSeq)
	byWord := stream.GroupBy(split, strings.ToLower, stream.Named("by-word"))
	stream.Count(byWord, words).ToStream().To(perWord)
	return b
}

var said = []string{"to be or not to be", "be quick", "not to", "or be to"}

// total is what the sentences count to.
var total = map[string]int64{"to": 4, "be": 4, "or": 2, "not": 2, "quick": 1}

// last is the last value of each key of a topic.
func last(d *streamtest.Driver) map[string]int64 {
	m := map[string]int64{}
	for _, r := range streamtest.Output(d, perWord).Drain() {
		m[r.Key] = r.Value
	}
	return m
}

func TestCrashesInCommitsChangeNothing(t *testing.T) {
	for _, opts := range [][]streamtest.Option{nil, {streamtest.OnDisk()}, {streamtest.OnDisk(), streamtest.CacheSize(1)}, {streamtest.OnDisk(), streamtest.Seed(1)}} {
		for _, restart := range [][]streamtest.RestartOption{nil, {streamtest.LoseState()}} {
			for _, during := range []bool{false, true} {
				for after := range 4 {
					d := streamtest.New(t, countWords(), append(opts, streamtest.Partitions("sentences", 2), streamtest.Instances(2))...)
					in := streamtest.Input(d, sentences)
					for i, s := range said {
						if i > 0 {
							at := append(restart, streamtest.AfterCommits(after))
							if during {
								d.CrashDuringCommit(at...)
							} else {
								d.CrashBeforeCommit(at...)
							}
						}
						in.Send("", s)
					}
					require.Equal(t, total, last(d))
					require.Equal(t, total, maps.Collect(streamtest.All(d, words)))
					// Each update is there once: the counts of a key go up by one.
					seen := map[string]int64{}
					for _, r := range streamtest.Output(d, perWord).Drain() {
						seen[r.Key]++
						require.Equal(t, seen[r.Key], r.Value, r.Key)
					}
				}
			}
		}
	}
}

func TestACrashHappensAtTheCommitItIsAnnouncedFor(t *testing.T) {
	d := streamtest.New(t, countWords(), streamtest.ManualCommit())
	in := streamtest.Input(d, sentences)
	d.CrashBeforeCommit()
	in.Send("", "a b")
	require.False(t, d.Crashed(), "nothing was committed")
	d.Commit()
	require.True(t, d.Crashed())
	require.Equal(t, map[string]int64{"a": 1, "b": 1}, last(d), "the application went on")
}

func TestTasksMoveWithTheirState(t *testing.T) {
	for _, opts := range [][]streamtest.Option{nil, {streamtest.OnDisk()}} {
		d := streamtest.New(t, countWords(), append(opts, streamtest.Instances(2), streamtest.Partitions("sentences", 2))...)
		require.Equal(t, []string{"0_0", "0_1", "1_0", "1_1"}, d.Tasks())
		in := streamtest.Input(d, sentences)
		for i, s := range said {
			in.Send("", s)
			task := d.Tasks()[2+i%2]
			to := 1 - d.Instance(task)
			d.Move(task, to)
			require.Equal(t, to, d.Instance(task))
		}
		d.Rebalance()
		require.Equal(t, total, last(d))
		require.Equal(t, total, maps.Collect(streamtest.All(d, words)))
	}
}

func TestSeedsExploreOrdersThatAllCountTheSame(t *testing.T) {
	orders := map[string]bool{}
	for seed := range uint64(30) {
		d := streamtest.New(t, countWords(), streamtest.Partitions("sentences", 2), streamtest.Seed(seed), streamtest.Instances(2))
		in := streamtest.Input(d, sentences)
		d.Together(func() {
			for i, s := range said {
				in.SendTo(i%2, stream.Record[string, string]{Value: s, Time: time.UnixMilli(int64(i))})
			}
		})
		require.Equal(t, total, last(d))
		orders[fmt.Sprint(streamtest.Output(d, perWord).Drain())] = true

		again := streamtest.New(t, countWords(), streamtest.Partitions("sentences", 2), streamtest.Seed(seed), streamtest.Instances(2))
		in = streamtest.Input(again, sentences)
		again.Together(func() {
			for i, s := range said {
				in.SendTo(i%2, stream.Record[string, string]{Value: s, Time: time.UnixMilli(int64(i))})
			}
		})
		require.Equal(t, d.Records("per-word"), again.Records("per-word"), "the same seed makes the same order")
	}
	require.Greater(t, len(orders), 5)
}

func TestALateVersionIsAsLateForAStoreThatHasNotHeardOfItsCommit(t *testing.T) {
	texts := serde.Nullable(serde.String)
	topic := stream.NewTopic("in", texts, texts)
	rows := state.Versioned("rows", texts, texts, 10*time.Millisecond)
	b := stream.NewBuilder()
	stream.TableFrom(b, topic, rows)
	d := streamtest.New(t, b)
	in := streamtest.Input(d, topic)
	in.SendAt(time.UnixMilli(5), stream.Some("k"), stream.Some("v"))
	in.SendAt(time.UnixMilli(100), stream.Some("other"), stream.Some("v"))
	d.CrashDuringCommit()
	in.SendAt(time.UnixMilli(6), stream.Some("k"), stream.Opt[string]{}) // in the changelog, but too late for the store
	require.True(t, d.Crashed())
	require.Len(t, streamtest.Entries(d, rows), 2)
}
