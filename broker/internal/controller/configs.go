package controller

import (
	"maps"
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

// AlterConfigs makes the records that change the configuration of a resource by single changes.
func AlterConfigs(img *Image, r Resource, changes []ConfigChange, rules ConfigRules) ([]Record, error) {
	if err := checkResource(img, r); err != nil {
		return nil, err
	}
	before := img.Configs(r)
	next := maps.Clone(before)
	if next == nil {
		next = map[string]string{}
	}
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
			return nil, kerr.UnknownServerError // as Kafka, without a reason
		}
	}
	if err := rules.Check(next); err != nil {
		return nil, err
	}
	if err := checkInsync(img, r, before, next); err != nil {
		return nil, err
	}
	var recs []Record
	for _, c := range changes {
		recs = appendConfig(recs, r, c.Name, before, next)
	}
	return recs, nil
}

// ReplaceConfigs makes the records that make next the whole configuration of a resource.
func ReplaceConfigs(img *Image, r Resource, next map[string]string, rules ConfigRules) ([]Record, error) {
	if err := checkResource(img, r); err != nil {
		return nil, err
	}
	before := img.Configs(r)
	if err := rules.Check(next); err != nil {
		return nil, err
	}
	if err := checkInsync(img, r, before, next); err != nil {
		return nil, err
	}
	names := maps.Clone(before)
	if names == nil {
		names = map[string]string{}
	}
	maps.Copy(names, next)
	var recs []Record
	for _, name := range slices.Sorted(maps.Keys(names)) {
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
	var parts []string
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	for _, v := range strings.Split(change, ",") {
		v = strings.TrimSpace(v)
		if add && !slices.Contains(parts, v) {
			parts = append(parts, v)
		} else if !add {
			parts = slices.DeleteFunc(parts, func(p string) bool { return p == v })
		}
	}
	return strings.Join(parts, ",")
}

// checkResource refuses what has no configuration of its own.
func checkResource(img *Image, r Resource) error {
	switch r.Type {
	case ResourceTopic:
		if r.Name == "" {
			return refuse(kerr.InvalidRequest, "Default topic resources are not allowed.")
		}
		if err := CheckTopicName(r.Name); err != nil {
			return err
		}
		if _, ok := img.Topic(r.Name); !ok {
			return refuse(kerr.UnknownTopicOrPartition, "The topic '%s' does not exist.", r.Name)
		}
	case ResourceGroup:
		if r.Name == "" {
			return refuse(kerr.InvalidRequest, "Default group resources are not allowed.")
		}
	case ResourceClientMetrics:
		if r.Name == "" {
			return refuse(kerr.InvalidRequest, "Subscription name can't be empty")
		}
	}
	return nil
}

// checkInsync keeps min.insync.replicas cluster-wide where eligible leader replicas follow from it (KIP-966).
func checkInsync(img *Image, r Resource, before, next map[string]string) error {
	const name = "min.insync.replicas"
	if r.Type != ResourceBroker || img.Feature(FeatureELR) == 0 {
		return nil
	}
	old, was := before[name]
	value, is := next[name]
	if r.Name != "" && is && (!was || old != value) {
		return refuse(kerr.InvalidConfig, "Broker-level min.insync.replicas cannot be altered while ELR is enabled.")
	}
	if r.Name == "" && was && !is {
		return refuse(kerr.InvalidConfig, "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.")
	}
	return nil
}
