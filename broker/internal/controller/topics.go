package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Names of the internal topics.
const (
	OffsetsTopic  = "__consumer_offsets"
	TxnTopic      = "__transaction_state"
	MetadataTopic = "__cluster_metadata"
)

// MetadataTopicID is Kafka's fixed id of the metadata topic.
var MetadataTopicID = TopicID{15: 1}

// Internal tells whether a topic belongs to the broker, so that clients may read but not write, extend or delete it.
func Internal(topic string) bool {
	return topic == OffsetsTopic || topic == TxnTopic || topic == MetadataTopic
}

// Error is a refusal with the Kafka error code that clients get. It unwraps to the code.
type Error struct {
	Code    *kerr.Error
	Message string
}

func (e *Error) Error() string { return e.Message }

// Unwrap gives the Kafka error code.
func (e *Error) Unwrap() error { return e.Code }

func refuse(code *kerr.Error, format string, args ...any) error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// CheckTopicName tells what is wrong with the name of a new topic.
func CheckTopicName(name string) error {
	switch {
	case name == "":
		return refuse(kerr.InvalidTopicException, "the topic name is empty")
	case name == "." || name == "..":
		return refuse(kerr.InvalidTopicException, "the topic name must not be %q", name)
	case len(name) > 249:
		return refuse(kerr.InvalidTopicException, "the topic name has %d characters; at most 249 are allowed", len(name))
	}
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return refuse(kerr.InvalidTopicException, "the topic name %q holds a character other than a-z, A-Z, 0-9, '.', '_' and '-'", name)
		}
	}
	return nil
}

// Rules bound what topics may be.
type Rules struct {
	NodeID                      int32
	Directory                   TopicID // id of the broker's log directory
	DefaultPartitions           int32
	MaxPartitions               int // of a topic
	MaxTotalPartitions          int // of all topics
	NewTopicID                  func() TopicID
	AllowInternal, ValidateOnly bool
}

// NewTopic asks for a topic.
type NewTopic struct {
	Name        string
	Partitions  int32             // -1: the default
	Replication int16             // -1: the default, which is 1
	Assignments map[int32][]int32 // partition -> replicas; Partitions and Replication are -1 then
	Configs     map[string]string
}

// Create makes the records of a new topic.
func Create(img *Image, n NewTopic, rules Rules) ([]Record, error) {
	if err := CheckTopicName(n.Name); err != nil {
		return nil, err
	}
	if Internal(n.Name) && !rules.AllowInternal {
		return nil, refuse(kerr.InvalidTopicException, "the topic name %q is reserved for the broker", n.Name)
	}
	if _, ok := img.Topic(n.Name); ok {
		return nil, refuse(kerr.TopicAlreadyExists, "topic %q already exists", n.Name)
	}
	if other, ok := img.collides(n.Name); ok {
		return nil, refuse(kerr.InvalidTopicException, "topic %q collides with the existing topic %q: names that differ only in '.' and '_' have the same metrics", n.Name, other)
	}
	count := n.Partitions
	if n.Assignments != nil {
		if n.Partitions != -1 || n.Replication != -1 {
			return nil, refuse(kerr.InvalidRequest, "topic %q: both a replica assignment and a number of partitions or replicas", n.Name)
		}
		count = int32(len(n.Assignments))
		for i := range count {
			replicas, ok := n.Assignments[i]
			if !ok {
				return nil, refuse(kerr.InvalidReplicaAssignment, "topic %q: the assignment has %d partitions, but not partition %d", n.Name, count, i)
			}
			if !slices.Equal(replicas, []int32{rules.NodeID}) {
				return nil, refuse(kerr.InvalidReplicaAssignment, "topic %q: partition %d is assigned to %v; the only broker is %d", n.Name, i, replicas, rules.NodeID)
			}
		}
	} else if count == -1 {
		count = rules.DefaultPartitions
	}
	if count <= 0 {
		return nil, refuse(kerr.InvalidPartitions, "topic %q: the number of partitions must be larger than 0, not %d", n.Name, count)
	}
	if err := rules.checkCount(img, n.Name, 0, count); err != nil {
		return nil, err
	}
	if n.Assignments == nil && n.Replication != -1 && n.Replication != 1 {
		return nil, refuse(kerr.InvalidReplicationFactor, "topic %q: replication factor %d with 1 broker", n.Name, n.Replication)
	}
	if err := CheckTopicConfigs(n.Configs); err != nil {
		return nil, refuse(kerr.InvalidConfig, "topic %q: %v", n.Name, err)
	}
	id := rules.NewTopicID()
	recs := []Record{&TopicRecord{Name: n.Name, TopicID: id}}
	for _, name := range slices.Sorted(maps.Keys(n.Configs)) {
		value := n.Configs[name]
		recs = append(recs, &ConfigRecord{ResourceType: ResourceTopic, ResourceName: n.Name, Name: name, Value: &value})
	}
	for i := range count {
		recs = append(recs, rules.newPartition(id, i))
	}
	return recs, nil
}

func (r Rules) newPartition(id TopicID, partition int32) Record {
	return &PartitionRecord{
		PartitionID: partition, TopicID: id, Replicas: []int32{r.NodeID}, ISR: []int32{r.NodeID}, Leader: r.NodeID,
		Directories: []TopicID{r.Directory},
	}
}

