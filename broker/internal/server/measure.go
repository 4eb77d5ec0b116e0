package server

import (
	"reflect"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/metrics"
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
