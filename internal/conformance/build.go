package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

// errNotBuilt is the error of a scenario with an operation that the DSL does not have.
var errNotBuilt = errors.New("not built yet")

var texts = serde.Nullable(serde.String)

func topic(name string) stream.Topic[text, text] { return stream.NewTopic(name, texts, texts) }

func textStore(name string) state.KV[text, text] { return state.KeyValue(name, texts, texts) }

func countStore(name string) state.KV[text, int64] { return state.KeyValue(name, texts, serde.Int64) }

// program is a scenario's topology in the making: handles by the names that the scenario gives them.
type program struct {
	b        *stream.Builder
	streams  map[string]stream.KStream[text, text]
	tables   map[string]stream.KTable[text, text]
	globals  map[string]stream.GlobalKTable[text, text]
	windowed map[string]windowed
	sinks    []string // topics that the topology writes
	stores   map[string]contents
	unlisted []string // prefixes of the names of stores that the corpus doesn't list
}

// build makes the DSL calls of a scenario.
func build(s *scenario) (*program, error) {
	p := &program{
		b:        stream.NewBuilder(),
		streams:  map[string]stream.KStream[text, text]{},
		tables:   map[string]stream.KTable[text, text]{},
		globals:  map[string]stream.GlobalKTable[text, text]{},
		windowed: map[string]windowed{},
		stores:   map[string]contents{},
	}
	for _, o := range s.Topology {
		if err := p.add(o); err != nil {
			return nil, fmt.Errorf("operation %s of %s: %w", o.Op, o.Out, err)
		}
	}
	return p, nil
}

func (p *program) add(o op) error {
	switch o.Op {
	case "stream", "filter", "filterNot", "mapValues", "map", "selectKey", "flatMapValues", "flatMap", "merge", "branch", "repartition", "to":
		return p.addStream(o)
	case "table", "globalTable", "toTable", "tFilter", "tMapValues", "tToStream", "tAggregate", "suppressTime":
		return p.addTable(o)
	case "aggregate", "cogroup", "suppressClose", "wToStream":
		return p.addAggregate(o)
	case "joinSS", "joinST", "joinSG", "joinTT", "joinFK":
		return p.addJoin(o)
	case "process", "processValues":
		return p.addProcess(o)
	}
	return errors.New("unknown operation")
}

func plainKey(k text) row { return row{Key: k.Or("null")} }

func showText(v text) string   { return v.Or("null") }
func showCount(n int64) string { return strconv.FormatInt(n, 10) }
func decimal(n int64) text     { return stream.Some(showCount(n)) }
func millis(at time.Time) *int64 {
	ms := at.UnixMilli()
	return &ms
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// materialized is the option of operations that name a store.
func (p *program) materialized(o op) []stream.Option {
	if o.Store == "" {
		return nil
	}
	h := textStore(o.Store)
	keep(p, h, showText)
	return []stream.Option{stream.Materialized(h)}
}

func (p *program) sink(topic string) {
	if !slices.Contains(p.sinks, topic) {
		p.sinks = append(p.sinks, topic)
	}
}
