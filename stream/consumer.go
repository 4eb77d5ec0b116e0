package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/internal/task"
)

// fetcher brings input from the cluster to the workers, in batches. Which partitions it reads, and from
// where, is decided by the workers alone: group membership is the business of another client (see group.go), so
// that a partition starts when its task is restored, and goes back to the committed offset after an abort,
// without the group knowing.
//
//	Kafka --fetch--> kgo buffers --poll--> one goroutine --batch per partition--> inbox of the worker
//	                     ^                                                              |
//	                     +--- pause when the partition's backlog is full, resume <------+
//
// Invariant: between remove of an input and the next add of its partition nothing of it reaches a worker, and
// what comes after the add begins at its offset: a batch names the input that it was fetched for.
type fetcher struct {
	app *App
	cl  *kgo.Client

	mu     sync.Mutex
	inputs map[task.TopicPartition]*input
	todo   []func()           // changes that the poll loop makes between two polls
	wake   context.CancelFunc // ends the current poll

	// What the client fetches, of the poll loop: it follows inputs when todo is done. A batch that was polled before
	// a partition was removed and added again must not reach the new input, which begins elsewhere.
	live map[task.TopicPartition]*input
	ids  map[string][16]byte // of topics that the client knows; of the poll loop

	budget int64        // bytes of backlog of all partitions together
	total  atomic.Int64 // that are used
	share  atomic.Int64 // that each partition may have when they are short

	slices sync.Pool // of *[]task.Record
}

// recordOverhead is about what a buffered record takes beside its bytes.
const recordOverhead = 128

// input is one source partition of a running task.
type input struct {
	tp   task.TopicPartition
	task *runningTask
	f    *fetcher

	next     atomic.Int64 // position: offset behind the last processed batch, as committed
	fetched  atomic.Int64 // offset behind the last batch that was handed over
	end      atomic.Int64 // offset up to which there are records to read, at the last fetch; see readableEnd
	records  atomic.Int64
	received atomic.Int64 // bytes of keys, values and headers

	mu      sync.Mutex
	backlog int64 // bytes handed over and not processed
	paused  bool
	closed  bool
}

func newFetcher(a *App) *fetcher {
	return &fetcher{app: a, cl: a.client, inputs: make(map[task.TopicPartition]*input), live: make(map[task.TopicPartition]*input), ids: make(map[string][16]byte), budget: a.cfg.inputBytes()}
}

// add starts to fetch inputs at offsets.
func (f *fetcher) add(at map[*input]int64) {
	f.mu.Lock()
	for in := range at {
		f.inputs[in.tp] = in
	}
	f.divide()
	f.mu.Unlock()
	f.do(func() {
		f.renew(at)
		parts := make(map[string]map[int32]kgo.Offset)
		for in, offset := range at {
			if f.current(in.tp) != in {
				continue // removed meanwhile
			}
			f.live[in.tp] = in
			if parts[in.tp.Topic] == nil {
				parts[in.tp.Topic] = make(map[int32]kgo.Offset)
			}
			parts[in.tp.Topic][in.tp.Partition] = kgo.NewOffset().At(offset)
		}
		f.cl.AddConsumePartitions(parts)
	})
}

// renew has the client forget topics that were deleted: it asks for them for ever, and if they are made anew keeps to the id that it knows.
func (f *fetcher) renew(at map[*input]int64) {
	l := f.app.layout.Load()
	for topic, old := range f.ids {
		if id, ok := l.ids[topic]; !ok || id != old {
			f.cl.PurgeTopicsFromConsuming(topic)
			delete(f.ids, topic)
		}
	}
	for in := range at {
		if id, ok := l.ids[in.tp.Topic]; ok {
			f.ids[in.tp.Topic] = id
		}
	}
}

