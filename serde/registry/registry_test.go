package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/serde/avro"
	"github.com/moldau-stream/moldau/serde/registry"
)

type order struct {
	ID     string `avro:"id"`
	Amount int64  `avro:"amount"`
	Note   string `avro:"note"`
}

const (
	order1 = `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"string"},{"name":"amount","type":"int"}]}`
	order2 = `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"string"},{"name":"amount","type":"long"},{"name":"note","type":"string","default":"none"}]}`
)

// fake is a registry in this process. asked counts its requests.
type fake struct {
	*srfake.Registry
	asked atomic.Int64
}

func newFake(t testing.TB) *fake {
	f := &fake{Registry: srfake.New()}
	t.Cleanup(f.Close)
	f.Intercept(func(http.ResponseWriter, *http.Request) bool { f.asked.Add(1); return false })
	return f
}

// client is one that does not wait between retries.
func client(t testing.TB, url string, opts ...registry.ClientOption) *registry.Client {
	c := registry.New(url, append([]registry.ClientOption{registry.Retries(2, 0)}, opts...)...)
	t.Cleanup(c.Close)
	return c
}

func TestBytesAndSubjects(t *testing.T) {
	f := newFake(t)
	f.SeedSchema("other", 1, 6, sr.Schema{Schema: `"long"`})
	c := client(t, f.URL())
	s := registry.Value(c, "orders", avro.New[order](order2))
	require.NoError(t, serde.Check[order](s))
	require.Zero(t, f.asked.Load(), "a declaration asks nobody")

	b, err := s.Append([]byte("x"), order{"a", 1, "n"})
	require.NoError(t, err)
	require.Equal(t, "x\x00\x00\x00\x00\x07\x02a\x02\x02n", string(b))
	v, err := s.Decode(b[1:])
	require.NoError(t, err)
	require.Equal(t, order{"a", 1, "n"}, v)
	for range 3 {
		_, err = s.Append(nil, v)
		require.NoError(t, err)
		_, err = s.Decode(b[1:])
		require.NoError(t, err)
	}
	require.EqualValues(t, 2, f.asked.Load(), "one request to write, one to read")

	for subject, s := range map[string]serde.Serde[order]{
		"orders-value":     s,
		"orders-key":       registry.Key(c, "orders", avro.New[order](order2)),
		"shop.Order":       registry.Value(c, "orders", avro.New[order](order2), registry.Subjects(registry.RecordName)),
		"books-shop.Order": registry.Value(c, "books", avro.New[order](order2), registry.Subjects(registry.TopicRecordName)),
		"mine":             registry.Value(c, "orders", avro.New[order](order2), registry.Subject("mine")),
	} {
		_, err := s.Append(nil, v)
		require.NoError(t, err)
		require.True(t, f.SubjectExists(subject), subject)
	}
}

func TestSchemasAreNormalizedIfWanted(t *testing.T) {
	for _, auto := range []bool{true, false} {
		for _, normalize := range []bool{true, false} {
			f := newFake(t)
			f.SeedSchema("orders-value", 1, 7, sr.Schema{Schema: order2})
			var wanted []bool
			f.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				wanted = append(wanted, r.URL.Query().Get("normalize") == "true")
				return false
			})
			c := client(t, f.URL(), registry.AutoRegister(auto), registry.NormalizeSchemas(normalize))
			_, err := registry.Value(c, "orders", avro.New[order](order2)).Append(nil, order{"a", 1, "n"})
			require.NoError(t, err)
			require.Equal(t, []bool{normalize}, wanted)
		}
	}
}

func TestNullHasNoSchema(t *testing.T) {
	f := newFake(t)
	s := serde.Nullable[order](registry.Value(client(t, f.URL()), "orders", avro.New[order](order2)))
	b, err := serde.Encode(s, serde.None[order]())
	require.NoError(t, err)
	require.Nil(t, b)
	v, err := serde.Decode(s, nil)
	require.NoError(t, err)
	require.True(t, v.IsNull())
	require.Zero(t, f.asked.Load())
	b, err = serde.Encode(s, serde.Some(order{ID: "a"}))
	require.NoError(t, err)
	v, err = serde.Decode(s, b)
	require.NoError(t, err)
	require.Equal(t, serde.Some(order{ID: "a"}), v)
}

