package broker_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/invariants"
	"github.com/moldau-stream/moldau/internal/vfs"
)

var powerCutSeeds = flag.Int("powercut.seeds", 60, "power cuts of TestPowerCut, a tenth of them under the race detector")

// Where the power was cut, as far as the interrupted file operation tells.
const (
	inBatch      = "in a batch"
	inRoll       = "in a roll"
	inCheckpoint = "in a checkpoint"
	inSync       = "in a sync"
	inRecovery   = "in a recovery" // of the cut before it
	inCompaction = "in a compaction"
	inSwap       = "in the swap of a compaction"
	inDeletion   = "in a deletion" // of segments, by retention and DeleteRecords
	inSnapshot   = "in a metadata snapshot"
	elsewhere    = "elsewhere"
)

// patience is for how many operations a cut waits for the place where it is wanted.
const patience = 1000

// firstSegment is made with its partition, the others by rolls.
const firstSegment = "00000000000000000000.log"

var errPowerCut = errors.New("power cut")

// TestPowerCut cuts the power of a broker at a random file operation while producers, transactions of both versions, groups of all three
// kinds, topics and configurations, DeleteRecords, retention, compaction and metadata snapshots are under way; one time in three after a
// clean restart. After the cut everything is there that was acknowledged, and nothing by halves.
func TestPowerCut(t *testing.T) {
	seeds := *powerCutSeeds
	if invariants.Enabled {
		seeds = max(seeds/10, 1)
	}
	base := powerCutBase(t)
	var mu sync.Mutex
	cuts := make(map[string]int)
	acked := 0
	var next atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for {
				seed := next.Add(1)
				if seed > int64(seeds) || t.Failed() {
					return
				}
				t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
					c := &powerCut{t: t, rng: rand.New(rand.NewPCG(uint64(seed), 3))}
					c.run(base)
					mu.Lock()
					defer mu.Unlock()
					for _, where := range c.where {
						cuts[where]++
					}
					acked += c.acked
				})
			}
		})
	}
	workers.Wait()
	t.Logf("%d seeds, cuts: %v; %d acknowledged requests checked", seeds, cuts, acked)
	if seeds >= 500 {
		for _, where := range []string{inBatch, inRoll, inCheckpoint, inSync, inRecovery, inCompaction, inSwap, inDeletion, inSnapshot} {
			require.NotZero(t, cuts[where], where)
		}
		require.Greater(t, acked, 10*seeds)
	}
}

// powerCutBase is a disk with the topics that the workers use.
func powerCutBase(t *testing.T) *vfs.Mem {
	mem := vfs.NewMem()
	b, err := broker.Start(t.Context(), powerCutConfig(mem))
	require.NoError(t, err)
	c, err := dialRaw(b.DialContext)
	require.NoError(t, err)
	require.NoError(t, createTopic(c, "t", 2))
	for phase := range 2 {
		require.NoError(t, createTopic(c, fmt.Sprint("deleted-", phase), 1, "retention.bytes", fmt.Sprint(cutRetention)))
		require.NoError(t, createTopic(c, fmt.Sprint("compacted-", phase), 1, "cleanup.policy", "compact", "delete.retention.ms", "0"))
		require.NoError(t, createTopic(c, fmt.Sprint("shared-", phase), 1))
		require.NoError(t, alterConfig(c, kmsg.ConfigResourceTypeGroupConfig, fmt.Sprint("share-group-", phase), "share.auto.offset.reset", "earliest"))
	}
	for typ, topic := range []string{"__consumer_offsets", "__transaction_state", "__share_group_state"} {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.Version, req.CoordinatorType, req.CoordinatorKeys = 6, int8(typ), []string{"g:AAAAAAAAAAAAAAAAAAAAAQ:0"}
		for code := kerr.CoordinatorNotAvailable.Code; code != 0; {
			resp, err := do[*kmsg.FindCoordinatorResponse](c, req)
			require.NoError(t, err)
			if code = resp.Coordinators[0].ErrorCode; code != 0 {
				require.Equal(t, kerr.CoordinatorNotAvailable.Code, code)
			}
		}
		require.NoError(t, alterConfig(c, kmsg.ConfigResourceTypeTopic, topic, "internal.segment.bytes", "4096"))
	}
	require.NoError(t, b.Close())
	return mem
}

