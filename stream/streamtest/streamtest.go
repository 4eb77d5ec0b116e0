// Package streamtest drives a topology in a test: in memory, in one goroutine, on a clock that only the test moves.
// It needs no broker, no network and no waiting, and the same test always does the same.
//
//	b := stream.NewBuilder()
//	wordCount(b)
//	d := streamtest.New(t, b)
//	in, out := streamtest.Input(d, lines), streamtest.Output(d, counts)
//	in.Send("", "to be or not to be")
//	require.Equal(t, ..., out.Drain())
//
// What the driver models:
//
//	Send                 topics: one log per partition                Read, Drain
//	 |     +--------------------------------------------------------+      ^
//	 +---> | lines-0   lines-1   app-by-word-repartition-0  counts-0 | -----+
//	       +--------------------------------------------------------+
//	          | deliver, first in first out      ^ committed output
//	          v                                  |
//	       task 0_0   task 0_1   task 1_0 ...  (package task, as in an application)
//	          |          |          |
//	        stores     stores     stores  <--- changelog topics rebuild them at a Restart
//
// A record goes through its sub-topology depth first; what it writes to internal topics is processed afterwards, first in,
// first out, until nothing is left: then Send returns. Each record is committed at once unless the test chooses
// ManualCommit or CommitInterval, so that caching, emission per commit, crashes and restarts can be tested too.
//
// What may go wrong can be made to: Restart ends everything as a power cut does, CrashBeforeCommit and CrashDuringCommit do
// it in a commit, with or without the local state (LoseState); Instances, Move and Rebalance let tasks change their process;
// CacheSize has stores written and read beyond their cache. With Seed, chance decides what Kafka leaves open: tests that loop
// over seeds see the orders in which several inputs and internal topics may be processed and committed.
//
// Tables emit each update, unless an operator chose otherwise or the test says EmitPerCommit.
//
// Topics have one partition, or as many as Partitions says; internal topics follow by the rules of an application.
// All topics begin empty, so where sources begin (stream.StartAt) makes no difference here.
// Records without a key are spread over the partitions in turn.
//
// A null key or value, of a topic whose type has none, is sent and read with a second handle of the same topic:
//
//	nullable := stream.NewTopic(lines.Name(), serde.Nullable(serde.String), serde.Nullable(serde.String))
//	streamtest.Input(d, nullable).Send(stream.Opt[string]{}, stream.Some("no key"))
package streamtest

import (
	"testing"
	"time"

	"github.com/moldau-stream/moldau/stream"
)

// An Option changes how New sets up a driver.
type Option func(*options)

type options struct {
	appID          string
	start          time.Time
	partitions     map[string]int32
	perCommit      bool
	manual         bool
	commitInterval time.Duration
	onDisk         bool
	cache          int64
	instances      int
	seed           *uint64
	onError        func(*stream.RecordError) stream.Action
	deadLetter     string
	idleAdvance    time.Duration
}

// Partitions sets how many partitions a topic has. Default: 1.
func Partitions(topic string, n int) Option {
	return func(o *options) { o.partitions[topic] = int32(n) }
}

// AppID sets the application id, the prefix of internal topics. Default: "app".
func AppID(id string) Option { return func(o *options) { o.appID = id } }

// StartTime sets the clock. Default: midnight UTC 2000-01-01, as in testing/synctest.
func StartTime(at time.Time) Option { return func(o *options) { o.start = at } }

// IdleAdvance is stream.Config.IdleAdvance: Advance moves stream time on in tasks that had no input for so long.
func IdleAdvance(after time.Duration) Option { return func(o *options) { o.idleAdvance = after } }

// EmitPerCommit makes tables emit the last update of each key at a commit, as an application does, instead of each
// update. Operators that chose their emission themselves keep it.
func EmitPerCommit() Option { return func(o *options) { o.perCommit = true } }

// ManualCommit leaves commits to the test: what records write becomes visible at Commit.
func ManualCommit() Option { return func(o *options) { o.manual = true } }

// CommitInterval commits whenever Advance moves the clock across a multiple of the interval since the start.
func CommitInterval(every time.Duration) Option {
	return func(o *options) { o.manual, o.commitInterval = true, every }
}

// OnDisk keeps stores in databases, as an application does, on a disk that is simulated in memory. Restart opens them as a
// process does after a power cut: what was not yet written is restored from the changelogs.
func OnDisk() Option { return func(o *options) { o.onDisk = true } }

// CacheSize sets the memory for the stores of an instance, in bytes: half for the caches of stores, half for the databases
// of OnDisk. The less there is, the more often stores are written, and read, beyond their cache. Answers do not depend on it.
func CacheSize(bytes int64) Option { return func(o *options) { o.cache = bytes } }

// Instances has the tasks run in several instances of the application, each with a state directory of its own. Move and
// Rebalance let tasks change between them. Default: 1.
func Instances(n int) Option { return func(o *options) { o.instances = max(n, 1) } }

// Seed lets chance decide what Kafka leaves open, the same way for the same seed: which task goes on when several have
// input, and, unless the test commits by itself, when each commits. Records of a partition keep their order, and a task
// takes the record with the smallest timestamp of those that its topics have. Without it, records are processed
// first in, first out, and each is committed at once.
//
//	for seed := range uint64(100) {
//		d := streamtest.New(t, topology(), streamtest.Seed(seed))
//		...
//	}
func Seed(seed uint64) Option { return func(o *options) { o.seed = &seed } }

// OnError sets the policy for records that fail. Default: the failure ends the test.
func OnError(f func(*stream.RecordError) stream.Action) Option {
	return func(o *options) { o.onError = f }
}

// DeadLetterTopic sets where records go for which the policy says DeadLetter.
func DeadLetterTopic(topic string) Option { return func(o *options) { o.deadLetter = topic } }

// New drives the topology of a builder. Mistakes of the topology, and all later failures, end the test.
func New(t testing.TB, b *stream.Builder, opts ...Option) *Driver {
	t.Helper()
	topology, err := b.Build()
	if err != nil {
		t.Fatalf("the topology has mistakes:\n%v", err)
	}
	return NewTopology(t, topology, opts...)
}
