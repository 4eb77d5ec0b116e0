package crashtest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

var prices = state.KeyValue("prices", serde.String, serde.String)

// startTable runs an application with a table that has no changelog but its topic. It returns what reads the table and what
// stops the application.
func (c *cluster) startTable(t *testing.T, g stream.Guarantee, stateDir string) (table func() map[string]string, stop func()) {
	b := stream.NewBuilder()
	stream.TableFrom(b, stream.NewTopic("prices", serde.String, serde.String), prices)
	topology, err := b.Build(stream.Optimize(stream.ReuseSourceTopics))
	require.NoError(t, err)
	require.Empty(t, topology.ChangelogTopics())
	app, err := stream.New(topology, stream.Config{AppID: "shop", Brokers: []string{c.addr}, StateDir: stateDir, Guarantee: g, CommitInterval: 20 * time.Millisecond})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	stop = func() {
		cancel()
		select {
		case err := <-ended:
			ended <- nil // for the end of the test
			require.NoError(t, err)
		case <-time.After(patience):
			require.Fail(t, "the application did not end")
		}
	}
	t.Cleanup(stop)
	select {
	case <-app.Ready():
	case err := <-ended:
		require.NoError(t, err, "the application ended before it was ready")
	case <-time.After(patience):
		s, reason := app.State()
		require.Fail(t, "the application is not ready", "%s: %s", s, reason)
	}
	return func() map[string]string {
		all := make(map[string]string)
		r, err := state.Query(t.Context(), app, prices)
		if err != nil {
			return nil // a rebalance
		}
		rows := r.All()
		for k, v := range rows.All() {
			all[k] = v
		}
		if rows.Err() != nil {
			return nil
		}
		return all
	}, stop
}

// TestATableIsAsItsTopicAfterTheServerWasKilled: what a table without a changelog holds is what was acknowledged, while it
// follows its topic over the kills of the server, and when it is restored from it.
func TestATableIsAsItsTopicAfterTheServerWasKilled(t *testing.T) {
	for _, g := range []stream.Guarantee{stream.ExactlyOnce, stream.AtLeastOnce} {
		t.Run(g.String(), func(t *testing.T) {
			c := newServer(t, "prices")
			rng := rand.New(rand.NewPCG(*seed, 3))
			t.Logf("seed %d", *seed)
			table, stop := c.startTable(t, g, filepath.Join(c.stateDir, "one"))

			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			want, written := make(map[string]string), make(chan error, 1)
			go func() { written <- c.writePrices(ctx, want) }()
			for range *kills {
				c.waitRandom(rng)
				c.server.kill(t)
				c.startServer(t)
			}
			c.waitRandom(rng)
			cancel()
			require.NoError(t, <-written)
			require.NotEmpty(t, want)

			same := func(table func() map[string]string) {
				t.Helper()
				deadline := time.Now().Add(patience)
				for got := table(); !maps.Equal(got, want); got = table() {
					if time.Now().After(deadline) {
						require.Equal(t, want, got)
					}
					<-time.After(10 * time.Millisecond)
				}
			}
			same(table)
			stop()
			table, stop = c.startTable(t, g, filepath.Join(c.stateDir, "one"))
			same(table)
			stop()
			table, stop = c.startTable(t, g, filepath.Join(c.stateDir, "two")) // all of it from the topic
			same(table)
			stop()
		})
	}
}

// writePrices writes until ctx ends, and notes the last acknowledged value of each key.
func (c *cluster) writePrices(ctx context.Context, last map[string]string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.addr), kgo.DefaultProduceTopic("prices"))
	if err != nil {
		return err
	}
	defer client.Close()
	for n := 0; ctx.Err() == nil; n++ {
		var rs []*kgo.Record
		for i := range 50 {
			rs = append(rs, &kgo.Record{Key: fmt.Append(nil, "item ", (n*50+i)%701), Value: fmt.Append(nil, n)})
		}
		if err := client.ProduceSync(context.WithoutCancel(ctx), rs...).FirstErr(); err != nil {
			return err
		}
		for _, r := range rs {
			last[string(r.Key)] = string(r.Value)
		}
	}
	return nil
}
