package group

import (
	"iter"
	"maps"
	"slices"
)

// testCluster is a TopicView for tests. Topics have the ids that their names say.
type testCluster struct {
	version int64
	topics  map[string]TopicInfo
	configs map[string]map[string]string
	lives   int // makes ids of topics of the same name differ
}

func newTestCluster() *testCluster {
	return &testCluster{topics: map[string]TopicInfo{}, configs: map[string]map[string]string{}}
}

func (c *testCluster) Version() int64 { return c.version }

func (c *testCluster) Topic(name string) (TopicInfo, bool) {
	t, ok := c.topics[name]
	return t, ok
}

func (c *testCluster) TopicByID(id [16]byte) (TopicInfo, bool) {
	for _, t := range c.topics {
		if t.ID == id {
			return t, true
		}
	}
	return TopicInfo{}, false
}

func (c *testCluster) Names() iter.Seq[string] {
	return slices.Values(slices.Sorted(maps.Keys(c.topics)))
}

func (c *testCluster) GroupConfigs(group string) map[string]string { return c.configs[group] }

// clone gives a copy to be changed: views are immutable.
func (c *testCluster) clone() *testCluster {
	d := *c
	d.version++
	d.topics, d.configs = maps.Clone(c.topics), maps.Clone(c.configs)
	return &d
}

// set makes a topic, or gives it another number of partitions; 0 deletes it.
func (c *testCluster) set(name string, partitions int32) TopicChange {
	d := c.clone()
	old, existed := c.topics[name]
	change := TopicChange{View: d}
	switch {
	case partitions == 0:
		delete(d.topics, name)
		change.Deleted = []TopicInfo{old}
	case existed:
		old.Partitions = partitions
		d.topics[name] = old
		change.Changed = []string{name}
	default:
		t := TopicInfo{Name: name, Partitions: partitions}
		copy(t.ID[:], name)
		d.lives++
		t.ID[15] = byte(d.lives)
		d.topics[name] = t
		change.Created = []string{name}
	}
	return change
}
