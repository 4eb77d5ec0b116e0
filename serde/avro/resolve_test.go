package avro

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	hamba "github.com/hamba/avro/v2"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/serde"
)

func record(name string, fields ...string) string {
	return `{"type":"record","name":"` + name + `","fields":[` + strings.Join(fields, ",") + `]}`
}

func field(name, typ string, more ...string) string {
	return `{"name":"` + name + `","type":` + typ + strings.Join(append([]string{""}, more...), ",") + `}`
}

// read decodes with the reader's schema what was written with the writer's, both as generic values.
func read(writer, reader string, v any) (any, error) {
	b, err := New[any](writer).Append(nil, v)
	if err != nil {
		return nil, fmt.Errorf("write: %w", err)
	}
	d, err := New[any](reader).Decoder(serde.Schema{Type: Type, Text: writer})
	if err != nil {
		return nil, err
	}
	return d(b)
}

type m = map[string]any

func TestEvolution(t *testing.T) {
	const long, text = `"long"`, `"string"`
	suits := func(name string, symbols ...string) string {
		return `{"type":"enum","name":"` + name + `","symbols":["` + strings.Join(symbols, `","`) + `"]}`
	}
	for _, c := range []struct {
		name, writer, reader string
		in, out              any
	}{
		{"same", record("R", field("a", long)), record("R", field("a", long)), m{"a": int64(1)}, m{"a": int64(1)}},
		{"field with a default is added", record("R", field("a", long)),
			record("R", field("z", text, `"default":"zz"`), field("a", long), field("b", `["null","string"]`, `"default":null`), field("c", `"double"`, `"default":1.5`)),
			m{"a": int64(1)}, m{"z": "zz", "a": int64(1), "b": nil, "c": 1.5}},
		{"field is removed", record("R", field("a", text), field("b", `{"type":"array","items":"long"}`), field("c", long)), record("R", field("c", long)),
			m{"a": "x", "b": []any{int64(1), int64(2)}, "c": int64(3)}, m{"c": int64(3)}},
		{"fields change places", record("R", field("a", text), field("b", long), field("c", `"boolean"`)),
			record("R", field("c", `"boolean"`), field("d", `"int"`, `"default":7`), field("a", text), field("b", long)),
			m{"a": "x", "b": int64(2), "c": true}, m{"c": true, "d": 7, "a": "x", "b": int64(2)}},
		{"field is renamed", record("R", field("old", long)), record("R", field("new", long, `"aliases":["older","old"]`)), m{"old": int64(1)}, m{"new": int64(1)}},
		{"an alias does not take a field that has its own name", record("R", field("b", long)),
			record("R", field("a", long, `"aliases":["b"]`, `"default":5`), field("b", long)), m{"b": int64(1)}, m{"a": int64(5), "b": int64(1)}},
		{"record is renamed", record("Old", field("a", long)), record("New", field("a", long)), m{"a": int64(1)}, m{"a": int64(1)}},
		{"int to long", `"int"`, long, 5, int64(5)},
		{"int to float", `"int"`, `"float"`, -5, float32(-5)},
		{"long to double", long, `"double"`, int64(math.MaxInt32) + 1, float64(math.MaxInt32) + 1},
		{"float to double", `"float"`, `"double"`, float32(0.5), 0.5},
		{"string to bytes", text, `"bytes"`, "ab", []byte("ab")},
		{"bytes to string", `"bytes"`, text, []byte("ab"), "ab"},
		{"becomes nullable", record("R", field("a", long)), record("R", field("a", `["null","long"]`)), m{"a": int64(1)}, m{"a": int64(1)}},
		{"becomes nullable and wider", record("R", field("a", `"int"`)), record("R", field("a", `["null","double"]`)), m{"a": 1}, m{"a": 1.0}},
		{"branches change places", record("R", field("a", `["long","null"]`)), record("R", field("a", `["null","string","long"]`)), m{"a": int64(1)}, m{"a": int64(1)}},
		{"no longer nullable", record("R", field("a", `["null","long"]`)), record("R", field("a", long)), m{"a": int64(1)}, m{"a": int64(1)}},
		{"symbols change places", suits("S", "A", "B"), suits("S", "C", "B", "A"), "B", "B"},
		{"array", `{"type":"array","items":"int"}`, `{"type":"array","items":"long"}`, []any{1, 2}, []any{int64(1), int64(2)}},
		{"empty array", `{"type":"array","items":"int"}`, `{"type":"array","items":"long"}`, []any{}, []any{}},
		{"map", `{"type":"map","values":"int"}`, `{"type":"map","values":"long"}`, m{"a": 1}, m{"a": int64(1)}},
		{"default of a record", record("R", field("a", long)),
			record("R", field("a", long), field("r", record("Inner", field("x", `"int"`), field("y", text, `"default":"why"`), field("l", `{"type":"array","items":"long"}`), field("m", `{"type":"map","values":"boolean"}`)),
				`"default":{"x":3,"l":[1,2],"m":{"k":true}}`)),
			m{"a": int64(1)}, m{"a": int64(1), "r": m{"x": 3, "y": "why", "l": []any{int64(1), int64(2)}, "m": m{"k": true}}}},
		{"default of bytes", record("R"), record("R", field("b", `"bytes"`, `"default":"\u00ff\u0000"`), field("e", suits("E", "X", "Y"), `"default":"Y"`), field("f", `"float"`, `"default":0.5`)),
			m{}, m{"b": []byte{255, 0}, "e": "Y", "f": float32(0.5)}},
	} {
		got, err := read(c.writer, c.reader, c.in)
		require.NoError(t, err, c.name)
		require.Equal(t, c.out, got, c.name)
	}
}

