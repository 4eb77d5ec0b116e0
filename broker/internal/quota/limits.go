package quota

import (
	"iter"
	"net/netip"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// The keys of quotas.
const (
	ProducerByteRate       = "producer_byte_rate"       // bytes per second
	ConsumerByteRate       = "consumer_byte_rate"       // bytes per second
	RequestPercentage      = "request_percentage"       // percent of one thread's time
	ControllerMutationRate = "controller_mutation_rate" // partitions created and deleted per second
	ConnectionCreationRate = "connection_creation_rate" // connections per second of one address
)

// Kind is what is limited per client.
type Kind uint8

// The kinds.
const (
	Produce Kind = iota
	Fetch
	Request
	Mutation
	kinds
)

var kindKeys = [kinds]string{ProducerByteRate, ConsumerByteRate, RequestPercentage, ControllerMutationRate}

// Client is who uses something.
type Client struct {
	User string // as in a quota: without "User:"
	ID   string // client id
}

// limits are all quotas as of one moment. Immutable.
type limits struct {
	clients [kinds]map[controller.QuotaEntity]float64
	ips     map[netip.Addr]float64
	otherIP float64 // of addresses that are not in ips; 0: none
}

// newLimits sorts the quotas. hosts resolves the names of hosts; those that it does not have are missing.
func newLimits(all iter.Seq2[controller.QuotaEntity, map[string]float64], hosts map[string][]netip.Addr) (l *limits, missing []string) {
	l = &limits{ips: map[netip.Addr]float64{}}
	any := false
	for e, values := range all {
		for kind, key := range kindKeys {
			if v, ok := values[key]; ok {
				if l.clients[kind] == nil {
					l.clients[kind] = map[controller.QuotaEntity]float64{}
				}
				l.clients[kind][e] = v
				any = true
			}
		}
		v, ok := values[ConnectionCreationRate]
		if !ok {
			continue
		}
		any = true
		if e.IP.Kind == controller.QuotaDefault {
			l.otherIP = v
		} else if addr, err := netip.ParseAddr(e.IP.Name); err == nil {
			l.ips[addr.Unmap()] = v
		} else if addrs, ok := hosts[e.IP.Name]; ok {
			for _, a := range addrs {
				l.ips[a.Unmap()] = v
			}
		} else {
			missing = append(missing, e.IP.Name)
		}
	}
	if !any {
		return nil, nil
	}
	return l, missing
}

// find gives the limit for a client and whom it counts together; ok is false if there is none.
func (l *limits) find(k Kind, c Client) (limit float64, together Client, ok bool) {
	of := l.clients[k]
	if len(of) == 0 {
		return 0, Client{}, false
	}
	var (
		user     = controller.QuotaName{Kind: controller.QuotaNamed, Name: c.User}
		id       = controller.QuotaName{Kind: controller.QuotaNamed, Name: c.ID}
		other    = controller.QuotaName{Kind: controller.QuotaDefault}
		onlyUser = Client{User: c.User}
		onlyID   = Client{ID: c.ID}
	)
	for _, try := range [...]struct {
		entity   controller.QuotaEntity
		together Client
	}{
		{controller.QuotaEntity{User: user, ClientID: id}, c},
		{controller.QuotaEntity{User: user, ClientID: other}, c},
		{controller.QuotaEntity{User: user}, onlyUser},
		{controller.QuotaEntity{User: other, ClientID: id}, c},
		{controller.QuotaEntity{User: other, ClientID: other}, c},
		{controller.QuotaEntity{User: other}, onlyUser},
		{controller.QuotaEntity{ClientID: id}, onlyID},
		{controller.QuotaEntity{ClientID: other}, onlyID},
	} {
		if limit, ok := of[try.entity]; ok {
			return limit, try.together, true
		}
	}
	return 0, Client{}, false
}

// findIP gives the limit for an address; ok is false if there is none.
func (l *limits) findIP(ip netip.Addr) (limit float64, ok bool) {
	if limit, ok = l.ips[ip]; ok {
		return limit, true
	}
	return l.otherIP, l.otherIP > 0
}