func powerCutConfig(mem *vfs.Mem) broker.Config {
	return broker.Config{DataDir: "data", FS: mem, OffsetsPartitions: 2, TxnPartitions: 2, Properties: map[string]string{
		"share.coordinator.state.topic.num.partitions": "2", "metadata.log.max.record.bytes.between.snapshots": "1500",
		"group.share.assignment.interval.ms": "0",
	}}
}

// powerCut is one seed.
type powerCut struct {
	t   *testing.T
	rng *rand.Rand

	off   atomic.Bool // the power is off; set before the disk is cloned
	where []string    // of each cut
	mu    sync.Mutex
	acked int

	cutNow func() // cuts the power whatever the disk does

	phase        int            // runs of the broker before this one
	b            *broker.Broker // of this phase
	stopping     atomic.Bool    // this phase ends in a clean stop
	producers    []*cutProducer
	transactions []*cutTransactions
	others       []cutWork
}

// cutWork is a client of one phase. It knows what was acknowledged, and what may have been done beyond that.
type cutWork interface {
	// work does one thing. io.EOF: there is nothing more to do.
	work(*rawClient, *rand.Rand) error
	// check compares with what is there after the restart.
	check(*testing.T, *rawClient)
}

// cutAt cuts mem's power at an operation, or soon after it at one in the place that is wanted. what, if not empty, is where it counts as.
// When cut is closed, left gives the disk as the cut leaves it; before that nil.
func (c *powerCut) cutAt(mem *vfs.Mem, op int64, wanted, what string) (cut chan struct{}, left func() *vfs.Mem) {
	seed := c.rng.Uint64()
	var once sync.Once
	var clone *vfs.Mem
	cut = make(chan struct{})
	trip := func(where string) {
		once.Do(func() {
			c.off.Store(true)
			clone = mem.CrashClone(rand.New(rand.NewPCG(seed, 5)))
			c.where = append(c.where, where)
			close(cut)
		})
	}
	c.cutNow = func() { trip(elsewhere) }
	mem.SetHook(func(o vfs.Op) error {
		if o.Changes() && o.Seq >= op && (wanted == "" || whereIs(o) == wanted || o.Seq > op+patience) {
			if what != "" {
				trip(what)
			} else {
				trip(whereIs(o))
			}
		}
		if c.off.Load() {
			return errPowerCut
		}
		return nil
	})
	return cut, func() *vfs.Mem {
		select {
		case <-cut:
			return clone
		default:
			return nil
		}
	}
}

func whereIs(o vfs.Op) string {
	name := filepath.Base(o.Path)
	switch {
	case strings.Contains(o.Path, "__cluster_metadata") && strings.Contains(name, ".checkpoint"):
		return inSnapshot
	case strings.HasPrefix(name, "compaction-swap"), strings.HasSuffix(name, ".swap"):
		return inSwap
	case strings.HasSuffix(name, ".cleaned"), strings.HasPrefix(name, "cleaner-offset-checkpoint"):
		return inCompaction
	case strings.HasSuffix(name, ".deleted"):
		return inDeletion
	case strings.Contains(name, "checkpoint") || strings.Contains(name, ".snapshot"):
		return inCheckpoint
	case strings.HasSuffix(name, ".log") && o.Name == "create" && name != firstSegment, strings.HasSuffix(name, "index"):
		return inRoll // indexes are written when their segment is full
	case strings.HasSuffix(name, ".log") && o.Name == "write":
		return inBatch
	case o.Name == "sync" || o.Name == "syncdir":
		return inSync
	}
	return elsewhere
}

