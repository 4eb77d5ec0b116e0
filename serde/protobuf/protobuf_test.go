package protobuf_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/serde/protobuf"
	"github.com/moldau-stream/moldau/serde/protobuf/internal/shoppb"
	"github.com/moldau-stream/moldau/serde/registry"
)

var orders = protobuf.New[*shoppb.Order]()

func order() *shoppb.Order {
	return &shoppb.Order{Id: "1", Price: &shoppb.Money{Cents: 250, Currency: "EUR"}, At: &timestamppb.Timestamp{Seconds: 9},
		Lines: []*shoppb.Order_Line{{Sku: "a", N: 2}}}
}

func TestRoundTrip(t *testing.T) {
	require.NoError(t, serde.Check(serde.Serde[*shoppb.Order](orders)))
	b, err := orders.Append([]byte("x"), order())
	require.NoError(t, err)
	require.Equal(t, byte('x'), b[0])
	src := b[1:]
	v, err := orders.Decode(src)
	require.NoError(t, err)
	clear(src) // the value does not refer to its bytes
	require.True(t, proto.Equal(order(), v), v)
	v, err = orders.Decode([]byte{})
	require.NoError(t, err)
	require.True(t, proto.Equal(&shoppb.Order{}, v))
}

// Maps have no order in Protobuf; equal keys must have equal bytes all the same.
func TestEqualMessagesHaveEqualBytes(t *testing.T) {
	s := protobuf.New[*structpb.Struct]()
	v, err := structpb.NewStruct(map[string]any{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5})
	require.NoError(t, err)
	want, err := s.Append(nil, v)
	require.NoError(t, err)
	for range 50 {
		b, err := s.Append(nil, v)
		require.NoError(t, err)
		require.Equal(t, want, b)
	}
}

func TestFieldsOfOtherVersionsAreKept(t *testing.T) {
	b, err := orders.Append(nil, order())
	require.NoError(t, err)
	refunds := protobuf.New[*shoppb.Refund]() // knows the first field only
	old, err := refunds.Decode(b)
	require.NoError(t, err)
	require.Equal(t, "1", old.GetId())
	again, err := refunds.Append(nil, old)
	require.NoError(t, err)
	v, err := orders.Decode(again)
	require.NoError(t, err)
	require.True(t, proto.Equal(order(), v))
}

func TestErrors(t *testing.T) {
	_, err := orders.Decode([]byte{0x0a, 0x05, 'a'})
	require.ErrorContains(t, err, "serde: cannot decode Protobuf shop.Order into *shoppb.Order")
	require.ErrorAs(t, err, new(*serde.DecodeError))
	_, err = orders.Append(nil, nil)
	require.ErrorContains(t, err, "cannot encode *shoppb.Order as Protobuf: the message is nil: use serde.Opt")
	_, err = orders.Append(nil, &shoppb.Order{Id: "\xff"})
	require.ErrorContains(t, err, "cannot encode *shoppb.Order as Protobuf")
	small := protobuf.New[*shoppb.Order](protobuf.MaxBytes(4))
	_, err = small.Append(nil, &shoppb.Order{Id: "123"})
	require.ErrorContains(t, err, "5 bytes are more than the limit of 4")
	_, err = small.Decode(make([]byte, 5))
	require.ErrorContains(t, err, "5 bytes are more than the limit of 4")

	bad := protobuf.New[proto.Message]()
	require.ErrorContains(t, serde.Check(serde.Serde[proto.Message](bad)), "is not a generated message type")
	_, err = bad.Append(nil, order())
	require.Error(t, err)
	_, err = bad.Decode(nil)
	require.Error(t, err)
	_, err = bad.Decoder(serde.Schema{})
	require.Error(t, err)
	require.ErrorContains(t, serde.Check(serde.Serde[*dynamicpb.Message](protobuf.New[*dynamicpb.Message]())), "is not a generated message type")
}

