package streamtest

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/moldau-stream/moldau/internal/murmur"
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/stream"
)

// Driver runs the tasks of a topology. It belongs to the goroutine of the test.
//
// Invariants:
//   - a log holds committed records only: what a task sends stays in its runner until the commit;
//   - between two calls of the test, the queue is empty, unless a record failed.
type Driver struct {
	t         testing.TB
	topology  *topo.Topology
	plan      *topo.Plan
	o         options
	now       time.Time
	instances []*instance
	random    *rand.Rand // of Seed; nil: first in, first out
	logs      map[string]*topicLog
	runners   []*runner             // by sub-topology, then partition
	globals   []*runner             // of global stores
	views     map[string]store.View // global stores by name
	readers   map[task.TopicPartition]*runner
	queue     []Record // committed, not yet delivered
	sequence  int64
	together  bool      // Send only queues
	crash     *crashing // at a commit to come; nil: none
	routes    bool      // a sink chooses topics, so that any may be written
	failed    error     // why it stopped; Restart clears it
	restarts  int       // crashes and restarts so far
}

// runner is one task with what a worker of an application keeps beside it.
type runner struct {
	d         *Driver
	on        *instance
	id        task.ID
	sub       *topo.Subtopology
	task      *task.Task
	stores    *store.Task
	metrics   task.Metrics
	pending   []Record // sent in the open transaction
	committed map[task.TopicPartition]task.OffsetAndMetadata
	dirty     bool // something was processed since the last commit

	partitions int32 // that it reads, if it fills a global store; 0: it does not
}

// NewTopology drives a topology that is already built.
func NewTopology(t testing.TB, topology *stream.Topology, opts ...Option) *Driver {
	t.Helper()
	d := &Driver{
		t:        t,
		topology: topology.Graph(),
		o: options{
			appID:      "app",
			start:      time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
			partitions: map[string]int32{},
			instances:  1,
		},
		logs:    map[string]*topicLog{},
		readers: map[task.TopicPartition]*runner{},
	}
	for _, o := range opts {
		o(&d.o)
	}
	d.now = d.o.start
	if d.o.seed != nil {
		d.random = rand.New(rand.NewPCG(*d.o.seed, 0))
	}
	for range d.o.instances {
		d.instances = append(d.instances, newInstance(d))
	}
	if err := d.start(); err != nil {
		t.Fatalf("streamtest: %v", err)
	}
	t.Cleanup(func() {
		if err := d.close(); err != nil {
			t.Errorf("streamtest: close: %v", err)
		}
	})
	return d
}

// start makes topics and tasks.
func (d *Driver) start() error {
	read, written := d.topology.UserTopics()
	d.routes = slices.ContainsFunc(d.topology.Nodes, func(n *topo.Node) bool { return n.Router != "" })
	for topic, n := range d.o.partitions {
		if n < 1 {
			return fmt.Errorf("Partitions(%q, %d): a topic has at least one partition", topic, n)
		}
		if d.matches(topic) {
			d.makeTopic(topic, n) // it is there
			continue
		}
		if !d.routes && !slices.Contains(read, topic) && !slices.Contains(written, topic) && topic != d.o.deadLetter {
			return fmt.Errorf("Partitions(%q, %d): the topology neither reads nor writes that topic", topic, n)
		}
	}
	for _, topic := range append(read, written...) {
		d.makeTopic(topic, d.partitions(topic))
	}
	if d.o.deadLetter != "" {
		d.makeTopic(d.o.deadLetter, d.partitions(d.o.deadLetter))
	}
	if err := d.layOut(); err != nil {
		return err
	}
	d.addGlobals()
	return d.open()
}

// partitions is the number of partitions of a user's topic.
func (d *Driver) partitions(topic string) int32 {
	return cmp.Or(d.o.partitions[topic], 1)
}

func (d *Driver) makeTopic(name string, partitions int32) {
	if d.logs[name] == nil {
		d.logs[name] = &topicLog{partitions: make([][]int, partitions)}
	}
}

func (d *Driver) reads(topic string) bool {
	_, ok := d.readers[task.TopicPartition{Topic: topic}]
	return ok
}

// Now is the driver's time.
func (d *Driver) Now() time.Time { return d.now }

