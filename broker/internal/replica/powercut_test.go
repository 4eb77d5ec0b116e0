package replica

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/invariants"
	"github.com/moldau-stream/moldau/internal/vfs"
)

var powerCutFlag = flag.Uint64("powercut.seeds", 1000, "power cuts of TestPowerCut, a fifth of them under the race detector; a quarter of that in TestPowerCutInCompaction")

// powerCutSeeds is how many power cuts are tried: fewer under the race detector, where one takes
// ten times as long, and what that is to find shows in fewer.
func powerCutSeeds() uint64 {
	if invariants.Enabled {
		return max(*powerCutFlag/5, 1)
	}
	return *powerCutFlag
}

var errPower = errors.New("the power is off")

// world is one run: a manager under load until the power fails.
type world struct {
	rng  *rand.Rand
	fs   *vfs.Mem
	cfg  log.Config
	now  func() time.Time
	m    *Manager
	part [3]*Partition

	lastID int64
	cutAt  int64
	off    atomic.Bool

	mu      sync.Mutex
	history [3]map[int64][]byte // batches as appended, by base offset
	acked   [3]int64            // everything below was acknowledged
	opened  bool                // the manager's start is over
	clone   *vfs.Mem            // what the power cut left
	at      [3]int64            // acked at that moment
	where   string
}

func newWorld(seed uint64) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 7)), fs: vfs.NewMem(), cfg: log.DefaultConfig(), now: func() time.Time { return time.UnixMilli(1_000_000) }}
	w.cfg.SegmentBytes = 2000 + w.rng.Int64N(8000)
	w.cfg.IndexIntervalBytes = w.rng.Int64N(800)
	w.cfg.RetentionBytes = w.cfg.SegmentBytes * 3
	w.cutAt = 1 + w.rng.Int64N(450)
	for i := range w.history {
		w.history[i] = map[int64][]byte{}
	}
	return w
}