// stopAt gives a channel that is closed at an operation of mem.
func (c *powerCut) stopAt(mem *vfs.Mem, op int64) <-chan struct{} {
	stop := make(chan struct{})
	var once sync.Once
	c.cutNow = func() { once.Do(func() { close(stop) }) }
	mem.SetHook(func(o vfs.Op) error {
		if o.Seq >= op {
			c.cutNow()
		}
		return nil
	})
	return stop
}

func (c *powerCut) run(base *vfs.Mem) {
	mem := base.CrashClone(c.rng)
	if c.rng.IntN(3) == 0 {
		c.workload(mem, c.stopAt(mem, 1+c.rng.Int64N(600)), true)
		c.phase++
	}
	wanted := []string{"", "", "", inRoll, inCheckpoint, inCompaction, inSwap, inDeletion, inSnapshot}[c.rng.IntN(9)]
	cut, left := c.cutAt(mem, mem.Ops()+1+c.rng.Int64N(1000), wanted, "")
	c.workload(mem, cut, false)
	disk := left()
	require.NotNil(c.t, disk, "the workload ended before the power was cut")

	// One time in four, the power fails again while the broker recovers.
	for c.rng.IntN(4) == 0 {
		c.off.Store(false)
		_, left := c.cutAt(disk, 1+c.rng.Int64N(12), "", inRecovery)
		if b, err := broker.Start(context.Background(), powerCutConfig(disk)); err == nil {
			_ = b.Close()
		}
		if again := left(); again != nil {
			disk = again
		} else {
			disk.SetHook(nil) // it closed before the cut: a clean restart
		}
	}
	c.off.Store(false)
	b, err := broker.Start(context.Background(), powerCutConfig(disk))
	require.NoError(c.t, err, "restart")
	c.verify(b)
	require.NoError(c.t, b.Close())
}

// workload runs until cut is closed: the power is off by then, or the broker is to be stopped.
func (c *powerCut) workload(mem *vfs.Mem, cut <-chan struct{}, clean bool) {
	b, err := broker.Start(context.Background(), powerCutConfig(mem))
	if err != nil {
		require.True(c.t, c.off.Load(), "start: %v", err)
		return
	}
	c.b = b
	over := func() bool { return c.off.Load() || c.stopping.Load() }
	var all sync.WaitGroup
	start := func(work func(*rawClient, *rand.Rand) error) {
		rng := rand.New(rand.NewPCG(c.rng.Uint64(), 7))
		all.Go(func() {
			client, err := dialRaw(b.DialContext)
			if err == nil {
				defer client.conn.Close()
				for err == nil && !over() {
					err = work(client, rng)
				}
			}
			if err != nil && err != io.EOF && !over() {
				c.t.Errorf("before the cut: %v", err)
				c.cutNow()
			}
		})
	}
	for i := range 2 {
		p := &cutProducer{c: c, name: fmt.Sprintf("p%d.%d", i, c.phase), partition: int32(i)}
		c.producers = append(c.producers, p)
		start(p.work)
	}
	for i := range 2 {
		x := &cutTransactions{c: c, name: fmt.Sprintf("x%d.%d", i, c.phase), v2: i == 1}
		c.transactions = append(c.transactions, x)
		start(x.work)
	}
	others := []cutWork{
		&cutCommits{c: c, group: fmt.Sprint("group-", c.phase)}, &cutTopics{c: c, phase: c.phase},
		newCutDeletes(c), newCutCompacted(c), newCutMember(c, 0), newCutMember(c, 1), newCutClassic(c), newCutShare(c),
	}
	c.rng.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	for _, w := range others[:2+c.rng.IntN(len(others)-1)] {
		c.others = append(c.others, w)
		start(w.work)
	}

	// Answers that are still on their way when the disk is gone are no promise: every worker looks at off before it believes one.
	<-cut
	c.stopping.Store(clean)
	err = b.Close()
	all.Wait()
	if clean {
		require.NoError(c.t, err)
		c.stopping.Store(false)
	}
}