func TestIncompatibleSchemasAreRefusedWithTheField(t *testing.T) {
	for _, c := range []struct{ writer, reader, want string }{
		{record("R", field("a", `"long"`)), record("R", field("b", `"long"`)), "field b: the writer does not have it and the reader has no default for it"},
		{record("R", field("a", `"long"`)), record("R", field("a", `"int"`)), "field a: the writer's long is no int of the reader"},
		{record("R", field("in", record("I", field("x", `"string"`)))), record("R", field("in", record("I", field("x", `"long"`)))), "field in.x: the writer's string is no long of the reader"},
		{record("R", field("a", `"string"`)), record("R", field("a", `["null","long"]`)), "field a: the reader's union has no branch for the writer's string"},
		{`{"type":"fixed","name":"F","size":4}`, `{"type":"fixed","name":"F","size":5}`, "the writer's F has 4 bytes, the reader's 5"},
		{`{"type":"fixed","name":"F","size":4}`, `{"type":"fixed","name":"G","size":4}`, "the writer's F is no G of the reader"},
		{`{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}`, `{"type":"bytes","logicalType":"decimal","precision":9,"scale":3}`, "scale 2, the reader's 3"},
		{`["string","bytes"]`, `"long"`, "the writer's bytes is no long of the reader"},
		{`{"type":"strin"}`, `"long"`, "avro: schema:"},
	} {
		_, err := New[any](c.reader).Decoder(serde.Schema{Text: c.writer})
		require.ErrorContains(t, err, c.want, c.writer)
	}
}

// A branch or symbol that the reader lacks is no reason to refuse the values that do not have it.
func TestValuesThatTheReaderCannotTake(t *testing.T) {
	v, err := read(`["null","long"]`, `"long"`, int64(3))
	require.NoError(t, err)
	require.Equal(t, int64(3), v)
	_, err = read(record("R", field("a", `["null","long"]`)), record("R", field("a", `"long"`)), m{"a": nil})
	require.ErrorContains(t, err, "want a value that the reader's long takes in a, got one at byte 1 that it does not: the writer's null is no long of the reader")

	const w, r = `{"type":"enum","name":"S","symbols":["A","B"]}`, `{"type":"enum","name":"S","symbols":["A"]}`
	v, err = read(w, r, "A")
	require.NoError(t, err)
	require.Equal(t, "A", v)
	_, err = read(w, r, "B")
	require.ErrorContains(t, err, "want a symbol that the reader's S has at byte 1 for S, got number 1 of the writer")
	v, err = read(w, strings.Replace(r, `]`, `],"default":"A"`, 1), "B")
	require.NoError(t, err)
	require.Equal(t, "A", v)
}

func TestTypesThatContainThemselves(t *testing.T) {
	const w = `{"type":"record","name":"N","fields":[{"name":"v","type":"int"},{"name":"next","type":["null","N"]}]}`
	const r = `{"type":"record","name":"N","fields":[{"name":"next","type":["null","N"]},{"name":"v","type":"long"},{"name":"x","type":"string","default":"d"}]}`
	type wn struct {
		V    int32 `avro:"v"`
		Next *wn   `avro:"next"`
	}
	type rn struct {
		V    int64  `avro:"v"`
		X    string `avro:"x"`
		Next *rn    `avro:"next"`
	}
	b, err := New[wn](w).Append(nil, wn{1, &wn{2, &wn{3, nil}}})
	require.NoError(t, err)
	d, err := New[rn](r).Decoder(serde.Schema{Text: w})
	require.NoError(t, err)
	v, err := d(b)
	require.NoError(t, err)
	require.Equal(t, rn{1, "d", &rn{2, "d", &rn{3, "d", nil}}}, v)

	endless := bytes.Repeat([]byte{2, 2}, 1000)
	_, err = d(endless)
	require.ErrorContains(t, err, "at most 512 levels")
}

