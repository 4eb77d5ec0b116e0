package stream_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

func namedByKey(k, _ string) stream.Topic[string, string] {
	return stream.NewTopic(k, serde.String, serde.String)
}

func TestRoutesAreDescribedByTheirFunction(t *testing.T) {
	b := stream.NewBuilder()
	stream.From(b, lines).RouteTo(namedByKey, stream.Named("route"))
	require.Contains(t, build(t, b).String(), "    Sink: route (extractor class: stream_test.namedByKey)\n      <-- KSTREAM-SOURCE-0000000000\n")
}

func TestARouteToNowhereIsAFailureOfTheRecord(t *testing.T) {
	b := stream.NewBuilder()
	stream.From(b, lines).RouteTo(namedByKey)
	d := streamtest.New(t, b, streamtest.Partitions("x", 3))
	err := streamtest.Input(d, lines).TrySend(stream.Record[string, string]{Key: "", Value: "v"})
	require.ErrorContains(t, err, `the function of RouteTo chose topic "", which has no name or no serdes`)

	b = stream.NewBuilder()
	stream.From(b, lines).RouteTo(nil)
	_, err = b.Build()
	require.ErrorContains(t, err, "RouteTo: the function is nil")
}

func TestARouteHasNoNulls(t *testing.T) {
	b := stream.NewBuilder()
	stream.From(b, lines).RouteTo(namedByKey)
	d := streamtest.New(t, b)
	in := streamtest.Input(d, stream.NewTopic("lines", texts, texts))
	in.Send(opt{}, stream.Some("v"))
	in.Send(stream.Some("x"), opt{})
	require.Equal(t, map[string]int64{"null-key": 1, "null-value": 1}, d.Dropped())
}