// hook cuts the power at one operation. Operations after that fail.
func (w *world) hook(cutRNG *rand.Rand) func(vfs.Op) error {
	return func(op vfs.Op) error {
		if !op.Changes() {
			if w.off.Load() {
				return errPower
			}
			return nil
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.clone != nil {
			return errPower
		}
		if op.Seq >= w.cutAt {
			w.cut(cutRNG, op)
			return errPower
		}
		return nil
	}
}

// cut takes what is left on disk, and what was acknowledged until then. The caller holds mu.
func (w *world) cut(rng *rand.Rand, op vfs.Op) {
	w.clone, w.at = w.fs.CrashClone(rng), w.acked
	w.off.Store(true)
	base := op.Path[strings.LastIndexByte(op.Path, '/')+1:]
	switch {
	case !w.opened:
		w.where = "start"
	case strings.Contains(base, "-offset-checkpoint") || strings.HasPrefix(base, "meta.properties"):
		w.where = "checkpoint"
	case strings.Contains(base, "index") || strings.Contains(base, ".snapshot") || strings.HasPrefix(base, "leader-epoch") ||
		op.Name == "create" && strings.HasSuffix(base, ".log") && !strings.HasPrefix(base, "00000000000000000000"):
		w.where = "roll"
	case strings.HasSuffix(base, ".log") && op.Name == "sync":
		w.where = "batch" // written, not synced: any part of it may be there
	default:
		w.where = "other"
	}
}

func (w *world) open(fsys vfs.FS) error {
	m, err := Open(fsys, "data", Config{SyncWorkers: 3, CheckpointInterval: time.Hour, RetentionInterval: time.Hour}, w.now, nil)
	if err != nil {
		return err
	}
	w.m = m
	w.mu.Lock()
	w.opened = w.clone == nil
	w.mu.Unlock()
	for i := range w.part {
		if w.part[i], err = m.CreatePartition("t", [16]byte{1}, int32(i), w.cfg, 0); err != nil {
			return errors.Join(err, m.Close())
		}
	}
	return nil
}

// appended notes a batch that is in the log, and its acknowledgement when it comes. It
// returns a channel that is closed then.
func (w *world) appended(i int, b []byte) <-chan struct{} {
	v := batch.Batch(b)
	w.mu.Lock()
	w.history[i][v.BaseOffset()] = bytes.Clone(b)
	w.mu.Unlock()
	done := make(chan struct{})
	w.part[i].OnCommitted(v.LastOffset(), func(err error) {
		if err == nil {
			w.mu.Lock()
			w.acked[i] = max(w.acked[i], v.LastOffset()+1)
			w.mu.Unlock()
		}
		close(done)
	})
	return done
}

func (w *world) batch(rng *rand.Rand, o batch.Options) batch.Batch {
	b := batch.NewBuilder(o)
	for range 1 + rng.IntN(3) {
		v := make([]byte, rng.IntN(600))
		for i := range v {
			v[i] = byte(rng.Uint32()) | 1
		}
		b.Add(batch.Record{Key: []byte("key"), Value: v, Timestamp: 1_000_000 + rng.Int64N(50)})
	}
	p, err := b.Build()
	if err != nil {
		panic(err)
	}
	return p
}

// appendOne appends one batch of a new producer.
func (w *world) appendOne(rng *rand.Rand, i int) <-chan struct{} {
	w.lastID++
	b := w.batch(rng, batch.Options{Producer: &batch.Producer{ID: 100 + w.lastID}})
	if _, err := w.part[i].Append(b, AppendOptions{}); err != nil {
		panic(err) // nothing is broken here
	}
	return w.appended(i, b)
}

// produce is one producer until the power fails or it is done.
func (w *world) produce(rng *rand.Rand, id int64, txn bool) {
	var seq [3]int32
	epoch := int16(0)
	for range 12 + rng.IntN(20) {
		var touched []int
		var waits []<-chan struct{}
		for range 1 + rng.IntN(4) {
			i := rng.IntN(len(w.part))
			b := w.batch(rng, batch.Options{Producer: &batch.Producer{ID: id, Epoch: epoch}, BaseSequence: seq[i], Transactional: txn, Codec: batch.Codec(rng.IntN(2) * 3)})
			n := b.Count()
			if _, err := w.part[i].Append(b, AppendOptions{}); err != nil {
				return
			}
			seq[i] = batch.AddSequence(seq[i], n)
			waits = append(waits, w.appended(i, b))
			if !slices.Contains(touched, i) {
				touched = append(touched, i)
			}
			if rng.IntN(4) == 0 {
				w.maintain(rng)
			}
		}
		if rng.IntN(3) > 0 || txn {
			for _, c := range waits {
				<-c
			}
		}
		if !txn {
			continue
		}
		if rng.IntN(4) == 0 {
			epoch++
			seq = [3]int32{}
			// A bumped epoch must reach every partition before its sequence numbers restart there.
			touched = []int{0, 1, 2}
		}
		commit := rng.IntN(3) > 0
		for _, i := range touched {
			at, err := w.part[i].AppendMarker(w.now(), id, epoch, commit, 0, 0)
			if err != nil {
				return
			}
			m := batch.BuildMarker(batch.Marker{Producer: batch.Producer{ID: id, Epoch: epoch}, Commit: commit, Timestamp: w.now().UnixMilli()}, 0)
			m.SetBaseOffset(at)
			<-w.appended(i, m)
		}
	}
}

// maintain does one step of what runs beside the producers: checkpoints and deletions.
func (w *world) maintain(rng *rand.Rand) {
	var err error
	switch rng.IntN(4) {
	case 0, 1:
		err = w.m.Checkpoint()
	case 2:
		p := w.part[rng.IntN(len(w.part))]
		_, err = p.DeleteRecords(p.HighWatermark() * int64(1+rng.IntN(10)) / 10)
	case 3:
		err = w.m.Retain()
	}
	_ = err // the power may be off, or another producer may have moved the start
}

func (w *world) run() error {
	cutRNG := rand.New(rand.NewPCG(w.rng.Uint64(), 1))
	if w.rng.IntN(2) == 0 { // the run begins with a clean start
		if err := w.open(w.fs); err != nil {
			return err
		}
		<-w.appendOne(w.rng, 0)
		if err := w.m.Close(); err != nil {
			return err
		}
		w.cutAt += w.fs.Ops()
		w.opened = false
	}
	w.fs.SetHook(w.hook(cutRNG))
	if err := w.open(w.fs); err != nil && !errors.Is(err, errPower) {
		return err
	}
	if w.clone == nil {
		var producers sync.WaitGroup
		for id := range int64(3) {
			rng := rand.New(rand.NewPCG(w.rng.Uint64(), 2))
			producers.Add(1)
			go func() { defer producers.Done(); w.produce(rng, id, id > 0) }()
		}
		producers.Wait()
		if err := w.m.Close(); err != nil && !w.off.Load() {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.clone == nil {
		w.cut(cutRNG, vfs.Op{})
		w.where = "at rest"
	}
	return nil
}

// model is the producer state and the aborted transactions, recomputed from the batches
// one by one, without snapshots.
type model struct {
	producers map[int64]*ProducerState
	aborted   []log.Aborted
}

func recompute(batches []batch.Batch) *model {
	m := &model{producers: map[int64]*ProducerState{}}
	for _, b := range batches {
		p := m.producers[b.ProducerID()]
		if p == nil {
			p = &ProducerState{ID: b.ProducerID(), Epoch: b.ProducerEpoch(), LastSequence: -1, LastOffset: -1, CoordinatorEpoch: -1, TxnFirstOffset: -1}
			m.producers[b.ProducerID()] = p
		}
		if p.Epoch != b.ProducerEpoch() {
			p.Epoch, p.LastSequence, p.LastOffset = b.ProducerEpoch(), -1, -1
		}
		p.LastTimestamp = b.MaxTimestamp()
		if !b.Control() {
			p.LastSequence, p.LastOffset = b.LastSequence(), b.LastOffset()
			if b.Transactional() && p.TxnFirstOffset < 0 {
				p.TxnFirstOffset = b.BaseOffset()
			}
			continue
		}
		marker, _, err := b.Marker()
		if err != nil {
			panic(err)
		}
		p.CoordinatorEpoch = marker.CoordinatorEpoch
		first := p.TxnFirstOffset
		p.TxnFirstOffset = -1
		if first >= 0 && !marker.Commit {
			stable := b.LastOffset() + 1
			if open := m.firstOpen(); open >= 0 {
				stable = open
			}
			m.aborted = append(m.aborted, log.Aborted{ProducerID: p.ID, FirstOffset: first, LastOffset: b.LastOffset(), LastStableOffset: stable})
		}
	}
	return m
}

func (m *model) firstOpen() int64 {
	first := int64(-1)
	for _, p := range m.producers {
		if p.TxnFirstOffset >= 0 && (first < 0 || p.TxnFirstOffset < first) {
			first = p.TxnFirstOffset
		}
	}
	return first
}

// check compares a partition after the restart with what was appended and acknowledged.
func (w *world) check(i int, p *Partition, acked int64) error {
	start, end := p.LogStartOffset(), p.LogEndOffset()
	if end < acked {
		return fmt.Errorf("partition %d ends at %d, acknowledged to %d", i, end, acked)
	}
	if p.HighWatermark() != end {
		return fmt.Errorf("partition %d: high watermark %d, end %d", i, p.HighWatermark(), end)
	}
	var batches []batch.Batch
	for at := int64(0); at < end; {
		b := batch.Batch(w.history[i][at])
		if b == nil {
			return fmt.Errorf("partition %d: nothing was appended at %d, the log ends at %d", i, at, end)
		}
		batches = append(batches, b)
		at = b.LastOffset() + 1
		if at > end {
			return fmt.Errorf("partition %d ends at %d within a batch", i, end)
		}
	}
	for at := start; at < end; {
		res, err := p.Read(at, 1500, ReadLogEnd, true)
		if err != nil {
			return err
		}
		if len(res.Records) == 0 {
			return fmt.Errorf("partition %d: nothing at %d of [%d, %d)", i, at, start, end)
		}
		if _, err := batch.All(res.Records, func(b batch.Batch) bool {
			if at > start && b.BaseOffset() != at {
				err = fmt.Errorf("partition %d: batch at %d where %d follows", i, b.BaseOffset(), at)
			}
			if !bytes.Equal(b, w.history[i][b.BaseOffset()]) {
				err = fmt.Errorf("partition %d: batch at %d is not what was appended", i, b.BaseOffset())
			}
			at = b.LastOffset() + 1
			return err == nil
		}); err != nil {
			return err
		}
		if err != nil {
			return err
		}
	}
	want := recompute(batches)
	got := p.Producers()
	if len(got) != len(want.producers) {
		return fmt.Errorf("partition %d: %d producers, want %d", i, len(got), len(want.producers))
	}
	for _, g := range got {
		if w := want.producers[g.ID]; w == nil || *w != g {
			return fmt.Errorf("partition %d: producer is %+v, want %+v", i, g, w)
		}
	}
	aborted, err := p.AbortedTxns()
	if err != nil {
		return err
	}
	// Segments below the start are gone with their part of the index.
	n := len(want.aborted) - len(aborted)
	if n < 0 || !slices.Equal(aborted, want.aborted[n:]) || (n > 0 && want.aborted[n-1].LastOffset >= start) {
		return fmt.Errorf("partition %d: aborted %v, want %v from start %d", i, aborted, want.aborted, start)
	}
	stable := end
	if open := want.firstOpen(); open >= 0 {
		stable = max(open, start)
	}
	if p.LastStableOffset() != stable {
		return fmt.Errorf("partition %d: last stable offset %d, want %d", i, p.LastStableOffset(), stable)
	}
	return nil
}

// verify restarts on what the cut left, checks, goes on a little, and restarts again.
func (w *world) verify() error {
	for _, again := range []bool{false, true} {
		if err := w.open(w.clone); err != nil {
			return fmt.Errorf("restart: %w", err)
		}
		mayBeClean := again || w.where == "at rest" || w.where == "start"
		if w.m.Clean() && !mayBeClean || again && !w.m.Clean() {
			return fmt.Errorf("the directory counts as clean: %v", w.m.Clean())
		}
		for i, p := range w.part {
			if err := w.check(i, p, w.at[i]); err != nil {
				return err
			}
		}
		if !again {
			for i, p := range w.part {
				<-w.appendOne(w.rng, i)
				w.at[i] = p.LogEndOffset()
			}
		}
		if err := w.m.Close(); err != nil {
			return err
		}
	}
	return nil
}

// TestPowerCut cuts the power at a random file operation while producers, transactions,
// checkpoints and deletions are under way. Whatever share of the unsynced blocks, names and
// renames is on disk afterwards: what was acknowledged is there byte for byte, nothing else is
// served, and the derived state is what the batches say.
func TestPowerCut(t *testing.T) {
	var mu sync.Mutex
	where := map[string]int{}
	var failures []string
	var next atomic.Uint64
	var wg sync.WaitGroup
	seeds := powerCutSeeds()
	for range 2 * runtime.GOMAXPROCS(0) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for seed := next.Add(1); seed <= seeds; seed = next.Add(1) {
				w := newWorld(seed)
				err := w.run()
				if err == nil {
					files := w.clone.Dump()
					if err = w.verify(); err != nil {
						err = fmt.Errorf("%w\n%s", err, files)
					}
				}
				mu.Lock()
				where[w.where]++
				if err != nil {
					failures = append(failures, fmt.Sprintf("seed %d (cut in %s): %v", seed, w.where, err))
				}
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	t.Logf("%d power cuts: %v", seeds, where)
	require.Empty(t, failures[:min(5, len(failures))], "%d seeds failed", len(failures))
	for _, kind := range []string{"batch", "roll", "checkpoint"} {
		require.NotZero(t, where[kind], "no cut fell inside of a %s", kind)
	}
}