// Old records reach a new program, and new ones an old program, in one topic.
func TestEvolution(t *testing.T) {
	type oldOrder struct {
		ID     string `avro:"id"`
		Amount int32  `avro:"amount"`
	}
	f := newFake(t)
	before := registry.Value(client(t, f.URL()), "orders", avro.New[oldOrder](order1))
	after := registry.Value(client(t, f.URL()), "orders", avro.New[order](order2))
	old, err := before.Append(nil, oldOrder{"a", 5})
	require.NoError(t, err)
	young, err := after.Append(nil, order{"b", 6, "x"})
	require.NoError(t, err)
	for range 2 {
		v, err := after.Decode(old)
		require.NoError(t, err)
		require.Equal(t, order{"a", 5, "none"}, v)
		v, err = after.Decode(young)
		require.NoError(t, err)
		require.Equal(t, order{"b", 6, "x"}, v)
	}
	require.EqualValues(t, 4, f.asked.Load())

	_, err = before.Decode(young)
	require.ErrorIs(t, err, registry.ErrIncompatible)
	require.ErrorContains(t, err, "incompatible schema: subject orders-value, schema 2, registry "+f.URL()+
		": avro: what shop.Order wrote cannot be read as shop.Order: field amount: the writer's long is no int of the reader")
}

func TestReferences(t *testing.T) {
	const money = `{"type":"record","name":"Money","namespace":"shop","fields":[{"name":"cents","type":"long"}]}`
	const bill = `{"type":"record","name":"Bill","namespace":"shop","fields":[{"name":"sum","type":"Money"}]}`
	type value struct {
		Sum struct {
			Cents int64 `avro:"cents"`
		} `avro:"sum"`
	}
	f := newFake(t)
	s := registry.Value(client(t, f.URL()), "bills", avro.New[value](bill, avro.References(money)))
	v := value{}
	v.Sum.Cents = 7
	b, err := s.Append(nil, v)
	require.NoError(t, err)
	require.True(t, f.SubjectExists("shop.Money"))
	got, err := registry.Value(client(t, f.URL()), "bills", avro.New[value](bill, avro.References(money))).Decode(b)
	require.NoError(t, err)
	require.Equal(t, v, got)

	strict := registry.Value(client(t, newFake(t).URL(), registry.AutoRegister(false)), "bills", avro.New[value](bill, avro.References(money)))
	_, err = strict.Append(nil, v)
	require.ErrorIs(t, err, registry.ErrUnknownSchema)
	require.ErrorContains(t, err, "subject bills-value")
	require.ErrorContains(t, err, "it uses the schema of subject shop.Money")
}

func TestWithoutAutoRegister(t *testing.T) {
	f := newFake(t)
	s := registry.Value(client(t, f.URL(), registry.AutoRegister(false)), "orders", avro.New[order](order2))
	_, err := s.Append(nil, order{})
	require.ErrorIs(t, err, registry.ErrUnknownSchema)
	require.ErrorContains(t, err, "subject orders-value")
	require.ErrorContains(t, err, "register the schema first, or allow AutoRegister")
	require.False(t, f.SubjectExists("orders-value"))

	f.SeedSchema("orders-value", 1, 300, sr.Schema{Schema: order2})
	b, err := s.Append(nil, order{}) // the error was not kept
	require.NoError(t, err)
	require.Equal(t, []byte{0, 0, 0, 1, 44}, b[:5])
}

func TestHeaders(t *testing.T) {
	f := newFake(t)
	in := registry.Value(client(t, f.URL()), "orders", avro.New[order](order2), registry.InHeaders())
	plain := registry.Value(client(t, f.URL()), "orders", avro.New[order](order2))
	v := order{"a", 1, "n"}
	mine := []serde.Header{{Key: "x", Value: []byte("1")}, {Key: "__value_schema_id", Value: []byte("stale")}, {Key: "y"}}

	b, hs, err := in.AppendWithHeaders(nil, v, mine[:2:3])
	require.NoError(t, err)
	require.Equal(t, "\x02a\x02\x02n", string(b))
	require.Len(t, hs, 2)
	require.Equal(t, "__value_schema_id", hs[1].Key)
	require.Len(t, hs[1].Value, 17)
	require.EqualValues(t, 1, hs[1].Value[0])
	require.Equal(t, "y", mine[2].Key, "the caller's headers are not written to")
	for _, s := range []serde.WithHeaders[order]{in, plain} {
		got, err := s.DecodeWithHeaders(b, hs)
		require.NoError(t, err)
		require.Equal(t, v, got)
	}
	// An id may be in the header too.
	got, err := plain.DecodeWithHeaders(b, []serde.Header{{Key: "__value_schema_id", Value: []byte{0, 0, 0, 0, 1}}})
	require.NoError(t, err)
	require.Equal(t, v, got)

	b, hs, err = plain.AppendWithHeaders(nil, v, mine)
	require.NoError(t, err)
	require.Equal(t, []serde.Header{mine[0], mine[2]}, hs, "a header of the record before must not be taken for this one's")
	got, err = plain.DecodeWithHeaders(b, hs)
	require.NoError(t, err)
	require.Equal(t, v, got)

	b, err = in.Append(nil, v) // a store has no headers
	require.NoError(t, err)
	require.Equal(t, []byte{0, 0, 0, 0, 1}, b[:5])

	_, err = plain.DecodeWithHeaders(b, []serde.Header{{Key: "__value_schema_id", Value: append([]byte{1}, make([]byte, 15)...)}})
	require.ErrorIs(t, err, registry.ErrMalformed)
	_, err = plain.DecodeWithHeaders(b, []serde.Header{{Key: "__value_schema_id", Value: append([]byte{1}, "0123456789abcdef"...)}})
	require.ErrorIs(t, err, registry.ErrUnknownSchema)
	require.ErrorContains(t, err, "schema 30313233-3435-3637-3839-616263646566")

	key := registry.Key(client(t, f.URL()), "orders", avro.New[order](order2), registry.InHeaders())
	_, hs, err = key.AppendWithHeaders(nil, v, nil)
	require.NoError(t, err)
	require.Equal(t, "__key_schema_id", hs[0].Key)
}

