package controller

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moldau-stream/moldau/internal/batch"
)

// A snapshot is a file of record batches that stands for the metadata log up to an offset (KIP-630): a control batch with a header,
// the records that make the image, a control batch with a footer.

// Types of the control records of a snapshot (KIP-631).
const (
	controlSnapshotHeader = 3
	controlSnapshotFooter = 4
)

// snapshotBatch is the size at which a batch of a snapshot ends.
const snapshotBatch = 512 << 10

const snapshotSuffix = ".checkpoint"

// SnapshotName is the name of the snapshot that stands for every offset below end.
func SnapshotName(end int64, epoch int32) string {
	return fmt.Sprintf("%020d-%010d%s", end, epoch, snapshotSuffix)
}

// ParseSnapshotName is the inverse of SnapshotName.
func ParseSnapshotName(name string) (end int64, epoch int32, ok bool) {
	stem, ok := strings.CutSuffix(name, snapshotSuffix)
	if !ok || len(stem) != 31 || stem[20] != '-' {
		return 0, 0, false
	}
	end, err := strconv.ParseInt(stem[:20], 10, 64)
	e, err2 := strconv.ParseInt(stem[21:], 10, 32)
	if err != nil || err2 != nil || end < 0 || e < 0 {
		return 0, 0, false
	}
	return end, int32(e), true
}

// Records yields the records that make the image out of nothing, in the order of Kafka's snapshots.
func (i *Image) Records() iter.Seq[Record] {
	return func(yield func(Record) bool) {
		for _, part := range []func(func(Record) bool) bool{
			i.featureRecords, i.brokerRecords, i.topicRecords, i.configRecords, i.quotaRecords, i.producerIDRecords, i.scramRecords,
		} {
			if !part(yield) {
				return
			}
		}
	}
}

func (i *Image) featureRecords(yield func(Record) bool) bool {
	// metadata.version says how to read what follows.
	if level := i.features[FeatureMetadata]; level > 0 && !yield(&FeatureLevelRecord{FeatureMetadata, level}) {
		return false
	}
	for name, level := range i.Features() {
		if name != FeatureMetadata && !yield(&FeatureLevelRecord{name, level}) {
			return false
		}
	}
	return true
}

func (i *Image) brokerRecords(yield func(Record) bool) bool {
	for _, b := range i.Brokers() {
		if !yield(&RegisterBrokerRecord{
			BrokerID: b.ID, Incarnation: b.Incarnation, BrokerEpoch: b.Epoch, Endpoints: b.Endpoints, Features: b.Features, Rack: b.Rack,
			Fenced: b.Fenced, InShutdown: b.InShutdown, Directories: b.Directories, CordonedDirectories: b.Cordoned,
		}) {
			return false
		}
	}
	return true
}

func (i *Image) topicRecords(yield func(Record) bool) bool {
	for t := range i.Topics() {
		if !yield(&TopicRecord{Name: t.Name, TopicID: t.ID}) {
			return false
		}
		for n, p := range t.Partitions {
			if !yield(&PartitionRecord{
				PartitionID: int32(n), TopicID: t.ID, Replicas: p.Replicas, ISR: p.ISR, Removing: p.Removing, Adding: p.Adding, Leader: p.Leader,
				LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch, Recovering: p.Recovering, Directories: p.Directories,
				ELR: p.ELR, LastKnownELR: p.LastKnownELR,
			}) {
				return false
			}
		}
	}
	return true
}

func (i *Image) configRecords(yield func(Record) bool) bool {
	resources := slices.Collect(maps.Keys(i.configs))
	for t := range i.Topics() {
		if len(t.Configs) > 0 {
			resources = append(resources, Resource{ResourceTopic, t.Name})
		}
	}
	slices.SortFunc(resources, Resource.compare)
	for _, r := range resources {
		for name, value := range sorted(i.Configs(r), strings.Compare) {
			if !yield(&ConfigRecord{ResourceType: r.Type, ResourceName: r.Name, Name: name, Value: &value}) {
				return false
			}
		}
	}
	return true
}

