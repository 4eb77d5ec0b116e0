package registry_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/serde/avro"
	"github.com/moldau-stream/moldau/serde/registry"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

type total struct {
	Sum int64 `avro:"sum"`
}

const totalSchema = `{"type":"record","name":"Total","fields":[{"name":"sum","type":"long"}]}`

// A poison record is an error that says where it is and what is wrong, and what a policy can decide by.
func TestAPoisonRecordInATopology(t *testing.T) {
	f := newFake(t)
	c := client(t, f.URL())
	orders := stream.NewTopic[string, order]("orders", serde.String, registry.Value(c, "orders", avro.New[order](order2)))
	raw := stream.NewTopic("orders", serde.String, serde.Bytes)
	totals := stream.NewTopic[string, total]("totals", serde.String, registry.Value(c, "totals", avro.New[total](totalSchema)))
	sums := state.KeyValue[string, total]("sums", serde.String, registry.Value(c, "app-sums-changelog", avro.New[total](totalSchema)))
	build := func() *stream.Builder {
		b := stream.NewBuilder()
		stream.Aggregate(stream.From(b, orders).GroupByKey(), func() total { return total{} },
			func(t total, o order) total { return total{t.Sum + o.Amount} }, sums).ToStream().To(totals)
		return b
	}

	d := streamtest.New(t, build())
	streamtest.Input(d, orders).Send("a", order{"1", 5, ""})
	streamtest.Input(d, orders).Send("a", order{"2", 6, ""})
	out := streamtest.Output(d, totals).Drain()
	require.Equal(t, total{11}, out[1].Value)
	for _, subject := range []string{"orders-value", "totals-value", "app-sums-changelog-value"} {
		require.True(t, f.SubjectExists(subject), subject)
	}

	err := streamtest.Input(d, raw).TrySend(stream.Record[string, []byte]{Key: "a", Value: []byte("\x00\x00\x00\x00\x63\x02a")})
	require.ErrorIs(t, err, registry.ErrUnknownSchema)
	require.ErrorContains(t, err, "decode failed in task 0_0, topic orders, partition 0, offset 2, node KSTREAM-SOURCE-0000000000")
	require.ErrorContains(t, err, "value: unknown schema: subject orders-value, schema 99, registry "+f.URL())
	var r *stream.RecordError
	require.ErrorAs(t, err, &r)

	// A policy that leaves out what is malformed lets the others through.
	d = streamtest.New(t, build(), streamtest.OnError(func(e *stream.RecordError) stream.Action {
		require.ErrorIs(t, e, registry.ErrMalformed)
		return stream.Skip
	}))
	streamtest.Input(d, raw).Send("a", []byte(`{"id":"1"}`))
	streamtest.Input(d, orders).Send("a", order{"1", 5, ""})
	require.Len(t, streamtest.Output(d, totals).Drain(), 1)
}
