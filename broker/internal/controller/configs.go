package controller

import (
	"errors"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Operations of IncrementalAlterConfigs.
const (
	OpSet int8 = iota
	OpDelete
	OpAppend
	OpSubtract
)

// ConfigChange is one change of a resource's configuration.
type ConfigChange struct {
	Name  string
	Op    int8    // OpSet ...
	Value *string // of all but OpDelete
}

// ConfigRules are the definitions of the configurations of a type of resource.
type ConfigRules interface {
	// List tells whether a configuration is a list, and its value where none is set.
	List(name string) (unset string, ok bool)
	// Check tells what is wrong with everything that would be set for the resource.
	Check(next map[string]string) error
}

// ErrUnknownOp is an operation that IncrementalAlterConfigs does not have. Kafka fails on it without an answer for single resources.
var ErrUnknownOp = errors.New("a change of a configuration has an unknown operation")

// AlterConfigs makes the records that change the configuration of a resource by single changes.
func AlterConfigs(img *Image, r Resource, changes []ConfigChange, rules ConfigRules) ([]Record, error) {
	before := img.Configs(r)
	next := maps.Clone(before)
	if next == nil {
		next = map[string]string{}
	}
	var altered []string
	for _, c := range changes {
		switch c.Op {
		case OpSet:
			next[c.Name] = *c.Value
		case OpDelete:
			delete(next, c.Name)
		case OpAppend, OpSubtract:
			unset, ok := rules.List(c.Name)
			if !ok {
				return nil, refuse(kerr.InvalidConfig, "Can't %s to key %s because its type is not LIST.", []string{"APPEND", "SUBTRACT"}[c.Op-OpAppend], c.Name)
			}
			value, set := next[c.Name]
			if !set {
				value = unset
			}
			next[c.Name] = changeList(value, *c.Value, c.Op == OpAppend)
		default:
			return nil, ErrUnknownOp
		}
		altered = append(altered, c.Name)
	}
	return configRecords(img, r, altered, next, rules)
}

// ReplaceConfigs makes the records that make next the whole configuration of a resource.
func ReplaceConfigs(img *Image, r Resource, next map[string]string, rules ConfigRules) ([]Record, error) {
	names := map[string]string{}
	maps.Copy(names, img.Configs(r))
	maps.Copy(names, next)
	return configRecords(img, r, slices.Sorted(maps.Keys(names)), next, rules)
}

// configRecords checks what the configuration of a resource would be, and only then whether the resource exists.
func configRecords(img *Image, r Resource, altered []string, next map[string]string, rules ConfigRules) ([]Record, error) {
	before := img.Configs(r)
	if r.Type == ResourceBroker { // which the broker itself looks at before the controller does
		if err := rules.Check(next); err != nil {
			return nil, err
		}
	}
	for _, name := range altered {
		value, is := next[name]
		if err := checkInsync(img, r, name, is); err != nil {
			return nil, err
		}
		if len(value) > math.MaxInt16 {
			return nil, refuse(kerr.InvalidConfig, "The configuration value cannot be added because it exceeds the maximum value size of %d bytes.", math.MaxInt16)
		}
	}
	if err := checkResourceName(r); err != nil {
		return nil, err
	}
	if r.Type != ResourceBroker {
		if err := rules.Check(next); err != nil {
			return nil, err
		}
	}
	if _, ok := img.Topic(r.Name); r.Type == ResourceTopic && !ok {
		return nil, refuse(kerr.UnknownTopicOrPartition, "The topic '%s' does not exist.", r.Name)
	}
	var recs []Record
	for _, name := range altered {
		recs = appendConfig(recs, r, name, before, next)
	}
	return recs, nil
}

// appendConfig appends the record of a configuration that changed.
func appendConfig(recs []Record, r Resource, name string, before, next map[string]string) []Record {
	old, was := before[name]
	value, is := next[name]
	if was == is && old == value && !(is && again(r)) {
		return recs
	}
	record := &ConfigRecord{ResourceType: r.Type, ResourceName: r.Name, Name: name}
	if is {
		record.Value = &value
	}
	return append(recs, record)
}

// changeList adds to a list what it does not have, or takes out what it has.
func changeList(list, change string, add bool) string {
	parts := slices.DeleteFunc(splitList(list), func(part string) bool { return part == "" })
	for _, v := range splitList(change) {
		switch i := slices.Index(parts, v); {
		case add && i < 0:
			parts = append(parts, v)
		case !add && i >= 0:
			parts = slices.Delete(parts, i, i+1)
		}
	}
	return strings.Join(parts, ",")
}

// splitList is Java's String.split: what is empty at the end does not count, but an empty list has one element.
func splitList(list string) []string {
	parts := strings.Split(list, ",")
	if list == "" {
		return parts
	}
	for len(parts) > 0 && parts[len(parts)-1] == "" {
		parts = parts[:len(parts)-1]
	}
	return parts
}

// checkResourceName refuses what can have no configuration of its own.
func checkResourceName(r Resource) error {
	switch {
	case r.Type == ResourceTopic && r.Name == "":
		return refuse(kerr.InvalidRequest, "Default topic resources are not allowed.")
	case r.Type == ResourceTopic:
		return CheckTopicName(r.Name)
	case r.Type == ResourceGroup && r.Name == "":
		return refuse(kerr.InvalidRequest, "Default group resources are not allowed.")
	case r.Type == ResourceClientMetrics && r.Name == "":
		return refuse(kerr.InvalidRequest, "Subscription name can't be empty")
	}
	return nil
}

// checkInsync keeps min.insync.replicas cluster-wide where eligible leader replicas follow from it (KIP-966). is tells whether the
// configuration with that name is to be set.
func checkInsync(img *Image, r Resource, name string, is bool) error {
	if r.Type != ResourceBroker || name != "min.insync.replicas" || img.Feature(FeatureELR) == 0 {
		return nil
	}
	if r.Name != "" {
		return refuse(kerr.InvalidConfig, "Broker-level min.insync.replicas cannot be altered while ELR is enabled.")
	}
	if !is {
		return refuse(kerr.InvalidConfig, "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.")
	}
	return nil
}
