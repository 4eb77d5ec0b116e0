package server

import (
	"context"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/quota"
)

const (
	// maxQuotaEntities bounds the entities with quotas that the metadata log may have.
	maxQuotaEntities = 100_000
	// lookupTimeout bounds the look-up of the names of hosts in a request.
	lookupTimeout = 5 * time.Second
)

// quotaKind is the type of the value of a quota.
type quotaKind int8

const (
	quotaInt quotaKind = iota
	quotaLong
	quotaDouble
)

// quotaKeys are the quotas of users and clients, and those of addresses.
var (
	clientQuotaKeys = map[string]quotaKind{
		quota.ProducerByteRate: quotaLong, quota.ConsumerByteRate: quotaLong, quota.RequestPercentage: quotaDouble,
		quota.ControllerMutationRate: quotaDouble,
	}
	ipQuotaKeys = map[string]quotaKind{quota.ConnectionCreationRate: quotaInt}
)

func handleAlterClientQuotas(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.AlterClientQuotasRequest)
	var hosts []string
	for _, in := range req.Entries {
		for _, e := range in.Entity {
			if e.Type == quotaIP && e.Name != nil && net.ParseIP(*e.Name) == nil {
				hosts = append(hosts, *e.Name)
			}
		}
	}
	if len(hosts) == 0 {
		s.alterClientQuotas(req, nil, reply)
		return
	}
	s.background(func() { // the connection goes on meanwhile
		ctx, cancel := context.WithTimeout(r.Ctx, lookupTimeout)
		defer cancel()
		known := map[string]bool{}
		for _, h := range hosts {
			if _, tried := known[h]; !tried {
				addrs, err := net.DefaultResolver.LookupHost(ctx, h)
				known[h] = err == nil && len(addrs) > 0
			}
		}
		s.alterClientQuotas(req, known, reply)
	})
}

// alterClientQuotas answers and commits; hosts are the names that were looked up.
func (s *Server) alterClientQuotas(req *kmsg.AlterClientQuotasRequest, hosts map[string]bool, reply func(kmsg.Response)) {
	resp := req.ResponseKind().(*kmsg.AlterClientQuotasResponse)
	s.ctl.Update(func(img *controller.Image) ([]controller.Record, error) {
		entities := 0
		for range img.Quotas() {
			entities++
		}
		var all []controller.Record
		seen := map[string]int{} // -> index of its answer
		for _, in := range req.Entries {
			out := kmsg.NewAlterClientQuotasResponseEntry()
			entity, err := quotaEntityOf(in.Entity, &out)
			key := entityKey(&out)
			if i, twice := seen[key]; twice {
				resp.Entries[i].ErrorCode, resp.Entries[i].ErrorMessage = codeOf(duplicateEntity(entity))
				continue
			}
			var recs []controller.Record
			if err == nil {
				recs, err = alterQuotas(img, entity, in.Ops, hosts)
			}
			if err == nil && len(recs) > 0 && img.Quota(entity) == nil {
				if entities++; entities > maxQuotaEntities {
					err = refusal(kerr.InvalidRequest, fmt.Sprintf("There are quotas for %d entities, which is the limit", maxQuotaEntities))
				}
			}
			if err == nil {
				all = append(all, recs...)
			}
			out.ErrorCode, out.ErrorMessage = codeOf(err)
			seen[key] = len(resp.Entries)
			resp.Entries = append(resp.Entries, out)
		}
		if req.ValidateOnly {
			return nil, nil
		}
		return all, nil
	}, func(err error) {
		if err != nil {
			for i := range resp.Entries {
				if resp.Entries[i].ErrorCode == 0 {
					resp.Entries[i].ErrorCode, resp.Entries[i].ErrorMessage = codeOf(err)
				}
			}
		}
		reply(resp)
	})
}

