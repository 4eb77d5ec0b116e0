package config

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
)

// CheckTopic tells what is wrong with what is set for a topic.
func (v *Values) CheckTopic(own map[string]string) error {
	names := slices.Sorted(maps.Keys(own))
	for _, name := range names {
		if _, ok := Topic().Lookup(name); !ok {
			return refuse("Unknown topic config name: %s", name)
		}
	}
	for _, name := range names {
		if _, err := Topic().byName[name].parseOnce(own[name]); err != nil {
			return err
		}
	}
	t := v.Topic(own)
	if low, high := t.Long("min.compaction.lag.ms"), t.Long("max.compaction.lag.ms"); low > high {
		return refuse("conflict topic config setting min.compaction.lag.ms (%d) > max.compaction.lag.ms (%d)", low, high)
	}
	if t.Bool("remote.storage.enable") {
		return refuse("Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.")
	}
	return nil
}

// groupBounds are what the broker allows a group's value to be.
func (v *Values) groupBounds(name string) (low, high int64) {
	low, high = math.MinInt64, math.MaxInt64
	kind, rest, _ := strings.Cut(name, ".")
	if n, ok := v.parsed["group."+kind+".min."+rest].(int64); ok {
		low = n
	}
	if n, ok := v.parsed["group."+kind+".max."+rest].(int64); ok {
		high = n
	}
	if name == "streams.num.standby.replicas" {
		high = v.Long("group.streams.max.standby.replicas")
	}
	return low, high
}

// CheckGroup tells what is wrong with what is set for a group.
func (v *Values) CheckGroup(own map[string]string) error {
	names := slices.Sorted(maps.Keys(own))
	for _, name := range names {
		if _, ok := Group().Lookup(name); !ok {
			return refuse("Unknown group config name: %s", name)
		}
	}
	for _, name := range names {
		if _, err := Group().byName[name].Parse(own[name]); err != nil {
			return err
		}
	}
	for _, name := range names {
		n, ok := mustValue(Group().byName[name], own[name]).(int64)
		if !ok {
			continue
		}
		kind, rest, _ := strings.Cut(name, ".")
		low, high := v.groupBounds(name)
		if n < low {
			return refuse("%s must be greater than or equal to group.%s.min.%s", name, kind, rest)
		}
		if n > high {
			return refuse("%s must be less than or equal to group.%s.max.%s", name, kind, strings.TrimPrefix(rest, "num."))
		}
	}
	g := GroupValues{base: v, own: map[string]any{}}
	for _, name := range names {
		g.own[name] = mustValue(Group().byName[name], own[name])
	}
	for _, kind := range []string{"consumer", "share", "streams"} {
		session, heartbeat := kind+".session.timeout.ms", kind+".heartbeat.interval.ms"
		if (g.own[session] != nil || g.own[heartbeat] != nil) && g.Int(session) <= g.Int(heartbeat) {
			return refuse("%s must be greater than %s", session, heartbeat)
		}
	}
	return nil
}

// mustValue is a value that was checked.
func mustValue(d *Def, value string) any {
	v, err := d.parse(value)
	if err != nil {
		panic(fmt.Sprintf("%s: %v after it was checked", d.Name, err))
	}
	return v
}

// clientAttributes are what a client metrics subscription can match.
var clientAttributes = [...]string{
	"client_instance_id", "client_id", "client_software_name", "client_software_version", "client_source_address", "client_source_port",
}

// CheckClientMetrics tells what is wrong with what is set for a client metrics subscription.
func CheckClientMetrics(own map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(own)) {
		d, ok := ClientMetrics().Lookup(name)
		if !ok {
			return &Error{Message: "Unknown client metrics configuration: " + name, BadRequest: true}
		}
		parsed, err := d.Parse(own[name])
		if err != nil {
			return err
		}
		switch name {
		case "interval.ms":
			if n := parsed.(int64); n < 100 || n > 3_600_000 {
				return &Error{Message: fmt.Sprintf("Invalid value %d for interval.ms, interval must be between 100 and 3600000 (1 hour)", n), BadRequest: true}
			}
		case "match":
			for _, m := range parsed.([]string) {
				attribute, pattern, ok := strings.Cut(m, "=")
				if !ok || !slices.Contains(clientAttributes[:], strings.TrimSpace(attribute)) {
					return refuse("Illegal client matching pattern: %s", m)
				}
				if _, err := regexp.Compile(strings.TrimSpace(pattern)); err != nil {
					return refuse("Illegal client matching pattern: %s", m)
				}
			}
		}
	}
	return nil
}

// listenerConfig tells whether a configuration is one that Kafka changes of running listeners and this broker does not: they would have
// to be bound again. Keys and certificates of single listeners are changed. Those of Kerberos, which is not served, change without effect.
func listenerConfig(d *Def, name string) bool {
	return d.Flags&PerBroker != 0 && d.Name != "cordoned.log.dirs" && !strings.HasPrefix(d.Name, "sasl.kerberos.") && (d.Name == name || !strings.HasPrefix(d.Name, "ssl."))
}

// Next gives the values with other dynamic configurations of this broker (perBroker), or of all.
func (v *Values) Next(next map[string]string, perBroker bool) *Values {
	if perBroker {
		return v.With(v.cluster, next)
	}
	return v.With(next, v.node)
}

