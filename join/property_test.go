package join_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/join"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

// The joins of this file are found as a computation from scratch has them: out of order, with nulls on both sides, over restarts
// and crashes with the stores and without.

type text = stream.Opt[string]

var (
	texts       = serde.Nullable(serde.String)
	lefts       = stream.NewTopic("lefts", texts, texts)
	rights      = stream.NewTopic("rights", texts, texts)
	joined      = stream.NewTopic("joined", texts, texts)
	joinedTable = state.KeyValue("joined", texts, texts)
)

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// arrival is a record of one of two topics.
type arrival struct {
	left     bool
	key, val text
	at       int64
}

// arrivals are records that come up to late milliseconds after others that are later.
func arrivals(t *rapid.T, late int64) []arrival {
	now := int64(0)
	i := 0
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) arrival {
		now += rapid.Int64Range(0, 8).Draw(t, "step")
		i++
		a := arrival{left: rapid.Bool().Draw(t, "left"), at: max(0, now-rapid.Int64Range(0, late).Draw(t, "late"))}
		if rapid.IntRange(0, 9).Draw(t, "null key") > 0 {
			a.key = stream.Some(rapid.SampledFrom([]string{"", "a", "ab", "b"}).Draw(t, "key"))
		}
		if rapid.IntRange(0, 4).Draw(t, "null value") > 0 {
			a.val = stream.Some(fmt.Sprint(rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "value"), i))
		}
		return a
	}), 1, 50).Draw(t, "arrivals")
}

// drive sends records, with restarts and crashes on the way, and returns what each brought.
func drive(t *testing.T, rt *rapid.T, b *stream.Builder, in []arrival, opts ...streamtest.Option) (d *streamtest.Driver, steps [][]string) {
	if rapid.Bool().Draw(rt, "on disk") {
		opts = append(opts, streamtest.OnDisk())
	}
	d = streamtest.New(t, b, opts...)
	l, r, out := streamtest.Input(d, lefts), streamtest.Input(d, rights), streamtest.Output(d, joined)
	for _, a := range in {
		switch rapid.IntRange(0, 12).Draw(rt, "before") {
		case 0:
			d.Restart()
		case 1:
			d.Restart(streamtest.LoseState())
		case 2:
			d.CrashBeforeCommit()
		case 3:
			d.CrashDuringCommit()
		case 4:
			d.CrashDuringCommit(streamtest.LoseState())
		}
		to := r
		if a.left {
			to = l
		}
		to.SendAt(time.UnixMilli(a.at), a.key, a.val)
		var step []string
		for _, o := range out.Drain() {
			step = append(step, result(o.Key, o.Value, o.Time.UnixMilli()))
		}
		steps = append(steps, step)
	}
	return d, steps
}

func result(k, v text, at int64) string {
	return fmt.Sprintf("%s=%s @%d", k.Or("null"), v.Or("null"), at)
}

func pairOf(l, r text) text            { return stream.Some("(" + l.Or("null") + "," + r.Or("null") + ")") }
func leftPair(l text, r opt) text      { return pairOf(l, r.Or(text{})) }
func eitherPair(l, r opt) text         { return pairOf(l.Or(text{}), r.Or(text{})) }
func isNull(t text) bool               { _, ok := t.Get(); return !ok }
func sorted(steps [][]string) []string { all := slices.Concat(steps...); slices.Sort(all); return all }
func sides(l, r arrival) (key, v text) { return l.key, pairOf(l.val, r.val) }
func pairResult(l, r arrival) string   { k, v := sides(l, r); return result(k, v, max(l.at, r.at)) }
func matches(a, b arrival) bool        { return a.left != b.left && a.key == b.key }
func within(l, r arrival, before, after int64) bool {
	return r.at >= l.at-before && r.at <= l.at+after
}

type opt = stream.Opt[text]

