package conformance

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

// scenario is one line of a corpus.
type scenario struct {
	ID            string           `json:"id"`
	Family        string           `json:"family"`
	Topology      []op             `json:"topology"`
	Steps         []step           `json:"steps"`
	Expect        [][]record       `json:"expect"`
	Stores        map[string][]row `json:"stores"`
	Changelogs    map[string][]row `json:"changelogs"`
	Describe      string           `json:"describe"`
	Subtopologies int              `json:"subtopologies"`
	Repartitions  []string         `json:"repartitions"`
}

// op is an operation: one call, or a few, of the DSL.
type op struct {
	Op         string   `json:"op"`
	Topic      string   `json:"topic"`
	In         string   `json:"in"`
	Ins        []string `json:"ins"`
	With       string   `json:"with"`
	Left       string   `json:"left"`
	Right      string   `json:"right"`
	Out        string   `json:"out"`
	Outs       []string `json:"outs"`
	Pred       string   `json:"pred"`
	Preds      []string `json:"preds"`
	Fn         string   `json:"fn"`
	Kfn        string   `json:"kfn"`
	By         string   `json:"by"`
	Kind       string   `json:"kind"`
	Name       string   `json:"name"`
	Store      string   `json:"store"`
	Versioned  *int64   `json:"versioned"`
	Window     *windows `json:"window"`
	Emit       string   `json:"emit"`
	Millis     int64    `json:"ms"`
	MaxRecords *int     `json:"maxRecords"`
	Interval   int64    `json:"interval"`
	Before     int64    `json:"before"`
	After      int64    `json:"after"`
	Grace      *int64   `json:"grace"`
}

// windows is the definition of the windows of an aggregation, in milliseconds.
type windows struct {
	Type    string `json:"type"`
	Size    int64  `json:"size"`
	Advance int64  `json:"advance"`
	Diff    int64  `json:"diff"`
	Gap     int64  `json:"gap"`
	Grace   int64  `json:"grace"`
}

// step is a record to send, or a time to move the wall clock by.
type step struct {
	Advance *int64 `json:"advance"`
	record
}

// Record is the record of the step, if it has one.
func (s step) Record() record { return s.record }

type record struct {
	Topic   string      `json:"topic"`
	Key     *string     `json:"key"`
	Value   *string     `json:"value"`
	TS      int64       `json:"ts"`
	Headers [][2]string `json:"headers,omitempty"`
}

func (r record) String() string {
	s := fmt.Sprintf("%s -> %s @%d", quoted(r.Key), quoted(r.Value), r.TS)
	for _, h := range r.Headers {
		s += fmt.Sprintf(" %s=%q", h[0], h[1])
	}
	return s
}

func quoted(s *string) string {
	if s == nil {
		return "null"
	}
	return fmt.Sprintf("%q", *s)
}

// row is an entry of a store or of a changelog.
type row struct {
	Key   string  `json:"key"`
	Start *int64  `json:"start"`
	End   *int64  `json:"end"`
	Value *string `json:"value"`
	TS    *int64  `json:"ts"`
}

func (r row) String() string {
	s := fmt.Sprintf("%q", r.Key)
	if r.Start != nil {
		s += fmt.Sprintf("@%d/%d", *r.Start, *r.End)
	}
	s += " -> " + quoted(r.Value)
	if r.TS != nil {
		s += fmt.Sprintf(" @%d", *r.TS)
	}
	return s
}

// load reads a corpus: a file of one JSON object a line, compressed or not.
func load(path string) ([]*scenario, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if b, err = io.ReadAll(z); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	var all []*scenario
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, len(b)+1)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		s := &scenario{}
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		if err := d.Decode(s); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, n, err)
		}
		all = append(all, s)
	}
	return all, lines.Err()
}

// corpora reads the corpora that a variable of the environment names, or the shipped one.
func corpora(path string) ([]*scenario, error) {
	files := cmp.Or(os.Getenv("MOLDAU_CONFORMANCE"), path)
	families, ids := words(os.Getenv("MOLDAU_CONFORMANCE_FAMILY")), words(os.Getenv("MOLDAU_CONFORMANCE_ID"))
	var all []*scenario
	for _, f := range words(files) {
		some, err := load(f)
		if err != nil {
			return nil, err
		}
		for _, s := range some {
			if (len(families) == 0 || slices.Contains(families, s.Family)) && (len(ids) == 0 || slices.Contains(ids, s.ID)) {
				all = append(all, s)
			}
		}
	}
	return all, nil
}

func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// named tells whether the scenario gives a store its name.
func (s *scenario) named(store string) bool {
	return slices.ContainsFunc(s.Topology, func(o op) bool { return o.Store == store })
}

// Versioned tells whether a store keeps versions.
func (s *scenario) Versioned(store string) bool {
	return slices.ContainsFunc(s.Topology, func(o op) bool { return o.Store == store && o.Versioned != nil })
}

// ChangelogRecord is a record of a changelog: its key and value (nil: null), and its time in milliseconds.
type ChangelogRecord struct {
	Key, Value []byte
	Time       int64
}

// Compact is what perfect compaction leaves of a store's changelog.
func (s *scenario) Compact(store string, records []ChangelogRecord) []row {
	last := map[string]row{}
	for _, rec := range records {
		e := row{Key: hex.EncodeToString(rec.Key), TS: &rec.Time}
		id := e.Key
		if rec.Value != nil {
			v := hex.EncodeToString(rec.Value)
			e.Value = &v
		}
		if s.Versioned(store) {
			id += fmt.Sprint("@", *e.TS)
		} else if rec.Value == nil {
			delete(last, id)
			continue
		}
		last[id] = e
	}
	return slices.Collect(maps.Values(last))
}

// ByClock are the stores of processors that are called by the wall clock.
func (s *scenario) ByClock() []state.KV[stream.Opt[string], stream.Opt[string]] {
	var all []state.KV[stream.Opt[string], stream.Opt[string]]
	for _, o := range s.Topology {
		if o.Kind == "wall-clock" {
			all = append(all, processStore(o.Store))
		}
	}
	return all
}

// Reads are the topics that the topology reads.
func (s *scenario) Reads() []string {
	var names []string
	for _, o := range s.Topology {
		if (o.Op == "stream" || o.Op == "table" || o.Op == "globalTable") && !slices.Contains(names, o.Topic) {
			names = append(names, o.Topic)
		}
	}
	return names
}

// GlobalStore is the store of the global table of a topic.
func (s *scenario) GlobalStore(topic string) (h state.KV[stream.Opt[string], stream.Opt[string]], ok bool) {
	for _, o := range s.Topology {
		if o.Op == "globalTable" && o.Topic == topic {
			return textStore(o.Store), true
		}
	}
	return h, false
}
