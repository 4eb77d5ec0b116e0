// Package task runs one sub-topology on one partition: records in, records,
// state and offsets out. It knows no clock, goroutine, network or client.
//
//	Add(batch) --> queue of topic a \   the record with the     +--> typed closures, depth first
//	Add(batch) --> queue of topic b --> smallest timestamp  ----+         |            |
//	                                    (heads are compared)              v            v
//	                                                                   stores    staged outputs
//	                                                                      |            | the record is done
//	Prepare: emit what changed in tables, in topological order -----------+            v
//	         changelog records of all that changed  -----------------------------> Output.Send
//	         offsets with metadata -> the caller commits them together with what was sent
//	Committed: the open transaction of the stores becomes part of them
//	Rollback:  everything since the last commit is forgotten
//
// Invariants:
//   - One goroutine at a time uses a task; only Metrics may be read by others.
//   - A record is done completely or not at all: outputs leave the task, and
//     changes of stores stay, only if every operator succeeded, or if the task
//     ends with the failure and its open transaction is given up.
//   - What was sent before Prepare returned, and the stores after Committed,
//     belong to the records below the offsets that Prepare returned, and to no other.
//   - The path of a record from source to sink allocates nothing of its own.
package task

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/topo"
)

// Config is what a task needs.
type Config struct {
	AppID string
	ID    ID
	Sub   *topo.Subtopology
	// Topics are those that a source reads, with the application id. nil: those that it names.
	Topics func(source *topo.Node) []string
	// Partitions is the number of partitions that the task of a global store reads; others read that of their ID.
	Partitions int32
	Stores     *store.Task // opened with Specs(Sub); nil if there are none
	// Globals are the global stores, by name.
	Globals map[string]store.View
	Output  Output
	// Flush waits until all that was sent is stored. It is called before changelog records are sent where they must not be
	// ahead of results: without transactions, for tables whose emission depends on what they sent before. nil: they may.
	Flush func() error
	// PartitionsOf is the number of partitions of a topic, for sinks that choose the partition. nil: they cannot.
	PartitionsOf func(topic string) (int32, error)
	// EmitPerUpdate is the emission of the operators that chose none: each
	// update of a table goes on at once. Otherwise the last one goes on at the
	// next commit.
	EmitPerUpdate bool
	// Context is for functions that wait; it ends when the application stops. nil: context.Background().
	Context context.Context
	// Clock is the wall clock; nil: it stands still.
	Clock func() time.Time
	// IdleAdvance is how long the input must be idle for stream time to move on with the wall clock; 0: it does not.
	IdleAdvance time.Duration
	// MaxIdle is how long a partition of which no record is known to be there holds the others back; below 0: none ever does.
	MaxIdle    time.Duration
	OnError    ErrorHandler // nil: Stop
	DeadLetter string       // topic for DeadLetter; empty: there is none
	Metrics    *Metrics     // nil: not counted
}

// Specs are the stores of a sub-topology.
func Specs(sub *topo.Subtopology) []store.Spec {
	specs := make([]store.Spec, len(sub.Stores))
	for i, s := range sub.Stores {
		specs[i] = s.Spec
	}
	return specs
}

// Task is one sub-topology on one partition.
type Task struct {
	id      ID
	c       *Context
	sub     *topo.Subtopology
	stores  *store.Task
	out     Output
	flush   func() error
	onError ErrorHandler
	dead    string
	metrics *Metrics
	queues  []*queue
	byInput map[TopicPartition]*queue
	grow    func(partitions int32) // adds the queues of partitions up to that many
	time    int64                  // stream time: the largest timestamp processed
	late    Sample
	cur     *queue
	stack   []byte  // of the panic that ended run
	emitted Emitted // at hand
	started bool    // Start was called
	fired   bool    // a punctuation was called since the last Prepare
	idle    idleness
	maxIdle int64 // milliseconds

	committedTimes map[string]int64
	timesVersion   int64

	keys [store.AheadKeys][]byte // of lookAhead
}

