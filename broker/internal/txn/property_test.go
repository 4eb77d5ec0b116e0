package txn

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// world is a shard, the partitions that its transactions touch, and clients that may
// be zombies of each other.
type world struct {
	t   *rapid.T
	sim *shardSim

	// writing are the markers under way: lost in a crash.
	writing []*writing
	// open is the data without a marker yet, by partition and producer id: the
	// transaction that it belongs to.
	open map[TopicPartition]map[int64]*transaction
	// current is the transaction of an id since it became ongoing.
	current map[string]*transaction
	all     []*transaction

	clients []*client
	granted map[producer]*client
	// answers counts the answers of each request.
	answers map[coordinator.Ref]int
	asked   map[coordinator.Ref]*request
	lastRef coordinator.Ref
}

type producer struct {
	id    int64
	epoch int16
}

// request is what a client has asked.
type request struct {
	c    *client
	init bool
}

type client struct {
	name string // transactional id
	producer
	waits bool
}

// transaction is one transaction as the partitions see it.
type transaction struct {
	prepared State // the outcome; Empty: none yet
	complete bool
	open     int // partitions with data that no marker has ended
}

type writing struct {
	c    writeMarkers
	left []TopicPartition
}

func newWorld(t *rapid.T) *world {
	w := &world{
		t: t, sim: newShardSim(time.Duration(rapid.SampledFrom([]int{0, 300, 5000}).Draw(t, "hold")) * time.Millisecond),
		open: make(map[TopicPartition]map[int64]*transaction), current: make(map[string]*transaction),
		granted: make(map[producer]*client), answers: make(map[coordinator.Ref]int), asked: make(map[coordinator.Ref]*request),
	}
	for i := range 4 {
		w.clients = append(w.clients, &client{name: []string{"a", "b"}[i%2], producer: producer{-1, -1}})
	}
	w.sim.onAppend = w.logged
	w.sim.onReply = w.answered
	w.sim.onCall = func(c any) {
		if c, ok := c.(writeMarkers); ok {
			w.writing = append(w.writing, &writing{c: c, left: append([]TopicPartition(nil), c.Partitions...)})
		}
	}
	return w
}

func (w *world) logged(rec coordinator.Record) {
	id, err := decodeKey(rec.Key)
	require.NoError(w.t, err)
	if rec.Value == nil {
		require.Nil(w.t, w.current[id], "id %s expired in a transaction", id)
		return
	}
	md, err := decodeValue(rec.Value)
	require.NoError(w.t, err)
	tx := w.current[id]
	switch md.State {
	case Ongoing:
		if tx == nil {
			tx = &transaction{}
			w.current[id] = tx
			w.all = append(w.all, tx)
		}
		require.Equal(w.t, Empty, tx.prepared)
	case PrepareCommit, PrepareAbort:
		require.NotNil(w.t, tx)
		require.Equal(w.t, Empty, tx.prepared, "second outcome of a transaction of %s", id)
		tx.prepared = md.State
	case CompleteCommit, CompleteAbort:
		require.NotNil(w.t, tx)
		require.Equal(w.t, tx.prepared+2, md.State)
		require.Zero(w.t, tx.open, "transaction of %s completed with open data", id)
		tx.complete = true
		delete(w.current, id)
	}
}

func (w *world) answered(r coordinator.Reply, err error) {
	w.answers[r.Ref]++
	require.Equal(w.t, 1, w.answers[r.Ref], "answers to request %d", r.Ref)
	req := w.asked[r.Ref]
	req.c.waits = false
	res := r.Response.(result)
	if !req.init || err != nil || res.Err != nil {
		return
	}
	got := producer{res.ProducerID, res.Epoch}
	if other := w.granted[got]; other != nil && other != req.c {
		w.t.Fatalf("%v of %s was given to two clients", got, req.c.name)
	}
	w.granted[got] = req.c
	req.c.producer = got
}

func (w *world) ask(c *client, init bool, build func(coordinator.Ref) any) {
	w.lastRef++
	w.asked[w.lastRef] = &request{c: c, init: init}
	c.waits = true
	w.sim.step(build(w.lastRef))
}

// marker writes one marker, of any that is under way.
func (w *world) marker(i int) {
	i %= len(w.writing)
	wr := w.writing[i]
	if len(wr.left) > 0 {
		tp := wr.left[0]
		wr.left = wr.left[1:]
		m := wr.c.Marker
		if tx := w.open[tp][m.ProducerID]; tx != nil {
			want := PrepareAbort
			if m.Commit {
				want = PrepareCommit
			}
			require.Equal(w.t, want, tx.prepared, "marker of another transaction on %v", tp)
			tx.open--
			delete(w.open[tp], m.ProducerID)
		}
	}
	if len(wr.left) == 0 {
		w.writing = append(w.writing[:i], w.writing[i+1:]...)
		w.sim.step(markersWritten{ID: wr.c.ID, ProducerID: wr.c.Marker.ProducerID, Epoch: wr.c.Marker.ProducerEpoch})
	}
}

// produce is what a partition does with a transactional batch.
func (w *world) produce(c *client, tp TopicPartition) {
	if w.open[tp][c.id] != nil {
		return // continues the transaction that is open there
	}
	if err := w.sim.m.index.Verify(c.name, c.id, c.epoch, tp); err != nil {
		return
	}
	tx := w.current[c.name]
	require.NotNil(w.t, tx, "verified without a transaction")
	require.Equal(w.t, Empty, tx.prepared, "verified after the outcome")
	if w.open[tp] == nil {
		w.open[tp] = make(map[int64]*transaction)
	}
	w.open[tp][c.id] = tx
	tx.open++
}

