package share

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/replica"
	"github.com/moldau-stream/moldau/internal/batch"
)

// FetchRequest is what a member wants to fetch.
type FetchRequest struct {
	Group, Member string
	Epoch         int32 // of the session: each request begins with another partition
	MaxWait       time.Duration
	MinBytes      int32
	MaxBytes      int32
	Records       int // at most so many, or so many that a batch is not cut
	Batch         int // records of an acquired batch
	Mode          int8
	Partitions    []TopicPartition
}

// Result is what a fetch found in one partition.
type Result struct {
	TopicPartition
	Err      error
	Records  []byte // whole batches that have all acquired records
	Acquired []Got
}

// fetch is a fetch under way. While it waits it is parked: no goroutine belongs to it.
type fetch struct {
	m     *Manager
	r     FetchRequest
	parts []fetchPart
	done  func(results []Result, memory int64)

	mu       sync.Mutex
	running  bool // a goroutine tries
	again    bool // something may have changed since
	over     bool // the time is over or the server stops: answer what there is
	gone     bool // the connection has ended: nobody would get what is acquired
	answered bool
	timer    *time.Timer
	detach   func() bool // from the connection's context
	cancels  []func()    // of readers that wait at the end of the log
}

// fetchPart is a partition of a fetch.
type fetchPart struct {
	tp  TopicPartition
	l   *leader
	err error
}

// part is a partition that is read.
type part struct {
	*fetchPart
	offset  int64
	end     int64 // of what can be read
	read    replica.ReadResult
	readErr error
}

// maxFetchWait bounds the time that a client lets us hold a fetch.
const maxFetchWait = 5 * time.Minute

// Fetch acquires records for a member, waiting for them if need be. done gets the results of the partitions that were looked at,
// and the memory of their records, to be given back. It is called once, now or later; ctx is that of the connection.
func (m *Manager) Fetch(ctx context.Context, r FetchRequest, done func(results []Result, memory int64)) {
	f := &fetch{m: m, r: r, done: done}
	if r.Records <= 0 || r.MaxBytes <= 0 || len(r.Partitions) == 0 {
		done(nil, 0)
		return
	}
	n := len(r.Partitions)
	shift := 0
	if r.Epoch > 0 {
		shift = int(r.Epoch) % n
	}
	for i := range n {
		tp := r.Partitions[(i+shift)%n]
		l, err := m.lead(Key{r.Group, tp.Topic, tp.Partition})
		f.parts = append(f.parts, fetchPart{tp: tp, l: l, err: err})
	}
	f.running = true
	if f.try(r.MaxWait <= 0) {
		return
	}
	// Who waits first says so, then looks again.
	f.park(ctx)
	f.run()
}