func (r Rules) checkCount(img *Image, topic string, have, want int32) error {
	if int(want) > r.MaxPartitions {
		return refuse(kerr.InvalidPartitions, "topic %q: %d partitions; at most %d are allowed", topic, want, r.MaxPartitions)
	}
	if total := img.NumPartitions() + int(want-have); total > r.MaxTotalPartitions {
		return refuse(kerr.PolicyViolation, "topic %q: the cluster would have %d partitions; at most %d are allowed", topic, total, r.MaxTotalPartitions)
	}
	return nil
}

// Extend makes the records that give a topic more partitions. assignments, if not nil, are the replicas of the new ones.
func Extend(img *Image, topic string, count int32, assignments [][]int32, rules Rules) ([]Record, error) {
	t, ok := img.Topic(topic)
	if !ok {
		return nil, refuse(kerr.UnknownTopicOrPartition, "topic %q does not exist", topic)
	}
	if Internal(topic) {
		return nil, refuse(kerr.InvalidTopicException, "the number of partitions of %q cannot change: what is in it is found by it", topic)
	}
	have := int32(len(t.Partitions))
	switch {
	case count == have:
		return nil, refuse(kerr.InvalidPartitions, "topic %q already has %d partitions", topic, have)
	case count < have:
		return nil, refuse(kerr.InvalidPartitions, "topic %q has %d partitions, which cannot become %d: partitions can only be added", topic, have, count)
	}
	if err := rules.checkCount(img, topic, have, count); err != nil {
		return nil, err
	}
	if assignments != nil {
		if len(assignments) != int(count-have) {
			return nil, refuse(kerr.InvalidReplicaAssignment, "topic %q: %d assignments for %d new partitions", topic, len(assignments), count-have)
		}
		for i, replicas := range assignments {
			if !slices.Equal(replicas, []int32{rules.NodeID}) {
				return nil, refuse(kerr.InvalidReplicaAssignment, "topic %q: partition %d is assigned to %v; the only broker is %d", topic, int(have)+i, replicas, rules.NodeID)
			}
		}
	}
	var recs []Record
	for i := have; i < count; i++ {
		recs = append(recs, rules.newPartition(t.ID, i))
	}
	return recs, nil
}

// Delete makes the record that deletes a topic.
func Delete(img *Image, id TopicID) ([]Record, error) {
	t, ok := img.TopicByID(id)
	if !ok {
		return nil, refuse(kerr.UnknownTopicID, "no topic has this id")
	}
	if Internal(t.Name) {
		return nil, refuse(kerr.InvalidRequest, "topic %q belongs to the broker and cannot be deleted", t.Name)
	}
	return []Record{&RemoveTopicRecord{TopicID: id}}, nil
}

// ConfigChange is one change of a topic's configuration.
type ConfigChange struct {
	Name  string
	Op    int8    // of IncrementalAlterConfigs: 0 set, 1 delete, 2 append, 3 subtract
	Value *string // of set, append and subtract
}

// AlterConfigs makes the records that change a topic's configuration.
func AlterConfigs(img *Image, topic string, changes []ConfigChange) ([]Record, error) {
	t, ok := img.Topic(topic)
	if !ok {
		return nil, refuse(kerr.UnknownTopicOrPartition, "topic %q does not exist", topic)
	}
	next := maps.Clone(t.Configs)
	if next == nil {
		next = map[string]string{}
	}
	seen := map[string]bool{}
	for _, c := range changes {
		def, ok := LookupTopicConfig(c.Name)
		if !ok {
			return nil, refuse(kerr.InvalidConfig, "topic %q: unknown topic config name: %s", topic, c.Name)
		}
		if seen[c.Name] {
			return nil, refuse(kerr.InvalidRequest, "topic %q: %s is changed twice", topic, c.Name)
		}
		seen[c.Name] = true
		if c.Op != 1 && c.Value == nil {
			return nil, refuse(kerr.InvalidRequest, "topic %q: %s has no value", topic, c.Name)
		}
		if (c.Op == 2 || c.Op == 3) && def.Kind != KindList {
			return nil, refuse(kerr.InvalidConfig, "topic %q: %s is not a list", topic, c.Name)
		}
		switch c.Op {
		case 0:
			next[c.Name] = *c.Value
		case 1:
			delete(next, c.Name)
		case 2, 3:
			value, ok := next[c.Name]
			if !ok {
				value = def.Default
			}
			list := SplitList(value)
			for _, v := range SplitList(*c.Value) {
				at := slices.Index(list, v)
				if c.Op == 2 && at < 0 {
					list = append(list, v)
				} else if c.Op == 3 && at >= 0 {
					list = slices.Delete(list, at, at+1)
				}
			}
			next[c.Name] = strings.Join(list, ",")
		default:
			return nil, refuse(kerr.InvalidRequest, "topic %q: unknown operation %d on %s", topic, c.Op, c.Name)
		}
	}
	if err := CheckTopicConfigs(next); err != nil {
		return nil, refuse(kerr.InvalidConfig, "topic %q: %v", topic, err)
	}
	var recs []Record
	for _, c := range changes {
		value, now := next[c.Name]
		old, before := t.Configs[c.Name]
		if now == before && value == old {
			continue
		}
		r := &ConfigRecord{ResourceType: ResourceTopic, ResourceName: topic, Name: c.Name}
		if now {
			r.Value = &value
		}
		recs = append(recs, r)
	}
	return recs, nil
}