// got counts an acknowledgement, unless the power was off by the time it came.
func (c *powerCut) got() bool {
	if c.off.Load() {
		return false
	}
	c.mu.Lock()
	c.acked++
	c.mu.Unlock()
	return true
}

// cutProducer writes numbered batches as an idempotent producer.
type cutProducer struct {
	c         *powerCut
	name      string
	partition int32
	producer  *batch.Producer
	sequence  int32
	sent      int              // batches
	acked     map[int64]string // base offset -> batch
}

func (p *cutProducer) work(client *rawClient, rng *rand.Rand) error {
	if p.producer == nil {
		id, err := initProducer(client, "")
		if err != nil {
			return err
		}
		p.producer, p.acked = &id, make(map[int64]string)
	}
	name := fmt.Sprintf("%s/%d", p.name, p.sent)
	n := 1 + rng.IntN(3)
	p.sent++
	base, err := produce(client, "", *p.producer, p.sequence, p.partition, name, n, rng.IntN(700))
	if err != nil {
		return err
	}
	p.sequence += int32(n)
	if p.c.got() {
		p.acked[base] = name
	}
	return nil
}

// cutTransactions writes transactions over both partitions, some with a group's offset.
type cutTransactions struct {
	c        *powerCut
	name     string
	v2       bool // transactions of version 2 (KIP-890)
	producer *batch.Producer
	sequence [2]int32
	txns     []*cutTxn
}

type cutTxn struct {
	name             string
	commit           bool
	offset           int64 // committed in it, -1 for none
	endSent, endDone bool
}

func (x *cutTransactions) work(client *rawClient, rng *rand.Rand) error {
	if x.producer == nil {
		id, err := initProducer(client, x.name)
		if err != nil {
			return err
		}
		x.producer = &id
	}
	tx := &cutTxn{name: fmt.Sprintf("%s/%d", x.name, len(x.txns)), commit: rng.IntN(4) > 0, offset: -1}
	version := int16(12) // adds the partitions
	if !x.v2 {
		version = 9
		if err := addPartitions(client, x.name, *x.producer); err != nil {
			return err
		}
	}
	x.txns = append(x.txns, tx)
	for p := range x.sequence {
		n := 1 + rng.IntN(2)
		b, err := newBatch(x.name, *x.producer, x.sequence[p], tx.name, n, rng.IntN(300))
		if err != nil {
			return err
		}
		if _, err := produceBatch(client, version, x.name, "t", int32(p), b); err != nil {
			return err
		}
		x.sequence[p] += int32(n)
	}
	if rng.IntN(2) == 0 {
		tx.offset = int64(len(x.txns))
		if err := commitInTxn(client, x.name, "group-"+x.name, *x.producer, tx.offset, x.v2); err != nil {
			return err
		}
	}
	tx.endSent = true
	next, err := endTxn(client, x.name, *x.producer, tx.commit, x.v2)
	if err != nil {
		return err
	}
	if x.v2 {
		if next == *x.producer || next.ID < 0 {
			return fmt.Errorf("EndTxn of %+v answers with producer %+v", *x.producer, next)
		}
		x.producer, x.sequence = &next, [2]int32{}
	}
	tx.endDone = x.c.got()
	return nil
}

// cutCommits commits growing offsets.
type cutCommits struct {
	c           *powerCut
	group       string
	sent, acked int64
}

func (w *cutCommits) work(client *rawClient, rng *rand.Rand) error {
	w.sent++
	if err := commitOffset(client, w.group, w.sent); err != nil {
		return err
	}
	if w.c.got() {
		w.acked = w.sent
	}
	return nil
}

func (w *cutCommits) check(t *testing.T, client *rawClient) {
	got := max(fetchGroupOffset(t, client, w.group, 0), 0)
	require.GreaterOrEqual(t, got, w.acked, "acknowledged offset of %s", w.group)
	require.LessOrEqual(t, got, w.sent)
}

