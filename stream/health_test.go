package stream

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// heard is a health with a clock, and what it said.
type heard struct {
	*health
	clock time.Time
	said  []string
}

func newHeard() *heard {
	h := &heard{clock: time.Unix(1000, 0)}
	h.health = newHealth(func(trouble string) { h.said = append(h.said, trouble) })
	h.now = func() time.Time { return h.clock }
	return h
}

func (h *heard) answer(b kgo.BrokerMetadata, err error) {
	h.OnBrokerE2E(b, 1, kgo.BrokerE2E{ReadErr: err})
}
func (h *heard) connect(b kgo.BrokerMetadata, err error) { h.OnBrokerConnect(b, 0, nil, err) }

var (
	seed       = kgo.BrokerMetadata{NodeID: -1 << 31, Host: "kafka", Port: 9092}
	brokerA    = kgo.BrokerMetadata{NodeID: 1, Host: "a", Port: 9092}
	brokerB    = kgo.BrokerMetadata{NodeID: 2, Host: "b", Port: 9092}
	errRefused = errors.New("refused")
	aRefused   = "broker a:9092 cannot be reached: refused"
	bRefused   = "broker b:9092 cannot be reached: refused"
)

// The trouble is a broker that cannot be connected to or that hangs, not one that ends a connection; an answer ends it.
func TestTroubleWithBrokers(t *testing.T) {
	h := newHeard()
	h.connect(brokerA, nil)
	h.answer(brokerA, nil)
	h.answer(brokerA, io.EOF)
	h.connect(brokerA, context.Canceled)
	require.Empty(t, h.said)

	h.connect(brokerA, errRefused)
	require.Equal(t, []string{aRefused}, h.said)
	since, err := h.trouble()
	require.Equal(t, h.clock, since)
	require.ErrorIs(t, err, errRefused)
	require.EqualError(t, err, aRefused)
	h.clock = h.clock.Add(time.Minute)
	h.connect(brokerA, nil)
	h.answer(brokerA, io.EOF)
	again, _ := h.trouble()
	require.Equal(t, since, again)
	require.Len(t, h.said, 1)
	h.answer(brokerA, nil)
	require.Equal(t, "", h.said[1])
	_, err = h.trouble()
	require.NoError(t, err)

	h.answer(brokerA, &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded})
	require.Equal(t, "broker a:9092 cannot be reached: it does not answer: read tcp: i/o timeout", h.said[2])
	h.answer(brokerA, nil)
	require.Equal(t, "", h.said[3])
}

// While another broker answers, one that is away is known, and no trouble.
func TestOneOfSeveralBrokersIsAway(t *testing.T) {
	h := newHeard()
	h.connect(brokerA, nil)
	h.connect(brokerB, nil)
	for range 100 {
		h.connect(brokerA, errRefused)
		require.EqualError(t, h.away(), aRefused)
		h.answer(brokerB, nil)
		require.EqualError(t, h.away(), aRefused, "an answer of another one does not hide it")
		h.clock = h.clock.Add(time.Second)
	}
	require.Empty(t, h.said)

	h.connect(brokerB, errRefused)
	require.Equal(t, []string{aRefused + "; " + bRefused}, h.said)
	since, err := h.trouble()
	require.Equal(t, h.clock, since)
	require.ErrorIs(t, err, errRefused)
	h.answer(brokerA, nil)
	require.Equal(t, "", h.said[1])
	require.EqualError(t, h.away(), bRefused)
	h.answer(brokerB, nil)
	require.NoError(t, h.away())
	require.Len(t, h.said, 2)
}

// A broker that left the cluster in peace answers nothing, and does not hide that the others are away.
func TestASilentBrokerDoesNotAnswer(t *testing.T) {
	h := newHeard()
	h.connect(brokerA, nil)
	h.connect(brokerB, nil)
	h.clock = h.clock.Add(time.Hour)
	h.connect(brokerA, errRefused)
	h.clock = h.clock.Add(silentAfter - 1)
	h.connect(brokerA, errRefused)
	require.Empty(t, h.said, "who was not asked may answer")
	h.clock = h.clock.Add(1)
	h.connect(brokerA, errRefused)
	require.Equal(t, []string{aRefused}, h.said)
}

// A seed is one of the brokers, or a way to them: it counts until the cluster has named them.
func TestSeedsCountAtTheStart(t *testing.T) {
	h := newHeard()
	h.connect(seed, errRefused)
	require.Equal(t, []string{"broker kafka:9092 cannot be reached: refused"}, h.said)
	h.answer(seed, nil)
	require.Equal(t, "", h.said[1])
	h.connect(brokerA, nil)
	h.connect(seed, errRefused)
	require.NoError(t, h.away())
	h.connect(brokerA, errRefused)
	h.answer(seed, nil)
	require.Equal(t, aRefused, h.said[2])
	require.Len(t, h.said, 3)
}

// A commit that takes long is told of as long as some broker is away: the one that it waits for may be.
func TestACommitWaitsForABroker(t *testing.T) {
	states := newStates(time.Now, nil)
	h := newHeard()
	worker := &workerMetrics{}
	a := &App{states: states, health: h.health, workerStats: []*workerMetrics{{}, worker}}
	a.cfg.TaskTimeout = time.Minute
	states.set(func(f *facts) { f.started, f.checked, f.joined = true, true, true })
	state := func(want State, reason string) {
		t.Helper()
		a.lookAtHealth(h.clock)
		s, r := states.get()
		require.Equal(t, want, s)
		require.Equal(t, reason, r)
	}
	h.connect(brokerA, nil)
	h.connect(brokerB, nil)
	h.connect(brokerA, errRefused)
	state(Running, "")
	worker.committing.Store(h.clock.UnixNano())
	h.clock = h.clock.Add(slowCommit - 1)
	state(Running, "")
	h.clock = h.clock.Add(1)
	state(Waiting, "a commit waits: "+aRefused)
	h.answer(brokerA, nil)
	state(Running, "")
	h.connect(brokerB, errRefused)
	state(Waiting, "a commit waits: "+bRefused)
	worker.committing.Store(0)
	state(Running, "")
}

// No broker for TaskTimeout ends the application; some of them may be away for as long as they like.
func TestNoBrokerForTaskTimeout(t *testing.T) {
	h := newHeard()
	a := &App{states: newStates(time.Now, nil), health: h.health}
	a.cfg.TaskTimeout = time.Minute
	a.running, a.cancel = context.WithCancelCause(t.Context())
	h.connect(brokerA, nil)
	h.connect(brokerB, nil)
	h.connect(brokerA, errRefused)
	h.clock = h.clock.Add(time.Hour)
	h.answer(brokerB, nil)
	a.lookAtHealth(h.clock)
	require.NoError(t, a.failed())
	h.connect(brokerB, errRefused)
	h.clock = h.clock.Add(time.Minute)
	a.lookAtHealth(h.clock)
	require.NoError(t, a.failed())
	h.clock = h.clock.Add(1)
	a.lookAtHealth(h.clock)
	require.EqualError(t, a.failed(), "no broker answered for 1m0s: "+aRefused+"; "+bRefused)
	require.ErrorIs(t, a.failed(), errRefused)
}
