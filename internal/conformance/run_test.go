package conformance

import (
	"context"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

// mode is where stores are.
type mode struct {
	name string
	opts []streamtest.Option
}

var modes = []mode{
	{"memory", nil},
	{"disk", []streamtest.Option{streamtest.OnDisk()}},
}

func restartSeed() (*int64, error) {
	v := os.Getenv("MOLDAU_CONFORMANCE_RESTART")
	if v == "" {
		return nil, nil
	}
	seed, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("MOLDAU_CONFORMANCE_RESTART: %w", err)
	}
	return &seed, nil
}

// probe is the testing.TB of one scenario: what would end a test ends the scenario.
type probe struct {
	testing.TB
	failure  string
	cleanups []func()
}

func (p *probe) Helper()          {}
func (p *probe) Cleanup(f func()) { p.cleanups = append(p.cleanups, f) }
func (p *probe) Failed() bool     { return p.failure != "" }

func (p *probe) Errorf(format string, args ...any) {
	if p.failure == "" {
		p.failure = fmt.Sprintf(format, args...)
	}
}

// stop ends a scenario.
type stop struct{}

func (p *probe) Fatalf(format string, args ...any) {
	p.Errorf(format, args...)
	panic(stop{})
}

func (p *probe) clean() {
	for _, f := range slices.Backward(p.cleanups) {
		f()
	}
}

// attempt runs a scenario and returns the differences. The error is why it came to no end.
func attempt(t *testing.T, s *scenario, m mode, restart *int64) (found []string, err error) {
	tb := &probe{TB: t}
	r := &run{s: s}
	defer func() {
		if e := recover(); e != nil {
			if _, ok := e.(stop); !ok {
				err = fmt.Errorf("panic: %v\n%s", e, debug.Stack())
			}
		}
		func() {
			defer func() {
				if e := recover(); e != nil && err == nil {
					err = fmt.Errorf("panic in closing: %v\n%s", e, debug.Stack())
				}
			}()
			tb.clean()
		}()
		if err == nil && tb.failure != "" {
			err = fmt.Errorf("%s: %s", r.at, tb.failure)
		}
		found = r.differences
	}()
	return nil, r.run(tb, m, restart)
}

// run is a scenario that is being run.
type run struct {
	s    *scenario
	p    *program
	d    *streamtest.Driver
	outs map[string]*streamtest.Out[text, text]
	at   string // where it is
	differences
}

func (r *run) run(tb *probe, m mode, restart *int64) error {
	s := r.s
	r.at = "build"
	var err error
	if r.p, err = build(s); err != nil {
		return err
	}
	topology, err := r.p.b.Build()
	if err != nil {
		return fmt.Errorf("build: %w", err)
	}
	r.shape(topology)
	r.at = "start"
	opts := append([]streamtest.Option{streamtest.StartTime(Start())}, m.opts...)
	if v := os.Getenv("MOLDAU_CONFORMANCE_CACHE"); v != "" {
		bytes, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return fmt.Errorf("MOLDAU_CONFORMANCE_CACHE: %w", err)
		}
		opts = append(opts, streamtest.CacheSize(bytes))
	}
	if restart != nil {
		opts = append(opts, streamtest.Instances(2), streamtest.CacheSize(1))
	}
	r.d = streamtest.NewTopology(tb, topology, opts...)
	r.outs = map[string]*streamtest.Out[text, text]{}
	for _, name := range r.p.sinks {
		r.outs[name] = streamtest.Output(r.d, topic(name))
	}
	crash := crashes(restart, s.ID)
	for i, step := range s.Steps {
		r.at = fmt.Sprintf("step %d", i)
		crash(r.d)
		send(r.d, step)
		r.step(i)
	}
	crash(r.d)
	r.at = "end"
	r.end(topology)
	return nil
}

