// Package topo is the untyped graph behind the DSL: nodes, names, stores,
// sub-topologies, internal topics and the text that describes them.
//
//	stream.From(b, lines)       Source    KSTREAM-SOURCE-0000000000  (topics: [lines])
//	     |                         |
//	     .Filter(f)             Processor KSTREAM-FILTER-0000000001  (stores: [])
//	     |                         |
//	     .To(out)               Sink      KSTREAM-SINK-0000000002    (topic: out)
//
// The DSL (package stream) adds one or more nodes for each call; package task
// runs the nodes of one sub-topology on one partition. What flows between nodes
// is typed, but only the closures that Node.Wire makes know the types: this
// package never looks at a record.
//
// Names, numbers and the order of nodes are those of Kafka Streams, so that
// internal topics and stores of a Java application are found under the same
// names: one counter per graph, which also moves on where a name was given.
//
// Invariants:
//   - a node's parents stand before it in Graph.nodes: the order of creation is
//     a topological order;
//   - a name is used once among nodes, once among stores, once among
//     repartition topics;
//   - mistakes are collected, never panicked: the graph stays usable after one,
//     so that Build reports all of them.
package topo

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/serde"
)

// Kind tells sources and sinks from the processors between them.
type Kind uint8

// The kinds of nodes.
const (
	Source Kind = iota + 1
	Processor
	Sink
)

// Wire makes the input of a node for one task: env is the task's context, outs
// are the inputs of the node's children in the order of Node.Children, and the
// result is the node's own input. It is called once per task, children first.
// What the values are is between the packages stream and task.
type Wire func(env any, outs []any) (in any)

// Node is one vertex of the graph. Everything but Name, Kind and Wire may be
// changed until Build.
type Node struct {
	Name     string
	Kind     Kind
	At       string  // file:line of the DSL call that made it
	Parents  []*Node // in the order of the call
	Children []*Node // in the order of creation, which is the order of forwarding
	Stores   []string
	Topics   []Topic  // of sources, in the order of the call; none: those that Pattern matches
	Pattern  *Pattern // of sources
	Topic    Topic    // of sinks
	Router   string   // of sinks that choose a topic for each record: the name of the function that does
	Wire     Wire
	Start    Start // of sources of users' topics

	// DropNullKeys makes the filter before a repartition topic drop records
	// with a null key. Build sets it: joins that keep null keys (KIP-962) need
	// them on the other side.
	DropNullKeys bool
	// EventTime: the source takes times from values.
	EventTime bool
	// KeepNullKeys marks a join that keeps records with a null key.
	KeepNullKeys bool
	// Times are the names under which the node keeps operator time in the
	// metadata of committed offsets; Build checks that they fit in it.
	Times []string
	// Windows says that the node makes windows; they stay open for Grace milliseconds of stream time after their end.
	Windows bool
	Grace   int64

	// Global marks the source and the processor of a global store.
	Global bool

	// What Build must know to move repartition topics. NewKey: the operator may give records another key; NewValue: another
	// value; Same: it sends records on as they came, if it does; Merges: it joins several paths into one.
	NewKey, NewValue, Same, Merges bool

	Index int // position in the order of creation

	repartition bool    // the filter before the sink of a repartition topic
	reading     Reading // of sources
}

// Topic is a topic as the graph knows it. Internal topics get the application
// id as a prefix when they are used; their text in a description has none.
type Topic struct {
	Name     string
	Internal bool
}

// For is the name of the topic for an application: internal topics begin with
// its id.
func (t Topic) For(appID string) string {
	if t.Internal {
		return appID + "-" + t.Name
	}
	return t.Name
}

// Store is a state store as declared, with the nodes that use it.
type Store struct {
	Name  string
	At    string
	Nodes []*Node
	Spec  store.Spec // under the same name
	// Global: every instance has all of it, filled from all partitions of a topic. All nodes can read it.
	Global bool
	// Handle is the typed handle (state.Handle) that declared the store.
	Handle any
	// Source is, of a table, the source that it is made of, if it can be made again from its topic. Reread makes, of a record of
	// that topic, what the store has of it; ok is false if that is nothing.
	Source *Node
	Reread func(key, value []byte, headers []serde.Header, timestamp int64) (r store.ChangelogRecord, ok bool)
	// FromSource: the topic of Source stands in for a changelog, up to the offset that is committed.
	FromSource bool
	// ReadOnly: only the processor that Nodes begins with writes it, with the records of Source.
	ReadOnly bool
	// Config are topic configurations of the changelog that differ from
	// Kafka Streams' defaults.
	Config map[string]string
}

