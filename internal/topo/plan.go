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
}

// Plan is what follows from the numbers of partitions of the user's topics.
type Plan struct {
	Tasks     []int32         // by sub-topology: its number of tasks
	Internal  []InternalTopic // repartition topics first, then changelogs
	Partition map[string]int32
}

// UserTopics are the topics that the program reads and writes and that must
// exist, sorted.
func (t *Topology) UserTopics() (read, written []string) {
	for _, n := range t.Nodes {
		switch {
		case n.Topic.Internal || n.Topic.Name == "":
		case n.Kind == Source:
			read = append(read, n.Topic.Name)
		case n.Kind == Sink:
			written = append(written, n.Topic.Name)
		}
	}
	slices.Sort(read)
	slices.Sort(written)
	return slices.Compact(read), slices.Compact(written)
}

// Plan decides how many tasks each sub-topology has and which internal topics
// must exist, with how many partitions. partitions holds the numbers of
// partitions of the topics that the program reads. It fails if one of them is
// missing, or if topics that are joined differ.
//
// A sub-topology has as many tasks as the largest of its source topics has
// partitions. A repartition topic has as many partitions as demanded, else as
// the topics that it is joined with, else as the largest source topic of the
// sub-topologies that write it.
func (t *Topology) Plan(appID string, partitions map[string]int32) (*Plan, error) {
	count := map[Topic]int32{}
	for _, n := range t.Nodes {
		if n.Kind != Source || n.Topic.Internal {
			continue
		}
		c, ok := partitions[n.Topic.Name]
		if !ok || c < 1 {
			return nil, fmt.Errorf("topic %s, read at %s, does not exist: create it first", n.Topic.Name, n.At)
		}
		count[n.Topic] = c
	}
	for _, r := range t.Repartitions {
		if r.Partitions > 0 {
			count[r.Topic] = r.Partitions
		}
	}
	t.countRepartitions(count)
	if err := t.checkCopartition(count); err != nil {
		return nil, err
	}
	p := &Plan{Partition: map[string]int32{}}
	for topic, c := range count {
		p.Partition[topic.For(appID)] = c
	}
	for _, s := range t.Subs {
		p.Tasks = append(p.Tasks, maxCount(s, count))
	}
	for _, r := range t.Repartitions {
		p.Internal = append(p.Internal, InternalTopic{Name: r.Topic.For(appID), Partitions: count[r.Topic], Config: repartitionConfig(), From: r})
	}
	for i, sub := range t.Subs {
		for _, s := range sub.Stores {
			if s.Spec.Changelog {
				p.Internal = append(p.Internal, InternalTopic{Name: s.ChangelogTopic().For(appID), Partitions: p.Tasks[i], Config: changelogConfig(s), Store: s})
			}
		}
	}
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

// countRepartitions fills in the repartition topics: as many partitions as the
// topics they are joined with, else as the writers have tasks. Topics feed one
// another, so it runs until nothing changes; there are no cycles, so that many
// rounds as topics are enough.
func (t *Topology) countRepartitions(count map[Topic]int32) {
	for range t.Repartitions {
		changed := false
		for _, r := range t.Repartitions {
			if r.Partitions > 0 {
				continue
			}
			n := t.coparted(r, count)
			if n == 0 {
				if sub := t.subOf(r.Sink); sub != nil {
					n = maxCount(sub, count)
				}
			}
			if n != count[r.Topic] {
				count[r.Topic] = n
				changed = true
			}
		}
		if !changed {
			return
		}
	}
}

// coparted is the number of partitions that joins force on a repartition topic:
// that of a user's topic, else a demanded one, else the largest.
func (t *Topology) coparted(r *Repartition, count map[Topic]int32) int32 {
	for _, g := range t.copartition {
		if !slices.Contains(g.sources, r.Source) {
			continue
		}
		var largest int32
		for _, s := range g.sources {
			if !s.Topic.Internal {
				return count[s.Topic]
			}
			if d := t.demanded(s.Topic); d > 0 {
				return d
			}
			largest = max(largest, count[s.Topic])
			for _, o := range t.Repartitions {
				if o.Source == s {
					largest = max(largest, maxCount(t.subOf(o.Sink), count))
				}
			}
		}
		return largest
	}
	return 0
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

func maxCount(s *Subtopology, count map[Topic]int32) int32 {
	var n int32
	for _, src := range s.Sources {
		n = max(n, count[src.Topic])
	}
	return n
}

func (t *Topology) checkCopartition(count map[Topic]int32) error {
	for _, g := range t.copartition {
		differ := false
		var parts []string
		for _, s := range g.sources {
			differ = differ || count[s.Topic] != count[g.sources[0].Topic]
			parts = append(parts, fmt.Sprintf("%s has %d (%s)", s.Topic.Name, count[s.Topic], s.At))
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
