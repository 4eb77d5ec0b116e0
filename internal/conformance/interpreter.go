package conformance

import "github.com/moldau-stream/moldau/stream"

// Scenario is one line of a corpus.
type Scenario = scenario

// Corpora reads the corpora that MOLDAU_CONFORMANCE names, else the one at path, as far as MOLDAU_CONFORMANCE_FAMILY and
// MOLDAU_CONFORMANCE_ID want it.
func Corpora(path string) ([]*Scenario, error) { return corpora(path) }

// Interpret makes the calls of a scenario. It returns the topology, and the topics that it writes.
func Interpret(s *Scenario) (t *stream.Topology, written []string, err error) {
	p, err := build(s)
	if err != nil {
		return nil, nil, err
	}
	t, err = p.b.Build()
	return t, p.sinks, err
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