// SourceTopic is the topic that Source reads.
func (s *Store) SourceTopic() Topic { return s.Source.Topics[0] }

// ChangelogTopic is the store's changelog.
func (s *Store) ChangelogTopic() Topic { return Topic{s.Name + "-changelog", true} }

// Repartition is an internal topic through which records go to the task that
// owns their new key.
type Repartition struct {
	Topic      Topic
	At         string
	Partitions int32 // as demanded by the program; 0: as many as the tasks that write it need
	Sink       *Node
	Source     *Node
	// Mergeable: the topic is there only because keys have changed, and Build may put one in the place of several.
	Mergeable bool

	filter *Node
}

// Graph collects nodes and mistakes. The zero value is ready to use.
type Graph struct {
	nodes        []*Node
	byName       map[string]*Node
	stores       []*Store
	storeByName  map[string]*Store
	sources      []*Node // of users' topics
	repartitions []*Repartition
	copartition  []copartition
	selfJoins    []SelfJoin
	mistakes     []*Mistake
	next         int // the counter behind generated names
	optimize     Optimization
	built        bool
}

type copartition struct {
	at      string
	sources []*Node
}

// Mistake is one wrong use of the DSL.
type Mistake struct {
	At  string // file:line
	Msg string
}

func (m *Mistake) Error() string { return m.At + ": " + m.Msg }

// Mistakef records a mistake of the call at a place.
func (g *Graph) Mistakef(at, format string, args ...any) {
	g.mistakes = append(g.mistakes, &Mistake{at, fmt.Sprintf(format, args...)})
}

// Name makes the next generated name with a prefix. If a name was given, that
// one is the result, and the number is used up all the same.
func (g *Graph) Name(given, prefix string) string {
	n := g.next
	g.next++
	if given != "" {
		return given
	}
	return fmt.Sprintf("%s%010d", prefix, n)
}

// StoreName makes the next generated name of a store.
func (g *Graph) StoreName(prefix string) string {
	n := g.next
	g.next++
	return fmt.Sprintf("%sSTATE-STORE-%010d", prefix, n)
}

// legal are Kafka's rules for topic names, which names of nodes and stores
// must follow because topics are named after them.
var legal = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// CheckName records a mistake if a name given by the user is not legal.
func (g *Graph) CheckName(at, what, name string) {
	if !legal.MatchString(name) || name == "." || name == ".." {
		g.Mistakef(at, "%s name %q is not legal: 1 to 249 of a-z A-Z 0-9 . _ - and neither . nor ..", what, name)
	}
}

// Add appends a node under its parents.
func (g *Graph) Add(n *Node, parents ...*Node) *Node {
	if g.built {
		g.Mistakef(n.At, "the topology is already built: node %s comes too late", n.Name)
	}
	g.CheckName(n.At, "node", n.Name)
	if old, dup := g.byName[n.Name]; dup {
		g.Mistakef(n.At, "node name %s is already used at %s", n.Name, old.At)
	} else {
		if g.byName == nil {
			g.byName = map[string]*Node{}
		}
		g.byName[n.Name] = n
	}
	n.Index = len(g.nodes)
	g.nodes = append(g.nodes, n)
	for _, p := range parents {
		if p.Index >= n.Index || p.Index >= len(g.nodes) || g.nodes[p.Index] != p {
			g.Mistakef(n.At, "node %s and its input %s belong to different builders", n.Name, p.Name)
			continue
		}
		if slices.Contains(n.Parents, p) {
			continue // a stream merged with itself is read once, as in Kafka Streams
		}
		n.Parents = append(n.Parents, p)
		p.Children = append(p.Children, n)
	}
	return n
}

// Start says where a source begins to read a partition of which nothing is committed.
type Start struct {
	At  StartKind
	Ago time.Duration // before now, if At is StartAgo
}

// StartKind is the kind of a Start.
type StartKind uint8

// The kinds of Start.
const (
	StartEarliest  StartKind = iota // at the first record
	StartLatest                     // behind the last record
	StartCommitted                  // nowhere: something must be committed
	StartAgo                        // at the first record that is not older
)

// AddStore declares a store and connects it to a node.
func (g *Graph) AddStore(s *Store, n *Node) {
	if old, dup := g.storeByName[s.Name]; dup {
		g.Mistakef(s.At, "store %s is already declared at %s", s.Name, old.At)
		return
	}
	g.CheckName(s.At, "store", s.Name)
	if h, ok := s.Handle.(interface{ Err() error }); ok {
		if err := h.Err(); err != nil {
			g.Mistakef(s.At, "store %s: %v", s.Name, err)
		}
	}
	if g.storeByName == nil {
		g.storeByName = map[string]*Store{}
	}
	g.storeByName[s.Name] = s
	g.stores = append(g.stores, s)
	s.Nodes = append(s.Nodes, n)
	n.Stores = append(n.Stores, s.Name)
}

