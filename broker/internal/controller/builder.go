package controller

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Delta names what a replay changed, for those who keep something that follows from it.
type Delta struct {
	Created  []*Topic   // new topics, complete
	Extended []Extended // surviving topics with more partitions than before
	Deleted  []*Topic   // as they were
	Changed  []*Topic   // surviving topics whose configuration changed, as they are now
	Elected  []*Topic   // surviving topics with a partition whose leader epoch changed, as they are now

	Resources []Resource    // whose configurations changed, topics excepted, in order
	Quotas    []QuotaEntity // whose quotas changed, in order
	Scram     []string      // users whose credentials changed, in order
	Features  bool          // a finalized level changed
}

// Extended is a topic that got more partitions.
type Extended struct {
	Topic *Topic
	Had   int // partitions before
}

// Empty tells whether nothing changed that the delta speaks of.
func (d Delta) Empty() bool {
	return len(d.Created)+len(d.Extended)+len(d.Deleted)+len(d.Changed)+len(d.Elected)+len(d.Resources)+len(d.Quotas)+len(d.Scram) == 0 &&
		!d.Features
}

// builder applies records to a copy of an image. Maps are copied when first written, topics likewise.
type builder struct {
	img       Image
	base      *Image
	ownTopics bool
	own       map[TopicID]*Topic // topics copied by this builder

	// What the records touched beside topics. The inner maps of touched keys belong to this builder.
	resources map[Resource]bool
	quotas    map[QuotaEntity]bool
	users     map[string]bool
	features  bool
	brokers   bool
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
	if name, ambiguous := metricName(t.Name); ambiguous {
		left := slices.DeleteFunc(slices.Clone(b.img.byMetric[name]), func(other string) bool { return other == t.Name })
		if b.img.byMetric[name] = left; len(left) == 0 {
			delete(b.img.byMetric, name)
		}
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
			b.img.byMetric[name] = append(slices.Clip(b.img.byMetric[name]), r.Name)
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
			Removing: r.Removing, Adding: r.Adding, Recovering: r.Recovering, Directories: r.Directories,
			ELR: r.ELR, LastKnownELR: r.LastKnownELR,
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
		some(&p.Removing, r.Removing)
		some(&p.Adding, r.Adding)
		some(&p.ELR, r.ELR)
		some(&p.LastKnownELR, r.LastKnownELR)
		if r.Recovering != nil {
			p.Recovering = *r.Recovering
		}
		if r.Directories != nil {
			p.Directories = r.Directories
		}
		if r.Leader != NoLeaderChange {
			p.Leader = r.Leader
			p.LeaderEpoch++
		}
		p.PartitionEpoch++
	case *ConfigRecord:
		if r.ResourceType != ResourceTopic {
			b.config(r)
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
		if !b.features {
			b.img.features, b.features = maps.Clone(b.img.features), true
		}
		b.img.features[r.Name] = r.Level
		if r.Level == 0 {
			delete(b.img.features, r.Name)
		}
	case *ProducerIDsRecord:
		b.img.nextProducerID = r.NextProducerID
	case *UserScramCredentialRecord:
		touch(&b.img.scram, &b.users, r.User)[r.Mechanism] = r.ScramCredential
	case *RemoveUserScramCredentialRecord:
		delete(touch(&b.img.scram, &b.users, r.User), r.Mechanism)
		dropEmpty(b.img.scram, r.User)
	case *ClientQuotaRecord:
		keys := touch(&b.img.quotas, &b.quotas, r.Entity)
		keys[r.Key] = r.Value
		if r.Remove {
			delete(keys, r.Key)
			dropEmpty(b.img.quotas, r.Entity)
		}
	case *RegisterBrokerRecord:
		b.mutableBrokers()
		b.img.brokers[r.BrokerID] = &Registration{
			ID: r.BrokerID, Epoch: r.BrokerEpoch, Incarnation: r.Incarnation, Endpoints: r.Endpoints, Features: r.Features, Rack: r.Rack,
			Fenced: r.Fenced, InShutdown: r.InShutdown, Directories: r.Directories, Cordoned: r.CordonedDirectories,
		}
	case *BrokerRegistrationChangeRecord:
		b.registration(r)
	case *UnregisterBrokerRecord:
		if old, ok := b.img.brokers[r.BrokerID]; ok && old.Epoch == r.BrokerEpoch {
			b.mutableBrokers()
			delete(b.img.brokers, r.BrokerID)
		}
	case *NoOpRecord, *BeginTransactionRecord, *EndTransactionRecord, *AbortTransactionRecord:
		// Transactions are resolved by who reads the log.
	case *UnknownRecord:
		b.img.unknown = maps.Clone(b.img.unknown) // rare: only in a log that something else wrote
		b.img.unknown[r.Key]++
	default:
		panic(fmt.Sprintf("no replay of %T", r))
	}
}

// some sets a list that a change may leave as it is (nil); an empty one becomes nil.
func some(list *[]int32, now []int32) {
	switch {
	case len(now) > 0:
		*list = now
	case now != nil:
		*list = nil
	}
}

// touch gives a map of maps' element that may be changed, copying at first touch what the base image shares.
func touch[K, L comparable, V any](all *map[K]map[L]V, touched *map[K]bool, key K) map[L]V {
	if *touched == nil {
		*all, *touched = maps.Clone(*all), map[K]bool{}
	}
	m, ok := (*all)[key]
	switch {
	case !ok:
		m = map[L]V{}
	case !(*touched)[key]:
		m = maps.Clone(m)
	}
	(*touched)[key] = true
	(*all)[key] = m
	return m
}

func dropEmpty[K, L comparable, V any](all map[K]map[L]V, key K) {
	if len(all[key]) == 0 {
		delete(all, key)
	}
}

// config replays a configuration of something other than a topic.
func (b *builder) config(r *ConfigRecord) {
	res := Resource{r.ResourceType, r.ResourceName}
	m := touch(&b.img.configs, &b.resources, res)
	if r.Value != nil {
		m[r.Name] = *r.Value
		return
	}
	delete(m, r.Name)
	dropEmpty(b.img.configs, res)
}

func (b *builder) mutableBrokers() {
	if !b.brokers {
		b.img.brokers, b.brokers = maps.Clone(b.img.brokers), true
	}
}

func (b *builder) registration(r *BrokerRegistrationChangeRecord) {
	old, ok := b.img.brokers[r.BrokerID]
	if !ok || old.Epoch != r.BrokerEpoch {
		return // of a former run of the broker
	}
	b.mutableBrokers()
	now := *old
	switch {
	case r.Fenced < 0:
		now.Fenced = false
	case r.Fenced > 0:
		now.Fenced = true
	}
	if r.InShutdown != 0 {
		now.InShutdown = true
	}
	if r.Directories != nil {
		now.Directories = r.Directories
	}
	if r.CordonedDirectories != nil {
		now.Cordoned = r.CordonedDirectories
	}
	b.img.brokers[r.BrokerID] = &now
}

// build gives the image as of offset.
func (b *builder) build(offset int64) *Image {
	b.img.offset = offset
	img := b.img
	return &img
}

// delta compares the image under construction with its base. Only topics that the records touched are looked at.
func (b *builder) delta() Delta {
	d := Delta{
		Resources: changed(b.resources, b.base.configs, b.img.configs, Resource.compare, again),
		Quotas:    changed(b.quotas, b.base.quotas, b.img.quotas, QuotaEntity.compare, nil),
		Features:  b.features && !maps.Equal(b.base.features, b.img.features),
	}
	for user := range b.users {
		if !maps.EqualFunc(b.base.scram[user], b.img.scram[user], ScramCredential.equal) {
			d.Scram = append(d.Scram, user)
		}
	}
	slices.Sort(d.Scram)
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

// again tells that a broker's configuration counts as changed if it was only set again: a file that it names may have changed.
func again(r Resource) bool { return r.Type == ResourceBroker }

// changed lists the touched keys whose maps differ, or which always count.
func changed[K, L, V comparable](touched map[K]bool, before, after map[K]map[L]V, compare func(a, b K) int, always func(K) bool) []K {
	var out []K
	for k := range touched {
		if !maps.Equal(before[k], after[k]) || always != nil && always(k) {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, compare)
	return out
}

func (r Resource) compare(o Resource) int {
	return cmp.Or(cmp.Compare(r.Type, o.Type), cmp.Compare(r.Name, o.Name))
}

func (c ScramCredential) equal(o ScramCredential) bool {
	return bytes.Equal(c.Salt, o.Salt) && bytes.Equal(c.StoredKey, o.StoredKey) && bytes.Equal(c.ServerKey, o.ServerKey) &&
		c.Iterations == o.Iterations
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
