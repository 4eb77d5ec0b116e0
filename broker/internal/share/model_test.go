package share

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// one is a record of the model.
type one struct {
	state  State
	count  int16
	member string
	until  time.Time
	moving bool
	was    State
	owner  string
}

// model is a share partition in which every record is for itself.
type model struct {
	start, next int64
	records     map[int64]*one
}

func (m *model) get(o int64) *one {
	r := m.records[o]
	if r == nil {
		r = &one{}
		m.records[o] = r
	}
	return r
}

// release is what happens to a record that its member does not keep.
func (m *model) release(o int64, r *one, lim Limits) {
	r.state, r.member, r.until = Available, "", time.Time{}
	if o < m.start || int(r.count) >= lim.Deliveries {
		r.state = Archived
	}
}

// advance moves the start past what is done.
func (m *model) advance() {
	for o, r := range m.records {
		if o < m.start && (r.moving || !r.state.terminal()) {
			return
		}
	}
	for m.start < m.next {
		if r := m.get(m.start); r.moving || !r.state.terminal() {
			break
		}
		m.start++
	}
	for o, r := range m.records {
		if o < m.start && !r.moving && r.state.terminal() {
			delete(m.records, o)
		}
	}
}

// pendingWrite is a write whose outcome is open.
type pendingWrite struct {
	w       *Write
	waiting bool // of an acknowledgement or a release, which the record's member waits for
}

// world is a Partition beside the model, with a log of records that all exist, in batches of some size.
type world struct {
	t       *rapid.T
	now     time.Time
	lim     Limits
	p       *Partition
	m       *model
	batch   int64 // records of a log batch
	log     int64 // end of the log
	begin   int64 // of the log
	writes  []pendingWrite
	durable []Batch // what was written
	stored  int64   // start that was written
}

// TestPartitionIsItsRecords lets members do anything in any order, with failing writes, ending locks, a log that is cut and
// restarts, and compares with a model that has every record for itself.
func TestPartitionIsItsRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{
			t: t, now: time.Unix(1000, 0), batch: int64(rapid.IntRange(1, 7).Draw(t, "batch")),
			lim: Limits{
				LockDuration: 30 * time.Second, Deliveries: rapid.IntRange(2, 6).Draw(t, "deliveries"),
				Locks: rapid.IntRange(5, 60).Draw(t, "locks"), Renew: rapid.Bool().Draw(t, "renew"),
			},
			m: &model{records: map[int64]*one{}},
		}
		w.restart()
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			w.step()
			w.compare()
		}
	})
}

func (w *world) step() {
	member := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(w.t, "member")
	switch rapid.SampledFrom([]string{
		"produce", "produce", "acquire", "acquire", "acquire", "acquire", "acknowledge", "acknowledge", "acknowledge", "written", "written",
		"written", "release", "advance", "cut", "restart",
	}).Draw(w.t, "what") {
	case "produce":
		w.log += w.batch * int64(rapid.IntRange(1, 5).Draw(w.t, "batches"))
	case "acquire":
		w.acquire(member)
	case "acknowledge":
		w.acknowledge(member)
	case "written":
		w.written()
	case "release":
		w.release(member)
	case "advance":
		w.now = w.now.Add(time.Duration(rapid.IntRange(1, 40).Draw(w.t, "seconds")) * time.Second)
		w.expire()
	case "cut":
		w.cut()
	case "restart":
		if rapid.IntRange(0, 4).Draw(w.t, "really") == 0 {
			w.restart()
		}
	}
}

