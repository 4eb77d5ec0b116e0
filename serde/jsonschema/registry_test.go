package jsonschema_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/moldau-stream/moldau/serde/jsonschema"
	"github.com/moldau-stream/moldau/serde/registry"
)

func TestRegistry(t *testing.T) {
	f := srfake.New()
	defer f.Close()
	c := registry.New(f.URL(), registry.Retries(0, 0))
	defer c.Close()
	before := registry.Value(c, "orders", jsonschema.New[order](`{"title": "Order"}`))
	b, err := before.Append(nil, order{ID: "a"})
	require.NoError(t, err)
	require.Equal(t, "\x00\x00\x00\x00\x01"+`{"id":"a","amount":0}`, string(b))
	broken, err := before.Append(nil, order{ID: "A"})
	require.NoError(t, err)

	now := registry.Value(c, "orders", orders)
	v, err := now.Decode(b)
	require.NoError(t, err)
	require.Equal(t, order{ID: "a"}, v)
	_, err = now.Decode(broken)
	require.ErrorIs(t, err, registry.ErrMalformed)
	require.ErrorContains(t, err, "subject orders-value, schema 1: serde: cannot decode JSON of jsonschema_test.order: it does not follow the schema: at '/id'")
}
