package conformance

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

func TestAnswersAreThoseOfKafkaStreams(t *testing.T) {
	all := scenarios(t)
	require.Greater(t, len(all), 170)
	for i := range all {
		t.Run(all[i].ID, func(t *testing.T) {
			t.Parallel()
			check(t, &all[i])
		})
	}
}

func check(t *testing.T, s *scenario) {
	p := build(s)
	topology, err := p.b.Build()
	require.NoError(t, err)

	require.Equal(t, comparable(s.Describe), comparable(topology.String()))
	require.Len(t, topology.Graph().Subs, s.Subtopologies)
	// The corpus lists the topics with given names; those with generated ones
	// are in the description, which was just compared.
	repartitions := []string{}
	for _, r := range topology.Graph().Repartitions {
		if !strings.HasPrefix(r.Topic.Name, "KSTREAM-") {
			repartitions = append(repartitions, r.Topic.Name)
		}
	}
	require.ElementsMatch(t, s.Repartitions, repartitions)

	d := streamtest.NewTopology(t, topology, streamtest.StartTime(time.UnixMilli(1_000_000)))
	outs := map[string]*streamtest.Out[text, text]{}
	for _, name := range p.sinks {
		outs[name] = streamtest.Output(d, topic(name))
	}
	for i, step := range s.Steps {
		if step.Topic == "" {
			d.Advance(time.Duration(step.Advance) * time.Millisecond)
		} else {
			streamtest.Input(d, topic(step.Topic)).SendRecord(input(step.record))
		}
		want := map[string][]record{}
		for _, r := range s.Expect[i] {
			want[r.Topic] = append(want[r.Topic], r)
		}
		for name, out := range outs {
			require.Equal(t, want[name], drain(name, out), "step %d, topic %s", i, name)
		}
	}
	for name, want := range s.Stores {
		require.Equal(t, sorted(want), sorted(p.content(t, d, name)), "store %s", name)
	}
	for name, want := range s.Changelogs {
		require.Equal(t, sorted(want), sorted(compacted(d, name)), "changelog of %s", name)
	}
	require.Len(t, topology.Graph().Stores, len(s.Changelogs))
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

func input(r record) stream.Record[text, text] {
	in := stream.Record[text, text]{Key: opt(r.Key), Value: opt(r.Value), Time: time.UnixMilli(r.TS)}
	for _, h := range r.Headers {
		in.Headers = append(in.Headers, stream.Header{Key: h[0], Value: []byte(h[1])})
	}
	return in
}

func opt(s *string) text {
	if s == nil {
		return text{}
	}
	return stream.Some(*s)
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

func (p *program) content(t *testing.T, d *streamtest.Driver, name string) set {
	parts, err := d.ReadStore(name)
	require.NoError(t, err)
	require.Len(t, parts, 1)
	it := parts[0].View.Range(nil, nil, false)
	var rows set
	for it.Next() {
		v := string(it.Value())
		if p.counts[name] {
			v = strconv.FormatInt(int64(binary.BigEndian.Uint64(it.Value())), 10)
		}
		rows = append(rows, row{string(it.Key()), v, it.Timestamp()})
	}
	require.NoError(t, it.Close())
	return rows
}

// compacted is what perfect compaction leaves of a store's changelog.
func compacted(d *streamtest.Driver, name string) set {
	last := map[string]row{}
	for _, r := range d.Records("app-" + name + "-changelog") {
		key := hex.EncodeToString(r.Key)
		if r.Value == nil {
			delete(last, key)
			continue
		}
		last[key] = row{key, hex.EncodeToString(r.Value), r.Time.UnixMilli()}
	}
	var rows set
	for _, r := range last {
		rows = append(rows, r)
	}
	return rows
}

func sorted(rows set) set {
	rows = append(set{}, rows...)
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return rows
}
