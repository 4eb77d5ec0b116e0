package controller

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Names of the internal topics.
const (
	OffsetsTopic  = "__consumer_offsets"
	TxnTopic      = "__transaction_state"
	ShareTopic    = "__share_group_state"
	MetadataTopic = "__cluster_metadata"
)

// MetadataTopicID is Kafka's fixed id of the metadata topic.
var MetadataTopicID = TopicID{15: 1}

// Internal tells whether a topic belongs to the broker, so that clients may read but not write, extend or delete it.
func Internal(topic string) bool {
	return topic == OffsetsTopic || topic == TxnTopic || topic == ShareTopic || topic == MetadataTopic
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
	const invalid = "Topic name is invalid: "
	switch {
	case name == "":
		return refuse(kerr.InvalidTopicException, invalid+"the empty string is not allowed")
	case name == "." || name == "..":
		return refuse(kerr.InvalidTopicException, invalid+"'%s' is not allowed", name)
	case len(name) > 249:
		return refuse(kerr.InvalidTopicException, invalid+"the length of '%s' is longer than the max allowed length 249", name)
	}
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return refuse(kerr.InvalidTopicException,
				invalid+"'%s' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'", name)
		}
	}
	return nil
}

// Rules bound what topics may be.
type Rules struct {
	NodeID             int32
	Directory          TopicID // id of the broker's log directory
	DefaultPartitions  int32
	MaxPartitions      int // of a topic
	MaxTotalPartitions int // of all topics
	NewTopicID         func() TopicID
	// Before is the metadata before the request, if it asks for more topics than one: their names need not fit each other.
	Before *Image
	// CheckConfigs tells what is wrong with the configurations of a topic; nil: nothing.
	CheckConfigs func(map[string]string) error
}

// NewTopic asks for a topic.
type NewTopic struct {
	Name        string
	Partitions  int32        // -1: the default
	Replication int16        // -1: the default, which is 1
	Assignments []Assignment // Partitions and Replication are -1 then
	Configs     map[string]string
}

// Assignment says where the replicas of a partition are to be.
type Assignment struct {
	Partition int32
	Replicas  []int32
}

// MaxPerRequest is the number of partitions that Kafka makes in one operation.
const MaxPerRequest = 10_000

// CheckNewTopic tells why there can be no new topic with a name.
func CheckNewTopic(img *Image, name string) error {
	if err := CheckTopicName(name); err != nil {
		return err
	}
	if name == MetadataTopic {
		return refuse(kerr.InvalidRequest, "Creation of internal topic %s is prohibited.", name)
	}
	if _, ok := img.Topic(name); ok {
		return refuse(kerr.TopicAlreadyExists, "Topic '%s' already exists.", name)
	}
	if other, ok := img.collides(name); ok {
		return refuse(kerr.InvalidTopicException, "Topic '%s' collides with existing topic: %s", name, other)
	}
	return nil
}

// Create makes the records of a new topic. The checks, their order and their words are Kafka's; more so the order of the records.
func Create(img *Image, n NewTopic, rules Rules) ([]Record, error) {
	if err := CheckNewTopic(cmp.Or(rules.Before, img), n.Name); err != nil {
		return nil, err
	}
	if rules.CheckConfigs != nil {
		if err := rules.CheckConfigs(n.Configs); err != nil {
			return nil, err
		}
	}
	count := n.Partitions
	if n.Assignments != nil {
		if n.Replication != -1 {
			return nil, refuse(kerr.InvalidRequest, "A manual partition assignment was specified, but replication factor was not set to -1.")
		}
		if n.Partitions != -1 {
			return nil, refuse(kerr.InvalidRequest, "A manual partition assignment was specified, but numPartitions was not set to -1.")
		}
		count = int32(len(n.Assignments))
		assigned := map[int32]bool{}
		for _, a := range n.Assignments {
			if assigned[a.Partition] {
				return nil, refuse(kerr.InvalidReplicaAssignment, "Found multiple manual partition assignments for partition %d", a.Partition)
			}
			assigned[a.Partition] = true
			if err := rules.checkReplicas(a.Replicas); err != nil {
				return nil, err
			}
		}
		for i := range count {
			if !assigned[i] {
				return nil, refuse(kerr.InvalidReplicaAssignment, "partitions should be a consecutive 0-based integer sequence")
			}
		}
	} else {
		if n.Replication < -1 || n.Replication == 0 {
			return nil, refuse(kerr.InvalidReplicationFactor, "Replication factor must be larger than 0, or -1 to use the default value.")
		}
		if count < -1 || count == 0 {
			return nil, refuse(kerr.InvalidPartitions, "Number of partitions was set to an invalid non-positive value.")
		}
		if count == -1 {
			count = rules.DefaultPartitions
		}
		if n.Replication > 1 {
			return nil, refuse(kerr.InvalidReplicationFactor, "Unable to replicate the partition %d time(s): The target replication factor of %d "+
				"cannot be reached because only 1 broker(s) are registered or some brokers have all their log directories cordoned.",
				n.Replication, n.Replication)
		}
	}
	if err := rules.checkCount(img, n.Name, 0, count); err != nil {
		return nil, err
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

// checkReplicas refuses an assignment to anything but this broker.
func (r Rules) checkReplicas(replicas []int32) error {
	if len(replicas) == 0 {
		return refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes an empty replica list.")
	}
	for i, id := range slices.Sorted(slices.Values(replicas)) {
		if id != r.NodeID {
			return refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes broker %d, but no such broker is registered.", id)
		}
		if i > 0 {
			return refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes the broker %d more than once.", id)
		}
	}
	return nil
}

func (r Rules) newPartition(id TopicID, partition int32) Record {
	return &PartitionRecord{
		PartitionID: partition, TopicID: id, Replicas: []int32{r.NodeID}, ISR: []int32{r.NodeID}, Leader: r.NodeID,
		Directories: []TopicID{r.Directory},
	}
}

func (r Rules) checkCount(img *Image, topic string, have, want int32) error {
	if want-have > MaxPerRequest {
		return refuse(kerr.PolicyViolation, "Excessively large number of partitions per request.")
	}
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
		return nil, kerr.UnknownTopicOrPartition
	}
	if Internal(topic) {
		return nil, refuse(kerr.InvalidTopicException, "The number of partitions of %s cannot change: what is in it is found by it.", topic)
	}
	have := int32(len(t.Partitions))
	switch {
	case count == have:
		return nil, refuse(kerr.InvalidPartitions, "Topic already has %d partition(s).", have)
	case count < have:
		return nil, refuse(kerr.InvalidPartitions, "The topic %s currently has %d partition(s); %d would not be an increase.", topic, have, count)
	}
	if assignments != nil && len(assignments) != int(count-have) {
		return nil, refuse(kerr.InvalidReplicaAssignment, "Attempted to add %d additional partition(s), but only %d assignment(s) were specified.",
			count-have, len(assignments))
	}
	for _, replicas := range assignments {
		if err := rules.checkReplicas(replicas); err != nil {
			return nil, err
		}
	}
	if err := rules.checkCount(img, topic, have, count); err != nil {
		return nil, err
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
		return nil, kerr.UnknownTopicID
	}
	if Internal(t.Name) {
		return nil, refuse(kerr.InvalidRequest, "Topic %s belongs to the broker and cannot be deleted.", t.Name)
	}
	return []Record{&RemoveTopicRecord{TopicID: id}}, nil
}
