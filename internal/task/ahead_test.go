package task

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/topo"
)

// seen is in the place of a store, and of a source: it notes the keys that it is shown, and those of the records.
type seen struct{ events []string }

func (s *seen) Ahead(keys [][]byte) {
	var list []string
	for _, k := range keys {
		list = append(list, string(k))
	}
	s.events = append(s.events, "ahead "+strings.Join(list, " "))
}

func (s *seen) Load(r *Record) (int64, error) { return r.Timestamp, nil }
func (s *seen) Forward() error                { return nil }

func TestKeysOfTheNextRecordsAreShownAhead(t *testing.T) {
	var s seen
	one := &topo.Node{Name: "one", Kind: topo.Source, Topics: []topo.Topic{{Name: "one"}}, Wire: Wire(func(*Context, []any) any { return Input(&s) })}
	task, err := New(Config{Sub: &topo.Subtopology{Nodes: []*topo.Node{one}, Sources: []*topo.Node{one}}, Output: discarded{}})
	require.NoError(t, err)
	require.Empty(t, task.queues[0].ahead)
	task.queues[0].ahead = []looker{&s}

	next := 0
	add := func(n int) {
		b := Batch{Topic: "one"}
		for range n {
			r := Record{Offset: int64(next), Key: fmt.Appendf(nil, "%d", next)}
			if next%10 == 7 {
				r.Key = nil
			}
			b.Records = append(b.Records, r)
			next++
		}
		task.Add(b)
	}
	add(20)
	add(2)
	add(1)
	for n := range 23 {
		s.events = append(s.events, fmt.Sprint("record ", n))
		done, err := task.Process(1)
		require.NoError(t, err)
		require.Equal(t, 1, done)
	}
	var want []string
	for n := range 23 {
		want = append(want, fmt.Sprint("record ", n))
		switch n { // the keys are there before a record is looked for
		case 0:
			want = append(want, "ahead 0 1 2 3 4 5 6 8 9 10 11 12 13 14 15")
		case 16:
			want = append(want, "ahead 16 18 19")
		case 20:
			want = append(want, "ahead 20 21")
		case 22:
			want = append(want, "ahead 22")
		}
	}
	require.Equal(t, want, s.events)
	for _, k := range task.keys {
		require.Nil(t, k, "a view into a batch that was given back")
	}
}

type discarded struct{}

func (discarded) Send(*Out) error { return nil }

// Lookers are the stores that are shown the keys of a topic, for tests.
func (t *Task) Lookers(topic string) (stores []string) {
	for _, l := range t.queue(topic, t.id.Partition).ahead {
		stores = append(stores, l.(interface{ Name() string }).Name())
	}
	return stores
}
