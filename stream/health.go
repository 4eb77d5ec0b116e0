package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// silentAfter is how long a broker must have answered nothing, while another one is away, to count as one that does not
// answer: nobody may have asked it. It is longer than the pauses between heartbeats, and between tries to get metadata.
const silentAfter = 10 * time.Second

// health knows which brokers can be reached, from what happens on the connections of all clients.
//
//	            cannot be connected to, or hangs
//	(answers) ----------------------------------> away       all are away, or silent: trouble
//	    ^                                          |         one answers: none
//	    +------------------------------------------+
//	                   an answer of it
//
// While one broker answers, leaders and coordinators move to it, and the application goes on. What it cannot do before they have
// moved is told by who waits for it: see unreadable, and worker.commitWith.
type health struct {
	changed func(trouble string) // "" when a broker answers
	now     func() time.Time

	bad     atomic.Bool // some broker is away; keeps the path of every answered request free of the lock
	mu      sync.Mutex
	brokers map[int32]*brokerHealth // by node id; seeds have ids of their own, below 0
	since   time.Time               // when the last of them was lost; zero: one answers
}

// brokerHealth is what is known of one broker.
type brokerHealth struct {
	addr  string
	away  error     // nil: it answers
	heard time.Time // the last answer, while some broker is away
}

var (
	_ kgo.HookBrokerConnect = (*health)(nil)
	_ kgo.HookBrokerE2E     = (*health)(nil)
)

func newHealth(changed func(string)) *health {
	return &health{changed: changed, now: time.Now, brokers: make(map[int32]*brokerHealth)}
}

// OnBrokerConnect implements kgo.HookBrokerConnect. A lost connection is no trouble yet: it becomes one when
// it cannot be made again.
func (h *health) OnBrokerConnect(b kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	switch {
	case err == nil:
		h.mu.Lock()
		defer h.mu.Unlock()
		h.broker(b)
	case !errors.Is(err, context.Canceled): // a client that is closed
		h.failed(b, err)
	}
}

// OnBrokerE2E implements kgo.HookBrokerE2E. A broker that hangs accepts connections, but answers nothing.
func (h *health) OnBrokerE2E(b kgo.BrokerMetadata, _ int16, e kgo.BrokerE2E) {
	switch err := e.Err(); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		h.failed(b, fmt.Errorf("it does not answer: %w", err))
	case err == nil && h.bad.Load():
		h.answered(b)
	}
}

// broker is what is known of a broker; nil for seeds as soon as the cluster has named its brokers, of which they are. h.mu is held.
func (h *health) broker(b kgo.BrokerMetadata) *brokerHealth {
	k := h.brokers[b.NodeID]
	if k == nil {
		if b.NodeID >= 0 {
			for id := range h.brokers {
				if id < 0 {
					delete(h.brokers, id)
				}
			}
		} else {
			for id := range h.brokers {
				if id >= 0 {
					return nil
				}
			}
		}
		k = &brokerHealth{heard: h.now()}
		h.brokers[b.NodeID] = k
	}
	k.addr = net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
	return k
}

func (h *health) failed(b kgo.BrokerMetadata, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.broker(b)
	if k == nil {
		return
	}
	if !h.bad.Swap(true) {
		for _, other := range h.brokers {
			other.heard = h.now() // as far as anybody knows
		}
	}
	k.away = err
	h.judge()
}

func (h *health) answered(b kgo.BrokerMetadata) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.broker(b)
	if k == nil {
		return
	}
	k.away, k.heard = nil, h.now()
	h.judge()
}

// judge finds out whether some broker answers; h.mu is held.
func (h *health) judge() {
	now, away, answers := h.now(), false, false
	for _, k := range h.brokers {
		away = away || k.away != nil
		answers = answers || k.away == nil && now.Sub(k.heard) < silentAfter
	}
	h.bad.Store(away)
	switch {
	case away && !answers:
		if h.since.IsZero() {
			h.since = now
		}
		h.changed(h.reason().Error())
	case !h.since.IsZero():
		h.since = time.Time{}
		h.changed("")
	}
}

// reason names the brokers that are away; nil if there are none. h.mu is held.
func (h *health) reason() error {
	var away []*brokerHealth
	for _, k := range h.brokers {
		if k.away != nil {
			away = append(away, k)
		}
	}
	slices.SortFunc(away, func(a, b *brokerHealth) int { return strings.Compare(a.addr, b.addr) })
	var all error
	for _, k := range away {
		err := fmt.Errorf("broker %s cannot be reached: %w", k.addr, k.away)
		if all != nil {
			err = fmt.Errorf("%w; %w", all, err)
		}
		all = err
	}
	return all
}

// trouble is since when no broker answers, and why; nil when one does.
func (h *health) trouble() (since time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.since.IsZero() {
		return time.Time{}, nil
	}
	return h.since, h.reason()
}

// away names the brokers that cannot be reached; nil if there are none.
func (h *health) away() error {
	if !h.bad.Load() {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reason()
}
