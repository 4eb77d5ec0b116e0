package task_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
)

// through is a source that hands its records to the processor below it.
type through struct {
	out func(r *task.Record) error
	r   *task.Record
}

func (p *through) Load(r *task.Record) (int64, error) { p.r = r; return r.Timestamp, nil }
func (p *through) Forward() error                     { return p.out(p.r) }

// timed runs a task of two sources and a processor that does with its time what f says.
func timed(t *testing.T, f func(at *int64, r *task.Record) error, onError task.ErrorHandler) (*task.Task, *int64) {
	var g topo.Graph
	source := func(name string) *topo.Node {
		return g.AddSource(&topo.Node{Name: name, At: name, Topics: []topo.Topic{{Name: name}}, Wire: func(_ any, outs []any) any {
			return task.Input(&through{out: outs[0].(func(*task.Record) error)})
		}}, topo.Reading{})
	}
	var at *int64
	n := &topo.Node{Kind: topo.Processor, Name: "op", At: "op", Times: []string{"op"}, Wire: task.Wire(func(c *task.Context, _ []any) any {
		at = c.Time("op")
		return func(r *task.Record) error { return f(at, r) }
	})}
	g.Add(n, source("a"), source("b"))
	topology, err := g.Build()
	require.NoError(t, err)
	tk, err := task.New(task.Config{AppID: "app", Sub: topology.Subs[0], Output: discard{}, OnError: onError})
	require.NoError(t, err)
	return tk, at
}

type discard struct{}

func (discard) Send(*task.Out) error { return nil }

func setTime(at *int64, r *task.Record) error { *at = r.Timestamp; return nil }

func feed(tk *task.Task, topic string, ts ...int64) {
	b := task.Batch{Topic: topic}
	for i, at := range ts {
		b.Records = append(b.Records, task.Record{Offset: int64(i), Timestamp: at})
	}
	tk.Add(b)
}

func TestOperatorTimesAreThoseOfTheLastCommitWhicheverPartitionItMoved(t *testing.T) {
	tk, _ := timed(t, setTime, nil)
	metadata := map[string]string{}
	for _, step := range []struct {
		topic string
		ts    int64
	}{{"a", 100}, {"b", 7}} { // the time of the operator goes back
		feed(tk, step.topic, step.ts)
		_, err := tk.Process(1)
		require.NoError(t, err)
		c, err := tk.Prepare()
		require.NoError(t, err)
		require.NoError(t, tk.Committed(nil))
		require.Len(t, c.Offsets, 1)
		for tp, o := range c.Offsets {
			metadata[tp.Topic] = o.Metadata
		}
	}
	for _, order := range [][]string{{"a", "b"}, {"b", "a"}} {
		again, at := timed(t, setTime, nil)
		for _, topic := range order {
			require.NoError(t, again.LoadMetadata(topic, 0, metadata[topic]))
		}
		require.Equal(t, int64(7), *at, order)
	}
}

func TestTimesOfKafkaStreamsHaveNoVersionAndOnlyGrow(t *testing.T) {
	for _, order := range [][]int64{{100, 7}, {7, 100}} {
		tk, at := timed(t, setTime, nil)
		for i, topic := range []string{"a", "b"} {
			m := task.Metadata{PartitionTime: 1, Times: map[string]int64{"op": order[i]}}
			require.NoError(t, tk.LoadMetadata(topic, 0, m.Encode()))
		}
		require.Equal(t, int64(100), *at)
	}
}

func TestASkippedRecordMovesNoOperatorTime(t *testing.T) {
	tk, at := timed(t, func(at *int64, r *task.Record) error {
		*at = r.Timestamp
		if r.Timestamp == 50 {
			panic("no")
		}
		return nil
	}, func(*task.RecordError) task.Action { return task.Skip })
	feed(tk, "a", 10, 50)
	n, err := tk.Process(10)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, int64(10), *at)
}