func TestDecoderOfASchemaWithReferences(t *testing.T) {
	const a = `{"type":"record","name":"A","namespace":"n","fields":[{"name":"x","type":"int"}]}`
	const a2 = `{"type":"record","name":"A","namespace":"n","fields":[{"name":"x","type":"long"}]}`
	const b = `{"type":"record","name":"B","namespace":"n","fields":[{"name":"a","type":"A"}]}`
	w, r := New[any](b, References(a)), New[any](b, References(a2))
	require.Equal(t, "n.B", w.Schema().Name)
	require.Equal(t, "n.A", w.Schema().References[0].Name)
	d, err := r.Decoder(w.Schema())
	require.NoError(t, err)
	enc, err := w.Append(nil, m{"a": m{"x": 1}})
	require.NoError(t, err)
	v, err := d(enc)
	require.NoError(t, err)
	require.Equal(t, m{"a": m{"x": int64(1)}}, v)
}

// Defaults of the reader make a value longer; input does not decide how much memory that takes.
func TestDefaultsDoNotExplode(t *testing.T) {
	w := `{"type":"array","items":` + record("E") + `}`
	r := `{"type":"array","items":` + record("E", field("s", `"string"`, `"default":"`+strings.Repeat("x", 1000)+`"`)) + `}`
	d, err := New[any](r, MaxBytes(10000)).Decoder(serde.Schema{Text: w})
	require.NoError(t, err)
	_, err = d([]byte{6, 0})
	require.NoError(t, err)
	_, err = d([]byte{0x80, 0x10, 0}) // 1024 items
	require.ErrorContains(t, err, "at most 10000 bytes")
}

// Rewriting to the same schema, and to one with the fields in another order, keeps the value.
func TestRewritingKeepsTheValue(t *testing.T) {
	schema := hamba.MustParse(orderSchema).(*hamba.RecordSchema)
	r := resolver{shapes: map[hamba.Schema]*shape{}, made: map[[2]hamba.Schema]*plan{}, failed: map[[2]hamba.Schema]error{}}
	same, err := r.plan(schema, schema)
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		want := anyOrder.Draw(t, "order")
		b, err := orders.Append(nil, want)
		require.NoError(t, err)
		got, err := same.run([]byte("x"), b, 1<<20)
		require.NoError(t, err)
		require.Equal(t, "x"+string(b), string(got))

		mixed := New[order](shuffled(t, schema))
		d, err := mixed.Decoder(serde.Schema{Text: orderSchema})
		require.NoError(t, err)
		v, err := d(b)
		require.NoError(t, err)
		again, err := orders.Append(nil, v)
		require.NoError(t, err)
		require.Equal(t, b, again)
	})
}

func shuffled(t *rapid.T, s *hamba.RecordSchema) string {
	fields := rapid.Permutation(s.Fields()).Draw(t, "fields")
	r, err := hamba.NewRecordSchema(s.Name(), s.Namespace(), fields)
	require.NoError(t, err)
	text, err := r.MarshalJSON()
	require.NoError(t, err)
	return string(text)
}

// Whatever comes in, a decoder for another schema answers with a value or an error.
func FuzzDecoder(f *testing.F) {
	const w = `{"type":"record","name":"W","fields":[
		{"name":"gone","type":{"type":"map","values":["null","W"]}},
		{"name":"n","type":"int"},
		{"name":"list","type":{"type":"array","items":{"type":"record","name":"E","fields":[]}}},
		{"name":"kind","type":{"type":"enum","name":"K","symbols":["A","B"]}},
		{"name":"u","type":["string","null","float"]}]}`
	const r = `{"type":"record","name":"W","fields":[
		{"name":"u","type":["null","double","bytes"]},
		{"name":"kind","type":{"type":"enum","name":"K","symbols":["B"],"default":"B"}},
		{"name":"list","type":{"type":"array","items":{"type":"record","name":"E","fields":[{"name":"s","type":"string","default":"text"}]}}},
		{"name":"n","type":"double"}]}`
	s := New[any](r, MaxBytes(1<<16))
	d, err := s.Decoder(serde.Schema{Text: w})
	require.NoError(f, err)
	f.Add([]byte{0, 2, 4, 0, 2, 4, 0, 0, 0, 0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := d(in)
		if err != nil {
			return
		}
		if _, err := s.Append(nil, v); err != nil {
			t.Fatalf("decoded %x to %+v, which does not encode: %v", in, v, err)
		}
	})
}
