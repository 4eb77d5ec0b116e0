package coordinator_test

import (
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
	"github.com/moldau-stream/moldau/broker/internal/coordinator/coordinatortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counter adds numbers up: each record holds the new sum.
type counter struct {
	sum      int
	markers  int
	loaded   bool
	failed   []error
	deadline time.Time
	held     []coordinator.Ref // parked by the machine until a tick
}

type (
	add struct {
		n   int
		ref coordinator.Ref
	}
	get  struct{ ref coordinator.Ref }
	hold struct {
		ref   coordinator.Ref
		until time.Time
	}
	end  struct{ ref coordinator.Ref }
	note string // stepped on commit
)

func (c *counter) Step(now time.Time, ev any) coordinator.Effects {
	switch ev := ev.(type) {
	case add:
		sum := strconv.Itoa(c.sum + ev.n)
		return coordinator.Effects{
			Append:      []coordinator.Record{{Key: []byte("sum"), Value: []byte(sum)}},
			Replies:     []coordinator.Reply{{Ref: ev.ref, Response: c.sum + ev.n}},
			Calls:       []any{"added " + strconv.Itoa(ev.n)},
			OnCommitted: note("committed " + sum),
		}
	case get:
		return coordinator.Effects{Replies: []coordinator.Reply{{Ref: ev.ref, Response: c.sum}}}
	case hold:
		c.held = append(c.held, ev.ref)
		c.deadline = ev.until
	case coordinator.Tick:
		var e coordinator.Effects
		for _, ref := range c.held {
			e.Replies = append(e.Replies, coordinator.Reply{Ref: ref, Response: "tick"})
		}
		c.held, c.deadline = nil, time.Time{}
		return e
	case end:
		return coordinator.Effects{
			Marker:  &coordinator.Marker{ProducerID: 7, Commit: true},
			Replies: []coordinator.Reply{{Ref: ev.ref}},
		}
	case note:
		return coordinator.Effects{Calls: []any{string(ev)}}
	case coordinator.OnCommittedErr:
		c.failed = append(c.failed, ev.Err)
	}
	return coordinator.Effects{}
}

func (c *counter) Replay(r coordinator.Replayed) { c.sum, _ = strconv.Atoi(string(r.Value)) }

func (c *counter) ReplayMarker(int64, coordinator.Marker) { c.markers++ }

func (c *counter) Loaded(time.Time) { c.loaded = true }

func (c *counter) Deadline() time.Time { return c.deadline }

type harness struct {
	log   coordinatortest.Log
	m     *counter
	calls []any
	loop  *coordinator.Loop
}

func (h *harness) start() {
	h.m = &counter{}
	h.loop = coordinator.NewLoop("test-0", &h.log, h.m, time.Now, func(c any) { h.calls = append(h.calls, c) }, nil)
}

type answer struct {
	response any
	err      error
	at       time.Time
}

type answers struct {
	mu   sync.Mutex
	list []answer
}

func (a *answers) none(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	require.Empty(t, a.list)
}

func (a *answers) one(t *testing.T) answer {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	require.Len(t, a.list, 1)
	return a.list[0]
}

// ask sends a request; the answer is there after synctest.Wait if it was given.
func (h *harness) ask(build func(coordinator.Ref) any) *answers {
	a := &answers{}
	h.loop.Request(build, func(response any, err error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.list = append(a.list, answer{response, err, time.Now()})
	})
	return a
}

func (h *harness) add(n int) *answers {
	return h.ask(func(r coordinator.Ref) any { return add{n, r} })
}

func (h *harness) get() *answers {
	return h.ask(func(r coordinator.Ref) any { return get{r} })
}

func TestAnswersWaitForTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &harness{}
		h.start()
		defer h.loop.Close()
		h.log.Hold()

		before := h.get()
		added := h.add(5)
		read := h.get()
		synctest.Wait()
		require.Len(t, h.log.Entries(), 1)
		added.none(t)
		read.none(t) // a read must not see what is not committed
		require.Equal(t, 0, before.one(t).response, "nothing was pending before the first append")

		h.log.Commit(nil)
		synctest.Wait()
		require.Equal(t, 5, added.one(t).response)
		require.Equal(t, 5, read.one(t).response)
		require.Equal(t, []any{"added 5", "committed 5"}, h.calls)
	})
}

func TestFailedAppendChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &harness{}
		h.start()
		defer h.loop.Close()
		full := errors.New("disk full")
		h.log.FailNext(full)

		failed := h.add(5)
		next := h.add(2)
		synctest.Wait()
		require.ErrorIs(t, failed.one(t).err, full)
		require.Equal(t, 2, next.one(t).response, "the failed 5 is not in the sum")
		require.Equal(t, []error{full}, h.m.failed)
		require.Equal(t, []any{"added 2", "committed 2"}, h.calls)
	})
}

func TestFailedCommitEndsTheService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &harness{}
		h.start()
		defer h.loop.Close()
		h.log.Hold()
		added := h.add(5)
		synctest.Wait()
		lost := errors.New("fsync failed")
		h.log.Commit(lost)
		synctest.Wait()
		require.ErrorIs(t, added.one(t).err, lost)

		later := h.get()
		synctest.Wait()
		require.ErrorIs(t, later.one(t).err, lost)
		require.Empty(t, h.calls)
	})
}

func TestDeadlineTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &harness{}
		h.start()
		defer h.loop.Close()
		until := time.Now().Add(10 * time.Second)
		held := h.ask(func(r coordinator.Ref) any { return hold{r, until} })
		time.Sleep(9 * time.Second)
		synctest.Wait()
		held.none(t)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, "tick", held.one(t).response)
		require.Equal(t, until, held.one(t).at)
	})
}

func TestLoadReplaysTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &harness{}
		h.start()
		h.add(5)
		h.ask(func(r coordinator.Ref) any { return end{r} })
		last := h.add(2)
		synctest.Wait()
		require.Equal(t, 7, last.one(t).response)
		h.loop.Close()

		h.start()
		defer h.loop.Close()
		sum := h.get()
		synctest.Wait()
		require.Equal(t, 7, sum.one(t).response)
		require.Equal(t, 1, h.m.markers)
		require.True(t, h.m.loaded)
	})
}

func TestCloseAnswersWhoeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &harness{}
		h.start()
		h.log.Hold()
		parkedByMachine := h.ask(func(r coordinator.Ref) any { return hold{ref: r} })
		uncommitted := h.add(5)
		synctest.Wait()
		h.loop.Close()
		for _, got := range []*answers{parkedByMachine, uncommitted, h.get()} {
			require.ErrorIs(t, got.one(t).err, coordinator.ErrClosed)
		}
		h.log.Commit(nil) // late, must be harmless
		h.loop.Submit(note("late"))
	})
}

// blockedLog does not come up until it is released.
type blockedLog struct {
	coordinatortest.Log
	release chan struct{}
	err     error
}

func (l *blockedLog) Load(record func(coordinator.Replayed), marker func(int64, coordinator.Marker)) error {
	<-l.release
	return l.err
}

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &blockedLog{release: make(chan struct{})}
		loop := coordinator.NewLoop("test-0", log, &counter{}, time.Now, nil, nil)
		defer loop.Close()
		var ok, busy int
		for range 20000 {
			loop.Request(func(r coordinator.Ref) any { return get{r} }, func(_ any, err error) {
				if errors.Is(err, coordinator.ErrBusy) {
					busy++
				} else if err == nil {
					ok++
				}
			})
		}
		require.Equal(t, 20000-16384, busy)
		close(log.release)
		synctest.Wait()
		require.Equal(t, 16384, ok)
	})
}

func TestFailedLoadRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		torn := errors.New("segment unreadable")
		log := &blockedLog{release: make(chan struct{}), err: torn}
		close(log.release)
		loop := coordinator.NewLoop("test-0", log, &counter{}, time.Now, nil, nil)
		defer loop.Close()
		var got error
		loop.Request(func(r coordinator.Ref) any { return get{r} }, func(_ any, err error) { got = err })
		synctest.Wait()
		require.ErrorIs(t, got, torn)
		require.ErrorContains(t, got, "test-0")
	})
}