// Advance moves the clock, commits on the way if the driver has a CommitInterval, and calls the punctuations that are then due on
// the wall clock, each once. What follows from them is processed to the end.
func (d *Driver) Advance(by time.Duration) {
	d.t.Helper()
	if by < 0 {
		d.t.Fatalf("streamtest: Advance(%v): time goes forward", by)
	}
	end := d.now.Add(by)
	next := end.Add(1) // of the commits on the way
	for every := d.o.commitInterval; every > 0; {
		next = d.o.start.Add((d.now.Sub(d.o.start)/every + 1) * every)
		if !next.Before(end) {
			break
		}
		d.now = next
		d.Commit()
	}
	d.now = end
	if err := d.punctuate(); err != nil {
		d.t.Fatalf("streamtest: advance: %v", err)
	}
	if next.Equal(end) {
		d.Commit()
	}
}

// punctuate calls what is due on the wall clock, in all tasks, and processes what follows.
func (d *Driver) punctuate() error {
	if d.failed != nil {
		return nil // time goes on
	}
	var fired []*runner
	for _, r := range d.runners {
		some, err := r.task.Punctuate()
		if err != nil {
			return d.fail(r, err)
		}
		if some {
			r.dirty = true
			fired = append(fired, r)
		}
	}
	for _, r := range fired {
		if !r.dirty || d.o.manual && !r.task.CommitRequested() {
			continue
		}
		before := d.restarts
		if err := d.commit(r); err != nil {
			return err
		}
		if d.restarts != before { // it crashed: what was taken back is still due
			return d.punctuate()
		}
	}
	return d.drain()
}

// Commit commits everything that was processed, and processes and commits what that made visible in internal topics,
// until nothing is left.
func (d *Driver) Commit() {
	d.t.Helper()
	if err := d.commitAll(); err != nil {
		d.t.Fatalf("streamtest: commit: %v", err)
	}
}

func (d *Driver) commitAll() error {
	if d.failed != nil {
		return d.stopped()
	}
	for {
		some := false
		for _, r := range d.runners {
			if !r.dirty {
				continue
			}
			some = true
			if err := d.commit(r); err != nil {
				return err
			}
		}
		if !some {
			return nil
		}
		if err := d.drain(); err != nil {
			return err
		}
	}
}

// Dropped is the number of input records that were dropped, by reason: what the metrics of an application count.
func (d *Driver) Dropped() map[string]int64 {
	dropped := map[string]int64{}
	for _, r := range d.all() {
		for _, reason := range task.Reasons() {
			if n := r.metrics.Dropped(reason); n > 0 {
				dropped[reason.String()] += n
			}
		}
		for why, n := range r.metrics.DroppedFor() {
			dropped[why] += n
		}
	}
	return dropped
}

// send writes an input record and processes what follows from it.
func (d *Driver) send(r Record) error {
	if d.failed != nil {
		return d.stopped()
	}
	if err := d.deliver(d.append(r)); err != nil {
		return err
	}
	if d.together {
		return nil
	}
	return d.drain()
}

// deliver queues a record for the task that reads it.
func (d *Driver) deliver(rec Record) error {
	r := d.readers[task.TopicPartition{Topic: rec.Topic, Partition: rec.Partition}]
	switch {
	case r == nil:
	case r.partitions > 0:
		return d.update(r, rec)
	default:
		d.queue = append(d.queue, rec)
	}
	return nil
}

// drain processes what is queued, and commits it unless that is left to the test.
func (d *Driver) drain() error {
	for {
		rec, r, ok := d.next()
		if !ok {
			return nil
		}
		if rec != nil {
			if err := r.process(*rec); err != nil {
				return d.fail(r, err)
			}
			if (d.o.manual || d.random != nil) && !r.task.CommitRequested() {
				continue
			}
		}
		if err := d.commit(r); err != nil {
			return err
		}
	}
}

// commit ends the transaction of a task, unless the application crashes over it.
func (d *Driver) commit(r *runner) error {
	err := r.commit()
	if err == errCrash {
		return d.restart(d.crash.fired())
	}
	if err != nil {
		return d.fail(r, err)
	}
	return nil
}

// fail stops the driver: nothing uncommitted of the task stays.
func (d *Driver) fail(r *runner, err error) error {
	r.task.Rollback()
	r.pending = nil
	d.queue = nil
	d.failed = err
	return err
}

func (d *Driver) stopped() error {
	return fmt.Errorf("stopped by an earlier failure (%w); Restart makes it go on", d.failed)
}

