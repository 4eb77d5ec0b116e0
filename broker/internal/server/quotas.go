package server

import (
	"context"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/quota"
)

// newQuotas makes what measures, with the configured windows. quota.window.* and controller.quota.window.* are read at the start only.
func (s *Server) newQuotas() {
	v := s.values()
	cfg := quota.Config{
		Windows: v.Int("quota.window.num"), Window: time.Duration(v.Long("quota.window.size.seconds")) * time.Second,
		MutationWindows: v.Int("controller.quota.window.num"),
		MutationWindow:  time.Duration(v.Long("controller.quota.window.size.seconds")) * time.Second,
	}
	s.quotas = quota.New(cfg)
	s.gate = newGate(s.quotas, cfg)
}

// quotaClient is who has to pay for a request.
func quotaClient(principal, clientID string) quota.Client {
	return quota.Client{User: strings.TrimPrefix(principal, "User:"), ID: clientID}
}

func (r *Request) quotaClient() quota.Client { return quotaClient(r.Principal, r.ClientID) }

// learnQuotas makes the quotas of the metadata those that count.
func (s *Server) learnQuotas() {
	update := func() (missing []string) {
		s.learning.Lock()
		defer s.learning.Unlock()
		return s.quotas.Update(s.ctl.Image().Quotas())
	}
	missing := update()
	if len(missing) == 0 {
		return
	}
	s.background(func() {
		for _, host := range missing {
			ctx, cancel := context.WithTimeout(s.ctx, lookupTimeout)
			addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
			cancel()
			if err != nil {
				s.log.Warn("the quota of a host does not count, as its address is not known", "host", host, "err", err)
				addrs = nil
			}
			s.quotas.Resolved(host, addrs)
		}
		update()
	})
}

// chargeProduce makes a produce request of size bytes pay. It comes before the handler and on the connection's goroutine, so that
// the next request is not taken up before.
func (s *Server) chargeProduce(r *Request, size int) {
	r.Throttle(s.quotas.Record(quota.Produce, r.quotaClient(), float64(size), time.Now()))
}

// answerOverhead is about what an answer to a fetch has beside the records, for each partition.
const answerOverhead = 40

// chargeFetch makes a fetch that is about to be answered pay for the records. If it has to wait for them, they were not counted, as
// they must not be sent.
func (s *Server) chargeFetch(f *fetch) (wait time.Duration) {
	if !s.quotas.Limited(quota.Fetch) {
		return 0
	}
	now, client := time.Now(), f.request.quotaClient()
	size := float64(f.bytes + answerOverhead*len(f.parts))
	if wait = s.quotas.Record(quota.Fetch, client, size, now); wait > 0 {
		s.quotas.Note(quota.Fetch, client, -size, now)
	}
	return wait
}

// chargeShareFetch makes a share fetch pay for its records. They are sent even if it has to wait for the next ones: the member has
// acquired them, and nobody else would get them before its lock ends.
func (s *Server) chargeShareFetch(r *Request, size int) {
	if s.quotas.Limited(quota.Fetch) {
		r.Throttle(s.quotas.Record(quota.Fetch, r.quotaClient(), float64(size+answerOverhead), time.Now()))
	}
}

// mostFetched bounds the size of an answer by what the client may have at once: it would never get more.
func (s *Server) mostFetched(r *Request, maxBytes int32, partitions int) int32 {
	if !s.quotas.Limited(quota.Fetch) {
		return maxBytes
	}
	most := s.quotas.Most(quota.Fetch, r.quotaClient()) - float64(answerOverhead*partitions)
	return int32(min(float64(maxBytes), max(most, 1)))
}

// empty takes everything out of an answer. The session stays as it was before the request.
func (f *fetch) empty() {
	f.giveBack()
	f.sessionID = 0
	if f.session != nil {
		f.sessionID = f.session.id
		f.s.sessions.release(f.session)
	}
	f.session, f.parts = nil, nil
}

// charge makes a request that is about to be answered pay for the time that it took, in percent of one second.
func (s *Server) charge(r *Request, spent time.Duration) {
	r.Throttle(s.quotas.Record(quota.Request, r.quotaClient(), spent.Seconds()*100, time.Now()))
}

// mutations is the quota of the partitions that the request creates and deletes. From the version strictSince on its clients know
// THROTTLING_QUOTA_EXCEEDED, and are refused when they are over it (KIP-599). The answer to it is Throttle(Wait()).
func (s *Server) mutations(r *Request, strictSince int16) *quota.Mutations {
	return s.quotas.NewMutations(r.quotaClient(), r.Version >= strictSince)
}

// newPartitions is the number of partitions that records create.
func newPartitions(recs []controller.Record) (n int) {
	for _, r := range recs {
		if _, ok := r.(*controller.PartitionRecord); ok {
			n++
		}
	}
	return n
}

// errTooManyMutations is the refusal of a change that quota.Mutations does not let through.
var errTooManyMutations = refusal(kerr.ThrottlingQuotaExceeded, "The throttling quota has been exceeded.")
