package config

import (
	"maps"
	"slices"
)

// Source says where a value comes from, with the protocol's numbers.
type Source int8

// The sources of DescribeConfigs.
const (
	FromTopic         Source = 1
	FromBroker        Source = 2 // dynamic, for this broker
	FromCluster       Source = 3 // dynamic, for all brokers
	FromStatic        Source = 4
	FromDefault       Source = 5
	FromLogger        Source = 6
	FromClientMetrics Source = 7
	FromGroup         Source = 8
)

// Synonym is one of the values that a value was chosen from.
type Synonym struct {
	Name   string
	Value  *string // nil if it is sensitive
	Source Source
}

// Entry is a configuration as DescribeConfigs shows it.
type Entry struct {
	Name      string
	Value     *string // nil if there is none, or it is sensitive
	Kind      Kind    // 0 if it is not known
	ReadOnly  bool
	Sensitive bool
	Source    Source
	Synonyms  []Synonym // in the order in which they count; the first is the value in effect
	Doc       string
}

// synonyms are the values of a broker's configuration and of those that stand for it, in the order in which they count. Kafka leaves out
// what comes before the first of the name itself.
func (v *Values) synonyms(name string) []Synonym {
	var all []Synonym
	names := brokerSynonyms(name)
	for _, layer := range []struct {
		values map[string]string
		source Source
	}{{v.node, FromBroker}, {v.cluster, FromCluster}, {v.static, FromStatic}} {
		for _, n := range names {
			if value, ok := layer.values[n]; ok {
				all = append(all, v.synonym(n, value, layer.source))
			}
		}
	}
	for _, n := range names {
		if d, ok := Broker().Lookup(n); ok && d.HasDefault() {
			all = append(all, v.synonym(n, d.Default, FromDefault))
		}
	}
	first := slices.IndexFunc(all, func(s Synonym) bool { return s.Name == name })
	if first < 0 {
		return nil
	}
	return all[first:]
}

// synonym hides what is sensitive, or may be because it is not known.
func (v *Values) synonym(name, value string, source Source) Synonym {
	if d, ok := lookupDynamic(name); !ok || d.Sensitive() {
		return Synonym{Name: name, Source: source}
	}
	return Synonym{Name: name, Value: &value, Source: source}
}

func source(synonyms []Synonym) Source {
	if len(synonyms) == 0 {
		return FromDefault
	}
	return synonyms[0].Source
}

// brokerEntry describes one configuration of the broker; value is nil for null.
func (v *Values) brokerEntry(name string, value *string, synonyms []Synonym) Entry {
	e := Entry{Name: name, Value: value, Synonyms: synonyms, Source: source(synonyms), ReadOnly: true, Sensitive: true}
	if d, ok := lookupDynamic(name); ok {
		e.Kind, e.Sensitive, e.Doc = d.Kind, d.Sensitive(), d.Doc
		e.ReadOnly = !d.Dynamic() || d.Name != name
	}
	if e.Sensitive {
		e.Value = nil
	}
	return e
}

// DescribeBroker describes this broker: every configuration that is shown, in order of name, then what is set for single listeners or not
// known.
func (v *Values) DescribeBroker() []Entry {
	var all []Entry
	for i := range Broker().all {
		d := &Broker().all[i]
		if _, set := v.static[d.Name]; d.Flags&Internal != 0 && !set {
			continue
		}
		var value *string
		if parsed, ok := v.parsed[d.Name]; ok {
			s := Format(parsed)
			value = &s
		}
		all = append(all, v.brokerEntry(d.Name, value, v.synonyms(d.Name)))
	}
	rest := map[string]string{}
	for _, layer := range []map[string]string{v.static, v.cluster, v.node} {
		for name, value := range layer {
			if _, ok := Broker().Lookup(name); !ok {
				rest[name] = value
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		value := rest[name]
		all = append(all, v.brokerEntry(name, &value, v.synonyms(name)))
	}
	return all
}

// DescribeCluster describes what is set dynamically for all brokers, in order of name.
func (v *Values) DescribeCluster() []Entry {
	var all []Entry
	for _, name := range slices.Sorted(maps.Keys(v.cluster)) {
		value := v.cluster[name]
		all = append(all, v.brokerEntry(name, &value, []Synonym{v.synonym(name, value, FromCluster)}))
	}
	return all
}

// DescribeTopic describes a topic for which own was set, in order of name.
func (v *Values) DescribeTopic(own map[string]string) []Entry {
	t := v.Topic(own)
	var all []Entry
	for i := range Topic().all {
		d := &Topic().all[i]
		parsed, ok := t.value(d.Name)
		if !ok {
			continue
		}
		value := Format(parsed)
		e := Entry{Name: d.Name, Value: &value, Kind: d.Kind, Doc: d.Doc}
		if _, set := own[d.Name]; set {
			e.Synonyms = append(e.Synonyms, Synonym{d.Name, &value, FromTopic})
		}
		if name := topicSynonym(d.Name); name != "" {
			e.Synonyms = append(e.Synonyms, v.synonyms(name)...)
		}
		e.Source = source(e.Synonyms)
		all = append(all, e)
	}
	return all
}

// TopicAtCreation describes a topic as the answer to CreateTopics does: sources are those of any synonym, and nothing is left out before
// the first of the same name; values are as they were given.
func (v *Values) TopicAtCreation(own map[string]string) []Entry {
	all := v.DescribeTopic(own)
	for i := range all {
		e := &all[i]
		if set, ok := own[e.Name]; ok {
			e.Value = &set // as it was given
		}
		name := topicSynonym(e.Name)
		if name == "" || e.Source == FromTopic {
			continue
		}
		names := brokerSynonyms(name)
		set := func(layer map[string]string) bool {
			return slices.ContainsFunc(names, func(n string) bool { _, ok := layer[n]; return ok })
		}
		switch {
		case set(v.node):
			e.Source = FromBroker
		case set(v.cluster):
			e.Source = FromCluster
		case set(v.static):
			e.Source = FromStatic
		default:
			e.Source = FromDefault
		}
	}
	return all
}

// DescribeGroup describes a group for which own was set, in order of name.
func (v *Values) DescribeGroup(own map[string]string) []Entry {
	g := v.Group(nil)
	var all []Entry
	for i := range Group().all {
		d := &Group().all[i]
		value := Format(g.value(d.Name))
		e := Entry{Name: d.Name, Kind: d.Kind, Doc: d.Doc}
		if set, ok := own[d.Name]; ok {
			value = d.Canonical(set)
			e.Synonyms = append(e.Synonyms, Synonym{d.Name, &value, FromGroup})
		}
		e.Value = &value
		if name := groupSynonym(d.Name); name != "" {
			e.Synonyms = append(e.Synonyms, v.synonyms(name)...)
		} else {
			e.Synonyms = append(e.Synonyms, Synonym{d.Name, &d.Default, FromDefault})
		}
		e.Source = source(e.Synonyms)
		all = append(all, e)
	}
	return all
}

// DescribeClientMetrics describes a client metrics subscription for which own was set, in order of name.
func DescribeClientMetrics(own map[string]string) []Entry {
	var all []Entry
	for i := range ClientMetrics().all {
		d := &ClientMetrics().all[i]
		e := Entry{Name: d.Name, Kind: d.Kind, Doc: d.Doc, Value: &d.Default, Source: FromDefault}
		if set, ok := own[d.Name]; ok {
			value := d.Canonical(set)
			e.Value, e.Source = &value, FromClientMetrics
			e.Synonyms = []Synonym{{d.Name, &value, FromClientMetrics}}
		}
		all = append(all, e)
	}
	return all
}