// Registries before Confluent Platform 8.0 have no GUIDs.
func TestNoGUID(t *testing.T) {
	f := newFake(t)
	f.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/subjects/orders-value" {
			return false
		}
		fmt.Fprint(w, `{"subject":"orders-value","version":1,"id":1,"schema":"\"long\""}`)
		return true
	})
	_, err := registry.Value(client(t, f.URL()), "orders", avro.New[order](order2), registry.InHeaders()).Append(nil, order{})
	require.ErrorIs(t, err, registry.ErrRefused)
	require.ErrorContains(t, err, "do without InHeaders")
}

func TestPoison(t *testing.T) {
	f := newFake(t)
	f.SeedSchema("json", 1, 5, sr.Schema{Schema: `{}`, Type: sr.TypeJSON})
	s := registry.Value(client(t, f.URL()), "orders", avro.New[order](order2))
	good, err := s.Append(nil, order{"a", 1, "n"})
	require.NoError(t, err)
	for _, c := range []struct {
		src  string
		kind error
		want string
	}{
		{"", registry.ErrMalformed, "malformed record: subject orders-value: serde: cannot decode the id of a schema: want 0x00 and 4 bytes, got 0 bytes (was the record written by a serializer of the schema registry?)"},
		{"\x00\x00\x01", registry.ErrMalformed, "got 3 bytes"},
		{"\x01\x00\x01", registry.ErrMalformed, "want 0x01 and 16 bytes, got 3 bytes"},
		{`{"id":1}`, registry.ErrMalformed, "looks like plain JSON"},
		{"\x7fELF....", registry.ErrMalformed, "got 0x7f"},
		{"\x01" + strings.Repeat("\x00", 20), registry.ErrMalformed, "GUID of the schema is zero"},
		{string(good[:len(good)-1]), registry.ErrMalformed, "malformed record: subject orders-value, schema 6: serde: cannot decode Avro shop.Order into registry_test.order: want "},
		{string(good) + "x", registry.ErrMalformed, "want 5 bytes, got 6 bytes"},
		{"\x00\x00\x00\x00\x2a\x02a", registry.ErrUnknownSchema, "unknown schema: subject orders-value, schema 42, registry " + f.URL()},
		{"\x00\x00\x00\x00\x05{}", registry.ErrIncompatible, "the schema is JSON, and AVRO is wanted"},
	} {
		_, err := s.Decode([]byte(c.src))
		require.ErrorIs(t, err, c.kind, "%q", c.src)
		require.ErrorContains(t, err, c.want, "%q", c.src)
		var e *registry.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, "orders-value", e.Subject)
	}
	var d *serde.DecodeError
	_, err = s.Decode(good[:7])
	require.ErrorAs(t, err, &d)
	_, err = registry.Value(client(t, f.URL()), "orders", avro.New[order](`{"type":"record","name":"Order","fields":[{"name":"id","type":"long"}]}`)).Append(nil, order{})
	require.ErrorContains(t, err, "subject orders-value: serde: cannot encode registry_test.order as Avro")
}