func (w *world) acquire(member string) {
	offset := w.p.NextFetchOffset()
	for o := w.m.start; o < offset; o++ {
		if r := w.m.get(o); r.state == Available && !r.moving {
			w.t.Fatalf("record %d is available before the next fetch offset %d", o, offset)
		}
	}
	if !w.p.CanAcquire(w.lim) || offset >= w.log || offset < w.begin {
		return
	}
	f := Fetched{Offset: offset}
	for first := offset / w.batch * w.batch; first < w.log && len(f.Batches) < 6; first += w.batch {
		f.Batches = append(f.Batches, Span{first, first + w.batch - 1})
		if rapid.IntRange(0, 9).Draw(w.t, "aborted") == 0 {
			f.Aborted = append(f.Aborted, f.Batches[len(f.Batches)-1])
		}
	}
	want := Want{Member: member, Mode: int8(rapid.IntRange(0, 1).Draw(w.t, "mode")), Batch: rapid.IntRange(1, 10).Draw(w.t, "size"), Records: rapid.IntRange(1, 30).Draw(w.t, "records")}
	inFlight := w.p.InFlight()
	got, n := w.p.Acquire(w.now, w.lim, want, f)

	last := int64(-1)
	sum := 0
	for _, g := range got {
		require.Greater(w.t, g.First, last, "ranges are in order")
		require.GreaterOrEqual(w.t, g.Last, g.First)
		last = g.Last
		sum += int(g.Last - g.First + 1)
		for o := g.First; o <= g.Last; o++ {
			r := w.m.get(o)
			require.Equal(w.t, Available, r.state, "record %d was free", o)
			require.False(w.t, r.moving, "record %d was free", o)
			require.GreaterOrEqual(w.t, o, w.m.start)
			require.Less(w.t, int(r.count), w.lim.Deliveries, "record %d was not delivered too often", o)
			r.state, r.member, r.until = Acquired, member, w.now.Add(w.lim.LockDuration)
			r.count++
			require.Equal(w.t, r.count, g.Count, "deliveries of record %d", o)
		}
		w.m.next = max(w.m.next, g.Last+1)
	}
	require.Equal(w.t, n, sum)
	if want.Mode == RecordLimit {
		require.LessOrEqual(w.t, sum, want.Records)
	}
	if inFlight < int64(w.lim.Locks) && offset == w.m.next && len(f.Aborted) == 0 {
		require.NotEmpty(w.t, got, "new records are given out within the limit")
	}
	// What was taken in and not given out: the rest of a batch cut by the limit of records, and records of aborted transactions.
	for _, b := range w.p.batches {
		b.each(b.first, b.last(), func(first, last int64, r *record) bool {
			for o := max(first, w.m.start); o <= last; o++ {
				m := w.m.get(o)
				if r.state == Archived && m.state == Available && slices.ContainsFunc(f.Aborted, func(s Span) bool { return s.First <= o && o <= s.Last }) {
					m.state, m.count = Archived, r.count
				}
			}
			return true
		})
		w.m.next = max(w.m.next, b.last()+1)
	}
}

func (w *world) acknowledge(member string) {
	if w.m.next == w.m.start {
		return
	}
	first := rapid.Int64Range(max(w.m.start-3, 0), w.m.next-1).Draw(w.t, "first")
	last := min(first+rapid.Int64Range(0, 12).Draw(w.t, "more"), w.m.next-1)
	if rapid.IntRange(0, 2).Draw(w.t, "own") > 0 {
		// Most acknowledge what they have.
		for o := w.m.start; o < w.m.next; o++ {
			if r := w.m.get(o); r.state == Acquired && !r.moving {
				member, first, last = r.member, o, o
				for last+1 < w.m.next && w.m.get(last+1).state == Acquired && w.m.get(last+1).member == member && last-first < 12 {
					last++
				}
				break
			}
		}
	}
	ack := Ack{First: first, Last: last}
	kind := func() int8 {
		return rapid.SampledFrom([]int8{AckAccept, AckAccept, AckAccept, AckRelease, AckReject, AckGap, AckRenew}).Draw(w.t, "type")
	}
	if rapid.Bool().Draw(w.t, "each") {
		for range last - first + 1 {
			ack.Types = append(ack.Types, kind())
		}
	} else {
		ack.Types = []int8{kind()}
	}
	require.NoError(w.t, CheckAcks([]Ack{ack}, AckRenew, true))

	refused := false
	for o := max(first, w.m.start); o <= last; o++ {
		r := w.m.get(o)
		refused = refused || r.state != Acquired || r.moving || r.member != member || ack.kind(o) == AckRenew && !w.lim.Renew
	}
	write, err := w.p.Acknowledge(w.now, w.lim, member, []Ack{ack})
	if last < w.m.start {
		require.NoError(w.t, err)
		require.Nil(w.t, write)
		return
	}
	require.Equal(w.t, refused, err != nil, "%v of %d to %d by %s: %v", ack.Types, first, last, member, err)
	if err != nil {
		require.Nil(w.t, write)
		// Renewals before the fault stay, changes do not; a lock that has ended meanwhile is released.
		for o := max(first, w.m.start); o <= last; o++ {
			if r := w.m.get(o); r.state == Acquired && !r.moving && r.member == member {
				w.same(o, r)
			}
		}
		return
	}
	for o := max(first, w.m.start); o <= last; o++ {
		r := w.m.get(o)
		if ack.kind(o) == AckRenew {
			r.until = w.now.Add(w.lim.LockDuration)
			continue
		}
		r.moving, r.was, r.owner, r.member = true, r.state, r.member, ""
		switch ack.kind(o) {
		case AckAccept:
			r.state = Acknowledged
		case AckRelease:
			r.state = Available
			if int(r.count) >= w.lim.Deliveries {
				r.state = Archived
			}
		default:
			r.state = Archived
		}
	}
	w.add(write, true)
}