// verify checks the broker after the restart.
func (c *powerCut) verify(b *broker.Broker) {
	t := c.t
	client, err := dialRaw(b.DialContext)
	require.NoError(t, err)
	defer client.conn.Close()

	// Taking the ids over aborts what was open, and answers when that is done.
	for _, x := range c.transactions {
		_, err := initProducer(client, x.name)
		require.NoError(t, err)
	}
	var logs, stable [2]map[int64]string
	for p := range logs {
		logs[p] = readNames(t, client, int32(p), 0)
		stable[p] = readNames(t, client, int32(p), 1)
		require.Equal(t, listOffset(t, client, "t", int32(p), 0, -1), listOffset(t, client, "t", int32(p), 1, -1), "t-%d: a transaction hangs", p)
	}

	for _, p := range c.producers {
		for base, name := range p.acked {
			require.Equal(t, name, logs[p.partition][base], "acknowledged batch at t-%d offset %d", p.partition, base)
		}
		found := make(map[string]int)
		for _, name := range logs[p.partition] {
			if strings.HasPrefix(name, p.name+"/") {
				found[name]++
			}
		}
		for i := range len(found) {
			require.Equal(t, 1, found[fmt.Sprintf("%s/%d", p.name, i)], "%s: batch %d is twice or missing, of %v", p.name, i, found)
		}
	}
	for _, x := range c.transactions {
		offset := int64(-1)
		for _, tx := range x.txns {
			found := [2]int{}
			for p := range stable {
				for _, name := range stable[p] {
					if name == tx.name {
						found[p]++
					}
				}
			}
			switch {
			case tx.endDone && tx.commit:
				require.Equal(t, [2]int{1, 1}, found, "committed transaction %+v", *tx)
			case !tx.endSent || !tx.commit:
				require.Zero(t, found, "aborted transaction %+v", *tx)
			default:
				require.Equal(t, found[0], found[1], "transaction %+v by halves", *tx)
			}
			if found[0] == 1 && tx.offset >= 0 {
				offset = tx.offset
			}
		}
		require.Equal(t, offset, fetchGroupOffset(t, client, "group-"+x.name, 0), "offset of the transactions of %s", x.name)
	}
	for _, w := range c.others {
		w.check(t, client)
	}
	// And it takes new data.
	id, err := initProducer(client, "")
	require.NoError(t, err)
	for p := range int32(2) {
		_, err := produce(client, "", id, 0, p, "after", 1, 10)
		require.NoError(t, err)
	}
}

// readNames returns the name of each whole data batch of a partition of t by base offset, as a consumer of the isolation level sees them.
// Every record of a batch must carry the batch's name.
func readNames(t *testing.T, client *rawClient, partition int32, isolation int8) map[int64]string {
	out := make(map[int64]string)
	readAll(t, client, "t", partition, isolation, func(b batch.Batch) {
		for i, r := range recordsOf(t, b) {
			if i > 0 {
				require.Equal(t, out[b.BaseOffset()], string(r.Key), "batch at t-%d offset %d", partition, b.BaseOffset())
			}
			out[b.BaseOffset()] = string(r.Key)
		}
	})
	return out
}

func recordsOf(t *testing.T, b batch.Batch) (records []batch.View) {
	it, err := b.Records(nil)
	require.NoError(t, err)
	for it.Next() {
		records = append(records, *it.Record())
	}
	require.NoError(t, it.Err())
	return records
}

