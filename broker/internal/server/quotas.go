package server

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/quota"
)

// quotaClient is who has to pay for a request.
func quotaClient(principal, clientID string) quota.Client {
	return quota.Client{User: strings.TrimPrefix(principal, "User:"), ID: clientID}
}

func (r *Request) quotaClient() quota.Client { return quotaClient(r.Principal, r.ClientID) }

// learnQuotas makes the quotas of the metadata those that count.
func (s *Server) learnQuotas(img *controller.Image) {
	missing := s.quotas.Update(img.Quotas())
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
		s.quotas.Update(s.ctl.Image().Quotas())
	})
}

// charge makes a request that is about to be answered pay for what it used. The request's frame had size bytes.
func (s *Server) charge(r *Request, size int, spent time.Duration) {
	now := time.Now()
	client := r.quotaClient()
	if r.Key == int16(kmsg.Produce) {
		r.Throttle(s.quotas.Record(quota.Produce, client, float64(size), now))
	}
	// Percent of one second of one thread.
	r.Throttle(s.quotas.Record(quota.Request, client, spent.Seconds()*100, now))
}

// remoteIP is the address of a client; not valid if it is not one of TCP.
func remoteIP(nc net.Conn) netip.Addr {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
