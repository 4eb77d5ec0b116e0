package stream_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

type stamped struct {
	At   int64 // seconds; 0: unknown
	Text string
}

func stampedTopic(name string) stream.Topic[string, stamped] {
	return stream.NewTopic(name, serde.String, serde.JSON[stamped]())
}

func TestTimestampFallsBackToTheTimeOfThePartition(t *testing.T) {
	in, out := stampedTopic("in").Timestamp(func(r stream.SourceRecord[string, stamped]) time.Time {
		require.Equal(t, "in", r.Topic)
		require.Zero(t, r.Partition)
		if r.Value.At == 0 {
			return r.PartitionTime
		}
		return time.Unix(r.Value.At, 0)
	}), stampedTopic("out")
	b := stream.NewBuilder()
	stream.From(b, in).To(out)
	d := streamtest.New(t, b, streamtest.OnError(func(e *stream.RecordError) stream.Action {
		require.Equal(t, stream.Decode, e.Phase)
		return stream.Skip
	}))
	input, output := streamtest.Input(d, in), streamtest.Output(d, out)
	input.Send("a", stamped{0, "no time, and no record before"})
	input.Send("a", stamped{100, ""})
	input.Send("a", stamped{50, ""})
	input.Send("a", stamped{0, ""})
	var times []int64
	for _, r := range output.Drain() {
		times = append(times, r.Time.Unix())
	}
	require.Equal(t, []int64{100, 50, 100}, times)
	require.Equal(t, map[string]int64{"decode": 1}, d.Dropped())
}

func ExampleTopic_Timestamp() {
	in := stampedTopic("in").Timestamp(func(r stream.SourceRecord[string, stamped]) time.Time {
		if r.Value.At == 0 {
			return r.PartitionTime
		}
		return time.Unix(r.Value.At, 0)
	})
	b := stream.NewBuilder()
	stream.From(b, in).To(stampedTopic("out"))
	topology, err := b.Build()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(topology)
	// Output:
	// Topologies:
	//    Sub-topology: 0
	//     Source: KSTREAM-SOURCE-0000000000 (topics: [in])
	//       --> KSTREAM-SINK-0000000001
	//     Sink: KSTREAM-SINK-0000000001 (topic: out)
	//       <-- KSTREAM-SOURCE-0000000000
}
