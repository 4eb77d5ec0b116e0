package brokerfx_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokerfx"
	"github.com/moldau-stream/moldau/internal/vfs"
)

func TestBrokerLivesWithTheApplication(t *testing.T) {
	var b *brokerfx.Broker
	app := fxtest.New(t, fx.Supply(broker.Config{Listen: []string{"127.0.0.1:0"}}), brokerfx.Module, fx.Populate(&b))
	_, err := b.DialContext(t.Context(), "tcp", "x:1")
	require.ErrorIs(t, err, brokerfx.ErrNotStarted)
	require.Empty(t, b.Addrs())
	app.RequireStart()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addrs()...), kgo.AllowAutoTopicCreation())
	require.NoError(t, err)
	require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("x")}).FirstErr(), "it serves when the application has started")
	cl.Close()
	app.RequireStop()
	require.ErrorIs(t, b.Running().Err(), broker.ErrClosed)
}

func TestStartErrorIsTheApplications(t *testing.T) {
	app := fx.New(fx.NopLogger, fx.Supply(broker.Config{Listen: []string{"nonsense"}}), brokerfx.Module, fx.Invoke(func(*brokerfx.Broker) {}))
	require.NoError(t, app.Err())
	require.ErrorContains(t, app.Start(t.Context()), "nonsense")
}

func TestFailedStorageEndsTheApplication(t *testing.T) {
	mem := vfs.NewMem()
	var failing atomic.Bool
	mem.SetHook(func(op vfs.Op) error {
		if failing.Load() && op.Name == "sync" {
			return errors.New("input/output error")
		}
		return nil
	})
	var b *brokerfx.Broker
	app := fx.New(fx.NopLogger, fx.Supply(broker.Config{DataDir: "data", FS: mem}), brokerfx.Module, fx.Populate(&b), fx.StopTimeout(10*time.Second))
	require.NoError(t, app.Start(t.Context()))
	failing.Store(true)
	cl, err := kgo.NewClient(kgo.Dialer(b.DialContext), kgo.AllowAutoTopicCreation(), kgo.RecordRetries(1))
	require.NoError(t, err)
	cl.Produce(t.Context(), &kgo.Record{Topic: "t", Value: []byte("x")}, nil)
	end := <-app.Wait()
	require.Equal(t, 1, end.ExitCode)
	cl.Close()
	_ = app.Stop(t.Context()) // what the failed storage says on closing
	require.ErrorContains(t, b.Running().Err(), "input/output error")
}