// answer is a registry that answers everything with one answer.
func answer(t testing.TB, code int, body string) (url string, asked *atomic.Int64) {
	asked = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(code)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		code  int
		body  string
		kind  error
		asked int
		want  string
	}{
		{500, `{"error_code":50001,"message":"store is gone"}`, registry.ErrUnavailable, 3, "/schemas/ids/1: 500: store is gone (try again later)"},
		{503, "", registry.ErrUnavailable, 3, "503"},
		{429, "", registry.ErrUnavailable, 3, "429"},
		{404, `{"error_code":40403,"message":"Schema 1 not found"}`, registry.ErrUnknownSchema, 1, "Schema 1 not found (is this the registry that the producer"},
		{404, `<html>nginx</html>`, registry.ErrRefused, 1, "is the URL right?"},
		{200, `<html>welcome</html>`, registry.ErrRefused, 1, "is the URL right?"},
		{200, `{"schema":1}`, registry.ErrRefused, 1, "is the URL right?"},
		{401, `{"error_code":401,"message":"Unauthorized"}`, registry.ErrRefused, 1, "check BasicAuth"},
		{422, `{"error_code":42201,"message":"Invalid schema"}`, registry.ErrRefused, 1, "Invalid schema"},
		{409, `{"error_code":409,"message":"READER_FIELD_MISSING_DEFAULT_VALUE"}`, registry.ErrIncompatible, 1, "compatibility level"},
		{200, `{"schema":"\"nonsense\""}`, registry.ErrIncompatible, 1, "avro: schema:"},
	} {
		url, asked := answer(t, c.code, c.body)
		_, err := registry.Value(client(t, url), "orders", avro.New[order](order2)).Decode([]byte{0, 0, 0, 0, 1})
		require.ErrorIs(t, err, c.kind, c.body)
		require.ErrorContains(t, err, c.want)
		require.ErrorContains(t, err, "subject orders-value, schema 1, registry "+url)
		require.EqualValues(t, c.asked, asked.Load(), c.body)
	}
}

func TestRefusedAsTheNextVersion(t *testing.T) {
	url, _ := answer(t, 409, `{"error_code":409,"message":"incompatible with an earlier schema"}`)
	_, err := registry.Value(client(t, url), "orders", avro.New[order](order2)).Append(nil, order{})
	require.ErrorIs(t, err, registry.ErrIncompatible)
	require.ErrorContains(t, err, "subject orders-value")
}

// What is known stays usable while the registry is down, and what was not comes when it is back.
func TestOutage(t *testing.T) {
	f := newFake(t)
	var down atomic.Bool
	f.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		if down.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
		return down.Load()
	})
	s := registry.Value(client(t, f.URL()), "orders", avro.New[order](order2))
	b, err := s.Append(nil, order{ID: "a"})
	require.NoError(t, err)
	_, err = s.Decode(b)
	require.NoError(t, err)
	f.SeedSchema("orders-value", 2, 50, sr.Schema{Schema: order1})
	down.Store(true)
	_, err = s.Append(nil, order{ID: "a"})
	require.NoError(t, err)
	_, err = s.Decode(b)
	require.NoError(t, err)
	_, err = s.Decode([]byte("\x00\x00\x00\x00\x32\x02a\x02"))
	require.ErrorIs(t, err, registry.ErrUnavailable)
	down.Store(false)
	v, err := s.Decode([]byte("\x00\x00\x00\x00\x32\x02a\x02"))
	require.NoError(t, err)
	require.Equal(t, order{"a", 1, "none"}, v)
}

func TestUnreachable(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	url := s.URL
	s.Close()
	_, err := registry.Value(client(t, url), "orders", avro.New[order](order2)).Append(nil, order{})
	require.ErrorIs(t, err, registry.ErrUnavailable)
	require.ErrorContains(t, err, "is the registry running")
	f := newFake(t)
	_, err = registry.Value(client(t, url+", "+f.URL()), "orders", avro.New[order](order2)).Append(nil, order{})
	require.NoError(t, err, "the second one is there")
}

func TestSlow(t *testing.T) {
	came := make(chan struct{}, 10)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		came <- struct{}{}
		<-r.Context().Done()
	}))
	defer s.Close()
	_, err := registry.Value(client(t, s.URL, registry.Timeout(time.Millisecond), registry.Retries(0, 0)), "orders", avro.New[order](order2)).Decode([]byte{0, 0, 0, 0, 1})
	require.ErrorIs(t, err, registry.ErrUnavailable)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	for len(came) > 0 {
		<-came
	}

	c := client(t, s.URL)
	failed := make(chan error)
	v := registry.Value(c, "orders", avro.New[order](order2))
	go func() {
		_, err := v.Decode([]byte{0, 0, 0, 0, 1})
		failed <- err
	}()
	<-came
	c.Close()
	require.ErrorIs(t, <-failed, registry.ErrClosed)
	_, err = v.Append(nil, order{})
	require.ErrorIs(t, err, registry.ErrClosed)
}

