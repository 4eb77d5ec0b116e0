package group

import (
	"encoding/base64"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// newMemberID makes a member id in the form that Kafka gives to consumers and share consumers.
func newMemberID() string {
	id := uuid.New()
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// ConsumerHeartbeat serves ConsumerGroupHeartbeat.
func (s *Service) ConsumerHeartbeat(req *kmsg.ConsumerGroupHeartbeatRequest, clientID, clientHost string, reply func(kmsg.Response)) {
	id := newMemberID()
	s.serve(req.Group, func(ref coordinator.Ref) any {
		return &consumerHeartbeatEvent{ref: ref, req: req, clientID: clientID, clientHost: clientHost, newID: id}
	}, func(code int16) kmsg.Response {
		resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
		resp.Version, resp.ErrorCode = req.Version, code
		return resp
	}, reply)
}

// ConsumerDescribe serves ConsumerGroupDescribe.
func (s *Service) ConsumerDescribe(req *kmsg.ConsumerGroupDescribeRequest, reply func(kmsg.Response)) {
	resp := kmsg.NewPtrConsumerGroupDescribeResponse()
	resp.Version = req.Version
	resp.Groups = make([]kmsg.ConsumerGroupDescribeResponseGroup, len(req.Groups))
	gather(len(req.Groups), func(i int, done func()) {
		id := req.Groups[i]
		failed := func(code int16) {
			resp.Groups[i] = kmsg.NewConsumerGroupDescribeResponseGroup()
			resp.Groups[i].Group, resp.Groups[i].ErrorCode = id, code
		}
		if id == "" {
			failed(kerr.InvalidGroupID.Code)
			done()
			return
		}
		s.ask(id, func(ref coordinator.Ref) any { return consumerDescribeEvent{ref, id, req.IncludeAuthorizedOperations} }, func(response any, code int16) {
			if code != 0 {
				failed(code)
			} else {
				resp.Groups[i] = response.(kmsg.ConsumerGroupDescribeResponseGroup)
			}
			done()
		})
	}, func() { reply(resp) })
}
