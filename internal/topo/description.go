package topo

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Description is what a topology leaves in a cluster, and what it consists of, without its functions. It is made of a
// Topology, or read from the text of one (Parse), which knows less: no kinds of stores, no numbers of partitions.
type Description struct {
	Subtopologies []SubtopologyDescription `json:"subtopologies"`
}

// SubtopologyDescription is a part of a topology.
type SubtopologyDescription struct {
	ID           int32                    `json:"id"`
	Global       bool                     `json:"global,omitempty"` // of a global store: it has no tasks
	Nodes        []NodeDescription        `json:"nodes"`
	Stores       []StoreDescription       `json:"stores,omitempty"`
	Repartitions []RepartitionDescription `json:"repartitions,omitempty"` // that it reads
}

// NodeDescription is an operator.
type NodeDescription struct {
	Name   string   `json:"name"`
	Kind   string   `json:"kind"`             // source, processor, sink
	Topics []string `json:"topics,omitempty"` // internal ones without the application id
	// Pattern is that of a source that reads all topics whose names it matches.
	Pattern string   `json:"pattern,omitempty"`
	Stores  []string `json:"stores,omitempty"`
	To      []string `json:"to,omitempty"`
}

// StoreDescription is a state store. Its changelog is NAME-changelog.
type StoreDescription struct {
	Name      string `json:"name"`
	Kind      string `json:"kind,omitempty"`  // empty: not known
	Types     string `json:"types,omitempty"` // of key and value
	Changelog *bool  `json:"changelog,omitempty"`
	Source    string `json:"source,omitempty"` // the topic that stands in for a changelog
}

// RepartitionDescription is an internal topic between sub-topologies.
type RepartitionDescription struct {
	Topic      string `json:"topic"`
	Partitions int32  `json:"partitions,omitempty"` // as demanded by the program; 0: it follows from others, or is not known
}

// Describe makes the description of a topology.
func (t *Topology) Describe() *Description {
	d := &Description{}
	for _, s := range t.all() {
		sub := SubtopologyDescription{ID: s.ID, Global: s.Nodes[0].Global}
		for _, n := range s.Nodes {
			nd := NodeDescription{Name: n.Name, Kind: nodeKinds[n.Kind], Topics: n.topicNames(), Stores: n.Stores}
			if n.Pattern != nil {
				nd.Pattern = n.Pattern.text
			}
			if n.Topic.Name != "" {
				nd.Topics = []string{n.Topic.Name}
			}
			for _, c := range n.Children {
				nd.To = append(nd.To, c.Name)
			}
			sub.Nodes = append(sub.Nodes, nd)
		}
		for _, st := range s.Stores {
			sd := StoreDescription{Name: st.Name, Kind: st.Spec.Kind.String(), Types: st.Spec.Types, Changelog: &st.Spec.Changelog}
			if st.FromSource {
				sd.Source = st.SourceTopic().Name
			}
			sub.Stores = append(sub.Stores, sd)
		}
		for _, r := range t.Repartitions {
			if slices.Contains(s.Nodes, r.Source) {
				sub.Repartitions = append(sub.Repartitions, RepartitionDescription{r.Topic.Name, r.Partitions})
			}
		}
		d.Subtopologies = append(d.Subtopologies, sub)
	}
	return d
}

var nodeKinds = map[Kind]string{Source: "source", Processor: "processor", Sink: "sink"}

// all are the sub-topologies in the order of their numbers.
func (t *Topology) all() []*Subtopology {
	all := slices.Concat(t.Subs, t.Globals)
	slices.SortFunc(all, func(x, y *Subtopology) int { return cmp.Compare(x.ID, y.ID) })
	return all
}

// JSON is the description as text that ParseDescription reads.
func (d *Description) JSON() []byte {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		panic(err) // it has only strings and numbers
	}
	return append(b, '\n')
}

