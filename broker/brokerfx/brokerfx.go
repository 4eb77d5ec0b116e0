// Package brokerfx runs a broker in a go.uber.org/fx application.
//
//	fx.New(
//		fx.Supply(broker.Config{Listen: []string{":9092"}, DataDir: "/var/lib/moldau"}),
//		brokerfx.Module,
//		fx.Invoke(func(*brokerfx.Broker) {}),
//	).Run()
//
// The application has started when the broker serves. It stops within fx.StopTimeout, whatever clients do. If the storage fails,
// the application shuts down with exit code 1.
package brokerfx

import (
	"context"
	"errors"
	"net"
	"sync/atomic"

	"go.uber.org/fx"

	"github.com/moldau-stream/moldau/broker"
)

// Module provides *Broker from a broker.Config.
var Module = fx.Module("moldau.broker", fx.Provide(New))

// ErrNotStarted is the error of a Broker that is used before the application has started.
var ErrNotStarted = errors.New("the broker has not started: the fx application has not run its start hooks")

// Broker is the broker of an application. It starts and stops with the application.
type Broker struct{ running atomic.Pointer[broker.Broker] }

// New makes a broker that starts and stops with the life cycle, and shuts the application down when it fails.
func New(lc fx.Lifecycle, down fx.Shutdowner, cfg broker.Config) *Broker {
	b := &Broker{}
	watched := make(chan struct{})
	lc.Append(fx.Hook{
		OnStart: func(ctx context.Context) error {
			running, err := broker.Start(ctx, cfg)
			if err != nil {
				return err
			}
			b.running.Store(running)
			go func() {
				defer close(watched)
				<-running.Done()
				if err := running.Err(); !errors.Is(err, broker.ErrClosed) {
					_ = down.Shutdown(fx.ExitCode(1)) // it fails only if the application is not running any more
				}
			}()
			return nil
		},
		OnStop: func(ctx context.Context) error {
			err := b.running.Load().Shutdown(ctx)
			<-watched
			return err
		},
	})
	return b
}

// Running is the broker once the application has started; nil before.
func (b *Broker) Running() *broker.Broker { return b.running.Load() }

// Addrs are the addresses that the broker listens on; none before the application has started.
func (b *Broker) Addrs() []string {
	if r := b.running.Load(); r != nil {
		return r.Addrs()
	}
	return nil
}

// DialContext connects to the broker within the process; it fits kgo.Dialer.
func (b *Broker) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	r := b.running.Load()
	if r == nil {
		return nil, ErrNotStarted
	}
	return r.DialContext(ctx, network, address)
}
