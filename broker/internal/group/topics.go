package group

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// TopicInfo is what the coordinator needs to know of a topic.
type TopicInfo struct {
	Name       string
	ID         [16]byte
	Partitions int32 // their number
}

// TopicView is the cluster's metadata as of one moment, as far as groups depend on it.
// It is immutable and safe for any number of readers.
type TopicView interface {
	// Version grows with each change of the metadata.
	Version() int64
	Topic(name string) (TopicInfo, bool)
	TopicByID(id [16]byte) (TopicInfo, bool)
	// Names yields the names of all topics, internal ones included, in order.
	Names() iter.Seq[string]
	// GroupConfigs are the configurations that were set for a group (resource type 32),
	// not the defaults; nil for none.
	GroupConfigs(group string) map[string]string
}

// TopicChange tells what changed in the metadata, and gives it as it is now.
type TopicChange struct {
	View    TopicView
	Created []string    // names of new topics
	Changed []string    // names of topics with another number of partitions
	Deleted []TopicInfo // topics that are gone, as they were
	Configs []string    // names of groups whose configuration changed
}

// noTopics is a cluster without topics.
type noTopics struct{}

func (noTopics) Version() int64                        { return 0 }
func (noTopics) Topic(string) (TopicInfo, bool)        { return TopicInfo{}, false }
func (noTopics) TopicByID([16]byte) (TopicInfo, bool)  { return TopicInfo{}, false }
func (noTopics) Names() iter.Seq[string]               { return slices.Values([]string(nil)) }
func (noTopics) GroupConfigs(string) map[string]string { return nil }

// topicsChanged is the event that brings a TopicChange to a machine.
type topicsChanged struct{ change TopicChange }

func (ev topicsChanged) step(m *Machine, now time.Time, e *coordinator.Effects) {
	c := ev.change
	m.topics = c.View
	if len(c.Created) > 0 {
		m.topicsCreated = c.View.Version()
	}
	touched := make(map[string]bool, len(c.Created)+len(c.Changed)+len(c.Deleted))
	for _, names := range [][]string{c.Created, c.Changed} {
		for _, name := range names {
			touched[name] = true
		}
	}
	for _, t := range c.Deleted {
		touched[t.Name] = true
	}
	if len(touched) > 0 {
		for id, gl := range m.ledger.groups {
			if gl.modern != nil && gl.modern.subscribedToAny(touched) {
				m.presence(id).stale = true
			}
		}
	}
	if len(c.Deleted) > 0 {
		m.deleteTopics(e, c.Deleted)
		m.forgetShareTopics(e, c.Deleted)
	}
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
