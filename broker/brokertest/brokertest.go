// Package brokertest starts brokers for tests.
//
//	func TestApp(t *testing.T) {
//		b := brokertest.New(t)
//		client, err := kgo.NewClient(kgo.Dialer(b.DialContext), kgo.SeedBrokers(broker.InProcessAddr))
//
// Each broker is alone, starts in milliseconds, and is closed at the end of its test; it must have closed cleanly by then.
//
// A test can break what the broker answers (Fail, Delay, Disconnect, LoseAnswers), wait for what clients ask (AwaitRequests), and make
// time pass and its consequences happen (Advance, Compact, Retain).
package brokertest

import (
	"log/slog"
	"testing"
	"time"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/internal/fault"
)

// Option changes how a broker is started.
type Option func(testing.TB, *broker.Config)

// OnDisk keeps the logs in a temporary directory of the test in place of memory.
func OnDisk() Option {
	return func(t testing.TB, c *broker.Config) { c.DataDir = t.TempDir() }
}

// InDir keeps the logs in dir, which a later broker of the test may open again.
func InDir(dir string) Option {
	return func(_ testing.TB, c *broker.Config) { c.DataDir = dir }
}

// TCP listens on a free port of the loopback interface; see Broker.Addrs.
func TCP() Option {
	return func(_ testing.TB, c *broker.Config) { c.Listen = []string{"127.0.0.1:0"} }
}

// Partitions is the number of partitions of topics that are created without saying.
func Partitions(n int32) Option {
	return func(_ testing.TB, c *broker.Config) { c.DefaultPartitions = n }
}

// Logs writes the broker's log to that of the test.
func Logs() Option {
	return func(t testing.TB, c *broker.Config) {
		c.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
}

// With changes the configuration in any way.
func With(f func(*broker.Config)) Option {
	return func(_ testing.TB, c *broker.Config) { f(c) }
}

// New starts a broker, in memory unless an option says otherwise, and closes it at the end of the test.
func New(t testing.TB, opts ...Option) *Broker {
	t.Helper()
	var c broker.Config
	for _, o := range opts {
		o(t, &c) // t.TempDir before t.Cleanup: the broker has to close its files before they are removed
	}
	b := &Broker{t: t, faults: fault.New(), clock: &clock{base: c.Now}}
	if b.clock.base == nil {
		b.clock.base = time.Now
	}
	c.Now, c.Faults = b.clock.now, b.faults
	var err error
	if b.Broker, err = broker.Start(t.Context(), c); err != nil {
		t.Fatalf("start a broker: %v", err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close the broker: %v", err)
		}
	})
	return b
}