// Store is a declared store, nil if there is none of that name.
func (g *Graph) Store(name string) *Store { return g.storeByName[name] }

// ConnectStores connects declared stores to a further node that uses them. Nodes that share a store run in one task.
func (g *Graph) ConnectStores(n *Node, names ...string) {
	for _, name := range names {
		s := g.storeByName[name]
		if s == nil {
			g.Mistakef(n.At, "node %s uses store %s, which is not declared", n.Name, name)
			continue
		}
		if s.Global {
			continue // there for everybody
		}
		if slices.Contains(n.Stores, name) {
			continue
		}
		s.Nodes = append(s.Nodes, n)
		n.Stores = append(n.Stores, name)
	}
}

// AddGlobal adds a global store with the source that reads its topic and the processor that fills it. They form a
// sub-topology of their own that has no tasks.
func (g *Graph) AddGlobal(source, processor *Node, s *Store, how Reading) {
	how.Table = true
	source.Global, processor.Global, s.Global = true, true, true
	processor.Kind = Processor
	s.Spec.Changelog = false
	g.Add(processor, g.AddSource(source, how))
	g.AddStore(s, processor)
}

// WindowGrace is how long, in milliseconds of stream time, windows stay open after their end, by the nodes that make them:
// the nearest above n on each path, of which the longest counts. ok is false if a path has none.
func (g *Graph) WindowGrace(n *Node) (grace int64, ok bool) {
	written := map[*Node]*Node{} // the sinks of repartition topics, by source
	for _, r := range g.repartitions {
		written[r.Source] = r.Sink
	}
	found := map[*Node]int64{} // -1: a path has none
	var search func(n *Node) int64
	search = func(n *Node) int64 {
		if at, ok := found[n]; ok {
			return at
		}
		longest := int64(-1)
		switch {
		case n.Windows:
			longest = n.Grace
		case written[n] != nil:
			longest = search(written[n])
		default:
			for _, p := range n.Parents {
				at := search(p)
				if at < 0 {
					longest = -1
					break
				}
				longest = max(longest, at)
			}
		}
		found[n] = longest
		return longest
	}
	grace = search(n)
	return grace, grace >= 0
}

// AddRepartition adds filter, sink and source of a repartition topic under a
// node and returns the source. The name is that of the topic without prefix
// and suffix. Nodes come with their Wire; names and topics are set here.
func (g *Graph) AddRepartition(at, name string, partitions int32, parent, filter, sink, source *Node) *Repartition {
	topic := RepartitionTopic(name)
	names := [3]string{g.Name("", "KSTREAM-SINK-"), g.Name("", "KSTREAM-FILTER-"), g.Name("", "KSTREAM-SOURCE-")}
	if !generated.MatchString(name) {
		names = [3]string{topic + "-sink", topic + "-filter", topic + "-source"}
	}
	sink.Name, filter.Name, source.Name = names[0], names[1], names[2]
	sink.At, filter.At, source.At = at, at, at
	sink.Kind, filter.Kind, source.Kind = Sink, Processor, Source
	sink.Topic = Topic{topic, true}
	source.Topics = []Topic{sink.Topic}
	filter.repartition = true
	r := &Repartition{Topic: sink.Topic, At: at, Partitions: partitions, Sink: sink, Source: source, filter: filter}
	if !g.addRepartition(r) {
		g.reuse(filter, parent)
		g.reuse(sink, filter)
		g.reuse(source)
		return r
	}
	g.Add(filter, parent)
	g.Add(sink, filter)
	g.Add(source)
	return r
}

// AddTableRepartition adds sink and source of a repartition topic for changes of a table under a node, for the
// aggregation operator, whose name ("" if generated) names them.
func (g *Graph) AddTableRepartition(at, name, operator string, partitions int32, parent, sink, source *Node) *Repartition {
	sink.Name, source.Name = g.Name("", "KSTREAM-SINK-"), g.Name("", "KSTREAM-SOURCE-")
	if operator != "" {
		sink.Name, source.Name = operator+"-sink", operator+"-source"
	}
	sink.At, source.At = at, at
	sink.Kind, source.Kind = Sink, Source
	sink.Topic = Topic{name + repartitionSuffix, true}
	source.Topics = []Topic{sink.Topic}
	r := &Repartition{Topic: sink.Topic, At: at, Partitions: partitions, Sink: sink, Source: source}
	if g.addRepartition(r) {
		g.Add(sink, parent)
		g.Add(source)
	} else {
		g.reuse(sink, parent)
		g.reuse(source)
	}
	return r
}

