package topo

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/moldau-stream/moldau/internal/store"
)

// InternalTopic is a topic that the application creates for itself.
type InternalTopic struct {
	Name       string // with the application id
	Partitions int32
	Config     map[string]string
	Store      *Store       // of a changelog
	From       *Repartition // of a repartition topic
	Cause      string       // the topic that it has so many partitions for; "": the program demands them
}

// Plan is what follows from the numbers of partitions of the user's topics.
type Plan struct {
	Tasks     []int32            // by sub-topology: its number of tasks
	Internal  []InternalTopic    // repartition topics first, then changelogs
	Partition map[string]int32   // of all topics that are read
	Topics    map[*Node][]string // of each source, with the application id
}

// TopicsOf are the topics of which a source has a partition of a number.
func (p *Plan) TopicsOf(source *Node, partition int32) []string {
	return slices.DeleteFunc(slices.Clone(p.Topics[source]), func(t string) bool { return p.Partition[t] <= partition })
}

// Why says why an internal topic has so many partitions.
func (p *Plan) Why(i InternalTopic) string {
	if i.Cause == "" {
		return "the topology demands them"
	}
	return fmt.Sprintf("topic %s has %d", i.Cause, p.Partition[i.Cause])
}

// UserTopics are the topics that the program reads and writes by name and that must
// exist, sorted.
func (t *Topology) UserTopics() (read, written []string) {
	for _, n := range t.Nodes {
		for _, topic := range n.Topics {
			if !topic.Internal {
				read = append(read, topic.Name)
			}
		}
		if !n.Topic.Internal && n.Topic.Name != "" {
			written = append(written, n.Topic.Name)
		}
	}
	slices.Sort(read)
	slices.Sort(written)
	return slices.Compact(read), slices.Compact(written)
}

// Plan decides how many tasks each sub-topology has and which internal topics
// must exist, with how many partitions. partitions holds the numbers of
// partitions of the topics that the program reads, and of all others that a pattern may match. It fails if
// a topic that is read by name is missing, if one matches two patterns, or if topics that are joined differ.
//
// A sub-topology has as many tasks as the largest of its source topics has
// partitions; none, if there is no topic for its patterns yet. Then there are no internal topics for it either. A repartition topic has as many partitions as demanded, else as
// the topics that it is joined with, else as the largest source topic of the
// sub-topologies that write it.
func (t *Topology) Plan(appID string, partitions map[string]int32) (*Plan, error) {
	topics, err := t.resolve(appID, partitions)
	if err != nil {
		return nil, err
	}
	c := &counter{t: t, topics: topics, count: map[Topic]int32{}}
	p := &Plan{Partition: map[string]int32{}, Topics: map[*Node][]string{}}
	for _, n := range t.Nodes {
		for _, topic := range topics[n] {
			p.Topics[n] = append(p.Topics[n], topic.For(appID))
			if topic.Internal {
				continue
			}
			has, ok := partitions[topic.Name]
			if !ok || has < 1 {
				return nil, fmt.Errorf("topic %s, read at %s, does not exist: create it first", topic.Name, n.At)
			}
			c.count[topic] = has
		}
	}
	for _, r := range t.Repartitions {
		if r.Partitions > 0 {
			c.count[r.Topic] = r.Partitions
		}
	}
	c.countRepartitions()
	if err := c.checkCopartition(); err != nil {
		return nil, err
	}
	for topic, n := range c.count {
		p.Partition[topic.For(appID)] = n
	}
	for _, s := range t.Subs {
		p.Tasks = append(p.Tasks, c.tasks(s))
	}
	for _, r := range t.Repartitions {
		i := InternalTopic{Name: r.Topic.For(appID), Partitions: c.count[r.Topic], Config: repartitionConfig(), From: r}
		if r.Partitions == 0 {
			i.Cause = c.decides(r).For(appID)
		}
		p.Internal = append(p.Internal, i)
	}
	for i, sub := range t.Subs {
		for _, s := range sub.Stores {
			if s.Spec.Changelog {
				p.Internal = append(p.Internal, InternalTopic{Name: s.ChangelogTopic().For(appID), Partitions: p.Tasks[i], Config: changelogConfig(s), Store: s,
					Cause: c.largest(sub).For(appID)})
			}
		}
	}
	p.Internal = slices.DeleteFunc(p.Internal, func(i InternalTopic) bool { return i.Partitions == 0 })
	for _, i := range p.Internal {
		if !legal.MatchString(i.Name) {
			at := i.Store.at(i.From)
			return nil, fmt.Errorf("internal topic %s, needed at %s: topic names have at most 249 of a-z A-Z 0-9 . _ -: choose a shorter name or application id", i.Name, at)
		}
	}
	return p, nil
}

// at is the call that needs an internal topic.
func (s *Store) at(r *Repartition) string {
	if s != nil {
		return s.At
	}
	return r.At
}

