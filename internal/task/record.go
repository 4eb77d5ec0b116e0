package task

import (
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
)

// Header is a record header. A nil Value is Kafka's null.
type Header = serde.Header

// Record is one input record. Its slices are views into the batch.
type Record struct {
	Offset      int64
	Timestamp   int64  // milliseconds since 1970
	LeaderEpoch int32  // of the leader that wrote it; -1 unknown
	Key, Value  []byte // nil is null
	Headers     []Header
}

// Batch is input of one partition, in the order of offsets. The task owns it,
// and the bytes that its records refer to, until it calls Release.
type Batch struct {
	Topic     string
	Partition int32
	Records   []Record
	// Next is the offset behind the batch: that of the record after the last,
	// control records and aborted ones counted. 0 stands for the last record's
	// offset + 1.
	Next int64
	// Release gives the batch back; nil if nobody wants it. It is called once.
	Release func()
}

// Out is one output record. Output.Send gets it.
type Out struct {
	Topic     string // full name, with the application id if it is an internal topic
	Partition int32  // -1: to be chosen by Kafka's default partitioner (murmur2 of the key)
	Key       []byte // nil is null
	Value     []byte // nil is null
	Timestamp int64  // milliseconds since 1970
	Headers   []Header
	Node      *topo.Node // the sink; nil for changelogs and dead letters
}

// Output takes what a task writes. It is called by the goroutine that runs the
// task. The record and its slices are valid until Send returns.
type Output interface {
	Send(o *Out) error
}

// ID names a task: a sub-topology and the partition that it runs on.
type ID struct {
	Subtopology, Partition int32
}

// TopicPartition names a partition of a topic.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// OffsetAndMetadata is what is committed for a partition.
type OffsetAndMetadata struct {
	Next        int64 // the first offset not yet processed
	LeaderEpoch int32 // of the last processed record; -1 unknown
	Metadata    string
}

// Commit is what Prepare hands over: to be committed together with everything
// that the task sent before.
type Commit struct {
	Offsets map[TopicPartition]OffsetAndMetadata
}
