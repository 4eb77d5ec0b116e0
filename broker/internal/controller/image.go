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
	byID           map[TopicID]*Topic // the same topics
	byMetric       map[string]string  // metricName of each topic that has one of its own -> topic name
	partitions     int                // of all topics
	nextProducerID int64
	features       map[string]int16
}

// emptyImage is the image before the first record.
func emptyImage() *Image {
	return &Image{
		offset: -1, topics: map[string]*Topic{}, byID: map[TopicID]*Topic{}, byMetric: map[string]string{},
		features: map[string]int16{},
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
	if name, ambiguous := metricName(topic); ambiguous {
		other, ok = i.byMetric[name]
	}
	return other, ok
}

// NextProducerID is the first producer id that no block covers yet.
func (i *Image) NextProducerID() int64 { return i.nextProducerID }

// Feature is the finalized level of a feature; 0 = off.
func (i *Image) Feature(name string) int16 { return i.features[name] }

// Delta names what a replay changed, for those who keep something per partition.
type Delta struct {
	Created  []*Topic   // new topics, complete
	Extended []Extended // surviving topics with more partitions than before
	Deleted  []*Topic   // as they were
	Changed  []*Topic   // surviving topics whose configuration changed, as they are now
	Elected  []*Topic   // surviving topics with a partition whose leader epoch changed, as they are now
}

// Extended is a topic that got more partitions.
type Extended struct {
	Topic *Topic
	Had   int // partitions before
}

// Empty tells whether nothing changed that concerns partitions.
func (d Delta) Empty() bool {
	return len(d.Created)+len(d.Extended)+len(d.Deleted)+len(d.Changed)+len(d.Elected) == 0
}

// builder applies records to a copy of an image. Maps are copied when first written, topics likewise.
type builder struct {
	img       Image
	base      *Image
	ownTopics bool
	own       map[TopicID]*Topic // topics copied by this builder
}

func newBuilder(base *Image) *builder {
	return &builder{img: *base, base: base}
}

func (b *builder) mutableTopics() {
	if !b.ownTopics {
		b.img.topics, b.img.byID, b.img.byMetric = maps.Clone(b.img.topics), maps.Clone(b.img.byID), maps.Clone(b.img.byMetric)
		b.ownTopics = true
		b.own = map[TopicID]*Topic{}
	}
}

// topic gives a copy of the topic that may be changed; nil if there is none.
func (b *builder) topic(id TopicID) *Topic {
	old, ok := b.img.byID[id]
	if !ok {
		return nil
	}
	if t, ok := b.own[id]; ok {
		return t
	}
	b.mutableTopics()
	t := &Topic{Name: old.Name, ID: old.ID, Partitions: slices.Clone(old.Partitions), Configs: maps.Clone(old.Configs)}
	b.put(t)
	return t
}

func (b *builder) put(t *Topic) {
	b.mutableTopics()
	b.own[t.ID] = t
	b.img.topics[t.Name], b.img.byID[t.ID] = t, t
}

func (b *builder) remove(t *Topic) {
	b.mutableTopics()
	delete(b.own, t.ID)
	delete(b.img.byID, t.ID)
	delete(b.img.topics, t.Name)
	if name, ambiguous := metricName(t.Name); ambiguous && b.img.byMetric[name] == t.Name {
		delete(b.img.byMetric, name)
	}
	b.img.partitions -= len(t.Partitions)
}

// apply replays one record. Records that concern topics which are gone are ignored: a delete may follow a change in one batch,
// and the log is the judge of what is valid, not this function.
func (b *builder) apply(r Record) {
	switch r := r.(type) {
	case *TopicRecord:
		if old, ok := b.img.topics[r.Name]; ok {
			b.remove(old)
		}
		if old, ok := b.img.byID[r.TopicID]; ok {
			b.remove(old)
		}
		b.put(&Topic{Name: r.Name, ID: r.TopicID})
		if name, ambiguous := metricName(r.Name); ambiguous {
			b.img.byMetric[name] = r.Name
		}
	case *PartitionRecord:
		t := b.topic(r.TopicID)
		if t == nil || r.PartitionID < 0 {
			return
		}
		for len(t.Partitions) <= int(r.PartitionID) {
			t.Partitions = append(t.Partitions, Partition{Leader: -1})
			b.img.partitions++
		}
		t.Partitions[r.PartitionID] = Partition{
			Leader: r.Leader, LeaderEpoch: r.LeaderEpoch, PartitionEpoch: r.PartitionEpoch, Replicas: r.Replicas, ISR: r.ISR,
		}
	case *PartitionChangeRecord:
		t := b.topic(r.TopicID)
		if t == nil || r.PartitionID < 0 || int(r.PartitionID) >= len(t.Partitions) {
			return
		}
		p := &t.Partitions[r.PartitionID]
		if r.ISR != nil {
			p.ISR = r.ISR
		}
		if r.Replicas != nil {
			p.Replicas = r.Replicas
		}
		if r.Leader != NoLeaderChange {
			p.Leader = r.Leader
			p.LeaderEpoch++
		}
		p.PartitionEpoch++
	case *ConfigRecord:
		if r.ResourceType != ResourceTopic {
			return
		}
		named, ok := b.img.topics[r.ResourceName]
		if !ok {
			return
		}
		t := b.topic(named.ID)
		if r.Value == nil {
			delete(t.Configs, r.Name)
			return
		}
		if t.Configs == nil {
			t.Configs = map[string]string{}
		}
		t.Configs[r.Name] = *r.Value
	case *RemoveTopicRecord:
		if t, ok := b.img.byID[r.TopicID]; ok {
			b.remove(t)
		}
	case *FeatureLevelRecord:
		b.img.features = maps.Clone(b.img.features)
		b.img.features[r.Name] = r.Level
	case *ProducerIDsRecord:
		b.img.nextProducerID = r.NextProducerID
	}
}

// build gives the image as of offset.
func (b *builder) build(offset int64) *Image {
	b.img.offset = offset
	img := b.img
	return &img
}

// delta compares the image under construction with its base. Only topics that the records touched are looked at.
func (b *builder) delta() Delta {
	var d Delta
	if !b.ownTopics {
		return d
	}
	for id, old := range b.base.byID {
		if _, ok := b.img.byID[id]; !ok {
			d.Deleted = append(d.Deleted, old)
		}
	}
	for id, t := range b.own {
		old, ok := b.base.byID[id]
		if !ok {
			d.Created = append(d.Created, t)
			continue
		}
		if len(t.Partitions) > len(old.Partitions) {
			d.Extended = append(d.Extended, Extended{t, len(old.Partitions)})
		}
		if !maps.Equal(t.Configs, old.Configs) {
			d.Changed = append(d.Changed, t)
		}
		for i := range old.Partitions {
			if t.Partitions[i].LeaderEpoch != old.Partitions[i].LeaderEpoch {
				d.Elected = append(d.Elected, t)
				break
			}
		}
	}
	byName := func(a, b *Topic) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortFunc(d.Created, byName)
	slices.SortFunc(d.Deleted, byName)
	slices.SortFunc(d.Changed, byName)
	slices.SortFunc(d.Elected, byName)
	slices.SortFunc(d.Extended, func(a, b Extended) int { return cmp.Compare(a.Topic.Name, b.Topic.Name) })
	return d
}

// Draft is an image with records applied that may never be proposed, for operations of many steps.
type Draft struct{ b *builder }

// NewDraft starts from an image.
func NewDraft(img *Image) *Draft { return &Draft{newBuilder(img)} }

// Add applies records.
func (d *Draft) Add(recs []Record) {
	for _, r := range recs {
		d.b.apply(r)
	}
}

// Image shows the draft as it is; the next Add changes it.
func (d *Draft) Image() *Image { return &d.b.img }