func (k *Ack) kind(o int64) int8 {
	if len(k.Types) == 1 {
		return k.Types[0]
	}
	return k.Types[o-k.First]
}

// same takes over from the partition when a lock ends.
func (w *world) same(o int64, r *one) {
	for _, b := range w.p.overlapping(o, o) {
		b.each(o, o, func(_, _ int64, got *record) bool { r.until = got.until; return true })
	}
}

func (w *world) add(write *Write, waiting bool) {
	if write != nil {
		require.NotEmpty(w.t, write.Batches)
		w.writes = append(w.writes, pendingWrite{write, waiting})
	}
}

func (w *world) release(member string) {
	write := w.p.Release(w.lim, member)
	for o, r := range w.m.records {
		if r.state == Acquired && !r.moving && r.member == member {
			r.moving, r.was, r.owner, r.member = true, r.state, r.member, ""
			r.state = Available
			if o < w.m.start || int(r.count) >= w.lim.Deliveries {
				r.state = Archived
			}
		}
	}
	w.add(write, true)
}

func (w *world) expire() {
	if at := w.p.Deadline(); !at.IsZero() {
		for o, r := range w.m.records {
			if r.state == Acquired && !r.moving {
				require.False(w.t, r.until.Before(at), "the lock of record %d ends before the deadline", o)
			}
		}
	}
	write := w.p.Expire(w.now, w.lim)
	for o, r := range w.m.records {
		if r.state == Acquired && !r.moving && !w.now.Before(r.until) {
			w.m.release(o, r, w.lim)
		}
	}
	w.add(write, false)
}

// written decides the oldest write, which is how the coordinator answers.
func (w *world) written() {
	if len(w.writes) == 0 {
		return
	}
	next := w.writes[0]
	w.writes = w.writes[1:]
	ok := rapid.IntRange(0, 4).Draw(w.t, "ok") > 0
	w.p.Written(w.now, next.w, w.lim, ok)
	if ok {
		w.durable = combine(next.w.Start, w.durable, next.w.Batches)
		w.stored = next.w.Start
	}
	for _, b := range next.w.Batches {
		for o := b.First; o <= b.Last; o++ {
			r := w.m.records[o]
			if r == nil || !r.moving {
				continue
			}
			was, owner := r.was, r.owner
			r.moving, r.was, r.owner = false, 0, ""
			if ok {
				r.until = time.Time{}
				continue
			}
			r.state, r.member = was, owner
			if !w.now.Before(r.until) {
				w.m.release(o, r, w.lim)
			}
		}
	}
	if ok {
		w.m.advance()
	}
}