func (w *world) crash() {
	w.writing = nil
	for ref, r := range w.asked {
		if w.answers[ref] == 0 {
			w.answers[ref]++ // its connection is gone
			r.c.waits = false
		}
	}
	w.sim.restart()
}

func (w *world) check() {
	again := w.sim.replayed()
	require.Equal(w.t, again.index.txns, w.sim.m.index.txns)
	require.Equal(w.t, again.ongoing, w.sim.m.ongoing)
	require.Equal(w.t, again.preparing, w.sim.m.preparing)
	for id := range w.sim.m.held {
		require.Contains(w.t, w.sim.m.preparing, id, "requests wait for no markers")
	}
}

// TestRandomEvents lets four clients of two transactional ids do what they like,
// while markers are slow, appends fail and the coordinator crashes.
func TestRandomEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		idle := func() *client {
			c := rapid.SampledFrom(w.clients).Draw(t, "client")
			if c.waits {
				t.Skip("client waits")
			}
			return c
		}
		partition := rapid.Custom(func(t *rapid.T) TopicPartition {
			return TopicPartition{rapid.SampledFrom([]string{"t", "u"}).Draw(t, "topic"), rapid.Int32Range(0, 1).Draw(t, "partition")}
		})
		t.Repeat(map[string]func(*rapid.T){
			"init": func(t *rapid.T) {
				c := idle()
				w.ask(c, true, func(ref coordinator.Ref) any {
					return initProducerID{Ref: ref, ID: c.name, TimeoutMillis: 2000, ProducerID: -1, Epoch: -1, Fresh: -1}
				})
			},
			"init again": func(t *rapid.T) {
				c := idle()
				w.ask(c, true, func(ref coordinator.Ref) any {
					return initProducerID{Ref: ref, ID: c.name, TimeoutMillis: 2000, ProducerID: c.id, Epoch: c.epoch, Fresh: -1}
				})
			},
			"add": func(t *rapid.T) {
				c, tps := idle(), rapid.SliceOfN(partition, 1, 3).Draw(t, "partitions")
				w.ask(c, false, func(ref coordinator.Ref) any {
					return addPartitions{Ref: ref, ID: c.name, ProducerID: c.id, Epoch: c.epoch, Partitions: union(nil, union(sorted(tps), nil))}
				})
			},
			"produce": func(t *rapid.T) { w.produce(rapid.SampledFrom(w.clients).Draw(t, "client"), partition.Draw(t, "to")) },
			"end": func(t *rapid.T) {
				c, commit := idle(), rapid.Bool().Draw(t, "commit")
				w.ask(c, false, func(ref coordinator.Ref) any {
					return endTxn{Ref: ref, ID: c.name, ProducerID: c.id, Epoch: c.epoch, Commit: commit}
				})
			},
			"marker": func(t *rapid.T) {
				if len(w.writing) == 0 {
					t.Skip("no markers")
				}
				w.marker(rapid.IntRange(0, 9).Draw(t, "which"))
			},
			"time": func(t *rapid.T) {
				w.sim.advance(time.Duration(rapid.IntRange(1, 1500).Draw(t, "ms")) * time.Millisecond)
			},
			"long time":   func(t *rapid.T) { w.sim.advance(time.Duration(rapid.IntRange(1, 9).Draw(t, "days")) * 24 * time.Hour) },
			"fail append": func(t *rapid.T) { w.sim.fail = errors.New("disk full") },
			"last epoch": func(t *rapid.T) {
				// Nobody gets through 32,767 epochs here: pretend that an id did.
				c := idle()
				md := w.sim.m.index.txns[c.name]
				if md == nil || md.ProducerEpoch > 100 || md.State == Ongoing || md.State.preparing() {
					t.Skip("no such id")
				}
				c.waits = true
				n := *md
				n.ProducerEpoch = 32764
				rec := coordinator.Record{Key: appendKey(nil, c.name), Value: n.appendValue(nil)}
				w.sim.log = append(w.sim.log, rec)
				w.sim.m.Replay(coordinator.Replayed{Record: rec})
				c.waits = false
			},
			"crash": func(t *rapid.T) { w.crash() },
			"":      func(t *rapid.T) { w.check() },
		})
		w.drain()
	})
}

func sorted(tps []TopicPartition) []TopicPartition {
	var out []TopicPartition
	for _, tp := range tps {
		out = union(out, []TopicPartition{tp})
	}
	return out
}

// drain lets everything come to its end: time passes, markers get written.
func (w *world) drain() {
	w.sim.fail = nil
	for range 10 {
		for len(w.writing) > 0 {
			w.marker(0)
		}
		w.sim.advance(5 * time.Second)
	}
	w.check()
	require.Empty(w.t, w.current, "transactions did not end")
	for tp, open := range w.open {
		require.Empty(w.t, open, "hanging transaction on %v", tp)
	}
	for _, tx := range w.all {
		require.True(w.t, tx.complete, fmt.Sprintf("%+v", tx))
	}
	for ref := range w.asked {
		require.Equal(w.t, 1, w.answers[ref], "answers to request %d", ref)
	}
}
