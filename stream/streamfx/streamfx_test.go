package streamfx_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"
	"go.uber.org/goleak"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamfx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	in  = stream.NewTopic("in", serde.String, serde.String)
	out = stream.NewTopic("out", serde.String, serde.String)
)

func topology() (*stream.Topology, error) {
	b := stream.NewBuilder()
	stream.MapValues(stream.From(b, in), strings.ToUpper).To(out)
	return b.Build()
}

// program is an fx program with an application on a broker, which has these topics.
func program(t *testing.T, topics ...string) (*fxtest.App, *stream.App, streamfx.Health) {
	b := brokertest.New(t).Broker
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker.InProcessAddr), kgo.Dialer(b.DialContext))
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	_, err = kadm.NewClient(cl).CreateTopics(t.Context(), 1, 1, nil, topics...)
	require.NoError(t, err)
	var app *stream.App
	var health streamfx.Health
	return fxtest.New(t, fx.Provide(topology), streamfx.Module, fx.Populate(&app, &health), fx.Supply(stream.Config{
		AppID: "fx", Brokers: []string{broker.InProcessAddr}, StateDir: t.TempDir(), Client: []kgo.Opt{kgo.Dialer(b.DialContext)},
	})), app, health
}

func TestStartReturnsAtOnceAndReadyTells(t *testing.T) {
	p, app, health := program(t, "in", "out")
	require.ErrorContains(t, health(t.Context()), "CREATED")
	p.RequireStart()
	select {
	case <-app.Ready():
	case <-time.After(30 * time.Second):
		require.Fail(t, "not ready")
	}
	require.NoError(t, health(t.Context()))
	p.RequireStop()
	require.ErrorContains(t, health(t.Context()), "NOT_RUNNING")
}

func TestFatalErrorShutsTheProgramDown(t *testing.T) {
	p, app, _ := program(t, "in")
	require.NoError(t, p.Start(t.Context()), "the missing topic is found later")
	select {
	case sig := <-p.Wait():
		require.Equal(t, 1, sig.ExitCode)
	case <-time.After(30 * time.Second):
		require.Fail(t, "the program goes on without its application")
	}
	require.ErrorContains(t, p.Stop(t.Context()), "do not exist: out")
	s, _ := app.State()
	require.Equal(t, stream.Failed, s)
}
