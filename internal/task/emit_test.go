package task_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

// latest is a table of the last values, which null deletes.
func latest(opts ...stream.Option) func(b *stream.Builder) {
	return func(b *stream.Builder) {
		stream.TableFrom(b, in, state.KeyValue("latest", serde.String, serde.String), opts...).ToStream().To(out)
	}
}

func TestACommitEmitsTheLastChangeOfEachKeyInOrderOfTheFirst(t *testing.T) {
	h := newHarness(t, countKeys())
	h.add("in", "b=x @5 h:1", "a=x @9", "b=x @3 h:2", "b=x @4")
	h.process()
	require.Empty(t, h.take())
	h.commit()
	require.Equal(t, []string{
		"out b=3 @5", // the largest time, and the headers of the last update: none
		"out a=1 @9",
		"app-counts-changelog b=3 @5",
		"app-counts-changelog a=1 @9",
	}, h.take())
	h.commit()
	require.Empty(t, h.take())

	h.add("in", "a=x @10 h:null i:yes")
	h.process()
	h.commit()
	require.Equal(t, []string{"out a=2 @10 h:null i:yes", "app-counts-changelog a=2 @10"}, h.take())
	require.Equal(t, int64(3), h.metrics.Emitted.Load())
	require.Equal(t, int64(3), h.metrics.Changelog.Load())
}

func TestEachUpdateIsEmittedIfChosen(t *testing.T) {
	want := []string{"out a=1 @1 h:1", "out a=2 @2"}
	for name, h := range map[string]*harness{
		"by the task":     newHarness(t, countKeys(), perUpdate),
		"by the operator": newHarness(t, countKeys(stream.EmitPerUpdate())),
	} {
		h.add("in", "a=x @1 h:1", "a=x @2")
		h.process()
		require.Equal(t, want, h.take(), name)
		h.commit()
		require.Equal(t, []string{"app-counts-changelog a=2 @2"}, h.take(), name)
	}
	h := newHarness(t, countKeys(stream.EmitPerCommit()), perUpdate)
	h.add("in", "a=x @1")
	h.process()
	require.Empty(t, h.take())
}

func TestAKeyThatCameAndWentIsNotEmitted(t *testing.T) {
	h := newHarness(t, latest())
	h.add("in", "a=1 @1", "a=null @2", "b=1 @3")
	h.process()
	h.commit()
	require.Equal(t, []string{"out b=1 @3", "app-latest-changelog a=null @2", "app-latest-changelog b=1 @3"}, h.take())

	h.add("in", "b=null @4")
	h.process()
	h.commit()
	require.Equal(t, []string{"out b=null @4", "app-latest-changelog b=null @4"}, h.take())
}

func TestTablesEmitInTopologicalOrder(t *testing.T) {
	h := newHarness(t, func(b *stream.Builder) {
		src := stream.TableFrom(b, in, state.KeyValue("src", serde.String, serde.String))
		long := src.Filter(func(_, v string) bool { return len(v) > 2 }, stream.Materialized(state.KeyValue("long", serde.String, serde.String)))
		stream.MapTable(long, strings.ToUpper, stream.Materialized(state.KeyValue("upper", serde.String, serde.String))).ToStream().To(out)
	})
	h.add("in", "a=one @1", "b=x @2", "c=three @3", "c=four @4")
	h.process()
	h.commit()
	require.Equal(t, []string{
		"out a=ONE @1", "out c=FOUR @4",
		"app-src-changelog a=one @1", "app-src-changelog b=x @2", "app-src-changelog c=four @4",
		"app-long-changelog a=one @1", "app-long-changelog c=four @4",
		"app-upper-changelog a=ONE @1", "app-upper-changelog c=FOUR @4",
	}, h.take())

	h.add("in", "c=x @5", "b=y @6")
	h.process()
	h.commit()
	require.Equal(t, []string{
		"out c=null @5",
		"app-src-changelog c=x @5", "app-src-changelog b=y @6",
		"app-long-changelog c=null @5",
		"app-upper-changelog c=null @5",
	}, h.take())
}