// New wires the nodes of the sub-topology.
func New(c Config) (*Task, error) {
	if c.Output == nil {
		return nil, errors.New("task: no output")
	}
	if len(c.Sub.Stores) > 0 && c.Stores == nil {
		return nil, fmt.Errorf("task %s: no stores", c.ID)
	}
	if c.ID.Subtopology != c.Sub.ID {
		return nil, fmt.Errorf("task %s: given sub-topology %d", c.ID, c.Sub.ID)
	}
	t := &Task{
		id:             c.ID,
		sub:            c.Sub,
		stores:         c.Stores,
		out:            c.Output,
		flush:          c.Flush,
		onError:        c.OnError,
		dead:           c.DeadLetter,
		metrics:        c.Metrics,
		byInput:        map[TopicPartition]*queue{},
		time:           -1,
		committedTimes: map[string]int64{},
	}
	if t.metrics == nil {
		t.metrics = &Metrics{}
	}
	t.c = &Context{
		appID:     c.AppID,
		context:   cmp.Or(c.Context, context.Background()),
		id:        c.ID,
		clock:     c.Clock,
		partition: c.ID.Partition,
		counts:    c.PartitionsOf,
		stores:    c.Stores,
		globals:   c.Globals,
		perUpdate: c.EmitPerUpdate,
		undoable:  c.OnError != nil,
		bytes:     make([]byte, 0, 4<<10),
		times:     map[string]*int64{},
		loaded:    map[string]int64{},
	}
	t.c.send = t.send
	t.c.streamTime = -1
	t.idle.after, t.maxIdle = c.IdleAdvance.Milliseconds(), c.MaxIdle.Milliseconds()
	if c.MaxIdle < 0 {
		t.maxIdle = -1
	}
	t.busy()
	if c.Topics == nil {
		c.Topics = func(n *topo.Node) []string {
			var names []string
			for _, topic := range n.Topics {
				names = append(names, topic.For(c.AppID))
			}
			return names
		}
	}
	t.wire(c.Topics, c.Partitions)
	return t, nil
}

// wire makes the inputs of all nodes, children first. Each partition of a source has an input of its own, since it holds a record.
func (t *Task) wire(topics func(*topo.Node) []string, partitions int32) {
	in := map[*topo.Node]any{}
	below := func(n *topo.Node) []any {
		outs := make([]any, len(n.Children))
		for i, child := range n.Children {
			outs[i] = in[child]
		}
		return outs
	}
	for _, n := range slices.Backward(t.sub.Nodes) {
		if n.Kind != topo.Source {
			in[n] = n.Wire(t.c, below(n))
		}
		for _, name := range n.Times {
			t.c.Time(name)
		}
	}
	t.grow = func(partitions int32) {
		for _, n := range t.sub.Sources {
			ahead := t.lookers(n)
			for _, topic := range topics(n) {
				for p := range partitions {
					if tp := (TopicPartition{topic, t.id.Partition + p}); t.byInput[tp] == nil {
						t.addQueue(n, tp, n.Wire(t.c, below(n)).(Input), ahead)
					}
				}
			}
		}
	}
	t.grow(max(partitions, 1))
	slices.SortStableFunc(t.c.emitters, func(a, b *emitter) int { return a.node.Index - b.node.Index })
	t.c.sortAdvances()
}

func (t *Task) addQueue(source *topo.Node, tp TopicPartition, in Input, ahead []looker) {
	q := &queue{
		source:        source,
		tp:            tp,
		input:         in,
		ahead:         ahead,
		next:          -1,
		epoch:         -1,
		time:          -1,
		committed:     -1,
		committedTime: -1,
		prepared:      -1,
		preparedTime:  -1,
	}
	t.queues = append(t.queues, q)
	t.byInput[tp] = q
}

// Grow has the task of a global store read that many partitions.
func (t *Task) Grow(partitions int32) { t.grow(partitions) }

// ID is the task's name.
func (t *Task) ID() ID { return t.id }

// Inputs are the partitions that the task reads.
func (t *Task) Inputs() []TopicPartition {
	tps := make([]TopicPartition, len(t.queues))
	for i, q := range t.queues {
		tps[i] = q.tp
	}
	return tps
}

func (t *Task) queue(topic string, partition int32) *queue {
	q := t.byInput[TopicPartition{topic, partition}]
	if q == nil {
		panic(fmt.Sprintf("task %s reads %v, not partition %d of topic %s", t.id, t.Inputs(), partition, topic))
	}
	return q
}

