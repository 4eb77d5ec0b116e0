package server

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Request is one decoded request.
type Request struct {
	Ctx      context.Context // ends when the connection or the server closes
	Conn     *Conn
	Key      int16
	Version  int16
	ClientID string // "" if the client sent none
	// Principal is who asks, such as "User:alice", and Listener the name of the listener that the request came by.
	Principal, Listener string
	Msg                 kmsg.Request

	slot *slot
}

const (
	// maxPartitionsInRequest bounds hand-decoded requests: no more can exist.
	maxPartitionsInRequest = 100_000
	// partitionCost is the memory of a partition in a hand-decoded request and its answer.
	partitionCost = 384
)

// reserve takes memory from the budget of requests until the answer, waiting if need be. For raw handlers, before they answer.
func (r *Request) reserve(n int) error {
	if n <= smallFrame {
		return nil
	}
	return r.Conn.reserve(r.slot, n)
}

// Throttle tells the client in the answer that it is over a quota, and leaves its connection unread for d from now on, as it must
// not count on clients to keep to what they are told (KIP-219). It comes before the answer; the longest of several counts.
func (r *Request) Throttle(d time.Duration) {
	d = d.Truncate(time.Millisecond)
	if d <= 0 {
		return
	}
	c := r.Conn
	c.mu.Lock()
	defer c.mu.Unlock()
	r.slot.throttle = max(r.slot.throttle, d)
	if until := time.Now().Add(d); until.After(c.muted) {
		c.muted = until
	}
}

// Handler serves one API. It answers exactly once, now or later, from any goroutine; nil is "no answer goes out" (Produce with
// acks 0). It runs on the connection's goroutine, in the order of the requests, so it must not wait for anything but a short
// lock: what has to wait is parked and answered later. The connection keeps the order of the answers.
//
// The response must be of the request's version (r.Msg.ResponseKind() gives such a one). The request's byte slices belong to
// the handler and may be kept.
type Handler func(s *Server, r *Request, reply func(kmsg.Response))

// api is one row of the table of what the server speaks.
type api struct {
	key      int16
	min, max int16 // advertised versions; others close the connection
	handle   Handler
	// raw, if set, is used in place of handle for what is decoded and encoded by hand.
	raw rawHandler

	// Filled in by New.
	layout     []field // of what is decoded by kmsg
	errorField int     // index of the error code in its answer, for the metrics; -1 = none
}

// rawHandler is a Handler that decodes the body itself. It answers with nil, a kmsg.Response or a rawResponse. An error is a malformed body: nothing was done, and the connection closes.
type rawHandler func(s *Server, r *Request, body []byte, reply func(any)) error

// serve makes a row.
func serve(req kmsg.Request, lowest, highest int16, h Handler) api {
	return api{key: req.Key(), min: lowest, max: highest, handle: h}
}

// apis is everything that is served and advertised.
func apis() []api {
	all := []api{
		{key: int16(kmsg.Produce), min: 0, max: 13, raw: handleProduce},
		{key: int16(kmsg.Fetch), min: 4, max: 18, raw: handleFetch},
		serve(&kmsg.ListOffsetsRequest{}, 1, 11, handleListOffsets),
		serve(&kmsg.MetadataRequest{}, 0, 13, handleMetadata),
		serve(&kmsg.FindCoordinatorRequest{}, 0, 6, handleFindCoordinator),
		serve(&kmsg.ApiVersionsRequest{}, 0, 4, handleApiVersions),
		serve(&kmsg.CreateTopicsRequest{}, 2, 7, handleCreateTopics),
		serve(&kmsg.DeleteTopicsRequest{}, 1, 6, handleDeleteTopics),
		serve(&kmsg.DeleteRecordsRequest{}, 0, 2, handleDeleteRecords),
		serve(&kmsg.OffsetForLeaderEpochRequest{}, 2, 4, handleOffsetForLeaderEpoch),
		serve(&kmsg.CreatePartitionsRequest{}, 0, 3, handleCreatePartitions),
		serve(&kmsg.DescribeClusterRequest{}, 0, 2, handleDescribeCluster),
	}
	all = append(all, groupAPIs()...)
	all = append(all, txnAPIs()...)
	all = append(all, configAPIs()...)
	all = append(all, adminAPIs()...)
	all = append(all, securityAPIs()...)
	all = append(all, shareAPIs()...)
	return all
}