// shape compares what is known before a record is sent.
func (r *run) shape(topology *stream.Topology) {
	lines(&r.differences, "describe", comparable(r.s.Describe), comparable(topology.String()))
	if got := topology.Subtopologies(); got != r.s.Subtopologies {
		r.differ("subtopologies", r.s.Subtopologies, got)
	}
	// The corpus lists the topics of groups and repartitions with given names. Those with generated ones, and those of
	// foreign-key joins, are in the description.
	var repartitions []string
	for _, name := range topology.RepartitionTopics() {
		if strings.HasSuffix(name, "-repartition") && !strings.HasPrefix(name, "KSTREAM-") {
			repartitions = append(repartitions, name)
		}
	}
	sets(&r.differences, "repartitions", r.s.Repartitions, repartitions)
}

// step compares what a step wrote.
func (r *run) step(i int) {
	want := map[string][]record{}
	for _, e := range r.s.Expect[i] {
		want[e.Topic] = append(want[e.Topic], e)
		if r.outs[e.Topic] == nil {
			r.differ(fmt.Sprintf("step %d", i), "a record in topic "+e.Topic, "no such topic")
		}
	}
	for _, name := range r.p.sinks {
		lists(&r.differences, fmt.Sprintf("step %d, topic %s", i, name), want[name], drain(name, r.outs[name]))
	}
}

// end compares what is left at the end.
func (r *run) end(topology *stream.Topology) {
	for name := range r.s.Stores {
		if _, ok := r.p.stores[name]; !ok {
			r.differ("store "+name, "a store", "none")
		}
	}
	for name, st := range r.p.stores {
		r.at = "store " + name
		all := st.entries(r.d)
		want, ok := r.s.Stores[name]
		switch {
		case ok:
			sets(&r.differences, r.at, want, all)
		case !st.unlisted:
			r.differ("stores", "no store "+name, "one")
		}
		queried, err := st.query(context.Background(), r.d, all)
		if err != nil {
			r.differ(r.at, "answers to queries", err)
		}
		if st.untimed {
			all = withoutTimes(all)
		}
		sets(&r.differences, r.at+", by a query", all, queried)
	}
	// The corpus lists the stores that it names. Those of joins and suppressions are in the description.
	var changelogs []string
	for _, name := range topology.ChangelogTopics() {
		if slices.ContainsFunc(r.p.unlisted, func(prefix string) bool { return strings.HasPrefix(name, prefix+"-") }) {
			continue
		}
		if name = strings.TrimSuffix(name, "-changelog"); r.s.named(name) {
			changelogs = append(changelogs, name)
		}
	}
	sets(&r.differences, "changelogs", slices.Collect(maps.Keys(r.s.Changelogs)), changelogs)
	for _, name := range changelogs {
		r.at = "changelog of " + name
		sets(&r.differences, r.at, r.s.Changelogs[name], r.changelog(name))
	}
}

// changelog is what perfect compaction leaves of a store's changelog.
func (r *run) changelog(name string) []row {
	var records []ChangelogRecord
	for _, rec := range r.d.Records("app-" + name + "-changelog") {
		records = append(records, ChangelogRecord{rec.Key, rec.Value, rec.Time.UnixMilli()})
	}
	return r.s.Compact(name, records)
}

// comparable is a topology's text with the names inside [...] in order.
func comparable(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		before, rest, ok := strings.Cut(line, "[")
		names, after, ok2 := strings.Cut(rest, "]")
		if ok && ok2 {
			set := strings.Split(names, ", ")
			slices.Sort(set)
			lines[i] = before + "[" + strings.Join(set, ", ") + "]" + after
		}
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

func pointer(o text) *string {
	if s, ok := o.Get(); ok {
		return &s
	}
	return nil
}

func drain(name string, out *streamtest.Out[text, text]) []record {
	var all []record
	for _, r := range out.Drain() {
		got := record{Topic: name, Key: pointer(r.Key), Value: pointer(r.Value), TS: r.Time.UnixMilli()}
		for _, h := range r.Headers {
			got.Headers = append(got.Headers, [2]string{h.Key, string(h.Value)})
		}
		all = append(all, got)
	}
	return all
}
