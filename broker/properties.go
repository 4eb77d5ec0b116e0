package broker

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/config"
)

// withProperties gives the fields that have a name in Kafka their values from Properties.
func (c *Config) withProperties() error {
	if _, err := config.New(c.Properties); err != nil {
		return err
	}
	var errs []error
	// number makes a field and a property the same; zero of the field is "not set". back gives the property its form.
	number := func(name, field string, get func() int64, set func(int64)) {
		value, ok := c.Properties[name]
		if !ok {
			return
		}
		n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		if err != nil {
			errs = append(errs, fmt.Errorf("property %s is %q, which is not a whole number", name, value))
			return
		}
		if now := get(); now != 0 && now != n {
			errs = append(errs, fmt.Errorf("%s is %d and the property %s is %d: set one of them", field, now, name, n))
			return
		}
		set(n)
	}
	i32 := func(name, field string, p *int32) {
		number(name, field, func() int64 { return int64(*p) }, func(n int64) { *p = int32(n) })
	}
	whole := func(name, field string, p *int) {
		number(name, field, func() int64 { return int64(*p) }, func(n int64) { *p = int(n) })
	}
	millis := func(name, field string, p *time.Duration) {
		number(name, field, p.Milliseconds, func(n int64) { *p = config.Millis(n) })
	}
	i32("broker.id", "NodeID", &c.NodeID)
	i32("node.id", "NodeID", &c.NodeID)
	i32("num.partitions", "DefaultPartitions", &c.DefaultPartitions)
	i32("offsets.topic.num.partitions", "OffsetsPartitions", &c.OffsetsPartitions)
	i32("transaction.state.log.num.partitions", "TxnPartitions", &c.TxnPartitions)
	i32("fetch.max.bytes", "Limits.FetchMaxBytes", &c.Limits.FetchMaxBytes)
	whole("max.connections", "Limits.Connections", &c.Limits.Connections)
	if n := &c.Limits.RequestBytes; c.Properties["queued.max.request.bytes"] != "-1" {
		number("queued.max.request.bytes", "Limits.RequestBytes", func() int64 { return *n }, func(v int64) { *n = v })
	}
	whole("socket.request.max.bytes", "Limits.FrameBytes", &c.Limits.FrameBytes)
	millis("connections.max.idle.ms", "Limits.Idle", &c.Limits.Idle)
	millis("group.initial.rebalance.delay.ms", "GroupInitialDelay", &c.GroupInitialDelay)
	if v, ok := c.Properties["auto.create.topics.enable"]; ok {
		create := strings.EqualFold(strings.TrimSpace(v), "true")
		if create && c.NoAutoCreate {
			errs = append(errs, errors.New("NoAutoCreate is set and the property auto.create.topics.enable is true: set one of them"))
		}
		c.NoAutoCreate = !create
	}
	values, err := config.New(c.Properties)
	if err != nil {
		return err
	}
	if dir := values.LogDir(); dir != "" {
		if c.DataDir != "" && c.DataDir != dir {
			errs = append(errs, fmt.Errorf("DataDir is %s and the property log.dirs is %s: set one of them", c.DataDir, dir))
		}
		c.DataDir = dir
	}
	errs = append(errs, c.listenersFrom(values))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	c.defaults()
	return nil
}

// static is what Kafka's tools are shown as the static configuration: Properties, and what follows from fields.
func (c *Config) static() map[string]string {
	static := maps.Clone(c.Properties)
	if static == nil {
		static = map[string]string{}
	}
	set := func(name string, n int64) { static[name] = strconv.FormatInt(n, 10) }
	set("node.id", int64(c.NodeID))
	set("broker.id", int64(c.NodeID))
	set("num.partitions", int64(c.DefaultPartitions))
	set("offsets.topic.num.partitions", int64(c.OffsetsPartitions))
	set("transaction.state.log.num.partitions", int64(c.TxnPartitions))
	set("group.initial.rebalance.delay.ms", c.GroupInitialDelay.Milliseconds())
	static["auto.create.topics.enable"] = strconv.FormatBool(!c.NoAutoCreate)
	unset := func(name, value string) {
		if _, ok := static[name]; !ok {
			static[name] = value
		}
	}
	// One node: what Kafka's defaults want of three cannot be.
	for _, name := range []string{
		"offsets.topic.replication.factor", "transaction.state.log.replication.factor", "transaction.state.log.min.isr",
		"share.coordinator.state.topic.replication.factor", "share.coordinator.state.topic.min.isr",
	} {
		unset(name, "1")
	}
	unset("share.coordinator.state.topic.num.partitions", strconv.Itoa(defaultInternalPartitions))
	unset("process.roles", "broker,controller")
	unset("controller.listener.names", "CONTROLLER")
	if c.DataDir != "" {
		static["log.dirs"] = c.DataDir
		delete(static, "log.dir")
	}
	var listeners, protocols []string
	for _, l := range c.allListeners() {
		listeners = append(listeners, l.Name+"://"+l.Address)
		protocols = append(protocols, l.Name+":"+l.protocol())
	}
	if len(listeners) > 0 {
		unset("listeners", strings.Join(listeners, ","))
		unset("listener.security.protocol.map", strings.Join(protocols, ","))
	}
	limits := func(name string, n int64) {
		if n > 0 {
			unset(name, strconv.FormatInt(n, 10))
		}
	}
	limits("fetch.max.bytes", int64(c.Limits.FetchMaxBytes))
	limits("max.connections", int64(c.Limits.Connections))
	limits("socket.request.max.bytes", int64(c.Limits.FrameBytes))
	limits("queued.max.request.bytes", c.Limits.RequestBytes)
	limits("connections.max.idle.ms", c.Limits.Idle.Milliseconds())
	if c.Limits.Idle < 0 {
		unset("connections.max.idle.ms", "-1")
	}
	return static
}

// PropertyNames yields the names that Config.Properties may have, in order. There are besides these names for single listeners,
// listener.name.NAME.CONFIG.
func PropertyNames() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, d := range config.Broker().All() {
			if !yield(d.Name) {
				return
			}
		}
	}
}

// CheckProperty tells what is wrong with one property: a name that Kafka does not know, with the one that it is most like, or a value
// that it does not take.
func CheckProperty(name, value string) error { return config.CheckStatic(name, value) }
