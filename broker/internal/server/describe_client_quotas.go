package server

import (
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// Types of the parts of a quota entity.
const (
	quotaUser     = "user"
	quotaClientID = "client-id"
	quotaIP       = "ip"
)

// part gives the part of an entity of a type; nil if there is no such type.
func part(e *controller.QuotaEntity, typ string) *controller.QuotaName {
	switch typ {
	case quotaUser:
		return &e.User
	case quotaClientID:
		return &e.ClientID
	case quotaIP:
		return &e.IP
	}
	return nil
}

// quotaTypes are all types in the order in which Kafka lists them.
var quotaTypes = []string{quotaClientID, quotaUser, quotaIP}

func handleDescribeClientQuotas(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.DescribeClientQuotasRequest)
	resp := req.ResponseKind().(*kmsg.DescribeClientQuotasResponse)
	filter, err := quotaFilterOf(req)
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = codeOf(err)
		resp.Entries = nil
		reply(resp)
		return
	}
	resp.ErrorMessage = kmsg.StringPtr("")
	resp.Entries = []kmsg.DescribeClientQuotasResponseEntry{}
	for entity, values := range s.ctl.Image().Quotas() {
		if !filter.matches(entity) {
			continue
		}
		out := kmsg.NewDescribeClientQuotasResponseEntry()
		for _, typ := range quotaTypes {
			if p := part(&entity, typ); p.Kind != controller.QuotaAbsent {
				e := kmsg.NewDescribeClientQuotasResponseEntryEntity()
				e.Type = typ
				if p.Kind == controller.QuotaNamed {
					e.Name = kmsg.StringPtr(p.Name)
				}
				out.Entity = append(out.Entity, e)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(values)) {
			v := kmsg.NewDescribeClientQuotasResponseEntryValue()
			v.Key, v.Value = key, values[key]
			out.Values = append(out.Values, v)
		}
		resp.Entries = append(resp.Entries, out)
	}
	reply(resp)
}

// quotaFilter chooses entities: for each type that it has, an entity must have that name, or any.
type quotaFilter struct {
	strict bool // and have no other type
	wants  map[string]*controller.QuotaName
}

func quotaFilterOf(req *kmsg.DescribeClientQuotasRequest) (quotaFilter, error) {
	f := quotaFilter{strict: req.Strict, wants: map[string]*controller.QuotaName{}}
	invalid := func(format string, args ...any) (quotaFilter, error) {
		return f, refusal(kerr.InvalidRequest, fmt.Sprintf(format, args...))
	}
	for _, c := range req.Components {
		if c.EntityType == "" {
			return invalid("Invalid empty entity type.")
		}
		if _, twice := f.wants[c.EntityType]; twice {
			return invalid("Entity type %s cannot appear more than once in the filter.", c.EntityType)
		}
		if part(&controller.QuotaEntity{}, c.EntityType) == nil {
			return f, refusal(kerr.UnsupportedVersion, "Unsupported entity type "+c.EntityType)
		}
		var want *controller.QuotaName
		switch c.MatchType {
		case kmsg.QuotasMatchTypeExact:
			if c.Match == nil {
				return invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.")
			}
			want = &controller.QuotaName{Kind: controller.QuotaNamed, Name: *c.Match}
		case kmsg.QuotasMatchTypeDefault:
			if c.Match != nil {
				return invalid("Request specified MATCH_TYPE_DEFAULT, but also specified a match string.")
			}
			want = &controller.QuotaName{Kind: controller.QuotaDefault}
		case kmsg.QuotasMatchTypeAny:
			if c.Match != nil {
				return invalid("Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.")
			}
		default:
			return invalid("Unknown match type %d", c.MatchType)
		}
		f.wants[c.EntityType] = want
	}
	if _, ip := f.wants[quotaIP]; ip && len(f.wants) > 1 {
		return invalid("Invalid entity filter component combination. IP filter component should not be used with user or clientId filter component.")
	}
	return f, nil
}

func (f *quotaFilter) matches(e controller.QuotaEntity) bool {
	for _, typ := range quotaTypes {
		p := part(&e, typ)
		want, asked := f.wants[typ]
		switch {
		case !asked:
			if f.strict && p.Kind != controller.QuotaAbsent {
				return false
			}
		case p.Kind == controller.QuotaAbsent, want != nil && *want != *p:
			return false
		}
	}
	return !f.strict || len(f.wants) > 0
}
