package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Values is what a broker's configurations are in effect. It is immutable.
type Values struct {
	static, cluster, node map[string]string // what was set; cluster and node may hold what is not known, which has no effect
	parsed                map[string]any    // every definition's value in effect; null ones are missing
	topic                 map[string]any    // every topic definition's value for a topic without own ones; null ones are missing
}

// New checks static configurations and makes values of them.
func New(static map[string]string) (*Values, error) {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(static)) {
		if err := CheckStatic(name, static[name]); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	v := &Values{static: maps.Clone(static)}
	v.compute()
	if err := v.checkSupported(); err != nil {
		return nil, err
	}
	if err := v.checkTogether(); err != nil {
		return nil, err
	}
	return v, nil
}

// CheckStatic tells what is wrong with one static configuration of a broker by itself.
func CheckStatic(name, value string) error {
	d, ok := LookupBroker(name)
	if !ok {
		return unknownName(name)
	}
	_, err := d.Parse(value)
	return err
}

func unknownName(name string) error {
	switch name {
	case "super.users", "allow.everyone.if.no.acl.found":
		return fmt.Errorf("%s: there is no authorizer yet that it could configure; remove it", name)
	}
	if near := Broker().Nearest(name); near != "" {
		return fmt.Errorf("%s is not a configuration of a broker; did you mean %s?", name, near)
	}
	return fmt.Errorf("%s is not a configuration of a broker", name)
}

// With gives the values with other dynamic configurations: those for all brokers and those for this one.
func (v *Values) With(cluster, node map[string]string) *Values {
	next := &Values{static: v.static, cluster: cluster, node: node}
	next.compute()
	return next
}

func (v *Values) compute() {
	v.parsed = map[string]any{}
	for i := range Broker().all {
		d := &Broker().all[i]
		if value, ok := v.set(d); ok {
			v.parsed[d.Name] = value
		} else if d.HasDefault() {
			v.parsed[d.Name] = mustParse(d)
		}
	}
	v.topic = map[string]any{}
	for i := range Topic().all {
		d := &Topic().all[i]
		if value, ok := v.topicDefault(d); ok {
			v.topic[d.Name] = value
		}
	}
}

// set is the value of the first layer that has a valid one. Dynamic values were valid when they were set; another version of the
// program may have set them.
func (v *Values) set(d *Def) (any, bool) {
	for i, layer := range []map[string]string{v.node, v.cluster, v.static} {
		if value, ok := layer[d.Name]; ok && (i == 2 || d.Dynamic()) {
			if parsed, err := d.Parse(value); err == nil {
				return parsed, true
			}
		}
	}
	return nil, false
}

func mustParse(d *Def) any {
	v, err := d.parse(d.Default)
	if err != nil {
		panic(fmt.Sprintf("default of %s: %v", d.Name, err))
	}
	return v
}

const (
	minute = int64(60_000)
	hour   = 60 * minute
)

func (v *Values) topicDefault(d *Def) (any, bool) {
	first := func(names ...string) int64 {
		for i, name := range names {
			if n, ok := v.parsed[name].(int64); ok {
				return n * []int64{1, minute, hour}[min(i, 2)]
			}
		}
		panic("no default of " + names[0])
	}
	switch d.Name {
	case "retention.ms":
		return max(first("log.retention.ms", "log.retention.minutes", "log.retention.hours"), -1), true
	case "segment.ms":
		return first("log.roll.ms", "", "log.roll.hours"), true
	case "segment.jitter.ms":
		return first("log.roll.jitter.ms", "", "log.roll.jitter.hours"), true
	case "flush.ms":
		if n, ok := v.parsed["log.flush.interval.ms"]; ok {
			return n, true
		}
		return v.parsed["log.flush.scheduler.interval.ms"], true
	}
	if name := topicSynonym(d.Name); name != "" {
		return v.parsed[name], true
	}
	if !d.HasDefault() {
		return nil, false
	}
	return mustParse(d), true
}

func get[T any](values map[string]any, name string, kinds ...Kind) T {
	value, ok := values[name].(T)
	if !ok {
		if d, known := Broker().Lookup(name); known && !d.HasDefault() && slices.Contains(kinds, d.Kind) {
			var zero T
			return zero
		}
		panic(fmt.Sprintf("configuration %s is %v (%T), not %v", name, values[name], values[name], kinds))
	}
	return value
}

// Int is the value of a number; 0 for null. It panics, like the other getters, if there is no such configuration of that kind.
func (v *Values) Int(name string) int { return int(get[int64](v.parsed, name, Int, Short, Long)) }

// Long is the value of a number; 0 for null.
func (v *Values) Long(name string) int64 { return get[int64](v.parsed, name, Int, Short, Long) }

// forever is longer than anything runs, and leaves room for sums.
const forever = 100 * 365 * 24 * time.Hour

// Millis makes milliseconds a duration. Kafka's "never" is often the largest number, which is more than a duration has room for.
func Millis(ms int64) time.Duration {
	return time.Duration(min(max(ms, -forever.Milliseconds()), forever.Milliseconds())) * time.Millisecond
}