// remove stops inputs. When it returns, none of them gets another batch.
func (f *fetcher) remove(ins []*input) {
	parts := make(map[string][]int32)
	f.mu.Lock()
	for _, in := range ins {
		in.mu.Lock()
		in.closed = true
		in.mu.Unlock()
		if f.inputs[in.tp] == in {
			delete(f.inputs, in.tp)
			parts[in.tp.Topic] = append(parts[in.tp.Topic], in.tp.Partition)
		}
	}
	f.divide()
	f.mu.Unlock()
	if len(parts) == 0 {
		return
	}
	f.do(func() {
		for topic, ps := range parts {
			for _, p := range ps {
				tp := task.TopicPartition{Topic: topic, Partition: p}
				delete(f.live, tp)
				f.app.unreadable.forget(tp)
			}
		}
		f.cl.RemoveConsumePartitions(clonePartitions(parts))
		f.cl.ResumeFetchPartitions(parts)
	})
}

func clonePartitions(m map[string][]int32) map[string][]int32 {
	c := make(map[string][]int32, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}

// divide shares the budget out among the partitions; f.mu is held.
func (f *fetcher) divide() {
	f.share.Store(max(f.budget/int64(max(len(f.inputs), 1)), 64<<10))
}

// scarce is whether half of the budget is used: then nobody may have more than its share, so that a slow task
// cannot take the memory of all others. Before that any partition may have what it gets: pausing one costs
// throughput, because the fetch that is on its way without it has to return first.
func (f *fetcher) scarce() bool { return f.total.Load() > f.budget/2 }

// all lists the inputs.
func (f *fetcher) all() []*input {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Values(f.inputs))
}

func (f *fetcher) current(tp task.TopicPartition) *input {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.inputs[tp]
}

// do runs fn on the poll loop, between two polls.
func (f *fetcher) do(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.todo = append(f.todo, fn)
	if f.wake != nil {
		f.wake()
	}
}

// run polls until ctx ends.
func (f *fetcher) run(ctx context.Context) {
	bad := 0 // polls in a row with nothing but errors
	for ctx.Err() == nil {
		f.mu.Lock()
		todo := f.todo
		f.todo = nil
		pctx, cancel := context.WithCancel(ctx)
		f.wake = cancel
		f.mu.Unlock()
		for _, fn := range todo {
			fn()
		}
		fetches, looked := f.poll(pctx)
		fetches.EachError(func(topic string, partition int32, err error) { f.failed(ctx, topic, partition, err) })
		fetches.EachPartition(f.deliver)
		switch {
		case looked || pctx.Err() != nil: // what ended the poll is the error
		case onlyErrors(fetches):
			wait(pctx, pollPause(bad))
			bad++
		default:
			bad = 0
		}
		cancel()
	}
}