// readAll calls f with the data batches of a partition that a consumer of the isolation level sees.
func readAll(t *testing.T, client *rawClient, topic string, partition int32, isolation int8, f func(batch.Batch)) {
	end := listOffset(t, client, topic, partition, isolation, -1)
	for next := listOffset(t, client, topic, partition, isolation, -2); next < end; {
		req := kmsg.NewPtrFetchRequest()
		req.Version, req.MaxBytes, req.IsolationLevel, req.SessionEpoch, req.ReplicaID = 11, 1<<20, isolation, -1, -1
		rt := kmsg.NewFetchRequestTopic()
		rt.Topic = topic
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = partition, next, 1<<20, -1
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		resp, err := do[*kmsg.FetchResponse](client, req)
		require.NoError(t, err)
		got := resp.Topics[0].Partitions[0]
		require.Zero(t, got.ErrorCode)
		aborted := make(map[int64][]int64)
		for _, a := range got.AbortedTransactions {
			aborted[a.ProducerID] = append(aborted[a.ProducerID], a.FirstOffset)
		}
		before := next
		_, err = batch.All(got.RecordBatches, func(b batch.Batch) bool {
			require.NoError(t, b.Check())
			require.GreaterOrEqual(t, b.LastOffset(), next)
			next = b.LastOffset() + 1
			id := b.ProducerID()
			if b.Control() {
				if m, ok, err := b.Marker(); err == nil && ok && !m.Commit && len(aborted[id]) > 0 {
					aborted[id] = aborted[id][1:]
				}
				return true
			}
			if b.Transactional() && len(aborted[id]) > 0 && b.BaseOffset() >= aborted[id][0] {
				return true
			}
			f(b)
			return true
		})
		require.NoError(t, err)
		require.Greater(t, next, before, "fetch of %s-%d at %d returned nothing below %d", topic, partition, next, end)
	}
}

// listOffset gives an offset by time: -1 the end, -2 the start.
func listOffset(t *testing.T, client *rawClient, topic string, partition int32, isolation int8, timestamp int64) int64 {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.IsolationLevel, req.ReplicaID = 5, isolation, -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = partition, timestamp, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := do[*kmsg.ListOffsetsResponse](client, req)
	require.NoError(t, err)
	require.Zero(t, resp.Topics[0].Partitions[0].ErrorCode)
	return resp.Topics[0].Partitions[0].Offset
}

func fetchGroupOffset(t *testing.T, client *rawClient, group string, partition int32) int64 {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version, req.Group, req.RequireStable = 7, group, true
	rt := kmsg.NewOffsetFetchRequestTopic()
	rt.Topic, rt.Partitions = "t", []int32{partition}
	req.Topics = append(req.Topics, rt)
	resp, err := do[*kmsg.OffsetFetchResponse](client, req)
	require.NoError(t, err)
	require.Zero(t, resp.ErrorCode)
	require.Zero(t, resp.Topics[0].Partitions[0].ErrorCode, group)
	return resp.Topics[0].Partitions[0].Offset
}

// createTopic creates a topic with small segments, and configurations by name and value.
func createTopic(client *rawClient, name string, partitions int32, configs ...string) error {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis = 5, 10_000
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, partitions, 1
	for kv := range slices.Chunk(append(configs, "internal.segment.bytes", "4096"), 2) {
		rc := kmsg.NewCreateTopicsRequestTopicConfig()
		rc.Name, rc.Value = kv[0], &kv[1]
		rt.Configs = append(rt.Configs, rc)
	}
	req.Topics = append(req.Topics, rt)
	resp, err := do[*kmsg.CreateTopicsResponse](client, req)
	if err != nil {
		return err
	}
	if len(resp.Topics) != 1 {
		return fmt.Errorf("answer with %d topics to a request with one", len(resp.Topics))
	}
	return kerr.ErrorForCode(resp.Topics[0].ErrorCode)
}

func initProducer(client *rawClient, id string) (batch.Producer, error) {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version, req.ProducerID, req.ProducerEpoch, req.TransactionTimeoutMillis = 4, -1, -1, 60_000
	if id != "" {
		req.TransactionalID = &id
	}
	for {
		resp, err := do[*kmsg.InitProducerIDResponse](client, req)
		if err != nil {
			return batch.Producer{}, err
		}
		if resp.ErrorCode == kerr.ConcurrentTransactions.Code {
			continue
		}
		return batch.Producer{ID: resp.ProducerID, Epoch: resp.ProducerEpoch}, kerr.ErrorForCode(resp.ErrorCode)
	}
}