// counter counts the partitions of topics.
type counter struct {
	t      *Topology
	topics map[*Node][]Topic // of each source
	count  map[Topic]int32
}

// countRepartitions fills in the repartition topics: as many partitions as the
// topics they are joined with, else as the writers have tasks. Topics feed one
// another, so it runs until nothing changes; there are no cycles, so that many
// rounds as topics are enough.
func (c *counter) countRepartitions() {
	for range c.t.Repartitions {
		changed := false
		for _, r := range c.t.Repartitions {
			if r.Partitions > 0 {
				continue
			}
			if n := c.count[c.decides(r)]; n != c.count[r.Topic] {
				c.count[r.Topic] = n
				changed = true
			}
		}
		if !changed {
			return
		}
	}
}

// decides is the topic that a repartition topic has as many partitions as: of those that it is joined with a user's topic or a demanded one,
// else the largest that the sub-topologies read which write them; if it is joined with none, the largest of its own writer.
func (c *counter) decides(r *Repartition) Topic {
	for _, g := range c.t.copartition {
		if !slices.Contains(g.sources, r.Source) {
			continue
		}
		var l Topic
		for _, s := range g.sources {
			for _, topic := range c.topics[s] {
				if !topic.Internal || c.t.demanded(topic) > 0 {
					return topic
				}
			}
			for _, o := range c.t.Repartitions {
				if o.Source == s {
					l = c.larger(l, c.largest(c.t.subOf(o.Sink)))
				}
			}
		}
		for _, s := range g.sources {
			for _, topic := range c.topics[s] {
				if topic != r.Topic {
					l = c.larger(l, topic)
				}
			}
		}
		if c.count[l] > 0 {
			return l
		}
		break
	}
	return c.largest(c.t.subOf(r.Sink))
}

func (t *Topology) demanded(topic Topic) int32 {
	for _, r := range t.Repartitions {
		if r.Topic == topic {
			return r.Partitions
		}
	}
	return 0
}

func (t *Topology) subOf(n *Node) *Subtopology {
	for _, s := range t.Subs {
		if slices.Contains(s.Nodes, n) {
			return s
		}
	}
	return nil
}

// tasks is how many tasks a sub-topology has.
func (c *counter) tasks(s *Subtopology) int32 { return c.count[c.largest(s)] }

// largest is the topic of a sub-topology with the most partitions.
func (c *counter) largest(s *Subtopology) Topic {
	var l Topic
	if s == nil {
		return l
	}
	for _, src := range s.Sources {
		for _, topic := range c.topics[src] {
			l = c.larger(l, topic)
		}
	}
	return l
}

// larger is the one of two topics that has more partitions, the first among equals.
func (c *counter) larger(a, b Topic) Topic {
	if c.count[b] > c.count[a] {
		return b
	}
	return a
}

func (c *counter) checkCopartition() error {
	for _, g := range c.t.copartition {
		differ := false
		var parts []string
		first := int32(-1)
		for _, s := range g.sources {
			for _, topic := range c.topics[s] {
				if first < 0 {
					first = c.count[topic]
				}
				differ = differ || c.count[topic] != first
				parts = append(parts, fmt.Sprintf("%s has %d (%s)", topic.Name, c.count[topic], s.At))
			}
		}
		if differ {
			return fmt.Errorf("%s: topics that are joined must have the same number of partitions: %s: repartition one of them with Repartition(Partitions(n))",
				g.at, strings.Join(parts, ", "))
		}
	}
	return nil
}

// repartitionConfig: nothing expires, because records are deleted once they are
// consumed and committed; small segments, so that they can be.
func repartitionConfig() map[string]string {
	return map[string]string{
		"cleanup.policy":         "delete",
		"segment.bytes":          "52428800",
		"retention.ms":           "-1",
		"message.timestamp.type": "CreateTime",
	}
}

// changelogConfig is Kafka Streams': windows and sessions leave the changelog a day after they have left the store, and
// versions stay uncompacted until then, since all have the same key. Rows of a join's store are never written twice.
func changelogConfig(s *Store) map[string]string {
	c := map[string]string{
		"cleanup.policy":         "compact",
		"message.timestamp.type": "CreateTime",
	}
	const day = 24 * 60 * 60 * 1000
	kept := int64(math.MaxInt64)
	if s.Spec.Retention < kept-day {
		kept = s.Spec.Retention + day
	}
	switch s.Spec.Kind {
	case store.Window, store.Session:
		c["cleanup.policy"] = "compact,delete"
		if s.Spec.Duplicates {
			c["cleanup.policy"] = "delete"
		}
		c["retention.ms"] = strconv.FormatInt(kept, 10)
	case store.VersionedKeyValue:
		c["min.compaction.lag.ms"] = strconv.FormatInt(kept, 10)
	}
	maps.Copy(c, s.Config)
	return c
}
