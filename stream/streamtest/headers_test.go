package streamtest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

// mark keeps the first byte of a text in the header of its name, and all of it where there are no headers.
type mark string

func (m mark) Append(dst []byte, v string) ([]byte, error) { return append(dst, v...), nil }
func (m mark) Decode(src []byte) (string, error)           { return string(src), nil }

func (m mark) AppendWithHeaders(dst []byte, v string, headers []serde.Header) ([]byte, []serde.Header, error) {
	if v == "" {
		return dst, headers, errors.New("nothing to mark")
	}
	return append(dst, v[1:]...), append(headers, serde.Header{Key: string(m), Value: []byte(v[:1])}), nil
}

func (m mark) DecodeWithHeaders(src []byte, headers []serde.Header) (string, error) {
	for _, h := range headers {
		if h.Key == string(m) {
			return string(h.Value) + string(src), nil
		}
	}
	return "", errors.New("no header " + string(m))
}

// A serde that knows headers has them in topics, internal ones too, and the bytes alone in stores; the headers of
// one output are not those of another.
func TestASerdeWithHeaders(t *testing.T) {
	in := stream.NewTopic[string, string]("in", mark("in-k"), mark("in-v"))
	outA := stream.NewTopic("out-a", serde.String, serde.Nullable[string](mark("a")))
	outB := stream.NewTopic[string, string]("out-b", serde.String, mark("b"))
	kept := state.KeyValue[string, string]("kept", serde.String, mark("kept"))
	b := stream.NewBuilder()
	s := stream.From(b, in)
	stream.MapValues(s, func(v string) stream.Opt[string] { return stream.Some(strings.ToUpper(v)) }).To(outA)
	s.To(outB)
	s.Repartition(stream.Named("r")).ToTable(kept)
	d := streamtest.New(t, b)
	streamtest.Input(d, in).SendRecord(stream.Record[string, string]{Key: "key", Value: "value",
		Headers: []stream.Header{{Key: "x", Value: []byte("1")}}})

	text := func(hs []stream.Header) (s string) {
		for _, h := range hs {
			s += h.Key + "=" + string(h.Value) + " "
		}
		return s
	}
	a, r := d.Records("out-a")[0], d.Records("app-r-repartition")[0]
	require.Equal(t, "key ALUE x=1 in-k=k in-v=v a=V ", string(a.Key)+" "+string(a.Value)+" "+text(a.Headers))
	require.Equal(t, "x=1 in-k=k in-v=v b=v ", text(d.Records("out-b")[0].Headers))
	require.Equal(t, "ey alue x=1 in-k=k in-v=v in-k=k in-v=v ", string(r.Key)+" "+string(r.Value)+" "+text(r.Headers))
	require.Equal(t, "value", string(d.Changelog(kept)[0].Value))
	got, ok := streamtest.Output(d, outA).Read()
	require.True(t, ok)
	require.Equal(t, stream.Some("VALUE"), got.Value)

	err := streamtest.Input(d, in).TrySend(stream.Record[string, string]{Key: "", Value: "value"})
	require.ErrorContains(t, err, "nothing to mark")
}

func TestASerdeThatIsDeclaredWronglyIsAMistake(t *testing.T) {
	b := stream.NewBuilder()
	in := stream.From(b, stream.NewTopic[string, string]("in", serde.String, wrong{}))
	in.To(stream.NewTopic[string, string]("out", wrong{}, serde.String))
	in.ToTable(state.KeyValue[string, string]("kept", serde.String, wrong{}))
	in.Repartition(stream.Serdes[string, string](serde.String, wrong{}))
	stream.Use[string](b, wrong{})
	stream.GlobalFrom(b, stream.NewTopic[string, string]("all", wrong{}, serde.String), state.KeyValue("global", serde.String, serde.String))
	_, err := b.Build()
	require.ErrorContains(t, err, `headers_test.go:`)
	require.ErrorContains(t, err, `topic "in": value: no such schema`)
	require.ErrorContains(t, err, `topic "out": key: no such schema`)
	require.ErrorContains(t, err, `topic "all": key: no such schema`)
	require.ErrorContains(t, err, `store kept: value: no such schema`)
	require.ErrorContains(t, err, `serde of the value: no such schema`)
	require.ErrorContains(t, err, `Use: serde of string: no such schema`)
}

type wrong struct{ mark }

func (wrong) Err() error { return errors.New("no such schema") }
