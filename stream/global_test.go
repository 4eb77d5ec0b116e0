package stream_test

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

var (
	countries    = stream.NewTopic("countries", serde.String, serde.String)
	countryStore = state.KeyValue("country-store", serde.String, serde.String)
)

// lookUp writes the country of each record's value, from a global table.
func lookUp(b *stream.Builder) {
	stream.ProcessFunc(stream.From(b, processed), func(ctx *textContext, r textRecord) error {
		name, _, err := countryStore.In(ctx).Get(r.Value)
		return errors.Join(err, ctx.Emit(r.Key, name))
	}).To(results)
}

func values(out *streamtest.Out[string, string]) (all []string) {
	for _, r := range out.Drain() {
		all = append(all, r.Value)
	}
	return all
}

func TestGlobalTableIsReadByEveryTask(t *testing.T) {
	for _, opts := range [][]streamtest.Option{nil, {streamtest.OnDisk()}, {streamtest.ManualCommit()}} {
		b := stream.NewBuilder()
		stream.GlobalFrom(b, countries, countryStore)
		lookUp(b)
		topology, err := b.Build()
		require.NoError(t, err)
		d := streamtest.NewTopology(t, topology, append(opts, streamtest.Partitions("countries", 3), streamtest.Partitions("processed", 2))...)
		table, in, out := streamtest.Input(d, countries), streamtest.Input(d, processed), streamtest.Output(d, results)
		for i, c := range []string{"cz Czechia", "de Germany", "fr France"} {
			k, v, _ := strings.Cut(c, " ")
			table.SendTo(i, textRecord{Key: k, Value: v})
		}
		ask := func() []string {
			for p := range 2 {
				for _, k := range []string{"cz", "de", "fr"} {
					in.SendTo(p, textRecord{Key: "k", Value: k})
				}
			}
			d.Commit()
			return values(out)
		}
		want := []string{"Czechia", "Germany", "France", "Czechia", "Germany", "France"}
		require.Equal(t, want, ask())
		d.Restart()
		require.Equal(t, want, ask())
		d.Restart(streamtest.LoseState())
		require.Equal(t, want, ask())
		table.SendTo(0, textRecord{Key: "cz", Value: "Česko"})
		require.Equal(t, "Česko", ask()[0])
		v, ok := streamtest.Get(d, countryStore, "cz")
		require.True(t, ok)
		require.Equal(t, "Česko", v)
	}
}

func TestGlobalTableIsASubTopologyWithoutTasks(t *testing.T) {
	b := stream.NewBuilder()
	stream.GlobalFrom(b, countries, countryStore)
	lookUp(b)
	topology, err := b.Build()
	require.NoError(t, err)
	require.Equal(t, `Topologies:
   Sub-topology: 0 for global store (will not generate tasks)
    Source: KSTREAM-SOURCE-0000000000 (topics: [countries])
      --> KTABLE-SOURCE-0000000001
    Processor: KTABLE-SOURCE-0000000001 (stores: [country-store])
      --> none
      <-- KSTREAM-SOURCE-0000000000
  Sub-topology: 1
    Source: KSTREAM-SOURCE-0000000002 (topics: [processed])
      --> KSTREAM-PROCESSOR-0000000003
    Processor: KSTREAM-PROCESSOR-0000000003 (stores: [])
      --> KSTREAM-SINK-0000000004
      <-- KSTREAM-SOURCE-0000000002
    Sink: KSTREAM-SINK-0000000004 (topic: results)
      <-- KSTREAM-PROCESSOR-0000000003

`, topology.String())
}

func TestGlobalStoreIsReadOnlyForOthers(t *testing.T) {
	b := stream.NewBuilder()
	stream.GlobalFrom(b, countries, countryStore)
	stream.ProcessFunc(stream.From(b, processed), func(ctx *textContext, r textRecord) error {
		return countryStore.In(ctx).Put(r.Key, r.Value)
	}, countryStore)
	d := streamtest.New(t, b)
	require.ErrorIs(t, streamtest.Input(d, processed).TrySend(textRecord{Key: "k"}), state.ErrReadOnly)
}

// shortNames keeps names in upper case.
type shortNames struct{ started bool }

func (p *shortNames) Init(*stream.TaskContext) error {
	p.started = true
	return nil
}

func (p *shortNames) Process(ctx *stream.TaskContext, r textRecord) error {
	if !p.started {
		return errors.New("not started")
	}
	return countryStore.In(ctx).Put(r.Key, strings.ToUpper(r.Value))
}

func TestGlobalStoreOfAProcessor(t *testing.T) {
	b := stream.NewBuilder()
	stream.AddGlobalStore(b, countries, countryStore, func() *shortNames { return &shortNames{} })
	lookUp(b)
	d := streamtest.New(t, b)
	streamtest.Input(d, countries).Send("cz", "Czechia")
	d.Restart(streamtest.LoseState())
	streamtest.Input(d, processed).Send("k", "cz")
	require.Equal(t, []string{"CZECHIA"}, values(streamtest.Output(d, results)))
}
