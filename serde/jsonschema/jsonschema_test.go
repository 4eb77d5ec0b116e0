package jsonschema_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/serde/jsonschema"
)

type order struct {
	ID     string   `json:"id"`
	Amount int64    `json:"amount"`
	Tags   []string `json:"tags,omitempty"`
}

const orderSchema = `{"title": "Order", "type": "object", "required": ["id"], "properties": {
	"id": {"type": "string", "minLength": 1, "pattern": "^[a-z0-9]*$"},
	"amount": {"type": "integer", "minimum": 0, "multipleOf": 5},
	"tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2}}}`

var orders = jsonschema.New[order](orderSchema)

func TestRoundTrip(t *testing.T) {
	plain := serde.JSON[order]()
	rapid.Check(t, func(t *rapid.T) {
		want := order{
			ID:     rapid.StringMatching(`[a-z0-9]{1,9}`).Draw(t, "id"),
			Amount: 5 * rapid.Int64Range(0, 1<<60).Draw(t, "amount"),
			Tags:   rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b"}), 0, 2).Draw(t, "tags"),
		}
		b, err := orders.Append([]byte("x"), want)
		require.NoError(t, err)
		same, err := plain.Append([]byte("x"), want)
		require.NoError(t, err)
		require.Equal(t, string(same), string(b))
		v, err := orders.Decode(b[1:])
		require.NoError(t, err)
		if len(want.Tags) == 0 {
			want.Tags = nil
		}
		require.Equal(t, want, v)
	})
}

