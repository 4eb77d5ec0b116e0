package stream

import (
	"math/rand/v2"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/internal/murmur"
)

// byKey is the partitioner of all output: a partition that is given is kept (changelogs, sinks with a
// partitioner of their own), a key decides by Kafka's murmur2 hash, and records without a key stay on one
// partition until its batch is full, as in Kafka's default partitioner.
type byKey struct{}

func (byKey) ForTopic(string) kgo.TopicPartitioner { return &byKeyTopic{sticky: -1} }

type byKeyTopic struct{ sticky int }

var (
	_ kgo.TopicPartitioner           = (*byKeyTopic)(nil)
	_ kgo.TopicPartitionerOnNewBatch = (*byKeyTopic)(nil)
)

// RequiresConsistency is whether the record may only go to that partition, even while it has no leader.
func (*byKeyTopic) RequiresConsistency(r *kgo.Record) bool { return r.Partition >= 0 || r.Key != nil }

func (p *byKeyTopic) Partition(r *kgo.Record, n int) int {
	switch {
	case r.Partition >= 0:
		return int(r.Partition)
	case r.Key != nil:
		return int(murmur.Partition(r.Key, int32(n)))
	}
	if p.sticky < 0 || p.sticky >= n {
		p.sticky = rand.IntN(n)
	}
	return p.sticky
}

// OnNewBatch moves records without a key to another partition.
func (p *byKeyTopic) OnNewBatch() { p.sticky = -1 }
