package registrytest

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"flag"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/sr"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/apipb"
	"google.golang.org/protobuf/types/known/sourcecontextpb"

	"github.com/moldau-stream/moldau/serde/avro"
	"github.com/moldau-stream/moldau/serde/jsonschema"
	"github.com/moldau-stream/moldau/serde/protobuf"
	"github.com/moldau-stream/moldau/serde/registry"
)

var (
	address = flag.String("registry.url", "", "a schema registry with the REST interface of Confluent's; empty: skip")
	javaDir = flag.String("registry.java", "", "where the program in java is compiled to, with its libraries in lib; empty: skip what needs it")
)

// open gives a client, and a topic that nobody has used.
func open(t *testing.T, opts ...registry.ClientOption) (c *registry.Client, topic string) {
	if *address == "" {
		t.Skip("needs a schema registry: make registry")
	}
	c = registry.New(*address, opts...)
	t.Cleanup(c.Close)
	return c, "topic-" + rand.Text()
}

func admin(t *testing.T) *sr.Client {
	cl, err := sr.NewClient(sr.URLs(*address))
	require.NoError(t, err)
	return cl
}

const (
	order1 = `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"string"},{"name":"amount","type":"int"}]}`
	order2 = `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"string"},{"name":"amount","type":"long"},{"name":"note","type":"string","default":"none"}]}`
	order3 = `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"long"}]}`
)

type order struct {
	ID     string `avro:"id"`
	Amount int64  `avro:"amount"`
	Note   string `avro:"note"`
}

type oldOrder struct {
	ID     string `avro:"id"`
	Amount int32  `avro:"amount"`
}

func TestAvroEvolves(t *testing.T) {
	c, topic := open(t)
	before := registry.Value(c, topic, avro.New[oldOrder](order1))
	old, err := before.Append(nil, oldOrder{"a", 5})
	require.NoError(t, err)
	after := registry.Value(c, topic, avro.New[order](order2))
	young, err := after.Append(nil, order{"b", 6, "x"})
	require.NoError(t, err)
	require.NotEqual(t, old[:5], young[:5], "each version has an id")

	c, _ = open(t) // knows nothing
	after = registry.Value(c, topic, avro.New[order](order2))
	v, err := after.Decode(old)
	require.NoError(t, err)
	require.Equal(t, order{"a", 5, "none"}, v)
	v, err = after.Decode(young)
	require.NoError(t, err)
	require.Equal(t, order{"b", 6, "x"}, v)
	_, err = before.Decode(young)
	require.ErrorIs(t, err, registry.ErrIncompatible)

	versions, err := admin(t).SubjectVersions(t.Context(), topic+"-value")
	require.NoError(t, err)
	require.Equal(t, []int{1, 2}, versions)
}

func TestAnIncompatibleVersionIsRefused(t *testing.T) {
	c, topic := open(t)
	for _, r := range admin(t).SetCompatibility(t.Context(), sr.SetCompatibility{Level: sr.CompatBackward}, topic+"-value") {
		require.NoError(t, r.Err)
	}
	_, err := registry.Value(c, topic, avro.New[order](order2)).Append(nil, order{})
	require.NoError(t, err)
	type numbered struct {
		ID int64 `avro:"id"`
	}
	_, err = registry.Value(c, topic, avro.New[numbered](order3)).Append(nil, numbered{})
	require.ErrorIs(t, err, registry.ErrIncompatible)
	require.ErrorContains(t, err, "subject "+topic+"-value")
}

func TestReferences(t *testing.T) {
	const money = `{"type":"record","name":"Money","namespace":"shop","fields":[{"name":"cents","type":"long"}]}`
	const bill = `{"type":"record","name":"Bill","namespace":"shop","fields":[{"name":"sum","type":"shop.Money"}]}`
	type value struct {
		Sum struct {
			Cents int64 `avro:"cents"`
		} `avro:"sum"`
	}
	c, topic := open(t)
	s := registry.Value(c, topic, avro.New[value](bill, avro.References(money)))
	v := value{}
	v.Sum.Cents = 7
	b, err := s.Append(nil, v)
	require.NoError(t, err)
	c, _ = open(t)
	got, err := registry.Value(c, topic, avro.New[value](bill, avro.References(money))).Decode(b)
	require.NoError(t, err)
	require.Equal(t, v, got)
}