func TestWhatDoesNotFollowTheSchema(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{}`, "it does not follow the schema: at '': missing property 'id'"},
		{`{"id":1}`, "at '/id': got number, want string"},
		{`{"id":"a","amount":-5}`, "at '/amount': minimum: got -5, want 0"},
		{`{"id":"a","amount":7}`, "at '/amount': multipleOf"},
		{`{"id":"a","amount":1.5}`, "at '/amount': got number, want integer"},
		{`{"id":"A"}`, "at '/id': 'A' does not match pattern"},
		{`{"id":"a","tags":["a","b","a"]}`, "at '/tags': maxItems: got 3, want 2"},
		{`{"id":"a","tags":["c"]}`, "at '/tags/0': value must be one of"},
		{`[]`, "got array, want object"},
		{`null`, "got null, want object"},
		{``, "EOF"},
		{`{"id":"a"} x`, "invalid character"},
		{`{"id":"a","amount":1e1000000}`, "the number 1e1000000... is out of range"},
		{`{"id":"a","amount":1e99999999999999999999}`, "is out of range"},
		{`{"id":"a","amount":1` + strings.Repeat("0", 1000) + `}`, "is out of range"},
	} {
		_, err := orders.Decode([]byte(c.text))
		require.ErrorContains(t, err, c.want, c.text)
		require.ErrorContains(t, err, "serde: cannot decode JSON of jsonschema_test.order")
		require.NotContains(t, err.Error(), "\n")
		require.ErrorAs(t, err, new(*serde.DecodeError))
	}
	_, err := orders.Append(nil, order{ID: "a", Amount: -5})
	require.ErrorContains(t, err, "serde: cannot encode jsonschema_test.order as JSON: it does not follow the schema: at '/amount'")
	all := jsonschema.New[map[string]int](`{"additionalProperties": {"type": "string"}}`)
	_, err = all.Append(nil, map[string]int{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7})
	require.ErrorContains(t, err, "and 2 more")
	// The schema is content with it, the Go type is not.
	_, err = jsonschema.New[order](`{}`).Decode([]byte(`{"id":1}`))
	require.ErrorContains(t, err, "cannot decode JSON of jsonschema_test.order")
}

func TestDrafts(t *testing.T) {
	// In 2020-12 prefixItems is a keyword, in draft 7 it is not.
	const body = `"prefixItems": [{"type": "string"}]}`
	for _, c := range []struct {
		s      serde.Serde[any]
		draft7 bool
	}{
		{jsonschema.New[any](`{` + body), false},
		{jsonschema.New[any](`{`+body, jsonschema.Draft7()), true},
		{jsonschema.New[any](`{"$schema": "http://json-schema.org/draft-07/schema#", ` + body), true},
		{jsonschema.New[any](`{"$schema": "https://json-schema.org/draft/2020-12/schema", `+body, jsonschema.Draft7()), false},
	} {
		require.NoError(t, serde.Check(c.s))
		_, err := c.s.Decode([]byte(`[1]`))
		require.Equal(t, c.draft7, err == nil)
	}
}

func TestReferences(t *testing.T) {
	const money = `{"type": "integer"}`
	for _, c := range []struct{ schema, name string }{
		{`{"properties": {"sum": {"$ref": "money.json"}}}`, "money.json"},
		{`{"$id": "http://shop.example/bill.json", "properties": {"sum": {"$ref": "money.json"}}}`, "money.json"},
		{`{"$id": "http://shop.example/bill.json", "properties": {"sum": {"$ref": "http://shop.example/money.json"}}}`, "http://shop.example/money.json"},
	} {
		s := jsonschema.New[map[string]any](c.schema, jsonschema.Reference(c.name, money))
		require.NoError(t, serde.Check(serde.Serde[map[string]any](s)), c.schema)
		require.Equal(t, c.name, s.Schema().References[0].Name)
		_, err := s.Decode([]byte(`{"sum": 1}`))
		require.NoError(t, err)
		_, err = s.Decode([]byte(`{"sum": "1"}`))
		require.ErrorContains(t, err, "at '/sum': got string, want integer")
	}
	// Neither files nor the network are asked.
	for _, ref := range []string{"file:///etc/passwd", "http://localhost:1/x.json", "other.json"} {
		s := jsonschema.New[any](`{"$ref": "` + ref + `"}`)
		require.ErrorContains(t, serde.Check(serde.Serde[any](s)), "use jsonschema.Reference")
	}
}

func TestDeclarations(t *testing.T) {
	for _, schema := range []string{``, `{`, `{"type": 5}`, `{"pattern": "("}`, `{"$schema": "http://example.com/none"}`} {
		s := jsonschema.New[any](schema)
		require.ErrorContains(t, serde.Check(serde.Serde[any](s)), "jsonschema: schema:", schema)
		_, err := s.Append(nil, 1)
		require.Error(t, err)
		_, err = s.Decode([]byte(`1`))
		require.Error(t, err)
		_, err = s.Decoder(serde.Schema{})
		require.Error(t, err)
	}
	require.Equal(t, "Order", orders.Schema().Name)
	small := jsonschema.New[string](`true`, jsonschema.MaxBytes(4))
	_, err := small.Append(nil, "123")
	require.ErrorContains(t, err, "5 bytes are more than the limit of 4")
	_, err = small.Decode([]byte(`"123"`))
	require.ErrorContains(t, err, "5 bytes are more than the limit of 4")
}

// Whatever comes in, the answer is a value or an error. It may not encode again: encoding/json takes "ID" for "id".
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"id":"a","amount":5,"tags":["a"]}`, `{"id":"a","amount":1e2}`, `[]`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if v, err := orders.Decode(in); err == nil && !json.Valid(in) {
			t.Fatalf("decoded %q to %+v", in, v)
		}
	})
}

func ExampleNew() {
	b, err := orders.Append(nil, order{ID: "a1", Amount: 5})
	fmt.Println(string(b), err)
	_, err = orders.Decode([]byte(`{"id": "a1", "amount": "5"}`))
	fmt.Println(err)
	// Output:
	// {"id":"a1","amount":5} <nil>
	// serde: cannot decode JSON of jsonschema_test.order: it does not follow the schema: at '/amount': got string, want integer
}
