package conformance

import (
	"context"
	"testing"
	"time"

	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

// Scenario is one line of a corpus.
type Scenario = scenario

// Corpora reads the corpora that MOLDAU_CONFORMANCE names, else the one at path, as far as MOLDAU_CONFORMANCE_FAMILY and
// MOLDAU_CONFORMANCE_ID want it.
func Corpora(path string) ([]*Scenario, error) { return corpora(path) }

// Start is the wall clock before the first step.
func Start() time.Time { return time.UnixMilli(1_000_000) }

// Program is the topology of a scenario.
type Program struct {
	Topology *stream.Topology
	Written  []string // the topics that it writes

	s *scenario
	p *program
}

// Interpret makes the calls of a scenario.
func Interpret(s *Scenario) (*Program, error) {
	p, err := build(s)
	if err != nil {
		return nil, err
	}
	t, err := p.b.Build()
	if err != nil {
		return nil, err
	}
	return &Program{Topology: t, Written: p.sinks, s: s, p: p}, nil
}

// Contents are the rows that each store has at the end, as queries show them: those of the corpus, or of a driver where the
// corpus has none.
func (p *Program) Contents(t testing.TB) map[string][]Row {
	d := streamtest.NewTopology(t, p.Topology, streamtest.StartTime(Start()))
	for _, step := range p.s.Steps {
		send(d, step)
	}
	all := map[string][]Row{}
	for name, st := range p.p.stores {
		rows, ok := p.s.Stores[name]
		if !ok {
			rows = st.entries(d)
		}
		if st.untimed {
			rows = withoutTimes(rows)
		}
		all[name] = rows
	}
	return all
}

// Query reads a store by state.Query and its like. A versioned store is asked for the keys of like.
func (p *Program) Query(ctx context.Context, h state.Host, store string, like []Row, opts ...state.QueryOption) ([]Row, error) {
	return p.p.stores[store].query(ctx, h, like, opts...)
}

// send has a driver take a step.
func send(d *streamtest.Driver, s step) {
	if s.Advance != nil {
		d.Advance(ms(*s.Advance))
		return
	}
	streamtest.Input(d, topic(s.Topic)).SendRecord(input(s.record))
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

// Differences compares two lists of rows, or of records, without regard to their order.
func Differences[T any](what string, want, got []T) []string {
	var r differences
	sets(&r, what, want, got)
	return r
}

// InOrder compares two lists of records in their order.
func InOrder(what string, want, got []Record) []string {
	var r differences
	lists(&r, what, want, got)
	return r
}

// Record is a record of a scenario, and Row an entry of a store or changelog.
type (
	Record = record
	Row    = row
)
