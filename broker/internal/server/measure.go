package server

import (
	"reflect"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/metrics"
	"github.com/moldau-stream/moldau/broker/internal/replica"
)

// requestDone counts a request whose answer was written, or would have been.
func (s *Server) requestDone(sl *slot, sent time.Time) {
	local := time.Duration(sl.local.Load())
	if whole := sl.answered.Sub(sl.received); local == 0 || local > whole {
		local = whole // it answered before it returned
	}
	s.measured.Done(sl.key, sl.version, metrics.Times{Received: sl.received, Local: local, Answered: sl.answered, Sent: sent})
	if code := s.errorCode(sl); code != 0 {
		s.measured.Failed(sl.key, code)
	}
}

// errorCode is the error of an answer as a whole. Produce and Fetch have errors by partition, which their handlers count.
func (s *Server) errorCode(sl *slot) int16 {
	r, ok := sl.body.(kmsg.Response)
	if !ok {
		return 0
	}
	at := s.apis[sl.key].errorField
	if at < 0 {
		return 0
	}
	return int16(reflect.ValueOf(r).Elem().Field(at).Int())
}

// errorField finds the field of the error code of a whole answer; -1 if it has none.
func errorField(key int16) int {
	f, ok := reflect.TypeOf(kmsg.ResponseForKey(key)).Elem().FieldByName("ErrorCode")
	if !ok {
		return -1
	}
	return f.Index[0]
}

// measureProduce counts what was produced to a partition, or its error.
func (s *Server) measureProduce(in *producePartition, err error) {
	count := func(t *metrics.Traffic) {
		t.Produces.Add(1)
		if err == nil {
			t.BytesIn.Add(uint64(len(in.batch)))
			t.MessagesIn.Add(uint64(in.batch.Count()))
			return
		}
		t.FailedProduces.Add(1)
		switch code(err) {
		case kerr.MessageTooLarge.Code, kerr.RecordListTooLarge.Code:
			t.BytesRejected.Add(uint64(len(in.records)))
		case kerr.CorruptMessage.Code:
			t.CorruptProduces.Add(1)
		}
	}
	if in.p != nil {
		count(&in.p.Traffic)
	}
	count(&s.traffic)
	if err != nil {
		s.measured.Failed(int16(kmsg.Produce), code(err))
	}
}

// measureFetch counts what was fetched from a partition, or its error.
func (s *Server) measureFetch(p *replica.Partition, bytes int, err error) {
	count := func(t *metrics.Traffic) {
		t.Fetches.Add(1)
		t.BytesOut.Add(uint64(bytes))
		if err != nil {
			t.FailedFetches.Add(1)
		}
	}
	if p != nil {
		count(&p.Traffic)
	}
	count(&s.traffic)
	if err != nil {
		s.measured.Failed(int16(kmsg.Fetch), code(err))
	}
}