func TestCredentials(t *testing.T) {
	f := srfake.New(srfake.WithAuth("Basic bWU6c2VjcmV0")) // me:secret
	defer f.Close()
	v := order{ID: "a"}
	_, err := registry.Value(client(t, f.URL(), registry.BasicAuth("me", "secret")), "orders", avro.New[order](order2)).Append(nil, v)
	require.NoError(t, err)
	_, err = registry.Value(client(t, strings.Replace(f.URL(), "//", "//me:secret@", 1)), "orders", avro.New[order](order2)).Append(nil, v)
	require.NoError(t, err)
	_, err = registry.Value(client(t, strings.Replace(f.URL(), "//", "//me:hidden@", 1)), "orders", avro.New[order](order2)).Append(nil, v)
	require.ErrorIs(t, err, registry.ErrRefused)
	require.NotContains(t, err.Error(), "hidden")
}

func TestDeclarations(t *testing.T) {
	c := client(t, "http://localhost:1")
	require.ErrorContains(t, serde.Check[order](registry.Value(registry.New("localhost:8081"), "orders", avro.New[order](order2))), "no URL of a registry")
	require.NotContains(t, serde.Check[order](registry.Value(registry.New("http://u:pw\x7f@x"), "orders", avro.New[order](order2))).Error(), "pw")
	require.ErrorContains(t, serde.Check[order](registry.Value(c, "orders", avro.New[order](`{`))), "avro: schema:")
	require.ErrorContains(t, serde.Check[order](registry.Value(c, "", avro.New[order](order2))), "name of the topic is empty")
	require.ErrorContains(t, serde.Check[order](registry.Value(c, "orders", avro.New[order](order2), registry.Subject(""))), "subject is empty")
	require.ErrorContains(t, serde.Check[int64](registry.Value(c, "orders", avro.New[int64](`"long"`), registry.Subjects(registry.RecordName))), "has no name")
	bad := registry.Value[order](nil, "orders", nil)
	require.ErrorContains(t, serde.Check[order](bad), "client or the format is nil")
	_, err := bad.Append(nil, order{})
	require.Error(t, err)
	_, err = bad.Decode(nil)
	require.Error(t, err)
}

// Goroutines that need the same schema at the same time share one request; the number of kept schemas is bounded.
func TestManyAtOnce(t *testing.T) {
	f := newFake(t)
	for id := 1; id <= 20; id++ {
		f.SeedSchema(fmt.Sprintf("s%d", id), 1, id, sr.Schema{Schema: order2})
	}
	s := registry.Value(client(t, f.URL(), registry.Cached(4)), "orders", avro.New[order](order2))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				id := byte(1 + (g+i)%20)
				if i < 20 {
					id = 1
				}
				v, err := s.Decode([]byte{0, 0, 0, 0, id, 2, 'a', 2, 0})
				if err != nil || v.ID != "a" {
					t.Errorf("%+v, %v", v, err)
				}
				if _, err := s.Append(nil, v); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// Whatever comes in, the answer is a value or an error that says what it is.
func FuzzDecode(f *testing.F) {
	reg := newFake(f)
	reg.SeedSchema("a", 1, 1, sr.Schema{Schema: order1})
	reg.SeedSchema("b", 1, 2, sr.Schema{Schema: order2})
	s := registry.Value(client(f, reg.URL()), "orders", avro.New[order](order2))
	f.Add([]byte("\x00\x00\x00\x00\x01\x02a\x02"), []byte(nil))
	f.Add([]byte("\x02a\x02\x02n"), []byte("\x00\x00\x00\x00\x02"))
	f.Fuzz(func(t *testing.T, src, header []byte) {
		_, err := s.DecodeWithHeaders(src, []serde.Header{{Key: "__value_schema_id", Value: header}})
		if err != nil && !errors.Is(err, registry.ErrMalformed) && !errors.Is(err, registry.ErrUnknownSchema) {
			t.Fatal(err)
		}
	})
}

func BenchmarkRegistry(b *testing.B) {
	s := registry.Value(client(b, newFake(b).URL()), "orders", avro.New[order](order2))
	enc, err := s.Append(nil, order{"a", 1, "n"})
	require.NoError(b, err)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			enc, _ = s.Append(enc[:0], order{"a", 1, "n"})
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = s.Decode(enc)
		}
	})
}
