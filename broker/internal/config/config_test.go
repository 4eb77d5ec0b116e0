package config

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestValuesAreCheckedAsByKafka compares every answer with that of Kafka 4.3.1's definitions: resource, name, value, "ok" and the
// value as it is shown, or "error" and the message.
func TestValuesAreCheckedAsByKafka(t *testing.T) {
	data, err := os.ReadFile("testdata/kafka-4.3.1.tsv")
	require.NoError(t, err)
	sets := map[string]*Set{"broker": Broker(), "topic": Topic(), "group": Group(), "client-metrics": ClientMetrics()}
	seen := map[string]map[string]bool{}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		require.Len(t, f, 5, line)
		d, ok := sets[f[0]].Lookup(f[1])
		require.True(t, ok, f[1])
		if seen[f[0]] == nil {
			seen[f[0]] = map[string]bool{}
		}
		seen[f[0]][f[1]] = true
		v, err := d.Parse(f[2])
		switch {
		case f[3] == "ok" && err != nil, f[3] == "error" && err == nil:
			t.Errorf("%s=%q: got error %v, want %s", f[1], f[2], err, f[3:])
		case err != nil && err.Error() != f[4]:
			t.Errorf("%s=%q:\n got %v\nwant %s", f[1], f[2], err, f[4])
		case err == nil && Format(v) != f[4]:
			t.Errorf("%s=%q: got %q, want %q", f[1], f[2], Format(v), f[4])
		}
	}
	require.Len(t, Topic().All(), 34, "33 and internal.segment.bytes")
	require.Len(t, Broker().All(), 360)
	require.Len(t, Group().All(), 17)
	require.Len(t, ClientMetrics().All(), 3)
}

func TestEveryDefinitionIsDocumented(t *testing.T) {
	for _, s := range []*Set{Broker(), Topic(), Group(), ClientMetrics()} {
		for _, d := range s.All() {
			require.NotEmpty(t, d.Doc, d.Name)
			if d.HasDefault() {
				_, err := d.Parse(d.Default)
				require.NoError(t, err, d.Name)
			}
		}
	}
	for _, d := range Topic().All() {
		if name := topicSynonym(d.Name); name != "" {
			_, ok := Broker().Lookup(name)
			require.True(t, ok, name)
		}
	}
}

func values(t *testing.T, static map[string]string) *Values {
	v, err := New(static)
	require.NoError(t, err)
	return v
}

func TestLayers(t *testing.T) {
	v := values(t, map[string]string{"log.retention.hours": "1", "message.max.bytes": "10"})
	require.EqualValues(t, 3_600_000, v.Topic(nil).Long("retention.ms"))
	require.EqualValues(t, 10, v.Topic(nil).Long("max.message.bytes"))
	v = v.With(map[string]string{"log.retention.ms": "5", "message.max.bytes": "20", "unknown": "x"}, nil)
	require.EqualValues(t, 5, v.Topic(nil).Long("retention.ms"))
	require.EqualValues(t, 20, v.Int("message.max.bytes"))
	v = v.With(map[string]string{"message.max.bytes": "20"}, map[string]string{"message.max.bytes": "30"})
	require.EqualValues(t, 30, v.Topic(nil).Long("max.message.bytes"))
	require.EqualValues(t, 7, v.Topic(map[string]string{"max.message.bytes": " 7 "}).Long("max.message.bytes"))
	require.EqualValues(t, 3_600_000, v.Topic(nil).Long("retention.ms"))
}

func TestGroupsStayWithinTheBrokersBounds(t *testing.T) {
	v := values(t, nil)
	own := map[string]string{"consumer.session.timeout.ms": "50000"}
	require.NoError(t, v.CheckGroup(own))
	require.Equal(t, 50000, v.Group(own).Int("consumer.session.timeout.ms"))
	require.Equal(t, 45000, v.Group(nil).Int("consumer.session.timeout.ms"))
	v = values(t, map[string]string{"group.consumer.max.session.timeout.ms": "45000"})
	require.Equal(t, 45000, v.Group(own).Int("consumer.session.timeout.ms"))
	require.EqualError(t, v.CheckGroup(own), "consumer.session.timeout.ms must be less than or equal to group.consumer.max.session.timeout.ms")
	require.Equal(t, "latest", v.Group(nil).String("share.auto.offset.reset"))
	require.True(t, v.Group(nil).Bool("share.renew.acknowledge.enable"))
}

func TestWhatIsNotSupportedIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ name, value, want string }{
		"authorizer":  {"authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "access control lists are not supported yet"},
		"policy":      {"create.topic.policy.class.name", "com.example.Policy", "Java classes cannot be loaded"},
		"tiers":       {"remote.log.storage.system.enable", "true", "not supported"},
		"directories": {"log.dirs", "/a,/b", "one directory"},
		"replicas":    {"offsets.topic.replication.factor", "3", "there is one broker"},
		"voters":      {"controller.quorum.voters", "1@a:1,2@b:1", "the only voter is this node"},
		"role":        {"process.roles", "broker", "always broker and controller"},
		"misspelt":    {"log.retention.hour", "5", "did you mean log.retention.hours?"},
		"unknown":     {"zzz", "5", "zzz is not a configuration of a broker"},
		"super users": {"super.users", "User:a", "no authorizer"},
		"value":       {"num.partitions", "0", "Value must be at least 1"},
		"together":    {"log.retention.ms", "0", "must be unlimited (-1) or"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(map[string]string{c.name: c.value})
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, c.name)
		})
	}
}

func TestDurations(t *testing.T) {
	d, err := ParseDuration("P1DT2H3M4.5S")
	require.NoError(t, err)
	require.Equal(t, 26*time.Hour+3*time.Minute+4500*time.Millisecond, d)
	_, err = ParseDuration("P9999999999999D")
	require.Error(t, err)
}

func FuzzParse(f *testing.F) {
	f.Add("share.auto.offset.reset", "by_duration:P1DT1.5S")
	f.Add("cleanup.policy", "a,,b")
	f.Fuzz(func(t *testing.T, name, value string) {
		for _, s := range []*Set{Broker(), Topic(), Group(), ClientMetrics()} {
			d, ok := s.Lookup(name)
			if !ok {
				continue
			}
			if v, err := d.Parse(value); err == nil {
				_, err := d.Parse(Format(v)) // what is shown can be set
				require.NoError(t, err)
			}
		}
	})
}