// append makes a record part of its topic.
func (d *Driver) append(r Record) Record {
	l := d.logs[r.Topic]
	if r.Partition < 0 {
		n := int32(len(l.partitions))
		if r.Key != nil {
			r.Partition = murmur.Partition(r.Key, n)
		} else {
			r.Partition = l.keyless % n
			l.keyless++
		}
	}
	r.Offset = int64(len(l.partitions[r.Partition]))
	d.sequence++
	r.sequence = d.sequence
	l.partitions[r.Partition] = append(l.partitions[r.Partition], len(l.records))
	l.records = append(l.records, r)
	return r
}

// process runs one record through the task.
func (r *runner) process(rec Record) error {
	in := task.Record{Offset: rec.Offset, Timestamp: rec.Time.UnixMilli(), LeaderEpoch: -1,
		Key: slices.Clone(rec.Key), Value: slices.Clone(rec.Value)}
	in.Headers = cloneHeaders(rec.Headers)
	r.task.Add(task.Batch{Topic: rec.Topic, Partition: rec.Partition, Records: []task.Record{in}, Next: rec.Offset + 1,
		Release: func() { spoil(&in) }})
	r.dirty = true
	for r.task.Buffered() > 0 {
		n, err := r.task.Process(1)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("task %s does not process offset %d of topic %s, partition %d", r.id, rec.Offset, rec.Topic, rec.Partition)
		}
	}
	return nil
}

// spoil overwrites the bytes of a released record: in an application their buffer is used again, and a serde or an
// operator that kept them would see other data.
func spoil(r *task.Record) {
	for _, b := range [][]byte{r.Key, r.Value} {
		for i := range b {
			b[i] = 0xDB
		}
	}
}

// Send implements task.Output: the record waits for the commit.
func (r *runner) Send(o *task.Out) error {
	r.route(o.Topic)
	if r.d.logs[o.Topic] == nil {
		return fmt.Errorf("topic %s does not exist", o.Topic)
	}
	rec := Record{Topic: o.Topic, Partition: o.Partition, Time: time.UnixMilli(o.Timestamp).UTC(),
		Key: slices.Clone(o.Key), Value: slices.Clone(o.Value)}
	rec.Headers = cloneHeaders(o.Headers)
	r.pending = append(r.pending, rec)
	return nil
}

// route makes a topic that a sink chose.
func (r *runner) route(topic string) {
	if r.d.routes {
		r.d.makeTopic(topic, r.d.partitions(topic))
	}
}

// partitionsOf is the number of partitions of a topic.
func (r *runner) partitionsOf(topic string) (int32, error) {
	r.route(topic)
	l := r.d.logs[topic]
	if l == nil {
		return 0, fmt.Errorf("topic %s does not exist", topic)
	}
	return int32(len(l.partitions)), nil
}

func cloneHeaders(hs []stream.Header) []stream.Header {
	cloned := slices.Clone(hs)
	for i := range cloned {
		cloned[i].Value = slices.Clone(cloned[i].Value)
	}
	return cloned
}

// commit ends the transaction of the task: all that it sent becomes visible, in the order in which it was sent, together
// with its offsets and its state.
func (r *runner) commit() error {
	d := r.d
	c, err := r.task.Prepare()
	if err != nil {
		return err
	}
	crash := d.crash.now()
	if crash == beforeCommit {
		return errCrash
	}
	for _, rec := range r.pending {
		if err := d.deliver(d.append(rec)); err != nil {
			return err
		}
	}
	r.pending = nil
	for tp, o := range c.Offsets {
		r.committed[tp] = o
	}
	changelog := map[string]int64{}
	for _, s := range r.sub.Stores {
		if s.Spec.Changelog {
			changelog[s.Name] = int64(len(d.logs[s.ChangelogTopic().For(d.o.appID)].partitions[r.id.Partition]))
		}
		if s.FromSource {
			changelog[s.Name] = r.committed[r.source(s)].Next
		}
	}
	if crash == duringCommit {
		return errCrash
	}
	r.dirty = false
	return r.task.Committed(changelog)
}

func (d *Driver) close() error {
	var errs []error
	for _, r := range d.all() {
		errs = append(errs, r.close(true))
	}
	for _, i := range d.instances {
		errs = append(errs, i.close())
	}
	return errors.Join(errs...)
}