func TestWithoutAutoRegister(t *testing.T) {
	c, topic := open(t, registry.AutoRegister(false))
	_, err := registry.Value(c, topic, avro.New[order](order2)).Append(nil, order{})
	require.ErrorIs(t, err, registry.ErrUnknownSchema)
	_, err = admin(t).CreateSchema(t.Context(), topic+"-value", sr.Schema{Schema: order2})
	require.NoError(t, err)
	b, err := registry.Value(c, topic, avro.New[order](order2)).Append(nil, order{ID: "a"})
	require.NoError(t, err)
	v, err := registry.Value(c, topic, avro.New[order](order2)).Decode(b)
	require.NoError(t, err)
	require.Equal(t, order{ID: "a"}, v)
}

func TestAnUnknownID(t *testing.T) {
	c, topic := open(t)
	_, err := registry.Value(c, topic, avro.New[order](order2)).Decode([]byte{0, 0x7f, 0xff, 0xff, 0xff, 2, 'a', 2, 2, 'n'})
	require.ErrorIs(t, err, registry.ErrUnknownSchema)
	require.ErrorContains(t, err, "schema 2147483647")
}

func TestProtobuf(t *testing.T) {
	c, topic := open(t)
	v := &apipb.Api{Name: "n", SourceContext: &sourcecontextpb.SourceContext{FileName: "f"}}
	s := registry.Value(c, topic, protobuf.New[*apipb.Api]())
	b, err := s.Append(nil, v)
	require.NoError(t, err)
	c, _ = open(t)
	got, err := registry.Value(c, topic, protobuf.New[*apipb.Api]()).Decode(b)
	require.NoError(t, err)
	require.True(t, proto.Equal(v, got))
	// Another message of the same file.
	b, err = registry.Value(c, topic, protobuf.New[*apipb.Mixin]()).Append(nil, &apipb.Mixin{Name: "m"})
	require.NoError(t, err)
	_, err = s.Decode(b)
	require.ErrorIs(t, err, registry.ErrIncompatible)
	m, err := registry.Value(c, topic, protobuf.New[*apipb.Mixin]()).Decode(b)
	require.NoError(t, err)
	require.Equal(t, "m", m.GetName())
}

func TestJSONSchema(t *testing.T) {
	type thing struct {
		ID string `json:"id"`
	}
	c, topic := open(t)
	// With properties, because this registry does not believe that a schema without them is one.
	free := registry.Value(c, topic, jsonschema.New[thing](`{"title":"Thing","type":"object","properties":{}}`))
	strict := registry.Value(c, topic, jsonschema.New[thing](`{"title":"Thing","type":"object","properties":{"id":{"type":"string","maxLength":2}}}`))
	short, err := free.Append(nil, thing{"a"})
	require.NoError(t, err)
	long, err := free.Append(nil, thing{"abc"})
	require.NoError(t, err)
	v, err := strict.Decode(short)
	require.NoError(t, err)
	require.Equal(t, thing{"a"}, v)
	_, err = strict.Decode(long)
	require.ErrorIs(t, err, registry.ErrMalformed)
}

// A Java application with the serializers of the registry's makers reads what we write, and the other way round.
func TestJava(t *testing.T) {
	c, topic := open(t)
	if *javaDir == "" {
		t.Skip("needs the Java program: make registry")
	}
	java := func(args ...string) string {
		classes := filepath.Join(*javaDir, "classes") + string(filepath.ListSeparator) + filepath.Join(*javaDir, "lib", "*")
		cmd := exec.CommandContext(t.Context(), "java", append([]string{"-cp", classes, "Peer"}, args...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		require.NoError(t, err, "%s", &stderr)
		return strings.TrimSpace(string(out))
	}
	native := strings.Replace(*address, "/ccompat/v7", "/registry/v3", 1)

	b, err := hex.DecodeString(java("write", native, topic))
	require.NoError(t, err)
	s := registry.Value(c, topic, avro.New[order](order2))
	v, err := s.Decode(b)
	require.NoError(t, err)
	require.Equal(t, order{"java", 5, "none"}, v)

	b, err = s.Append(nil, order{"go", 6, "n"})
	require.NoError(t, err)
	require.Equal(t, `{"id": "go", "amount": 6, "note": "n"}`, java("read", native, topic, hex.EncodeToString(b)))
	versions, err := admin(t).SubjectVersions(t.Context(), topic+"-value")
	require.NoError(t, err)
	require.Equal(t, []int{1, 2}, versions, "both know one subject")
}
