package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// checkSupported finds what asks for something that this broker has not, so that going on without it would deceive.
func (v *Values) checkSupported() error {
	var errs []error
	fail := func(name, why string) {
		errs = append(errs, fmt.Errorf("%s=%s: %s", name, v.shown(name), why))
	}
	for name, why := range map[string]string{
		"authorizer.class.name":                 "access control lists are not supported yet, and a broker without them would let everybody do everything; remove it to go on without",
		"alter.config.policy.class.name":        "Java classes cannot be loaded, so the policy would not be followed",
		"create.topic.policy.class.name":        "Java classes cannot be loaded, so the policy would not be followed",
		"client.quota.callback.class":           "Java classes cannot be loaded, so the quotas would not be those of the class",
		"delegation.token.secret.key":           "delegation tokens are not supported",
		"sasl.server.callback.handler.class":    "Java classes cannot be loaded, so users would not be checked by it",
		"security.providers":                    "Java classes cannot be loaded",
		"ssl.engine.factory.class":              "Java classes cannot be loaded",
		"remote.log.storage.manager.class.name": "tiered storage is not supported",
	} {
		if v.String(name) != "" {
			fail(name, why)
		}
	}
	for _, name := range []string{"config.providers", "kafka.metrics.reporters", "cordoned.log.dirs"} {
		if len(v.List(name)) > 0 {
			fail(name, "it is not supported")
		}
	}
	for _, name := range []string{"remote.log.storage.system.enable", "transaction.two.phase.commit.enable", "unstable.api.versions.enable", "unstable.feature.versions.enable"} {
		if v.Bool(name) {
			fail(name, "it is not supported")
		}
	}
	if !v.Bool("log.cleaner.enable") {
		fail("log.cleaner.enable", "the internal topics would grow without end")
	}
	if d, _ := Broker().Lookup("principal.builder.class"); v.String(d.Name) != d.Default {
		fail(d.Name, "Java classes cannot be loaded")
	}
	if d, _ := Broker().Lookup("metric.reporters"); len(v.List(d.Name)) > 0 && Format(v.List(d.Name)) != d.Default {
		fail(d.Name, "Java classes cannot be loaded; metrics are at /metrics")
	}
	if protocols := v.List("group.coordinator.rebalance.protocols"); !slices.Contains(protocols, "classic") || !slices.Contains(protocols, "consumer") {
		fail("group.coordinator.rebalance.protocols", "classic and consumer groups cannot be turned off")
	}
	if a := v.List("group.share.assignors"); !slices.Equal(a, []string{"simple"}) {
		fail("group.share.assignors", "the only assignor is simple")
	}
	for _, name := range []string{"group.share.persister.class.name", "sasl.oauthbearer.jwt.validator.class"} {
		if d, _ := Broker().Lookup(name); v.String(name) != d.Default {
			fail(name, "Java classes cannot be loaded")
		}
	}
	if v.String("ssl.principal.mapping.rules") != "DEFAULT" {
		fail("ssl.principal.mapping.rules", "rules are not supported; principals are distinguished names")
	}
	for _, name := range []string{"offsets.topic.replication.factor", "transaction.state.log.replication.factor",
		"share.coordinator.state.topic.replication.factor", "default.replication.factor", "transaction.state.log.min.isr", "share.coordinator.state.topic.min.isr"} {
		if v.IsSet(name) && v.Long(name) > 1 {
			fail(name, "there is one broker; set it to 1")
		}
	}
	if roles := v.List("process.roles"); len(roles) > 0 && (!slices.Contains(roles, "broker") || !slices.Contains(roles, "controller")) {
		fail("process.roles", "this program is always broker and controller; set it to broker,controller or remove it")
	}
	if dirs := v.List("log.dirs"); len(dirs) > 1 {
		fail("log.dirs", "one directory is supported")
	}
	if dirs := v.List("log.dir"); len(dirs) > 1 {
		fail("log.dir", "one directory is supported")
	}
	if dir := v.String("metadata.log.dir"); dir != "" && dir != v.LogDir() {
		fail("metadata.log.dir", "the metadata log is always in log.dirs")
	}
	if id := v.Long("broker.id"); v.IsSet("broker.id") && v.IsSet("node.id") && id != v.Long("node.id") {
		fail("broker.id", "it is not node.id, which is "+v.shown("node.id"))
	}
	voters := v.List("controller.quorum.voters")
	if len(voters) > 1 || len(voters) == 1 && v.IsSet("node.id") && !strings.HasPrefix(voters[0], strconv.FormatInt(v.Long("node.id"), 10)+"@") {
		fail("controller.quorum.voters", "the only voter is this node")
	}
	if len(v.List("controller.quorum.bootstrap.servers")) > 1 {
		fail("controller.quorum.bootstrap.servers", "the only voter is this node")
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// shown is a value as it may be printed.
func (v *Values) shown(name string) string {
	if d, ok := Broker().Lookup(name); ok && d.Sensitive() {
		return "[hidden]"
	}
	return Format(v.parsed[name])
}

// LogDir is the directory of the logs: log.dirs, or else log.dir; "" if neither is set.
func (v *Values) LogDir() string {
	for _, name := range []string{"log.dirs", "log.dir"} {
		if v.IsSet(name) {
			return v.List(name)[0]
		}
	}
	return ""
}
