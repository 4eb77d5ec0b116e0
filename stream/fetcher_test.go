package stream

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/internal/task"
)

// A batch that was polled before its partition was taken away and given again belongs to the input from before:
// after a reset it would be processed a second time, out of order, and the records before it never.
func TestABatchDoesNotReachAnInputThatWasAddedAfterItsPoll(t *testing.T) {
	app := &App{cfg: Config{MemoryBytes: 1 << 20}, unreadable: newFailingPartitions().unreadable}
	cl, err := kgo.NewClient(kgo.SeedBrokers("127.0.0.1:1"))
	require.NoError(t, err)
	defer cl.Close()
	app.client = cl
	app.layout.Store(&layout{})
	f := newFetcher(app)
	between := func() { // what the poll loop does between two polls
		todo := f.todo
		f.todo = nil
		for _, fn := range todo {
			fn()
		}
	}
	tp := task.TopicPartition{Topic: "t"}
	add := func(offset int64) (*input, *worker) {
		w := &worker{wake: make(chan struct{}, 1)}
		in := &input{tp: tp, f: f, task: &runningTask{worker: w}}
		f.add(map[*input]int64{in: offset})
		return in, w
	}
	polled := func(offset int64) kgo.FetchTopicPartition {
		return kgo.FetchTopicPartition{Topic: "t", FetchPartition: kgo.FetchPartition{Records: []*kgo.Record{{Topic: "t", Offset: offset}}}}
	}

	first, w1 := add(0)
	between()
	f.deliver(polled(0))
	require.Len(t, w1.queue, 1)

	late := polled(1)
	f.remove([]*input{first})
	_, w2 := add(0)
	f.deliver(late)
	require.Len(t, w1.queue, 1)
	require.Empty(t, w2.queue)

	between()
	f.deliver(polled(0))
	require.Len(t, w2.queue, 1)
}