// Of two records that are near in time there is a result, unless the first has left its store when the second comes. A record
// alone has one when it has met no other for as long as it might.
func TestLeftAndOuterJoinsOfStreamsHaveEachPairAndEachRecordThatStayedAlone(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		isOuter := rapid.Bool().Draw(rt, "outer")
		before, after := rapid.Int64Range(0, 12).Draw(rt, "before"), rapid.Int64Range(0, 12).Draw(rt, "after")
		grace := rapid.Int64Range(0, 20).Draw(rt, "grace")
		in := arrivals(rt, 40)
		// The last records move the time beyond all that is open.
		end := int64(100_000)
		in = append(in, arrival{true, stream.Some("end"), stream.Some("l"), end}, arrival{false, stream.Some("end"), stream.Some("r"), end})

		b := stream.NewBuilder()
		w := join.Within(0).Before(ms(before)).After(ms(after)).Grace(ms(grace))
		l, r := stream.From(b, lefts), stream.From(b, rights)
		if isOuter {
			join.OuterStreams(l, r, w, eitherPair).To(joined)
		} else {
			join.LeftStreams(l, r, w, leftPair).To(joined)
		}
		_, steps := drive(t, rt, b, in)

		retention := before + after + grace
		var want []string         // must be there
		maybe := map[string]int{} // alone, if nothing came before they were found to be over
		time, stored := int64(-1), map[bool]int64{true: -1, false: -1}
		times := make([]int64, len(in)) // of the join, when a record had come
		met := make([]int, len(in))     // the first arrival that a record met; 0: none, its own if it was met at once
		now := make([]bool, len(in))    // alone at once
		for i, a := range in {
			time = max(time, a.at)
			times[i] = time
			counts := !isNull(a.val) && (!isNull(a.key) || a.left || isOuter)
			switch {
			case !counts:
				met[i] = i
			case isNull(a.key):
				now[i] = true
			default:
				for j, o := range in[:i] {
					x, y := a, o
					if !a.left {
						x, y = o, a
					}
					if isNull(o.val) || isNull(o.key) || !matches(a, o) || !within(x, y, before, after) || o.at < max(0, stored[o.left]-retention+1) {
						continue
					}
					want = append(want, pairResult(x, y))
					if met[j] == 0 {
						met[j] = i
					}
					met[i] = i
				}
				until := a.at + after
				if !a.left {
					until = a.at + before
				}
				now[i] = met[i] != i && until < time
				stored[a.left] = max(stored[a.left], a.at)
			}
			if i == 0 && met[i] == 0 && !counts {
				now[i] = false
			}
		}
		for i, a := range in {
			if isNull(a.val) || isNull(a.key) && !a.left && !isOuter || !a.left && !isOuter || met[i] == i && i > 0 {
				continue
			}
			x, y := a.val, text{}
			until := a.at + after
			if !a.left {
				x, y, until = y, x, a.at+before
			}
			alone := result(a.key, pairOf(x, y), a.at)
			over := len(in) // the first arrival that finds it over
			for k := len(in) - 1; k >= i; k-- {
				if times[k] > until+grace {
					over = k
				}
			}
			switch {
			case now[i], met[i] == 0 && over < len(in):
				want = append(want, alone)
			case met[i] > over:
				maybe[alone]++
			}
		}
		got := sorted(steps)
		got = slices.DeleteFunc(got, func(s string) bool {
			if maybe[s] > 0 && !slices.Contains(want, s) {
				maybe[s]--
				return true
			}
			return false
		})
		slices.Sort(want)
		require.Equal(rt, want, got)
	})
}

// history is what a table has had: versions of the values of keys.
type history struct {
	retention int64 // -1: the table keeps one value of each key
	now       int64
	versions  map[text][]arrival // by time; the last is the latest
}

func newHistory(versioned bool, retention int64) *history {
	if !versioned {
		retention = -1
	}
	return &history{retention: retention, now: -1, versions: map[text][]arrival{}}
}

// put takes a record of the topic of the table.
func (h *history) put(a arrival) {
	switch {
	case isNull(a.key):
	case h.retention < 0:
		h.versions[a.key] = []arrival{a}
	case a.at >= h.now-h.retention:
		h.now = max(h.now, a.at)
		all := slices.DeleteFunc(slices.Clone(h.versions[a.key]), func(o arrival) bool { return o.at == a.at })
		all = append(all, a)
		slices.SortFunc(all, func(x, y arrival) int { return cmp.Compare(x.at, y.at) })
		h.versions[a.key] = all
	}
}

// get is the row of a key at a time.
func (h *history) get(k text, at int64) text {
	all := h.versions[k]
	if len(all) == 0 || isNull(k) {
		return text{}
	}
	latest := all[len(all)-1]
	switch {
	case h.retention < 0:
		return latest.val
	case at < h.now-h.retention:
		if latest.at > at {
			return text{}
		}
		return latest.val
	}
	for _, v := range slices.Backward(all) {
		if v.at <= at {
			return v.val
		}
	}
	return text{}
}

