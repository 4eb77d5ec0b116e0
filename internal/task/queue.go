package task

import (
	"fmt"

	"github.com/moldau-stream/moldau/internal/invariants"
	"github.com/moldau-stream/moldau/internal/topo"
)

// queue is the buffered input of one partition of a source.
type queue struct {
	source *topo.Node
	tp     TopicPartition
	input  Input
	ahead  []looker // see Task.lookAhead

	batches []Batch // batches[0] is being read
	at      int     // index of the next record in batches[0]
	count   int     // buffered records
	loaded  bool    // the next record is in input, with timestamp headTime
	head    int64   // its timestamp
	attempt int     // failures of the next record
	times   Sample  // timestamps of processed records

	next  int64 // offset of the next record; -1: nothing came yet
	epoch int32 // leader epoch of the last processed record
	time  int64 // largest timestamp processed; -1: none
	end   int64 // offset up to which records exist

	idleAt int64 // when it is idle, by the wall clock; 0: not known yet
	idle   bool  // it has been empty for so long that it holds nothing back

	// as of the last commit
	committed     int64
	committedTime int64
	// as of the last Prepare
	prepared     int64
	preparedTime int64
}

func (q *queue) add(b Batch) {
	if b.Next == 0 && len(b.Records) > 0 {
		b.Next = b.Records[len(b.Records)-1].Offset + 1
	}
	if invariants.Enabled {
		q.check(b)
	}
	q.batches = append(q.batches, b)
	q.count += len(b.Records)
	if len(b.Records) > 0 {
		q.idleAt, q.idle = 0, false
	}
	q.trim()
}

// check panics if a batch does not follow what came before.
func (q *queue) check(b Batch) {
	next := q.next
	if n := len(q.batches); n > 0 {
		next = q.batches[n-1].Next
	}
	for i := range b.Records {
		if b.Records[i].Offset < next {
			panic(fmt.Sprintf("task: %s-%d: offset %d was added behind offset %d", q.tp.Topic, q.tp.Partition, b.Records[i].Offset, next-1))
		}
		next = b.Records[i].Offset + 1
	}
	if b.Next < next {
		panic(fmt.Sprintf("task: %s-%d: a batch up to offset %d says that it ends before %d", q.tp.Topic, q.tp.Partition, next-1, b.Next))
	}
}

// trim gives back batches that are read to the end.
func (q *queue) trim() {
	n := 0
	for n < len(q.batches) && q.at == len(q.batches[n].Records) {
		b := &q.batches[n]
		q.next = max(q.next, b.Next)
		if b.Release != nil {
			b.Release()
		}
		q.at = 0
		n++
	}
	if n == 0 {
		return
	}
	rest := copy(q.batches, q.batches[n:])
	clear(q.batches[rest:])
	q.batches = q.batches[:rest]
}

// record is the next one, nil if there is none.
func (q *queue) record() *Record {
	if len(q.batches) == 0 {
		return nil
	}
	return &q.batches[0].Records[q.at]
}

// advance leaves the next record behind.
func (q *queue) advance() {
	r := q.record()
	q.next = r.Offset + 1
	q.epoch = r.LeaderEpoch
	q.time = max(q.time, q.head)
	q.loaded, q.attempt = false, 0
	q.at++
	q.count--
	if q.at == len(q.batches[0].Records) {
		q.trim()
	}
}

// waiting says that a record is known to exist that has not come.
func (q *queue) waiting() bool { return q.count == 0 && max(q.next, 0) < q.end }

// drop forgets the buffered input.
func (q *queue) drop() {
	for i := range q.batches {
		if f := q.batches[i].Release; f != nil {
			f()
		}
	}
	clear(q.batches)
	q.batches, q.at, q.count, q.loaded, q.attempt = q.batches[:0], 0, 0, false, 0
}