// park makes everything that can end the wait wake the fetch.
func (f *fetch) park(ctx context.Context) {
	f.m.mu.Lock()
	stopping := f.m.stopping
	f.m.parked[f] = struct{}{}
	f.m.mu.Unlock()
	for i := range f.parts {
		if l := f.parts[i].l; l != nil {
			l.mu.Lock()
			l.waiting[f] = struct{}{}
			l.mu.Unlock()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = stopping
	f.timer = time.AfterFunc(min(f.r.MaxWait, maxFetchWait), f.finish)
	f.detach = context.AfterFunc(ctx, func() {
		f.mu.Lock()
		f.gone = true
		f.mu.Unlock()
		f.finish()
	})
}

// finish ends the wait.
func (f *fetch) finish() {
	f.mu.Lock()
	f.over = true
	f.mu.Unlock()
	f.wake()
}

// wake lets the fetch try again.
func (f *fetch) wake() {
	f.mu.Lock()
	if f.answered || f.running {
		f.again = true
		f.mu.Unlock()
		return
	}
	f.running = true
	f.mu.Unlock()
	if !f.m.enter() {
		f.answer(nil, 0)
		return
	}
	go func() {
		defer f.m.leave()
		f.run()
	}()
}

// run tries until there is nothing to be tried now. The caller has set running.
func (f *fetch) run() {
	for {
		f.mu.Lock()
		over, gone := f.over, f.gone
		f.again = false
		f.mu.Unlock()
		if gone {
			f.answer(nil, 0)
			return
		}
		if f.try(over) {
			return
		}
		f.mu.Lock()
		if !f.again && f.over == over {
			f.running = false
			f.mu.Unlock()
			return
		}
		f.mu.Unlock()
	}
}

// answer ends the fetch.
func (f *fetch) answer(results []Result, memory int64) {
	f.mu.Lock()
	if f.answered {
		f.mu.Unlock()
		f.m.o.Return(memory)
		return
	}
	f.answered = true
	timer, detach := f.timer, f.detach
	f.mu.Unlock()
	f.unregister()
	if timer != nil {
		timer.Stop()
		detach()
		f.m.mu.Lock()
		delete(f.m.parked, f)
		f.m.mu.Unlock()
	}
	for i := range f.parts {
		if l := f.parts[i].l; l != nil {
			l.mu.Lock()
			delete(l.waiting, f)
			delete(l.blocked, f)
			l.mu.Unlock()
		}
	}
	f.done(results, memory)
}

// unregister takes back the wishes at the ends of logs. Only who runs the fetch touches them.
func (f *fetch) unregister() {
	for _, cancel := range f.cancels {
		cancel()
	}
	f.cancels = f.cancels[:0]
}

// try reads and acquires. It reports whether the fetch is answered; final answers in any case.
func (f *fetch) try(final bool) bool {
	f.unregister()
	s := f.m.o.Settings(f.r.Group)
	iso := replica.ReadUncommitted
	if s.Committed {
		iso = replica.ReadCommitted
	}
	var parts []*part
	alive := 0
	for i := range f.parts {
		p := &f.parts[i]
		if p.err != nil {
			continue
		}
		offset, ok, err := p.l.tryFetch(f, s)
		if err != nil {
			p.err = err
			continue
		}
		alive++
		if ok {
			parts = append(parts, &part{fetchPart: p, offset: offset})
		}
	}
	memory, bytes, failed := f.read(parts, iso)
	if !final && alive > 0 && !failed && (bytes == 0 || bytes < int64(f.r.MinBytes)) {
		f.m.o.Return(memory)
		for _, p := range parts {
			p.l.fetched()
			f.cancels = append(f.cancels, p.l.log.OnReadable(p.offset, max(p.offset, p.end), iso, f.wake))
		}
		return false
	}
	results := f.acquire(parts, s)
	for i := range f.parts {
		if p := &f.parts[i]; p.err != nil {
			results = append(results, Result{TopicPartition: p.tp, Err: p.err})
		}
	}
	for _, p := range parts {
		p.l.fetched()
	}
	f.answer(results, memory)
	return true
}

// read reads the partitions, each its share of the bytes. The first batch that is found is returned even if it is larger.
func (f *fetch) read(parts []*part, iso replica.Isolation) (memory, bytes int64, failed bool) {
	if len(parts) == 0 {
		return 0, 0, false
	}
	memory = f.m.o.Memory(int64(f.r.MaxBytes))
	left := memory
	for i, p := range parts {
		most := int64(f.r.MaxBytes) / int64(len(parts))
		if i == 0 {
			most += int64(f.r.MaxBytes) % int64(len(parts))
		}
		p.readAt(min(most, left), iso, bytes == 0)
		failed = failed || p.readErr != nil
		n := int64(len(p.read.Records))
		bytes += n
		left = max(left-n, 0)
	}
	used := min(memory, bytes)
	f.m.o.Return(memory - used)
	return used, bytes, failed
}

// readAt reads from the log. If that begins later than the share partition, this follows.
func (p *part) readAt(most int64, iso replica.Isolation, minOne bool) {
	for range 2 {
		p.read, p.readErr = p.l.log.Read(p.offset, int32(most), iso, minOne)
		p.end = p.read.HighWatermark
		if iso == replica.ReadCommitted {
			p.end = p.read.LastStableOffset
		}
		if !errors.Is(p.readErr, kerr.OffsetOutOfRange) {
			return
		}
		p.read.Records, p.readErr = nil, nil
		if p.read.LogStartOffset <= p.offset {
			return // beyond the end, where records will be
		}
		p.offset = p.l.moveStart(p.read.LogStartOffset)
	}
}

// acquire gives what was read to the member.
func (f *fetch) acquire(parts []*part, s Settings) []Result {
	var results []Result
	left := f.r.Records
	for _, p := range parts {
		r := Result{TopicPartition: p.tp, Err: p.readErr}
		if p.readErr == nil && len(p.read.Records) > 0 {
			var aborted []AbortedTxn
			if s.Committed {
				for _, t := range p.read.Aborted {
					aborted = append(aborted, AbortedTxn(t))
				}
			}
			all, dropped, err := Spans(p.read.Records, aborted)
			if err != nil {
				r.Err = err
				results = append(results, r)
				continue
			}
			got, n := p.l.acquire(s, Want{Member: f.r.Member, Mode: f.r.Mode, Batch: f.r.Batch, Records: left},
				Fetched{Offset: p.offset, Batches: all, Aborted: dropped})
			left -= n
			if len(got) > 0 {
				r.Acquired = got
				r.Records = slice(p.read.Records, got[0].First, got[len(got)-1].Last)
			}
		}
		results = append(results, r)
	}
	return results
}

// slice leaves the batches out that lie before first or after last.
func slice(records []byte, first, last int64) []byte {
	from, to := 0, 0
	pos := 0
	_, _ = batch.All(records, func(b batch.Batch) bool { // was read as whole batches
		if b.LastOffset() < first {
			from = pos + len(b)
		}
		if b.BaseOffset() > last {
			return false
		}
		pos += len(b)
		to = pos
		return true
	})
	return records[min(from, to):to:to]
}