// Millis is the value of a number of milliseconds.
func (v *Values) Millis(name string) time.Duration { return Millis(v.Long(name)) }

// Bool is the value of a switch.
func (v *Values) Bool(name string) bool { return get[bool](v.parsed, name, Bool) }

// Double is the value of a number with a fraction.
func (v *Values) Double(name string) float64 { return get[float64](v.parsed, name, Double) }

// String is the value of a text; "" for null.
func (v *Values) String(name string) string {
	return get[string](v.parsed, name, String, Class, Password)
}

// List is the value of a list; nil for null. It must not be changed.
func (v *Values) List(name string) []string { return get[[]string](v.parsed, name, List) }

// IsSet tells whether the configuration has a value that is not the default.
func (v *Values) IsSet(name string) bool {
	d, ok := Broker().Lookup(name)
	if !ok {
		panic("there is no configuration " + name)
	}
	_, ok = v.set(d)
	return ok
}

// Static is what was set statically, by name. It must not be changed.
func (v *Values) Static() map[string]string { return v.static }

// Listener is the value for one listener as it is written: of listener.name.NAME.CONFIG, if that is set, else of CONFIG; "" for null.
func (v *Values) Listener(listener, name string) string {
	full := listenerPrefix + strings.ToLower(listener) + "." + name
	for _, layer := range []map[string]string{v.node, v.cluster, v.static} {
		if value, ok := layer[full]; ok {
			return value
		}
	}
	if value, ok := v.parsed[name]; ok {
		return Format(value)
	}
	return ""
}

// ListenerLong is the value of a number for one listener; that for all if the one for it is not a number.
func (v *Values) ListenerLong(listener, name string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(v.Listener(listener, name)), 10, 64)
	if err != nil {
		return v.Long(name)
	}
	return n
}

// TopicValues are the configurations of one topic in effect.
type TopicValues struct {
	own, base map[string]any
}

// Topic gives the configurations of a topic for which own was set.
func (v *Values) Topic(own map[string]string) TopicValues {
	t := TopicValues{base: v.topic}
	if len(own) == 0 {
		return t
	}
	t.own = make(map[string]any, len(own))
	for name, value := range own {
		if d, ok := Topic().Lookup(name); ok {
			if parsed, err := d.parseOnce(value); err == nil {
				t.own[name] = parsed
			}
		}
	}
	return t
}

func (t TopicValues) value(name string) (any, bool) {
	if v, ok := t.own[name]; ok {
		return v, true
	}
	v, ok := t.base[name]
	return v, ok
}

func topicGet[T any](t TopicValues, name string) T {
	v, _ := t.value(name)
	typed, ok := v.(T)
	if !ok {
		panic(fmt.Sprintf("topic configuration %s is %v (%T)", name, v, v))
	}
	return typed
}

// Long is the value of a number.
func (t TopicValues) Long(name string) int64 { return topicGet[int64](t, name) }

// Bool is the value of a switch.
func (t TopicValues) Bool(name string) bool { return topicGet[bool](t, name) }

// Double is the value of a number with a fraction.
func (t TopicValues) Double(name string) float64 { return topicGet[float64](t, name) }

// String is the value of a text.
func (t TopicValues) String(name string) string { return topicGet[string](t, name) }

// List is the value of a list. It must not be changed.
func (t TopicValues) List(name string) []string { return topicGet[[]string](t, name) }

// Segment is the size of a segment: internal.segment.bytes if it is set, else segment.bytes.
func (t TopicValues) Segment() int64 {
	if v, ok := t.own["internal.segment.bytes"].(int64); ok {
		return v
	}
	return t.Long("segment.bytes")
}

// GroupValues are the configurations of one group in effect.
type GroupValues struct {
	own  map[string]any
	base *Values
}

// Group gives the configurations of a group for which own was set. A value out of the bounds that the broker has now becomes the
// nearest bound, as in Kafka.
func (v *Values) Group(own map[string]string) GroupValues {
	g := GroupValues{base: v}
	if len(own) == 0 {
		return g
	}
	g.own = make(map[string]any, len(own))
	for name, value := range own {
		d, ok := Group().Lookup(name)
		if !ok {
			continue
		}
		parsed, err := d.Parse(value)
		if err != nil {
			continue
		}
		if n, ok := parsed.(int64); ok {
			low, high := v.groupBounds(name)
			parsed = min(max(n, low), high)
		}
		g.own[name] = parsed
	}
	return g
}

func (g GroupValues) value(name string) any {
	if v, ok := g.own[name]; ok {
		return v
	}
	if broker := groupSynonym(name); broker != "" {
		return g.base.parsed[broker]
	}
	d, ok := Group().Lookup(name)
	if !ok {
		panic("there is no group configuration " + name)
	}
	return mustParse(d)
}

// Int is the value of a number.
func (g GroupValues) Int(name string) int { return int(g.value(name).(int64)) }

// Bool is the value of a switch.
func (g GroupValues) Bool(name string) bool { return g.value(name).(bool) }

// String is the value of a text.
func (g GroupValues) String(name string) string { return g.value(name).(string) }