// poll waits for records until ctx ends; while some partition cannot be read, not longer than a second, to see
// whether errors still come. Then it returns nothing.
func (f *fetcher) poll(ctx context.Context) (fetches kgo.Fetches, looked bool) {
	if !f.app.unreadable.expire() {
		return f.cl.PollFetches(ctx), false
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer time.AfterFunc(time.Second, stop).Stop()
	fetches = f.cl.PollFetches(ctx)
	return fetches, ctx.Err() != nil
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// deliver hands the records of one partition to the worker that owns it.
func (f *fetcher) deliver(p kgo.FetchTopicPartition) {
	if len(p.Records) == 0 {
		return
	}
	in := f.live[task.TopicPartition{Topic: p.Topic, Partition: p.Partition}]
	if in == nil {
		return // given up meanwhile
	}
	f.app.unreadable.delivered(in.tp)
	recs := f.take(len(p.Records))
	var size int64
	for _, r := range p.Records {
		if r.Attrs.IsControl() {
			continue // moves the position only
		}
		tr := task.Record{Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), LeaderEpoch: r.LeaderEpoch, Key: r.Key, Value: r.Value}
		size += int64(len(r.Key)+len(r.Value)) + recordOverhead
		if len(r.Headers) > 0 {
			tr.Headers = make([]task.Header, len(r.Headers))
			for i, h := range r.Headers {
				tr.Headers[i] = task.Header{Key: h.Key, Value: h.Value}
				size += int64(len(h.Key) + len(h.Value))
			}
		}
		recs = append(recs, tr)
	}
	in.records.Add(int64(len(recs)))
	in.received.Add(size - int64(len(recs))*recordOverhead)
	in.end.Store(f.app.readableEnd(p.HighWatermark, p.LastStableOffset))
	next := p.Records[len(p.Records)-1].Offset + 1
	in.fetched.Store(next)
	b := task.Batch{Topic: p.Topic, Partition: p.Partition, Records: recs, Next: next, Release: func() {
		f.put(recs)
		in.release(size)
	}}

	in.mu.Lock()
	if in.closed {
		in.mu.Unlock()
		return
	}
	in.backlog += size
	f.total.Add(size)
	if !in.paused && in.backlog > f.share.Load() && f.scarce() {
		in.paused = true
		f.cl.PauseFetchPartitions(map[string][]int32{p.Topic: {p.Partition}})
	}
	in.mu.Unlock()
	in.task.worker.post(message{in: in, batch: b})
}

// readableEnd is the offset up to which this application can read a partition: exactly-once, what is behind the last
// stable offset belongs to a transaction that is open.
func (a *App) readableEnd(highWatermark, lastStable int64) int64 {
	if a.cfg.Guarantee == ExactlyOnce && lastStable >= 0 {
		return min(highWatermark, lastStable)
	}
	return highWatermark
}

// release takes processed bytes off the backlog.
func (in *input) release(size int64) {
	f := in.f
	f.total.Add(-size)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.backlog -= size
	if in.paused && !in.closed && (in.backlog <= f.share.Load()/2 || !f.scarce()) {
		in.paused = false
		f.cl.ResumeFetchPartitions(map[string][]int32{in.tp.Topic: {in.tp.Partition}})
	}
}

// failed handles what a poll reports. kgo retries what can be retried by itself, and tells all the same.
func (f *fetcher) failed(ctx context.Context, topic string, partition int32, err error) {
	switch {
	case ctx.Err() != nil || errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed):
		return
	case errors.Is(err, kerr.OffsetOutOfRange):
		// The log was cut, or the topic made anew, behind our back: open the task again, which looks at the
		// offsets and says what is wrong with them.
		if in := f.live[task.TopicPartition{Topic: topic, Partition: partition}]; in != nil {
			in.task.worker.post(message{fn: func(w *worker) {
				if w.tasks[in.task.id] != in.task {
					return // given up meanwhile
				}
				w.reset(fmt.Errorf("topic %s, partition %d: %w", topic, partition, err))
			}})
		}
		return
	}
	var loss *kgo.ErrDataLoss
	if errors.As(err, &loss) {
		f.app.log.Warn("records of an input were lost by the cluster", "topic", topic, "partition", partition, "error", err)
		return
	}
	var large *kgo.ErrDecompressTooLarge
	switch {
	case errors.As(err, &large): // kgo does not read the partition any more
		f.app.fail(fmt.Errorf("read topic %s, partition %d: %w: raise kgo.MaxDecompressBatchBytes in Config.Client", topic, partition, err))
		return
	case !temporary(err):
		f.app.fail(fmt.Errorf("read topic %s, partition %d: %w", topic, partition, err))
		return
	}
	for tp := range f.live {
		if gone(err) {
			if f.app.layout.Load().source(tp.Topic) == nil {
				continue // seen already: the group is about to take it away
			}
			f.app.lookSoon()
		}
		// An error can be of all partitions of a topic (-1), or of all that a broker has (no topic).
		if topic == "" || tp.Topic == topic && (partition < 0 || tp.Partition == partition) {
			if err := f.app.unreadable.failed(tp, err); err != nil {
				f.app.fail(err)
			}
		}
	}
}

// take and put keep the slices of records between batches.
func (f *fetcher) take(n int) []task.Record {
	if p, ok := f.slices.Get().(*[]task.Record); ok && cap(*p) >= n {
		return (*p)[:0]
	}
	return make([]task.Record, 0, n)
}

func (f *fetcher) put(s []task.Record) {
	clear(s)
	f.slices.Put(&s)
}