// entityKey is the same for the same entity, also if that is none that may be.
func entityKey(e *kmsg.AlterClientQuotasResponseEntry) string {
	parts := make([]string, 0, len(e.Entity))
	for _, p := range e.Entity {
		name := "null"
		if p.Name != nil {
			name = strconv.Quote(*p.Name)
		}
		parts = append(parts, strconv.Quote(p.Type)+"="+name)
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

func duplicateEntity(e controller.QuotaEntity) error {
	text := ""
	for _, typ := range quotaTypes {
		if p := part(&e, typ); p.Kind != controller.QuotaAbsent {
			name := "null"
			if p.Kind == controller.QuotaNamed {
				name = p.Name
			}
			if text != "" {
				text += ", "
			}
			text += typ + "=" + name
		}
	}
	return refusal(kerr.InvalidRequest, "Ignoring duplicate entity ClientQuotaEntity(entries={"+text+"})")
}

// quotaEntityOf reads an entity and repeats it in the answer. Of a type that comes twice the last counts, as in Kafka.
func quotaEntityOf(in []kmsg.AlterClientQuotasRequestEntryEntity, out *kmsg.AlterClientQuotasResponseEntry) (e controller.QuotaEntity, err error) {
	echo := map[string]*string{}
	for _, p := range in {
		echo[p.Type] = p.Name
		if dst := part(&e, p.Type); dst != nil {
			*dst = controller.QuotaName{Kind: controller.QuotaDefault}
			if p.Name != nil {
				*dst = controller.QuotaName{Kind: controller.QuotaNamed, Name: *p.Name}
			}
		}
	}
	add := func(typ string) {
		if name, ok := echo[typ]; ok {
			o := kmsg.NewAlterClientQuotasResponseEntryEntity()
			o.Type, o.Name = typ, name
			out.Entity = append(out.Entity, o)
			delete(echo, typ)
		}
	}
	for _, typ := range quotaTypes {
		add(typ)
	}
	unknown, isUnknown := "", false
	for _, p := range in {
		if _, left := echo[p.Type]; left {
			unknown, isUnknown = p.Type, true
			add(p.Type)
		}
	}
	switch {
	case len(in) == 0:
		err = refusal(kerr.InvalidRequest, "Invalid empty client quota entity")
	case isUnknown:
		err = refusal(kerr.InvalidRequest, "Unhandled client quota entity type: "+unknown)
	case e.IP.Kind != controller.QuotaAbsent && (e.User.Kind != controller.QuotaAbsent || e.ClientID.Kind != controller.QuotaAbsent):
		err = refusal(kerr.InvalidRequest, "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId")
	}
	for _, typ := range quotaTypes {
		if p := part(&e, typ); err == nil && p.Kind == controller.QuotaNamed && p.Name == "" {
			err = refusal(kerr.InvalidRequest, fmt.Sprintf("Empty %s not supported", typ))
		}
	}
	return e, err
}

// alterQuotas makes the records of the changes of one entity.
func alterQuotas(img *controller.Image, e controller.QuotaEntity, ops []kmsg.AlterClientQuotasRequestEntryOp, hosts map[string]bool) (recs []controller.Record, err error) {
	keys := clientQuotaKeys
	if e.IP.Kind != controller.QuotaAbsent {
		keys = ipQuotaKeys
		if name := e.IP.Name; name != "" && net.ParseIP(name) == nil && !hosts[name] {
			return nil, refusal(kerr.InvalidRequest, name+" is not a valid IP or resolvable host.")
		}
	}
	current := img.Quota(e)
	changed := map[string]bool{}
	for _, op := range ops {
		if changed[op.Key] {
			return nil, duplicateEntity(e)
		}
		changed[op.Key] = true
		old, has := current[op.Key]
		if op.Remove {
			if has {
				recs = append(recs, &controller.ClientQuotaRecord{Entity: e, Key: op.Key, Remove: true})
			}
			continue
		}
		kind, ok := keys[op.Key]
		if !ok {
			return nil, refusal(kerr.InvalidRequest, "Invalid configuration key "+op.Key)
		}
		if err := checkQuota(op.Key, kind, op.Value); err != nil {
			return nil, err
		}
		if !has || old != op.Value {
			recs = append(recs, &controller.ClientQuotaRecord{Entity: e, Key: op.Key, Value: op.Value})
		}
	}
	return recs, nil
}

func checkQuota(key string, kind quotaKind, v float64) error {
	switch {
	case !(v > 0): // NaN, too
		return refusal(kerr.InvalidRequest, fmt.Sprintf("Quota %s must be greater than 0", key))
	case kind == quotaInt && v > math.MaxInt32:
		return refusal(kerr.InvalidRequest, fmt.Sprintf("Proposed value for %s is too large for an INT.", key))
	case kind == quotaLong && v > math.MaxInt64:
		return refusal(kerr.InvalidRequest, fmt.Sprintf("Proposed value for %s is too large for a LONG.", key))
	case kind != quotaDouble && v-math.Floor(v) > 1e-6:
		return refusal(kerr.InvalidRequest, fmt.Sprintf("%s cannot be a fractional value.", key))
	}
	return nil
}