// produce writes one batch of n records to t, each with the name as key and some padding.
func produce(client *rawClient, txnID string, p batch.Producer, sequence, partition int32, name string, n, padding int) (base int64, err error) {
	b, err := newBatch(txnID, p, sequence, name, n, padding)
	if err != nil {
		return 0, err
	}
	return produceBatch(client, 9, txnID, "t", partition, b)
}

func newBatch(txnID string, p batch.Producer, sequence int32, name string, n, padding int) (batch.Batch, error) {
	bb := batch.NewBuilder(batch.Options{Producer: &p, BaseSequence: sequence, Transactional: txnID != ""})
	for range n {
		bb.Add(batch.Record{Key: []byte(name), Value: make([]byte, padding), Timestamp: time.Now().UnixMilli()})
	}
	return bb.Build()
}

// produceBatch answers CONCURRENT_TRANSACTIONS by asking again: the markers of the transaction before are not written yet.
func produceBatch(client *rawClient, version int16, txnID, topic string, partition int32, records batch.Batch) (base int64, err error) {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, -1, 10_000
	if txnID != "" {
		req.TransactionID = &txnID
	}
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, records
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	for {
		resp, err := do[*kmsg.ProduceResponse](client, req)
		if err != nil {
			return 0, err
		}
		got := resp.Topics[0].Partitions[0]
		if got.ErrorCode != kerr.ConcurrentTransactions.Code {
			return got.BaseOffset, kerr.ErrorForCode(got.ErrorCode)
		}
	}
}

// addPartitions begins the next transaction, when the markers of the one before are
// written.
func addPartitions(client *rawClient, id string, p batch.Producer) error {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch = 3, id, p.ID, p.Epoch
	rt := kmsg.NewAddPartitionsToTxnRequestTopic()
	rt.Topic, rt.Partitions = "t", []int32{0, 1}
	req.Topics = append(req.Topics, rt)
	for {
		resp, err := do[*kmsg.AddPartitionsToTxnResponse](client, req)
		if err != nil {
			return err
		}
		if c := resp.Topics[0].Partitions[0].ErrorCode; c != kerr.ConcurrentTransactions.Code {
			return kerr.ErrorForCode(c)
		}
	}
}

func commitInTxn(client *rawClient, id, group string, p batch.Producer, offset int64, v2 bool) error {
	version := int16(5) // adds the group
	if !v2 {
		version = 3
		if err := addOffsets(client, id, group, p); err != nil {
			return err
		}
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group, req.Generation = version, id, p.ID, p.Epoch, group, -1
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic = "t"
	rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	rp.Offset = offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := do[*kmsg.TxnOffsetCommitResponse](client, req)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

func addOffsets(client *rawClient, id, group string, p batch.Producer) error {
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.Version, add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = 3, id, p.ID, p.Epoch, group
	ar, err := do[*kmsg.AddOffsetsToTxnResponse](client, add)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(ar.ErrorCode)
}

// endTxn gives the producer of the next transaction, if the version is 2.
func endTxn(client *rawClient, id string, p batch.Producer, commit, v2 bool) (next batch.Producer, err error) {
	req := kmsg.NewPtrEndTxnRequest()
	req.Version = 3
	if v2 {
		req.Version = 5
	}
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = id, p.ID, p.Epoch, commit
	resp, err := do[*kmsg.EndTxnResponse](client, req)
	if err != nil {
		return next, err
	}
	return batch.Producer{ID: resp.ProducerID, Epoch: resp.ProducerEpoch}, kerr.ErrorForCode(resp.ErrorCode)
}

func commitOffset(client *rawClient, group string, offset int64) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 7, group, -1
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = "t"
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Offset, rp.LeaderEpoch = offset, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := do[*kmsg.OffsetCommitResponse](client, req)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}