func (w *world) cut() {
	w.begin = rapid.Int64Range(w.begin, w.log).Draw(w.t, "log start")
	if w.begin <= w.m.start {
		return
	}
	w.p.MoveLogStart(w.begin)
	for o, r := range w.m.records {
		if o >= w.m.start && o < w.begin && r.state == Available {
			*r = one{state: Archived, count: r.count}
		}
	}
	for o := range w.m.records {
		if o < w.begin && w.m.records[o].state == Available {
			delete(w.m.records, o)
		}
	}
	w.m.start = w.begin
	w.m.next = max(w.m.next, w.begin)
}

// restart loses what was not written.
func (w *world) restart() {
	p, err := NewPartition(1, 1, w.stored, w.durable)
	require.NoError(w.t, err)
	w.p, w.writes = p, nil
	w.m = &model{start: w.stored, next: w.stored, records: map[int64]*one{}}
	for _, b := range w.durable {
		for o := b.First; o <= b.Last; o++ {
			*w.m.get(o) = one{state: b.State, count: b.Count}
		}
		w.m.next = b.Last + 1
	}
	w.m.advance()
}

// compare checks every record against the model.
func (w *world) compare() {
	w.p.check()
	require.Equal(w.t, w.m.start, w.p.Start(), "start\n%s", w.p.dump())
	seen := map[int64]bool{}
	complete := int32(0)
	for _, b := range w.p.batches {
		first := b.first
		for _, r := range b.runs {
			for o := first; o <= r.last; o++ {
				seen[o] = true
				if o < w.m.start && r.state.terminal() && !r.moving {
					continue // forgotten, or about to be
				}
				want := w.m.get(o)
				require.Equal(w.t, *want, one{r.state, r.count, r.member, r.until, r.moving, r.was, r.owner}, "record %d\n%s", o, w.p.dump())
				if o >= w.m.start && r.state.terminal() {
					complete++
				}
			}
			first = r.last + 1
		}
	}
	require.Equal(w.t, complete, w.p.complete)
	for o, r := range w.m.records {
		if !seen[o] && (r.state == Acquired || r.moving || o >= w.m.start && r.state != Available) {
			w.t.Fatalf("record %d is %+v, the partition does not have it\n%s", o, *r, w.p.dump())
		}
	}
}

func (p *Partition) dump() string {
	s := fmt.Sprintf("start %d next %d complete %d\n", p.start, p.next, p.complete)
	for _, b := range p.batches {
		s += fmt.Sprintf(" %d to %d whole=%v unknown=%v\n", b.first, b.last(), b.whole, b.unknown)
		for _, r := range b.runs {
			s += fmt.Sprintf("  to %d %v count=%d member=%q moving=%v\n", r.last, r.state, r.count, r.member, r.moving)
		}
	}
	return s
}

// TestCombine compares with the states of every record.
func TestCombine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) []Batch {
			return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Batch {
				first := rapid.Int64Range(0, 30).Draw(t, "first")
				return Batch{
					First: first, Last: first + rapid.Int64Range(0, 10).Draw(t, "more"),
					State: rapid.SampledFrom([]State{Available, Acknowledged, Archived}).Draw(t, "state"),
					Count: int16(rapid.IntRange(1, 4).Draw(t, "count")),
				}
			}), 0, 6).Draw(t, name)
		}
		a, b := draw("a"), draw("b")
		start := rapid.Int64Range(-1, 20).Draw(t, "start")
		want := map[int64]Batch{}
		for _, set := range [][]Batch{a, b} {
			for _, c := range set {
				for o := max(c.First, start); o <= c.Last; o++ {
					if old, ok := want[o]; !ok || old.compare(c) < 0 {
						want[o] = c
					}
				}
			}
		}
		got := combine(start, a, b)
		for i, c := range got {
			if i > 0 {
				require.Greater(t, c.First, got[i-1].Last)
				if c.First == got[i-1].Last+1 {
					require.NotZero(t, c.compare(got[i-1]), "batches that agree are joined")
				}
			}
			for o := c.First; o <= c.Last; o++ {
				w, ok := want[o]
				require.True(t, ok, "record %d", o)
				require.Zero(t, c.compare(w), "record %d", o)
				delete(want, o)
			}
		}
		require.Empty(t, want)
	})
}
