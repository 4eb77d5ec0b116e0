package brokertest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/internal/fault"
)

// Broker is a running broker under the control of a test.
type Broker struct {
	*broker.Broker
	t      testing.TB
	faults *fault.Plan
	clock  *clock
}

// Always, as a number of times, means every request until Heal.
const Always = -1

// Fail answers the next requests of an API, as many as times says, with an error, for all that they name, and does not perform them.
//
//	b.Fail(kmsg.Produce, kerr.NotLeaderForPartition, 3)
func (b *Broker) Fail(key kmsg.Key, err *kerr.Error, times int) {
	b.FailIf(key, err, times, nil)
}

// FailIf is Fail for those requests for which match says true; match must not keep the request.
func (b *Broker) FailIf(key kmsg.Key, err *kerr.Error, times int, match func(kmsg.Request) bool) {
	b.faults.Add(fault.Rule{Key: key, Times: times, Code: err.Code, Match: match})
}

// Delay holds back the answers to the next requests of an API. As answers of a connection leave in order, those behind them wait too.
func (b *Broker) Delay(key kmsg.Key, d time.Duration, times int) {
	b.faults.Add(fault.Rule{Key: key, Times: times, Delay: d})
}

// Disconnect closes the connection in place of performing the next requests of an API.
func (b *Broker) Disconnect(key kmsg.Key, times int) {
	b.faults.Add(fault.Rule{Key: key, Times: times, Disconnect: true})
}

// LoseAnswers performs the next requests of an API and closes the connection in place of the answer: the client cannot know.
func (b *Broker) LoseAnswers(key kmsg.Key, times int) {
	b.faults.Add(fault.Rule{Key: key, Times: times, Lose: true})
}

// Heal ends all faults.
func (b *Broker) Heal() { b.faults.Clear() }

// Requests is the number of requests of an API so far.
func (b *Broker) Requests(key kmsg.Key) int {
	n, _ := b.faults.Seen(key)
	return n
}

// AwaitRequests returns when there were n requests of an API, and fails the test if ctx ends before.
func (b *Broker) AwaitRequests(ctx context.Context, key kmsg.Key, n int) {
	b.t.Helper()
	for {
		seen, changed := b.faults.Seen(key)
		if seen >= n {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			b.t.Fatalf("waited for %d requests of %s and saw %d: %v", n, key.Name(), seen, context.Cause(ctx))
		}
	}
}

// Advance moves the broker's clock forward, and what is due by then happens: sessions and transactions time out, offsets and locks
// expire. Retain and Compact apply what became due for them. Waits of requests, such as that of a fetch, are by the real clock.
func (b *Broker) Advance(d time.Duration) {
	b.clock.advance(d)
	b.ClockMoved()
}

// clock is one that runs, and can be moved.
type clock struct {
	base func() time.Time

	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.base().Add(c.ahead)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}
