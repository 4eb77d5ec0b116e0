package txn

import (
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// world is a shard, the partitions that its transactions touch, and clients of both
// transaction versions that may be zombies of each other.
type world struct {
	t   *rapid.T
	sim *shardSim

	// writing are the markers under way: lost in a crash.
	writing []*writing
	// logs is what the partitions know.
	logs map[TopicPartition]map[int64]*logged
	// current is the transaction of an id since it became ongoing or was prepared.
	current map[string]*transaction
	all     []*transaction
	// began are the producers with transaction version 2 that have begun a transaction.
	began map[producer]bool

	clients []*client
	granted map[producer]*client
	// asked are all requests; late are those of clients with transaction version 2 that
	// may arrive once more.
	asked   map[coordinator.Ref]*request
	late    []request
	lastRef coordinator.Ref
}

type producer struct {
	id    int64
	epoch int16
}

// request is what a client has asked.
type request struct {
	c       *client // nil: a copy that was long on its way
	answers int
	build   func(coordinator.Ref) any
	// done, if not nil, gets the answer.
	done func(result)
}

type client struct {
	name    string // transactional id
	version int16
	producer
	waits bool
}

// transaction is one transaction as the partitions see it.
type transaction struct {
	owner    producer
	prepared State // the outcome; Empty: none yet
	complete bool
	open     int // partitions with data that no marker has ended
}

// logged is what a partition knows of a producer.
type logged struct {
	epoch int16
	open  *transaction // nil: none
}

type writing struct {
	c    writeMarkers
	left []TopicPartition
}

func newWorld(t *rapid.T) *world {
	w := &world{
		t: t, sim: newShardSim(time.Duration(rapid.SampledFrom([]int{0, 300, 5000}).Draw(t, "hold")) * time.Millisecond),
		logs: make(map[TopicPartition]map[int64]*logged), current: make(map[string]*transaction), began: make(map[producer]bool),
		granted: make(map[producer]*client), asked: make(map[coordinator.Ref]*request),
	}
	w.sim.version = rapid.SampledFrom([]int16{1, 2, 2, 2}).Draw(t, "finalized")
	for i := range 5 {
		c := &client{name: []string{"a", "b"}[i%2], producer: producer{-1, -1}}
		c.version = rapid.SampledFrom([]int16{0, 2, 2}).Draw(t, "version")
		w.clients = append(w.clients, c)
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

// logged checks each step of an id.
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
	begin := func() {
		tx = &transaction{owner: producer{md.ProducerID, md.ProducerEpoch}}
		w.current[id] = tx
		w.all = append(w.all, tx)
	}
	switch md.State {
	case Ongoing:
		if tx == nil {
			begin()
			if c := w.granted[tx.owner]; c != nil && c.version == 2 {
				require.False(w.t, w.began[tx.owner], "%v begins a second transaction", tx.owner)
				w.began[tx.owner] = true
			}
		}
		require.Equal(w.t, Empty, tx.prepared)
		require.Equal(w.t, tx.owner, producer{md.ProducerID, md.ProducerEpoch}, "another producer adds partitions")
	case PrepareCommit, PrepareAbort:
		if tx == nil { // only an abort of version 2
			require.Equal(w.t, PrepareAbort, md.State)
			require.Equal(w.t, int16(2), md.ClientVersion)
			begin()
		}
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
	req := w.asked[r.Ref]
	req.answers++
	require.Equal(w.t, 1, req.answers, "answers to request %d", r.Ref)
	res := r.Response.(result)
	if req.c != nil {
		req.c.waits = false
	}
	if err != nil || res.Err != nil {
		return
	}
	if req.done != nil {
		req.done(res)
	}
	if res.ProducerID == -1 {
		return
	}
	got := producer{res.ProducerID, res.Epoch}
	if req.c == nil {
		return
	}
	if other := w.granted[got]; other != nil && other != req.c {
		w.t.Fatalf("%v of %s was given to two clients", got, req.c.name)
	}
	w.granted[got] = req.c
	req.c.producer = got
}

func (w *world) ask(c *client, build func(coordinator.Ref) any, done func(result)) {
	req := request{c: c, build: build, done: done}
	if c.version == 2 {
		w.late = append(w.late, request{build: build, done: done})
	}
	c.waits = true
	w.send(req)
}

func (w *world) send(req request) {
	w.lastRef++
	w.asked[w.lastRef] = &req
	w.sim.step(req.build(w.lastRef))
}

// marker writes one marker, of any that is under way.
func (w *world) marker(i int) {
	i %= len(w.writing)
	wr := w.writing[i]
	if len(wr.left) > 0 {
		tp := wr.left[0]
		wr.left = wr.left[1:]
		m := wr.c.Marker
		p := w.log(tp, m.ProducerID, m.ProducerEpoch)
		require.GreaterOrEqual(w.t, m.ProducerEpoch, p.epoch, "the partition refuses the marker")
		if tx := p.open; tx != nil {
			if m.TxnVersion >= 2 && m.ProducerEpoch != 32767 {
				require.Greater(w.t, m.ProducerEpoch, p.epoch, "the partition refuses the marker")
			}
			want := PrepareAbort
			if m.Commit {
				want = PrepareCommit
			}
			require.Equal(w.t, want, tx.prepared, "marker of another transaction on %v", tp)
			tx.open--
			p.open = nil
		}
		p.epoch = m.ProducerEpoch
	}
	if len(wr.left) == 0 {
		w.writing = append(w.writing[:i], w.writing[i+1:]...)
		w.sim.step(markersWritten{ID: wr.c.ID, ProducerID: wr.c.Marker.ProducerID, Epoch: wr.c.Marker.ProducerEpoch})
	}
}

// log is what a partition knows of a producer, which is new to it if need be.
func (w *world) log(tp TopicPartition, id int64, epoch int16) *logged {
	if w.logs[tp] == nil {
		w.logs[tp] = make(map[int64]*logged)
	}
	if w.logs[tp][id] == nil {
		w.logs[tp][id] = &logged{epoch: epoch}
	}
	return w.logs[tp][id]
}

// produce is what a partition does with a transactional batch.
func (w *world) produce(c *client, tp TopicPartition) {
	p := c.producer
	if l := w.logs[tp][p.id]; l != nil && (p.epoch < l.epoch || l.open != nil && l.epoch == p.epoch) {
		return // fenced, or it continues the transaction that is open there
	}
	if c.version == 2 {
		w.ask(c, func(ref coordinator.Ref) any {
			return addPartitions{Ref: ref, ID: c.name, ProducerID: p.id, Epoch: p.epoch, Version: 2, Hold: w.sim.hold, Partitions: []TopicPartition{tp}}
		}, func(result) { w.append(c.name, p, tp) })
		return
	}
	if err := w.sim.m.index.Verify(c.name, c.id, c.epoch, tp); err == nil {
		w.append(c.name, p, tp)
	}
}

// append puts data of a producer that was verified into a partition.
func (w *world) append(id string, p producer, tp TopicPartition) {
	l := w.log(tp, p.id, p.epoch)
	if p.epoch < l.epoch || l.open != nil && l.epoch == p.epoch {
		return // a copy
	}
	tx := w.current[id]
	require.NotNil(w.t, tx, "verified without a transaction")
	require.Equal(w.t, tx.owner, p, "verified for the transaction of another")
	require.Equal(w.t, Empty, tx.prepared, "verified after the outcome")
	require.Nil(w.t, l.open, "two transactions of a producer")
	l.epoch, l.open = p.epoch, tx
	tx.open++
}

func (w *world) crash() {
	w.writing = nil
	for _, r := range w.asked {
		if r.answers == 0 { // its connection is gone
			r.answers++
			if r.c != nil {
				r.c.waits = false
			}
		}
	}
	w.sim.restart()
}

func (w *world) check() {
	again := w.sim.replayed()
	live := maps.Clone(w.sim.m.index.txns)
	for id, md := range live {
		n := *md
		n.lastEpoch = -1 // not logged
		live[id] = &n
	}
	require.Equal(w.t, again.index.txns, live)
	require.Equal(w.t, again.ongoing, w.sim.m.ongoing)
	require.Equal(w.t, again.preparing, w.sim.m.preparing)
	for id := range w.sim.m.held {
		require.Contains(w.t, w.sim.m.preparing, id, "requests wait for no markers")
	}
}

// TestRandomEvents lets clients of two transactional ids do what they like, while
// markers are slow, appends fail, requests arrive twice and the coordinator crashes. What
// the world checks all the time: each transaction has one outcome and one owner, each
// partition accepts its marker, and a producer with transaction version 2 is good for
// one transaction, so that what arrives late cannot touch the next.
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
				w.ask(c, func(ref coordinator.Ref) any {
					return initProducerID{Ref: ref, ID: c.name, TimeoutMillis: 2000, ProducerID: -1, Epoch: -1, Hold: w.sim.hold, Fresh: -1}
				}, nil)
			},
			"init again": func(t *rapid.T) {
				c := idle()
				p := c.producer
				w.ask(c, func(ref coordinator.Ref) any {
					return initProducerID{Ref: ref, ID: c.name, TimeoutMillis: 2000, ProducerID: p.id, Epoch: p.epoch, Hold: w.sim.hold, Fresh: -1}
				}, nil)
			},
			"add": func(t *rapid.T) {
				c, tps := idle(), rapid.SliceOfN(partition, 1, 3).Draw(t, "partitions")
				p := c.producer
				w.ask(c, func(ref coordinator.Ref) any {
					return addPartitions{
						Ref: ref, ID: c.name, ProducerID: p.id, Epoch: p.epoch, Version: c.version, Hold: w.sim.hold, Partitions: sorted(tps),
					}
				}, nil)
			},
			"produce": func(t *rapid.T) { w.produce(idle(), partition.Draw(t, "to")) },
			"end": func(t *rapid.T) {
				c, commit := idle(), rapid.Bool().Draw(t, "commit")
				p := c.producer
				w.ask(c, func(ref coordinator.Ref) any {
					return endTxn{Ref: ref, ID: c.name, ProducerID: p.id, Epoch: p.epoch, Version: c.version, Commit: commit, Fresh: -1}
				}, nil)
			},
			"late copy": func(t *rapid.T) {
				if len(w.late) == 0 {
					t.Skip("no requests")
				}
				req := rapid.SampledFrom(w.late).Draw(t, "request")
				if _, ok := req.build(0).(initProducerID); ok {
					t.Skip("a copy of it fences, as a new client does")
				}
				w.send(req)
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
				rec := coordinator.Record{Key: appendKey(nil, c.name), Value: n.appendValue(nil, 1)}
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

// drain lets everything come to its end: time passes, markers get written.
func (w *world) drain() {
	w.sim.fail = nil
	for range 10 {
		for len(w.writing) > 0 {
			w.marker(0)
		}
		w.sim.advance(10 * time.Second)
	}
	w.check()
	require.Empty(w.t, w.current, "transactions did not end")
	for tp, producers := range w.logs {
		for id, l := range producers {
			require.Nil(w.t, l.open, "hanging transaction of %d on %v", id, tp)
		}
	}
	for _, tx := range w.all {
		require.True(w.t, tx.complete, fmt.Sprintf("%+v", tx))
	}
	for ref, req := range w.asked {
		require.Equal(w.t, 1, req.answers, "answers to request %d", ref)
	}
}