// tableOf makes a table of rights, or lefts, that keeps versions or not.
func tableOf(b *stream.Builder, from stream.Topic[text, text], versioned bool, retention int64) stream.KTable[text, text] {
	name := from.Name() + "-rows"
	if versioned {
		return stream.TableFrom(b, from, state.Versioned(name, texts, texts, ms(retention)))
	}
	return stream.TableFrom(b, from, state.KeyValue(name, texts, texts))
}

func TestRecordsOfAStreamAreJoinedWithTheTableOfTheirTime(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		isLeft, versioned := rapid.Bool().Draw(rt, "left join"), rapid.Bool().Draw(rt, "versioned")
		retention := rapid.Int64Range(0, 40).Draw(rt, "history")
		grace := int64(-1)
		if versioned {
			grace = rapid.Int64Range(-1, 20).Draw(rt, "grace")
		}
		in := arrivals(rt, 40)
		in = append(in, arrival{true, stream.Some("end"), stream.Some("end"), 100_000})

		b := stream.NewBuilder()
		s, table := stream.From(b, lefts), tableOf(b, rights, versioned, max(retention, grace))
		var opts []stream.Option
		if grace >= 0 {
			opts = append(opts, join.Grace(ms(grace)))
		}
		if isLeft {
			join.LeftTable(s, table, leftPair, opts...).To(joined)
		} else {
			join.Table(s, table, pairOf, opts...).To(joined)
		}
		_, steps := drive(t, rt, b, in)

		h := newHistory(versioned, max(retention, grace))
		now := int64(-1)
		var held []arrival
		for i, a := range in {
			if !a.left {
				h.put(a)
				require.Empty(rt, steps[i])
				continue
			}
			var due []arrival
			switch {
			case grace < 0 || isNull(a.key) || isNull(a.val) || a.at < now-grace:
				due = append(due, a)
			default:
				now = max(now, a.at)
				held = append(held, a)
				slices.SortStableFunc(held, func(x, y arrival) int {
					return cmp.Or(cmp.Compare(x.at, y.at), cmp.Compare(x.key.Or(""), y.key.Or("")))
				})
				for len(held) > 0 && held[0].at <= now-grace {
					due, held = append(due, held[0]), held[1:]
				}
			}
			var want []string
			for _, d := range due {
				row := h.get(d.key, d.at)
				if isNull(d.val) || !isLeft && (isNull(d.key) || isNull(row)) {
					continue
				}
				want = append(want, result(d.key, pairOf(d.val, row), d.at))
			}
			require.Equal(rt, want, steps[i], "arrival %d", i)
		}
	})
}

func TestRecordsOfAStreamAreJoinedWithTheGlobalTable(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		isLeft := rapid.Bool().Draw(rt, "left join")
		in := arrivals(rt, 40)
		keys := []text{stream.Some(""), stream.Some("a"), stream.Some("ab"), stream.Some("b"), {}}
		key := func(_, v text) text { return keys[len(v.Or("?"))%len(keys)] }

		b := stream.NewBuilder()
		s, table := stream.From(b, lefts), stream.GlobalFrom(b, rights, state.KeyValue("rows", texts, texts))
		if isLeft {
			join.LeftGlobal(s, table, key, leftPair).To(joined)
		} else {
			join.Global(s, table, key, pairOf).To(joined)
		}
		_, steps := drive(t, rt, b, in)

		h := newHistory(false, 0)
		for i, a := range in {
			var want []string
			if !a.left {
				h.put(a)
			} else if row := h.get(key(a.key, a.val), 0); !isNull(a.val) && (isLeft || !isNull(row)) {
				want = append(want, result(a.key, pairOf(a.val, row), a.at))
			}
			require.Equal(rt, want, steps[i], "arrival %d", i)
		}
	})
}

// last is what a topic of changes leaves of each key.
func last(d *streamtest.Driver) map[text]text {
	all := map[text]text{}
	for _, o := range streamtest.Output(d, joined).Drain() {
		if all[o.Key] = o.Value; isNull(o.Value) {
			delete(all, o.Key)
		}
	}
	return all
}

func entriesOf(d *streamtest.Driver) map[text]text {
	all := map[text]text{}
	for _, e := range streamtest.Entries(d, joinedTable) {
		all[e.Key] = e.Value
	}
	return all
}

// latest is the row of a key now.
func (h *history) latest(k text) text {
	if all := h.versions[k]; len(all) > 0 {
		return all[len(all)-1].val
	}
	return text{}
}