func TestSchema(t *testing.T) {
	s := orders.Schema()
	require.Equal(t, "shop.Order", s.Name)
	require.Equal(t, []int{0}, s.Message)
	require.Len(t, s.References, 1, "each registry has Google's files")
	require.Equal(t, "shop/money.proto", s.References[0].Name)
	require.Equal(t, []int{0, 0}, protobuf.New[*shoppb.Order_Line]().Schema().Message)
	require.Equal(t, "shop.Order.Line", protobuf.New[*shoppb.Order_Line]().Schema().Name)
	require.Equal(t, []int{1}, protobuf.New[*shoppb.Refund]().Schema().Message)
}

func TestRegistry(t *testing.T) {
	f := srfake.New()
	defer f.Close()
	c := registry.New(f.URL(), registry.Retries(0, 0))
	defer c.Close()
	s := registry.Value(c, "orders", orders)
	b, err := s.Append(nil, order())
	require.NoError(t, err)
	require.Equal(t, []byte{0, 0, 0, 0, 2, 0}, b[:6], "the schema that it uses was first")
	require.True(t, f.SubjectExists("shop/money.proto"))
	v, err := s.Decode(b)
	require.NoError(t, err)
	require.True(t, proto.Equal(order(), v))

	lines := registry.Value(c, "orders", protobuf.New[*shoppb.Order_Line]())
	b, err = lines.Append(nil, &shoppb.Order_Line{Sku: "a"})
	require.NoError(t, err)
	require.Equal(t, []byte{0, 0, 0, 0, 2, 4, 0, 0, 10, 1, 'a'}, b)
	line, err := lines.Decode(b)
	require.NoError(t, err)
	require.Equal(t, "a", line.GetSku())

	_, err = s.Decode(b)
	require.ErrorIs(t, err, registry.ErrIncompatible)
	require.ErrorContains(t, err, "subject orders-value, schema 2")
	require.ErrorContains(t, err, "message [0 0] of shop/order.proto is shop.Order.Line, and shop.Order is wanted")
	_, err = s.Decode([]byte{0, 0, 0, 0, 2, 2, 10})
	require.ErrorContains(t, err, "shop/order.proto has no message [5]")
	_, err = s.Decode([]byte{0, 0, 0, 0, 2, 0, 10, 9})
	require.ErrorIs(t, err, registry.ErrMalformed)
	for _, indexes := range []string{"", "\x04\x00", "\x01", "\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "\x04\x00\x01"} {
		_, err = s.Decode([]byte("\x00\x00\x00\x00\x02" + indexes))
		require.ErrorIs(t, err, registry.ErrMalformed, "%x", indexes)
		require.ErrorContains(t, err, "message indexes")
	}

	in := registry.Value(c, "orders", protobuf.New[*shoppb.Refund](), registry.InHeaders())
	b, hs, err := in.AppendWithHeaders(nil, &shoppb.Refund{Id: "r"}, nil)
	require.NoError(t, err)
	require.Equal(t, "\x0a\x01r", string(b))
	require.Equal(t, []byte{2, 2}, hs[0].Value[17:], "the place of the message goes with the id")
	refund, err := in.DecodeWithHeaders(b, hs)
	require.NoError(t, err)
	require.Equal(t, "r", refund.GetId())
}

// A registry that gives the text of a schema leaves its messages unchecked.
func TestTextOfASchema(t *testing.T) {
	f := srfake.New()
	defer f.Close()
	f.SeedSchema("orders-value", 1, 9, sr.Schema{Type: sr.TypeProtobuf, Schema: `syntax = "proto3"; package shop; message Order { string id = 1; }`})
	c := registry.New(f.URL(), registry.Retries(0, 0))
	defer c.Close()
	v, err := registry.Value(c, "orders", orders).Decode([]byte("\x00\x00\x00\x00\x09\x00\x0a\x01a"))
	require.NoError(t, err)
	require.Equal(t, "a", v.GetId())
}

// Whatever comes in, the answer is a value that can be encoded again, or an error.
func FuzzDecode(f *testing.F) {
	b, err := orders.Append(nil, order())
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := orders.Decode(in)
		if err != nil {
			if !strings.Contains(err.Error(), "shop.Order") || !errors.As(err, new(*serde.DecodeError)) {
				t.Fatal(err)
			}
			return
		}
		if _, err := orders.Append(nil, v); err != nil {
			t.Fatalf("decoded %x to %v, which does not encode: %v", in, v, err)
		}
	})
}
