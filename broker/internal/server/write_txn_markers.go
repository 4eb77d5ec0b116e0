package server

import (
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// WriteTxnMarkers ends transactions on partitions. It is for coordinators, and for tools that end a transaction of which no
// coordinator knows (kafka-transactions abort).
//
// The answer has one entry for each producer id; several markers of one producer share it, as in Kafka.
func handleWriteTxnMarkers(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.WriteTxnMarkersRequest)
	w := &markersWait{resp: req.ResponseKind().(*kmsg.WriteTxnMarkersResponse), reply: reply, at: map[markerPlace]int{}, left: 1}
	c := cluster{s: s}
	// No batch can have such a producer. Kafka notices when it has written those before, and fails on all: then the answer has one
	// marker of each producer, the last.
	impossible := slices.IndexFunc(req.Markers, func(m kmsg.WriteTxnMarkersRequestMarker) bool {
		return (m.ProducerID == -1 || m.ProducerEpoch == -1) && slices.ContainsFunc(m.Topics, s.hasAny)
	})
	last := make(map[int64]int, len(req.Markers))
	for i, m := range req.Markers {
		last[m.ProducerID] = i
	}
	for i, m := range req.Markers {
		marker := coordinator.Marker{
			ProducerID: m.ProducerID, ProducerEpoch: m.ProducerEpoch, Commit: m.Committed,
			CoordinatorEpoch: m.CoordinatorEpoch, TxnVersion: int16(m.TransactionVersion),
		}
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				at := markerPlace{producerID: m.ProducerID, topic: t.Topic, partition: p}
				switch {
				case impossible < 0:
					w.add(at)
					c.WriteMarker(t.Topic, p, marker, func(err error) { w.done(at, err) })
					continue
				case i < impossible:
					c.WriteMarker(t.Topic, p, marker, func(error) {})
				}
				if last[m.ProducerID] == i {
					w.add(at)
					w.done(at, kerr.UnknownServerError)
				}
			}
		}
	}
	w.finish()
}

// hasAny tells whether any of the partitions exists.
func (s *Server) hasAny(t kmsg.WriteTxnMarkersRequestMarkerTopic) bool {
	topic, ok := s.ctl.Image().Topic(t.Topic)
	return ok && slices.ContainsFunc(t.Partitions, func(p int32) bool { return p >= 0 && int(p) < len(topic.Partitions) })
}

// markersWait is an answer that waits until markers are committed.
type markersWait struct {
	reply func(kmsg.Response)

	mu   sync.Mutex
	resp *kmsg.WriteTxnMarkersResponse
	at   map[markerPlace]int // where in resp a producer, its topic and its partition are
	left int                 // markers under way, and one as long as more may come
}

// markerPlace names a partition in the answer; with less detail what it is part of.
type markerPlace struct {
	producerID int64
	topic      string
	partition  int32
	level      markerLevel
}

type markerLevel int8

const (
	ofPartition markerLevel = iota
	ofTopic
	ofProducer
)

func (p markerPlace) inTopic() markerPlace {
	return markerPlace{producerID: p.producerID, topic: p.topic, level: ofTopic}
}

func (p markerPlace) inProducer() markerPlace {
	return markerPlace{producerID: p.producerID, level: ofProducer}
}

// add makes room for the outcome of a marker.
func (w *markersWait) add(p markerPlace) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left++
	place := func(p markerPlace, next int, add func()) int {
		i, ok := w.at[p]
		if !ok {
			i = next
			w.at[p] = i
			add()
		}
		return i
	}
	m := &w.resp.Markers
	i := place(p.inProducer(), len(*m), func() {
		*m = append(*m, kmsg.WriteTxnMarkersResponseMarker{ProducerID: p.producerID})
	})
	t := &(*m)[i].Topics
	i = place(p.inTopic(), len(*t), func() {
		*t = append(*t, kmsg.WriteTxnMarkersResponseMarkerTopic{Topic: p.topic})
	})
	q := &(*t)[i].Partitions
	place(p, len(*q), func() {
		*q = append(*q, kmsg.WriteTxnMarkersResponseMarkerTopicPartition{Partition: p.partition})
	})
}

func (w *markersWait) done(p markerPlace, err error) {
	c := code(err)
	switch c {
	case kerr.CoordinatorNotAvailable.Code, kerr.CoordinatorLoadInProgress.Code, kerr.NotCoordinator.Code:
		c = kerr.NotLeaderForPartition.Code // what the coordinator of transactions understands
	case kerr.KafkaStorageError.Code:
		c = kerr.UnknownTopicOrPartition.Code // the partition is offline
	}
	w.mu.Lock()
	topics := w.resp.Markers[w.at[p.inProducer()]].Topics
	topics[w.at[p.inTopic()]].Partitions[w.at[p]].ErrorCode = c
	w.mu.Unlock()
	w.finish()
}

func (w *markersWait) finish() {
	w.mu.Lock()
	w.left--
	last := w.left == 0
	w.mu.Unlock()
	if last {
		w.reply(w.resp)
	}
}