// CheckDynamic tells what is wrong with the dynamic configurations next of one broker (perBroker), or of all. Names that are not known
// are stored without effect, as in Kafka.
func (v *Values) CheckDynamic(next map[string]string, perBroker bool) error {
	bad := func(format string, args ...any) error {
		return &Error{Message: fmt.Sprintf(format, args...), BadRequest: true}
	}
	names := slices.Sorted(maps.Keys(next))
	var fixed, secure, single []string
	for _, name := range names {
		d, ok := lookupDynamic(name)
		switch {
		case !ok:
		case !d.Dynamic():
			fixed = append(fixed, name)
		case d.Name == name && securityConfig(name):
			secure = append(secure, name)
		case listenerConfig(d, name) && next[name] != v.static[name]:
			fixed = append(fixed, name)
		case d.Flags&PerBroker != 0 && !perBroker:
			single = append(single, name)
		}
	}
	if len(fixed) > 0 {
		return bad("Cannot update these configs dynamically: %s", text(fixed))
	}
	if len(secure) > 0 {
		return bad("These security configs can be dynamically updated only per-listener using the listener prefix: %s", text(secure))
	}
	for _, name := range names {
		d, ok := lookupDynamic(name)
		if !ok {
			continue
		}
		if _, err := d.Parse(next[name]); err != nil {
			return bad("%v", err)
		}
	}
	if len(single) > 0 {
		return bad("Cannot update these configs at default cluster level, broker id must be specified: %s", text(single))
	}
	if err := v.Next(next, perBroker).changeFrom(v); err != nil {
		return bad("Invalid value org.apache.kafka.common.config.ConfigException: %v for configuration Invalid dynamic configuration", err)
	}
	return nil
}

// securityConfig tells whether a configuration of TLS can be changed for single listeners only.
func securityConfig(name string) bool {
	return strings.HasPrefix(name, "ssl.keystore.") || strings.HasPrefix(name, "ssl.truststore.") || name == "ssl.key.password"
}

// changeFrom tells why a running broker cannot go from the values before to these.
func (v *Values) changeFrom(before *Values) error {
	for _, name := range []string{"num.io.threads", "num.network.threads", "num.recovery.threads.per.data.dir", "num.replica.fetchers", "background.threads",
		"remote.log.reader.threads", "remote.log.manager.copier.thread.pool.size", "remote.log.manager.expiration.thread.pool.size",
		"remote.log.manager.follower.thread.pool.size"} {
		now, next := before.Long(name), v.Long(name)
		switch {
		case next > 2*now:
			return refuse("Dynamic thread count update validation failed for %s=%d, value should not be greater than double the current value %d", name, next, now)
		case next < now/2:
			return refuse("Dynamic thread count update validation failed for %s=%d, value should be at least half the current value %d", name, next, now)
		}
	}
	if d, _ := Broker().Lookup("metric.reporters"); !slices.Equal(v.List(d.Name), before.List(d.Name)) && len(v.List(d.Name)) > 0 && Format(v.List(d.Name)) != d.Default {
		return refuse("Java classes cannot be loaded: metric.reporters can only be %s", d.Default)
	}
	if next, now := v.Long("log.cleaner.threads"), before.Long("log.cleaner.threads"); next != now {
		switch {
		case next < 1:
			return refuse("Log cleaner threads should be at least 1")
		case next < now/2:
			return refuse("Log cleaner threads cannot be reduced to less than half the current value %d", now)
		case next > 2*now:
			return refuse("Log cleaner threads cannot be increased to more than double the current value %d", now)
		}
	}
	for _, pair := range [][2]string{{"log.local.retention.ms", "retention.ms"}, {"log.local.retention.bytes", "retention.bytes"}} {
		local, total := v.Long(pair[0]), v.topic[pair[1]].(int64)
		if local == -2 || v.Long(pair[0]) == before.Long(pair[0]) && total == before.topic[pair[1]] {
			continue
		}
		if total != -1 && local == -1 {
			return refuse("Invalid value %d for configuration %s: Value must not be -1 as log.%s value is set as %d.", local, pair[0], pair[1], total)
		}
		if total != -1 && local > total {
			return refuse("Invalid value %d for configuration %s: Value must not be more than log.%s property value: %d", local, pair[0], pair[1], total)
		}
	}
	return v.checkTogether()
}

// checkTogether finds values that Kafka does not run with though each is valid.
func (v *Values) checkTogether() error {
	if v.topic["retention.ms"].(int64) == 0 {
		return refuse("requirement failed: log.retention.ms must be unlimited (-1) or, equal or greater than 1")
	}
	if v.topic["segment.ms"].(int64) < 1 {
		return refuse("requirement failed: log.roll.ms must be greater than or equal to 1")
	}
	if v.topic["segment.jitter.ms"].(int64) < 0 {
		return refuse("requirement failed: log.roll.jitter.ms must be greater than or equal to 0")
	}
	if threads := v.Long("log.cleaner.threads"); threads > 0 && v.Long("log.cleaner.dedupe.buffer.size")/threads <= 1<<20 {
		return refuse("requirement failed: log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.")
	}
	if v.Long("max.connections.per.ip") == 0 && v.String("max.connections.per.ip.overrides") == "" {
		return refuse("requirement failed: max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set.")
	}
	for _, kind := range []string{"consumer", "share", "streams"} {
		for _, name := range []string{"session.timeout.ms", "heartbeat.interval.ms", "assignment.interval.ms"} {
			low, n, high := "group."+kind+".min."+name, "group."+kind+"."+name, "group."+kind+".max."+name
			if v.Long(high) < v.Long(low) {
				return refuse("requirement failed: %s must be greater than or equal to %s", high, low)
			}
			if v.Long(n) < v.Long(low) {
				return refuse("requirement failed: %s must be greater than or equal to %s", n, low)
			}
			if v.Long(n) > v.Long(high) {
				return refuse("requirement failed: %s must be less than or equal to %s", n, high)
			}
		}
	}
	return nil
}