// LoadMetadata takes the metadata of the committed offset of an input: partition
// time and operator time go on from there. Metadata that it doesn't understand
// is refused with an error and changes nothing; then times begin anew.
func (t *Task) LoadMetadata(topic string, partition int32, metadata string) error {
	q := t.queue(topic, partition)
	m, err := DecodeMetadata(metadata)
	if err != nil {
		return fmt.Errorf("task %s: topic %s, partition %d: %w", t.id, topic, partition, err)
	}
	q.time, q.committedTime = m.PartitionTime, m.PartitionTime
	t.time = max(t.time, m.PartitionTime)
	t.c.streamTime = t.time
	// Every partition carries the times of the last commit that moved it. What Kafka Streams committed has no version; its
	// times only grow.
	version, ours := m.Times[versionOfTimes]
	if version < t.timesVersion {
		return nil
	}
	t.timesVersion = version
	for name, at := range m.Times {
		if !ours {
			at = max(at, t.c.loaded[name])
		}
		t.c.loaded[name] = at
		if p, ok := t.c.times[name]; ok && (ours || at > *p) {
			*p = at
			t.committedTimes[name] = at
		}
	}
	return nil
}

// SetPosition says where the input of a partition begins: the committed offset,
// or where the reader starts if there is none. It is not needed, but only with
// it a Rollback before the first commit leaves Positions right, and SetEnd is
// right about a partition of which nothing comes.
func (t *Task) SetPosition(topic string, partition int32, next int64) {
	q := t.queue(topic, partition)
	q.next, q.committed, q.prepared = next, next, next
}

// SetEnd says that the partition has records up to an offset (not included).
// As long as they have not come, the task processes nothing of its other
// partitions, because those records may be older. Without a call it never waits;
// math.MaxInt64 makes it wait until the end is known.
func (t *Task) SetEnd(topic string, partition int32, offset int64) {
	t.queue(topic, partition).end = offset
}

// Waiting is the partition that Process waits for although records of others are buffered, and the
// offset from which on none of its records has come; see SetEnd.
func (t *Task) Waiting() (tp TopicPartition, next int64, ok bool) {
	if len(t.queues) < 2 || t.maxIdle < 0 || t.Buffered() == 0 {
		return TopicPartition{}, 0, false
	}
	for _, q := range t.queues {
		if q.waiting() {
			return q.tp, max(q.next, 0), true
		}
	}
	return TopicPartition{}, 0, false
}

// Add takes input. It must be of one of Inputs, and follow what was added before.
func (t *Task) Add(b Batch) {
	t.queue(b.Topic, b.Partition).add(b)
}

// Buffered is the number of records that were added and not processed.
func (t *Task) Buffered() int {
	n := 0
	for _, q := range t.queues {
		n += q.count
	}
	return n
}

// BufferedOf is Buffered of one input.
func (t *Task) BufferedOf(topic string, partition int32) int {
	return t.queue(topic, partition).count
}

// Dirty tells whether there is something to commit.
func (t *Task) Dirty() bool {
	if t.fired {
		return true
	}
	for _, q := range t.queues {
		if q.next != q.committed {
			return true
		}
	}
	return false
}

// StreamTime is the largest timestamp that was processed; -1 if there was none.
func (t *Task) StreamTime() int64 { return t.time }

// Time is the operator time of a name, see Context.Time.
func (t *Task) Time(name string) *int64 { return t.c.Time(name) }

// Positions are the offsets of the next records to process; a partition of
// which nothing came yet is left out.
func (t *Task) Positions() map[TopicPartition]int64 {
	m := make(map[TopicPartition]int64, len(t.queues))
	for _, q := range t.queues {
		if q.next >= 0 {
			m[q.tp] = q.next
		}
	}
	return m
}

// DirtyBytes is the memory that uncommitted changes of stores hold.
func (t *Task) DirtyBytes() int {
	if t.stores == nil {
		return 0
	}
	return t.stores.DirtyBytes()
}

// TakeLateness is how far the records processed since the last call were behind stream time.
func (t *Task) TakeLateness() Sample { return t.late.take() }

// TakeTimes are the timestamps of the records of a source, by its place in the sub-topology, that were processed since
// the last call.
func (t *Task) TakeTimes(source int) Sample {
	var all Sample
	for _, q := range t.queues {
		if q.source == t.sub.Sources[source] {
			all.merge(q.times.take())
		}
	}
	return all
}

// Query calls f with a store as it is now, uncommitted changes included. Like
// everything else it must be called by the goroutine that owns the task.
func (t *Task) Query(name string, f func(*store.KV) error) error {
	for _, s := range t.sub.Stores {
		if s.Name == name {
			return f(t.stores.KV(name))
		}
	}
	return fmt.Errorf("task %s has no store %s", t.id, name)
}

// Close ends the processors and releases the buffered input. It does not close the stores.
func (t *Task) Close() error {
	err := t.end()
	for _, q := range t.queues {
		q.drop()
	}
	return err
}