// AddInternal adds sink and source of an internal topic that has a name of its own, and whose nodes have theirs. Like a
// repartition topic it has as many partitions as the topics that its source is joined with. The sink goes under its parents.
func (g *Graph) AddInternal(at, topic string, sink, source *Node, parents ...*Node) *Repartition {
	g.CheckName(at, "internal topic", topic)
	sink.At, source.At = at, at
	sink.Kind, source.Kind = Sink, Source
	sink.Topic = Topic{topic, true}
	source.Topics = []Topic{sink.Topic}
	r := &Repartition{Topic: sink.Topic, At: at, Sink: sink, Source: source}
	g.addRepartition(r)
	g.Add(sink, parents...)
	g.Add(source)
	return r
}

// addRepartition registers a repartition topic, and is false if its name is taken.
func (g *Graph) addRepartition(r *Repartition) bool {
	for _, old := range g.repartitions {
		if old.Topic == r.Topic {
			g.Mistakef(r.At, "repartition topic %s is already used at %s: give each its own name", r.Topic.Name, old.At)
			return false
		}
	}
	g.repartitions = append(g.repartitions, r)
	return true
}

// BurnTableRepartition is BurnRepartition for AddTableRepartition.
func (g *Graph) BurnTableRepartition() { g.next += 2 }

// BurnRepartition moves the counter on as AddRepartition does, for a group whose
// repartition topic exists already.
func (g *Graph) BurnRepartition() { g.next += 3 }

// reuse adds a node whose name is already known to be wrong.
func (g *Graph) reuse(n *Node, parents ...*Node) {
	n.Index = len(g.nodes)
	g.nodes = append(g.nodes, n)
	n.Parents = parents
	for _, p := range parents {
		p.Children = append(p.Children, n)
	}
}

// generated matches names from the counter, after which the nodes of a
// repartition topic get generated names too.
var generated = regexp.MustCompile(`^KSTREAM.*-[0-9]{10}$`)

const repartitionSuffix = "-repartition"

// RepartitionTopic is the topic's name, without the application id, for the
// name of a group, a repartition or a store.
func RepartitionTopic(name string) string {
	if len(name) >= len(repartitionSuffix) && name[len(name)-len(repartitionSuffix):] == repartitionSuffix {
		return name
	}
	return name + repartitionSuffix
}

// Copartition demands that the topics of all these sources have the same
// number of partitions. Joins call it; Plan checks it.
func (g *Graph) Copartition(at string, sources ...*Node) {
	g.copartition = append(g.copartition, copartition{at, sources})
}

// Ref points at a node, and carries what later operators need to know of the
// path to it.
type Ref struct {
	G *Graph
	N *Node
	// Sources are the sources whose partitions decide which task has the record.
	Sources []*Node
	// Rekeyed says that the key may have changed since the last source or
	// repartition, so that a record may be in the wrong task for its key.
	Rekeyed bool
}

// Build ends the collection and returns the graph with its sub-topologies, or
// every mistake (errors.Join of *Mistake): first those of the calls, in their
// order, then what shows only in the whole.
func (g *Graph) Build() (*Topology, error) {
	calls := len(g.mistakes)
	defer func() { g.mistakes = g.mistakes[:calls] }() // found again by another Build
	if len(g.nodes) == 0 {
		g.Mistakef(Caller(), "the topology is empty: nothing was added to the builder")
	}
	t := g.divide()
	t.checkMetadata(g)
	t.checkPatterns(g)
	if len(g.mistakes) > 0 {
		errs := make([]error, len(g.mistakes))
		for i, m := range g.mistakes {
			errs[i] = m
		}
		return nil, errors.Join(errs...)
	}
	if g.optimize != 0 {
		g.optimized()
		t = g.divide()
	}
	g.built = true
	g.filterNullKeys()
	return t, nil
}

// filterNullKeys lets the filters before repartition topics drop null keys,
// unless a join that keeps them is further down.
func (g *Graph) filterNullKeys() {
	keep := map[*Node]bool{}
	bySink := map[*Node]*Node{}
	for _, r := range g.repartitions {
		bySink[r.Sink] = r.Source
	}
	for _, n := range slices.Backward(g.nodes) {
		k := n.KeepNullKeys
		for _, c := range n.Children {
			k = k || keep[c]
		}
		if s := bySink[n]; s != nil {
			k = k || keep[s]
		}
		keep[n] = k
		if n.repartition {
			n.DropNullKeys = !k
		}
	}
}