// A commit emits, of what would be emitted update by update, the last of each
// key: emission changes how often one sees a table, never what it holds.
func TestEmissionPerCommitIsTheLastOfEachKeyPerUpdate(t *testing.T) {
	program := func(b *stream.Builder) {
		s := stream.From(b, stream.NewTopic("in", serde.String, texts))
		sum := stream.Reduce(s.GroupByKey(), func(acc, v text) text {
			if v.Or("") == "x" {
				return text{} // deletes
			}
			return stream.Some(acc.Or("") + v.Or(""))
		}, state.KeyValue("sum", serde.String, texts))
		odd := sum.Filter(func(_ string, v text) bool { return len(v.Or(""))%2 == 1 },
			stream.Materialized(state.KeyValue("odd", serde.String, texts)))
		odd.ToStream().To(stream.NewTopic("out", serde.String, texts))
	}
	rapid.Check(t, func(r *rapid.T) {
		updates, commits := newHarness(t, program, perUpdate), newHarness(t, program)
		final := [2]map[string]string{{}, {}} // the table as a reader of the output has it
		for range rapid.IntRange(1, 5).Draw(r, "commits") {
			for range rapid.IntRange(0, 8).Draw(r, "records") {
				rec := fmt.Sprintf("%s=%s @%d", rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "key"),
					rapid.SampledFrom([]string{"1", "22", "x"}).Draw(r, "value"), rapid.IntRange(0, 9).Draw(r, "time"))
				updates.add("in", rec)
				commits.add("in", rec)
			}
			for i, h := range []*harness{updates, commits} {
				h.process()
				h.commit()
				emitted := map[string]bool{}
				for _, s := range h.take() {
					if rest, ok := strings.CutPrefix(s, "out "); ok {
						k, v, _ := strings.Cut(rest, "=")
						require.False(r, i == 1 && emitted[k], "a commit emits a key once")
						emitted[k] = true
						if v, _, _ = strings.Cut(v, " "); v == "null" {
							delete(final[i], k)
						} else {
							final[i][k] = v
						}
					}
				}
			}
			require.Equal(r, final[0], final[1])
		}
	})
}

func TestAFailureInAnEmissionIsDecidedByThePolicy(t *testing.T) {
	program := func(b *stream.Builder) {
		table := stream.TableFrom(b, in, state.KeyValue("latest", serde.String, serde.String))
		stream.MapValues(table.ToStream(), func(v string) string {
			if v == "bad" {
				panic(errBroken)
			}
			return v
		}, stream.Named("mapper")).To(out)
	}
	on, got := onError(task.Retry, task.Skip, task.DeadLetter)
	h := newHarness(t, program, on, deadLetter)
	h.add("in", "a=1 @1", "b=bad @2", "c=3 @3")
	h.process()
	h.commit()
	require.Equal(t, []string{"out a=1 @1", "out c=3 @3"}, h.take()[:2])
	require.Len(t, *got, 2)
	e := (*got)[1]
	require.Equal(t, "mapper", e.Node)
	require.Equal(t, 2, e.Attempt)
	require.Equal(t, int64(-1), e.Offset)
	require.Empty(t, e.Topic)
	require.ErrorIs(t, e, errBroken)
	require.Equal(t, "process 1", h.dropped())

	h.add("in", "b=bad @4")
	h.process()
	h.commit()
	require.Contains(t, h.take()[0], "dead b=bad @4 __streams.errors.exception:*task.PanicError __streams.errors.message:process failed in task 0_0, node mapper")

	h.add("in", "b=bad @5")
	h.process()
	_, err := h.Prepare()
	var re *task.RecordError
	require.ErrorAs(t, err, &re)
	require.Equal(t, "mapper", re.Node)
}

// A table that remembers what it sent does not send it again: so its results are stored before its changelog is sent, where a
// failure between the two leaves both as they are.
func TestResultsAreStoredBeforeWhatRemembersThem(t *testing.T) {
	remembers := map[string]func(b *stream.Builder){
		"a table on change":        latest(stream.EmitOnChange()),
		"a table in intervals":     latest(stream.EmitEvery(time.Minute)),
		"an aggregation on change": countKeys(stream.EmitOnChange()),
	}
	for name, program := range remembers {
		t.Run(name, func(t *testing.T) {
			failure := errBroken
			var stored []string
			var h *harness
			h = newHarness(t, program, func(c *task.Config) {
				c.Flush = func() error {
					if failure == nil {
						stored = h.take()
					}
					return failure
				}
			})
			run := func() (task.Commit, error) {
				h.add("in", "a=1 @1", "b=2 @2")
				require.Equal(t, 2, h.process())
				return h.Prepare()
			}
			_, err := run()
			require.ErrorIs(t, err, errBroken)
			for _, s := range h.take() {
				require.NotContains(t, s, "changelog")
			}
			h.Rollback()
			h.offsets["in"] = 0

			failure = nil
			_, err = run()
			require.NoError(t, err)
			require.Len(t, stored, 2, "the results come again")
			for _, s := range stored {
				require.NotContains(t, s, "changelog")
			}
			for _, s := range h.take() {
				require.Contains(t, s, "changelog")
			}
		})
	}

	h := newHarness(t, latest(), func(c *task.Config) { c.Flush = func() error { return errBroken } })
	h.add("in", "a=1 @1")
	h.process()
	h.commit() // a table that sends all it has is not waited for
}