func (i *Image) quotaRecords(yield func(Record) bool) bool {
	for entity, quotas := range i.Quotas() {
		for key, value := range sorted(quotas, strings.Compare) {
			if !yield(&ClientQuotaRecord{Entity: entity, Key: key, Value: value}) {
				return false
			}
		}
	}
	return true
}

func (i *Image) producerIDRecords(yield func(Record) bool) bool {
	return i.nextProducerID == 0 || yield(&ProducerIDsRecord{BrokerID: -1, BrokerEpoch: -1, NextProducerID: i.nextProducerID})
}

func (i *Image) scramRecords(yield func(Record) bool) bool {
	for user, mechanisms := range i.ScramUsers() {
		for _, m := range slices.Sorted(maps.Keys(mechanisms)) {
			if !yield(&UserScramCredentialRecord{User: user, Mechanism: m, ScramCredential: mechanisms[m]}) {
				return false
			}
		}
	}
	return true
}

// EncodeSnapshot makes the snapshot of an image. epoch is the leader epoch of the image's last record, now the time of its making, and
// last the time of that record, in milliseconds.
func EncodeSnapshot(img *Image, epoch int32, last, now int64) ([]byte, error) {
	var out []byte
	offset := int64(0)
	var failed error
	b := batch.NewBuilder(batch.Options{})
	flush := func() {
		if b.Count() == 0 || failed != nil {
			return
		}
		built, err := b.Build()
		if err != nil {
			failed = err
			return
		}
		built.SetBaseOffset(offset)
		offset += int64(built.Count())
		out = append(out, built...)
	}
	control := func(kind uint16, value []byte) {
		b.Reset(batch.Options{Control: true, LeaderEpoch: epoch})
		b.Add(batch.Record{Key: binary.BigEndian.AppendUint16([]byte{0, 0}, kind), Value: value, Timestamp: now})
		flush()
		b.Reset(batch.Options{LeaderEpoch: epoch})
	}
	control(controlSnapshotHeader, append(binary.BigEndian.AppendUint64([]byte{0, 0}, uint64(last)), 0))
	for r := range img.Records() {
		b.Add(batch.Record{Value: Encode(nil, r), Timestamp: now})
		if b.Size() >= snapshotBatch {
			flush()
			b.Reset(batch.Options{LeaderEpoch: epoch})
		}
	}
	flush()
	control(controlSnapshotFooter, []byte{0, 0, 0})
	if failed != nil {
		return nil, fmt.Errorf("metadata snapshot: %w", failed)
	}
	return out, nil
}

var errSnapshot = errors.New("it is not a whole metadata snapshot")

// SnapshotValues gives the encoded records of a snapshot, after a check of every batch and of its being whole.
func SnapshotValues(data []byte) (values [][]byte, err error) {
	headers, footers := 0, 0
	var failed error
	rest, err := batch.All(data, func(b batch.Batch) bool {
		if failed = b.Check(); failed != nil {
			return false
		}
		if footers > 0 || headers == 0 && !b.Control() {
			failed = errSnapshot
			return false
		}
		it, err := b.Records(nil)
		if err != nil {
			failed = err
			return false
		}
		for it.Next() {
			r := it.Record()
			if !b.Control() {
				values = append(values, slices.Clone(r.Value))
				continue
			}
			switch kind := controlKind(r.Key); kind {
			case controlSnapshotHeader:
				headers++
			case controlSnapshotFooter:
				footers++
			}
		}
		failed = it.Err()
		return failed == nil
	})
	switch {
	case failed != nil:
		return nil, failed
	case err != nil:
		return nil, err
	case len(rest) > 0 || headers != 1 || footers != 1:
		return nil, errSnapshot
	}
	return values, nil
}

// controlKind is the type of a control record; -1 if there is none.
func controlKind(key []byte) int {
	if len(key) < 4 {
		return -1
	}
	return int(binary.BigEndian.Uint16(key[2:]))
}