func TestTheJoinOfTablesIsTheJoinOfTheirRows(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		kind := rapid.SampledFrom([]string{"inner", "left", "outer"}).Draw(rt, "kind")
		lv, rv := rapid.Bool().Draw(rt, "left versioned"), rapid.Bool().Draw(rt, "right versioned")
		retention := rapid.Int64Range(0, 40).Draw(rt, "history")
		stored := rapid.Bool().Draw(rt, "stored")
		in := arrivals(rt, 40)

		b := stream.NewBuilder()
		l, r := tableOf(b, lefts, lv, retention), tableOf(b, rights, rv, retention)
		var opts []stream.Option
		if stored {
			opts = append(opts, stream.Materialized(joinedTable))
		}
		var table stream.KTable[text, text]
		switch kind {
		case "inner":
			table = join.Tables(l, r, pairOf, opts...)
		case "left":
			table = join.LeftTables(l, r, leftPair, opts...)
		case "outer":
			table = join.OuterTables(l, r, eitherPair, opts...)
		}
		table.ToStream().To(joined)
		var options []streamtest.Option
		if rapid.Bool().Draw(rt, "per commit") {
			options = append(options, streamtest.EmitPerCommit())
		}
		d, _ := drive(t, rt, b, in, options...)

		lh, rh := newHistory(lv, retention), newHistory(rv, retention)
		for _, a := range in {
			if a.left {
				lh.put(a)
			} else {
				rh.put(a)
			}
		}
		want := map[text]text{}
		for _, k := range []text{stream.Some(""), stream.Some("a"), stream.Some("ab"), stream.Some("b")} {
			x, y := lh.latest(k), rh.latest(k)
			if !isNull(x) && !isNull(y) || kind != "inner" && !isNull(x) || kind == "outer" && !isNull(y) {
				want[k] = pairOf(x, y)
			}
		}
		require.Equal(rt, want, last(d))
		if stored {
			require.Equal(rt, want, entriesOf(d))
		}
	})
}

func TestTheJoinByForeignKeysIsTheJoinOfTheRows(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		isLeft := rapid.Bool().Draw(rt, "left join")
		lv, rv := rapid.Bool().Draw(rt, "left versioned"), rapid.Bool().Draw(rt, "right versioned")
		retention := rapid.Int64Range(0, 40).Draw(rt, "history")
		in := arrivals(rt, 40)
		fk := func(v text) text {
			return map[byte]text{'x': stream.Some("a"), 'y': stream.Some("")}[v.Or("?")[0]] // z has none
		}
		b := stream.NewBuilder()
		l, r := tableOf(b, lefts, lv, retention), tableOf(b, rights, rv, retention)
		var table stream.KTable[text, text]
		if isLeft {
			table = join.LeftForeignKey(l, r, fk, leftPair, stream.Materialized(joinedTable))
		} else {
			table = join.ForeignKey(l, r, fk, pairOf, stream.Materialized(joinedTable))
		}
		table.ToStream().To(joined)
		opts := []streamtest.Option{streamtest.Partitions("lefts", 2), streamtest.Partitions("rights", 3)}
		if rapid.Bool().Draw(rt, "seeded") {
			opts = append(opts, streamtest.Seed(rapid.Uint64().Draw(rt, "seed")))
		}
		d, _ := drive(t, rt, b, in, opts...)

		// Each partition has its own time.
		where := func(a arrival) string { return partitionOf(d, a) }
		hs := map[string]*history{}
		for _, a := range in {
			versioned := rv
			if a.left {
				versioned = lv
			}
			name := where(a)
			if hs[name] == nil {
				hs[name] = newHistory(versioned, retention)
			}
			hs[name].put(a)
		}
		row := func(left bool, k text) text {
			if h := hs[where(arrival{left: left, key: k})]; h != nil {
				return h.latest(k)
			}
			return text{}
		}
		want := map[text]text{}
		for _, k := range []text{stream.Some(""), stream.Some("a"), stream.Some("ab"), stream.Some("b")} {
			x := row(true, k)
			if isNull(x) {
				continue
			}
			y := text{}
			if f := fk(x); !isNull(f) {
				y = row(false, f)
			}
			if isLeft || !isNull(y) {
				want[k] = pairOf(x, y)
			}
		}
		require.Equal(rt, want, last(d))
		require.Equal(rt, want, entriesOf(d))
	})
}

// partitionOf is where a record is.
func partitionOf(d *streamtest.Driver, a arrival) string {
	topic := "rights"
	if a.left {
		topic = "lefts"
	}
	for _, r := range d.Records(topic) {
		if r.Key != nil && !isNull(a.key) && string(r.Key) == a.key.Or("") {
			return fmt.Sprint(topic, r.Partition)
		}
	}
	return topic
}
