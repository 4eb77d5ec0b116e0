package server

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/config"
	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// configRules are the definitions of one type of resource as the controller needs them.
type configRules struct {
	s         *Server
	kind      int8
	perBroker bool
}

func (r configRules) lookup(name string) (*config.Def, bool) {
	switch r.kind {
	case controller.ResourceTopic:
		return config.Topic().Lookup(name)
	case controller.ResourceGroup:
		return config.Group().Lookup(name)
	case controller.ResourceBroker:
		return config.LookupBroker(name)
	}
	return nil, false // client metrics: Kafka takes their lists for strings
}

// List implements controller.ConfigRules.
func (r configRules) List(name string) (unset string, ok bool) {
	d, ok := r.lookup(name)
	if !ok || d.Kind != config.List {
		return "", false
	}
	if r.kind == controller.ResourceBroker {
		if v, set := r.s.values().Static()[name]; set {
			return v, true
		}
	}
	return d.Default, true
}

// Check implements controller.ConfigRules.
func (r configRules) Check(next map[string]string) error {
	switch r.kind {
	case controller.ResourceTopic:
		return configError(r.s.values().CheckTopic(next))
	case controller.ResourceGroup:
		return configError(r.s.values().CheckGroup(next))
	case controller.ResourceClientMetrics:
		return configError(config.CheckClientMetrics(next))
	}
	if err := r.s.values().CheckDynamic(next, r.perBroker); err != nil {
		return configError(err)
	}
	if tls := r.s.cfg.Certificates; tls != nil {
		if err := tls.Check(r.s.values().Next(next, r.perBroker)); err != nil {
			return errTopicf(kerr.InvalidRequest, "%v", err)
		}
	}
	return nil
}

// alteration is what a request wants of one resource.
type alteration struct {
	resource controller.Resource
	changes  []controller.ConfigChange
}

// check finds what is wrong with an alteration before the metadata is looked at.
func (s *Server) checkAlteration(a *alteration) error {
	var missing []string
	seen := map[string]bool{}
	twice := false
	for _, c := range a.changes {
		if c.Value == nil && c.Op != controller.OpDelete {
			missing = append(missing, c.Name)
		}
		twice = twice || seen[c.Name]
		seen[c.Name] = true
	}
	switch {
	case len(missing) > 0:
		return errTopicf(kerr.InvalidRequest, "Null value not supported for : %s", strings.Join(missing, ","))
	case twice:
		return errTopicf(kerr.InvalidRequest, "Error due to duplicate config keys")
	}
	switch a.resource.Type {
	case controller.ResourceTopic, controller.ResourceGroup, controller.ResourceClientMetrics, controller.ResourceBrokerLogger:
		return nil
	case controller.ResourceBroker:
		if err := s.checkBrokerName(a.resource.Name); err != nil {
			return err
		}
		for _, c := range a.changes {
			if c.Op < controller.OpSet || c.Op > controller.OpSubtract {
				return errTopicf(kerr.InvalidRequest, "Unknown operations type %d", c.Op)
			}
		}
		return nil
	}
	return errTopicf(kerr.InvalidRequest, "Unknown resource type %d", a.resource.Type)
}

func (s *Server) checkBrokerName(name string) error {
	if name == "" {
		return nil
	}
	switch id, err := strconv.ParseInt(name, 10, 32); {
	case err != nil:
		return errTopicf(kerr.InvalidRequest, "Node id must be an integer, but it is: %s", name)
	case int32(id) != s.cfg.NodeID:
		return errTopicf(kerr.InvalidRequest, "Unexpected broker id, expected %d, but received %s", s.cfg.NodeID, name)
	}
	return nil
}

// alterConfigs does alterations, whole ones or single changes, and calls done with an error or nil for each.
func (s *Server) alterConfigs(all []alteration, replace, validateOnly bool, done func([]error)) {
	errs := make([]error, len(all))
	times := map[controller.Resource]int{}
	for i := range all {
		times[all[i].resource]++
	}
	for i := range all {
		a := &all[i]
		if times[a.resource] > 1 {
			errs[i] = errTopicf(kerr.InvalidRequest, "Each resource must appear at most once.")
			continue
		}
		if errs[i] = s.checkAlteration(a); errs[i] == nil && a.resource.Type == controller.ResourceBrokerLogger {
			errs[i] = s.alterLoggers(a, replace, validateOnly)
		}
	}
	var failed error // of all that the controller is asked for
	op := func(img *controller.Image) ([]controller.Record, error) {
		var recs []controller.Record
		for i := range all {
			a := &all[i]
			if errs[i] != nil || a.resource.Type == controller.ResourceBrokerLogger {
				continue
			}
			rules := configRules{s, a.resource.Type, a.resource.Name != ""}
			var mine []controller.Record
			if replace {
				next := make(map[string]string, len(a.changes))
				for _, c := range a.changes {
					next[c.Name] = *c.Value
				}
				mine, errs[i] = controller.ReplaceConfigs(img, a.resource, next, rules)
			} else {
				mine, errs[i] = controller.AlterConfigs(img, a.resource, a.changes, rules)
			}
			if errors.Is(errs[i], controller.ErrUnknownOp) { // on which Kafka fails as a whole
				failed = kerr.UnknownServerError
			}
			recs = append(recs, mine...)
		}
		if validateOnly || failed != nil {
			return nil, nil
		}
		return recs, nil
	}
	before := slices.Clone(errs) // of what the controller is not asked for
	s.ctl.Update(op, func(err error) {
		for i := range errs {
			switch {
			case before[i] != nil || all[i].resource.Type == controller.ResourceBrokerLogger:
			case failed != nil && (errs[i] == nil || all[i].resource.Type != controller.ResourceBroker): // brokers find their errors before
				errs[i] = failed
			case errs[i] == nil:
				errs[i] = err
			}
		}
		done(errs)
	})
}

// alterCode is codeOf without a sentence for an unknown operation.
func alterCode(err error) (int16, *string) {
	if err == kerr.UnknownServerError { //nolint:errorlint // exactly that one
		return kerr.UnknownServerError.Code, nil
	}
	return codeOf(err)
}

// resourceOf is the resource that a request names.
func resourceOf(kind kmsg.ConfigResourceType, name string) controller.Resource {
	return controller.Resource{Type: int8(kind), Name: name}
}
