package stream_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

// add may change what it is given, also when that is bytes: the store and what it remembers of the last commit stay as they are.
func TestAnAggregatorMayChangeItsBytes(t *testing.T) {
	in := stream.NewTopic("in", serde.String, serde.String)
	out := stream.NewTopic("out", serde.String, serde.Bytes)
	st := state.KeyValue("sums", serde.String, serde.Bytes)
	b := stream.NewBuilder()
	sums := stream.Aggregate(stream.From(b, in).GroupByKey(), func() []byte { return []byte{0} }, func(acc []byte, _ string) []byte {
		acc[0]++
		return acc
	}, st)
	sums.Filter(func(_ string, v []byte) bool { return v[0]%2 == 0 }).ToStream().To(out)
	d := streamtest.New(t, b, streamtest.EmitPerCommit(), streamtest.ManualCommit())
	src, dst := streamtest.Input(d, in), streamtest.Output(d, out)

	src.Send("a", "x")
	src.Send("a", "x")
	d.Commit()
	src.Send("a", "x")
	d.Commit()
	var got [][]byte
	for r, ok := dst.Read(); ok; r, ok = dst.Read() {
		got = append(got, r.Value)
	}
	require.Equal(t, [][]byte{{2}, nil}, got, "3 is not even: the key is deleted, because it was there")

	src.Send("a", "x")
	d.Restart() // before a commit
	require.Equal(t, []byte{3}, d.Changelog(st)[len(d.Changelog(st))-1].Value)
	v, _ := streamtest.Get(d, st, "a")
	require.Equal(t, []byte{4}, v, "the record is processed again")
}