// ParseDescription reads the text of a topology (Topology.String, or Kafka Streams' Topology#describe) or the JSON of
// a description.
func ParseDescription(text []byte) (*Description, error) {
	if s := strings.TrimSpace(string(text)); strings.HasPrefix(s, "{") {
		d := &Description{}
		if err := json.Unmarshal(text, d); err != nil {
			return nil, fmt.Errorf("description of a topology: %w", err)
		}
		return d, nil
	}
	return parseText(string(text))
}

var (
	subLine = regexp.MustCompile(`^Sub-topology: (\d+)( for global store .*)?$`)
	// topicList tells a list of topics from a pattern.
	topicList = regexp.MustCompile(`^\[[a-zA-Z0-9._-]+(, [a-zA-Z0-9._-]+)*\]$`)
	nodeLine  = regexp.MustCompile(`^(Source|Processor|Sink): (\S+) \((topics|topic|stores|extractor class): (.*)\)$`)
)

func parseText(text string) (*Description, error) {
	d := &Description{}
	var sub *SubtopologyDescription
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		at := fmt.Errorf("description of a topology, line %d: %q", i+1, line)
		switch m := subLine.FindStringSubmatch(line); {
		case line == "" || line == "Topologies:" || strings.HasPrefix(line, "Topology: ") || strings.HasPrefix(line, "<-- "):
		case m != nil:
			var id int32
			if _, err := fmt.Sscan(m[1], &id); err != nil {
				return nil, fmt.Errorf("%w: %w", at, err)
			}
			d.Subtopologies = append(d.Subtopologies, SubtopologyDescription{ID: id, Global: m[2] != ""})
			sub = &d.Subtopologies[len(d.Subtopologies)-1]
		case sub == nil:
			return nil, fmt.Errorf("%w: expected \"Topologies:\" and a sub-topology", at)
		case strings.HasPrefix(line, "--> "):
			if len(sub.Nodes) == 0 {
				return nil, fmt.Errorf("%w: an arrow without a node", at)
			}
			if to := strings.TrimPrefix(line, "--> "); to != "none" {
				sub.Nodes[len(sub.Nodes)-1].To = strings.Split(to, ", ")
			}
		default:
			m := nodeLine.FindStringSubmatch(line)
			if m == nil {
				return nil, fmt.Errorf("%w: neither a node nor an arrow", at)
			}
			n := NodeDescription{Name: m[2], Kind: strings.ToLower(m[1])}
			list := strings.TrimSuffix(strings.TrimPrefix(m[4], "["), "]")
			switch {
			case m[3] == "topics" && !topicList.MatchString(m[4]):
				n.Pattern = m[4]
			case list == "" || m[3] == "extractor class":
			case m[3] == "stores":
				n.Stores = strings.Split(list, ", ")
			default:
				n.Topics = strings.Split(list, ", ")
			}
			sub.Nodes = append(sub.Nodes, n)
		}
	}
	if len(d.Subtopologies) == 0 {
		return nil, errors.New("description of a topology: it has no sub-topology")
	}
	d.infer()
	return d, nil
}

// infer finds stores and repartition topics: a topic that the application both writes and reads.
func (d *Description) infer() {
	written := map[string]bool{}
	for _, s := range d.Subtopologies {
		for _, n := range s.Nodes {
			for _, t := range n.Topics {
				written[t] = written[t] || n.Kind == "sink"
			}
		}
	}
	for i := range d.Subtopologies {
		s := &d.Subtopologies[i]
		for _, n := range s.Nodes {
			for _, t := range n.Topics {
				if n.Kind == "source" && written[t] {
					s.Repartitions = append(s.Repartitions, RepartitionDescription{Topic: t})
				}
			}
			for _, name := range n.Stores {
				if !slices.ContainsFunc(s.Stores, func(o StoreDescription) bool { return o.Name == name }) {
					s.Stores = append(s.Stores, StoreDescription{Name: name})
				}
			}
		}
	}
}
