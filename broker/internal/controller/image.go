package controller

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"
)

// TopicID is the UUID that tells a topic from its namesakes of other times (KIP-516).
type TopicID [16]byte

// Partition is what the metadata log says about one partition.
type Partition struct {
	Leader         int32   // node id of the leader; -1 = none
	LeaderEpoch    int32   // grows with each election
	PartitionEpoch int32   // grows with each change of the partition
	Replicas       []int32 // node ids in order of preference
	ISR            []int32 // subset of Replicas
	// Removing and Adding are the replicas that a reassignment takes away and adds (KIP-455).
	Removing, Adding []int32
	// Recovering: the leader came from an unclean election and is not done with it.
	Recovering bool
	// Directories are the ids of the log directories of Replicas, in their order; nil if unknown (KIP-858).
	Directories []TopicID
	// ELR and LastKnownELR are the eligible leader replicas of KIP-966.
	ELR, LastKnownELR []int32
}

// Topic is one topic of an Image. It is immutable.
type Topic struct {
	Name       string
	ID         TopicID
	Partitions []Partition       // index = partition number; no gaps
	Configs    map[string]string // what was set for this topic, not the defaults
}

// Image is the metadata as of one offset of the metadata log. It is immutable and safe for any number of readers.
type Image struct {
	offset         int64
	topics         map[string]*Topic
	byID           map[TopicID]*Topic  // the same topics
	byMetric       map[string][]string // metricName of each topic that has one of its own -> names of topics
	partitions     int                 // of all topics
	nextProducerID int64
	features       map[string]int16
	configs        map[Resource]map[string]string // of resources other than topics; no empty maps
	scram          map[string]map[int8]ScramCredential
	quotas         map[QuotaEntity]map[string]float64
	brokers        map[int32]*Registration
	unknown        map[uint64]int64 // kind of record -> how many of them changed nothing
}

// Resource is something that has configurations.
type Resource struct {
	Type int8 // ResourceTopic ...
	Name string
}

// Registration is what the metadata log says about one broker. It is immutable.
type Registration struct {
	ID          int32
	Epoch       int64 // offset of the record that registered this run of the broker
	Incarnation TopicID
	Endpoints   []Endpoint
	Features    []FeatureRange
	Rack        *string
	Fenced      bool
	InShutdown  bool
	Directories []TopicID
	Cordoned    []TopicID // nil: not told yet
}

// emptyImage is the image before the first record.
func emptyImage() *Image {
	return &Image{
		offset: -1, topics: map[string]*Topic{}, byID: map[TopicID]*Topic{}, byMetric: map[string][]string{},
		features: map[string]int16{}, configs: map[Resource]map[string]string{}, scram: map[string]map[int8]ScramCredential{},
		quotas: map[QuotaEntity]map[string]float64{}, brokers: map[int32]*Registration{}, unknown: map[uint64]int64{},
	}
}

// Offset is the offset of the last metadata record that is part of the image; -1 = none.
func (i *Image) Offset() int64 { return i.offset }

// Topic finds a topic by name.
func (i *Image) Topic(name string) (*Topic, bool) {
	t, ok := i.topics[name]
	return t, ok
}

// TopicByID finds a topic by id.
func (i *Image) TopicByID(id TopicID) (*Topic, bool) {
	t, ok := i.byID[id]
	return t, ok
}

// NumTopics is the number of topics, internal ones included.
func (i *Image) NumTopics() int { return len(i.topics) }

// Topics yields every topic in order of name.
func (i *Image) Topics() iter.Seq[*Topic] {
	return func(yield func(*Topic) bool) {
		all := slices.SortedFunc(maps.Values(i.topics), func(a, b *Topic) int { return cmp.Compare(a.Name, b.Name) })
		for _, t := range all {
			if !yield(t) {
				return
			}
		}
	}
}

// NumPartitions is the number of partitions of all topics.
func (i *Image) NumPartitions() int { return i.partitions }

// metricName is what Kafka's metrics call a topic. Names without '.' and '_' are their own metric names and collide with nothing.
func metricName(topic string) (name string, ambiguous bool) {
	return strings.ReplaceAll(topic, ".", "_"), strings.ContainsAny(topic, "._")
}

// collides finds a topic whose metrics would have the same name.
func (i *Image) collides(topic string) (other string, ok bool) {
	if name, ambiguous := metricName(topic); ambiguous && len(i.byMetric[name]) > 0 {
		return i.byMetric[name][0], true
	}
	return "", false
}

// NextProducerID is the first producer id that no block covers yet.
func (i *Image) NextProducerID() int64 { return i.nextProducerID }

// Feature is the finalized level of a feature; 0 = off.
func (i *Image) Feature(name string) int16 { return i.features[name] }

// Features yields every finalized feature with its level, in order of name.
func (i *Image) Features() iter.Seq2[string, int16] { return sorted(i.features, cmp.Compare[string]) }

// Configs is what was set for a resource, without defaults; nil if nothing was. It must not be changed.
func (i *Image) Configs(r Resource) map[string]string {
	if r.Type == ResourceTopic {
		if t, ok := i.topics[r.Name]; ok && len(t.Configs) > 0 {
			return t.Configs
		}
		return nil
	}
	return i.configs[r]
}

// Resources yields the names of the resources of a type that have something set, in order.
func (i *Image) Resources(typ int8) iter.Seq[string] {
	var names []string
	if typ == ResourceTopic {
		for name, t := range i.topics {
			if len(t.Configs) > 0 {
				names = append(names, name)
			}
		}
	} else {
		for r := range i.configs {
			if r.Type == typ {
				names = append(names, r.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Values(names)
}

// ScramCredential finds the credential of a user for a mechanism.
func (i *Image) ScramCredential(user string, mechanism int8) (ScramCredential, bool) {
	c, ok := i.scram[user][mechanism]
	return c, ok
}

// ScramUsers yields every user that has credentials, with these by mechanism, in order of name. They must not be changed.
func (i *Image) ScramUsers() iter.Seq2[string, map[int8]ScramCredential] {
	return sorted(i.scram, cmp.Compare[string])
}

// Quotas yields every entity that has quotas, with these by key, in an order that does not change. They must not be changed.
func (i *Image) Quotas() iter.Seq2[QuotaEntity, map[string]float64] {
	return sorted(i.quotas, QuotaEntity.compare)
}

// Quota is what was set for exactly this entity; nil if nothing was. It must not be changed.
func (i *Image) Quota(e QuotaEntity) map[string]float64 { return i.quotas[e] }

func (e QuotaEntity) compare(o QuotaEntity) int {
	return cmp.Or(e.User.compare(o.User), e.ClientID.compare(o.ClientID), e.IP.compare(o.IP))
}

func (n QuotaName) compare(o QuotaName) int {
	return cmp.Or(cmp.Compare(n.Kind, o.Kind), cmp.Compare(n.Name, o.Name))
}

// Broker finds the registration of a broker.
func (i *Image) Broker(id int32) (*Registration, bool) {
	b, ok := i.brokers[id]
	return b, ok
}

// Brokers yields every registered broker in order of id.
func (i *Image) Brokers() iter.Seq2[int32, *Registration] {
	return sorted(i.brokers, cmp.Compare[int32])
}

// Unknown yields the kinds of record that were read and ignored, with their numbers.
func (i *Image) Unknown() iter.Seq2[uint64, int64] { return sorted(i.unknown, cmp.Compare[uint64]) }

// sorted yields a map in the order of its keys.
func sorted[K comparable, V any](m map[K]V, compare func(a, b K) int) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, k := range slices.SortedFunc(maps.Keys(m), compare) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
