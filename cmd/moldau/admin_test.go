package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
)

func TestTopicsAreAltered(t *testing.T) {
	ok, fails, _ := cluster(t)
	ok("", "topics", "create", "a", "-p", "2", "--config", "retention.ms=1000")
	require.Equal(t, "changed a\n", ok("", "topics", "alter", "a", "-p", "3", "--config", "cleanup.policy=compact", "--unset", "retention.ms"))
	require.Regexp(t, `^NAME +VALUE +FROM\ncleanup.policy +compact +topic\n$`, ok("", "topics", "configs", "a"))
	require.Regexp(t, `(?m)^retention.ms +604800000 +default$`, ok("", "topics", "configs", "--all", "a"))
	require.Equal(t, 3, strings.Count(ok("", "topics", "describe", "a", "--json"), `"topic":"a"`))

	require.Contains(t, fails("", "topics", "alter", "a", "-p", "2"), "add partitions to topic a: INVALID_PARTITIONS")
	require.Contains(t, fails("", "topics", "alter", "a", "--config", "no.such=1"), "change the configuration of topic/a: INVALID_CONFIG")
	require.Contains(t, fails("", "topics", "alter", "nowhere", "-p", "2"), "topic nowhere doesn't exist")
	require.Equal(t, "would change a\n", ok("", "topics", "alter", "a", "-p", "9", "--dry-run"))
	require.Equal(t, 3, strings.Count(ok("", "topics", "describe", "a", "--json"), `"topic":"a"`))
}

func TestConfigsAreSetAppendedAndUnset(t *testing.T) {
	ok, fails, _ := cluster(t)
	ok("", "topics", "create", "a")
	require.Equal(t, "changed topic/a\n", ok("", "configs", "set", "topic/a", "cleanup.policy=compact"))
	ok("", "configs", "set", "topic/a", "cleanup.policy=delete", "--append")
	require.Regexp(t, `(?m)^cleanup.policy +compact,delete +topic$`, ok("", "configs", "describe", "topic/a"))
	ok("", "configs", "set", "topic/a", "cleanup.policy=compact", "--subtract")
	require.JSONEq(t, `{"resource":"topic/a","name":"cleanup.policy","value":"delete","source":"topic","read_only":false}`,
		ok("", "configs", "describe", "topic/a", "--json"))
	ok("", "configs", "unset", "topic/a", "cleanup.policy")
	require.Equal(t, "NAME  VALUE  FROM\n", ok("", "configs", "describe", "topic/a"))
	require.Contains(t, fails("", "configs", "describe", "topic/nowhere"), "describe the configuration of topic/nowhere: UNKNOWN_TOPIC_OR_PARTITION")
}

// commit commits offsets as a group without members would.
func commit(t *testing.T, b *broker.Broker, group, topic string, offsets map[int32]int64) {
	c := client(t, b, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit())
	c.PollFetches(t.Context()) // join
	commits := map[string]map[int32]kgo.EpochOffset{topic: {}}
	for p, o := range offsets {
		commits[topic][p] = kgo.EpochOffset{Epoch: -1, Offset: o}
	}
	c.CommitOffsetsSync(t.Context(), commits, nil)
	require.NoError(t, c.LeaveGroupContext(t.Context()))
	c.Close()
}

func TestGroupsAreDescribedResetAndDeleted(t *testing.T) {
	ok, fails, b := cluster(t)
	ok("", "topics", "create", "a", "-p", "2")
	for i := range 2 {
		ok("1\n2\n3\n4\n", "produce", "-t", "a", "-p", fmt.Sprint(i), "--timestamp", fmt.Sprint(1700000000000+i*1000))
	}
	commit(t, b, "g", "a", map[int32]int64{0: 1, 1: 4})

	require.Equal(t, "g\n", ok("", "groups", "list"))
	require.Regexp(t, `^GROUP +TYPE +STATE +PROTOCOL +COORDINATOR\ng +classic +Empty +consumer +1\n$`, ok("", "groups", "list", "-l"))
	require.Empty(t, ok("", "groups", "list", "--state", "Stable"))
	require.Regexp(t, `^group g  type classic  state Empty  coordinator 1
  TOPIC +PARTITION +OFFSET +END +LAG.*
  a +0 +1 +4 +3 *
  a +1 +4 +4 +0 *
$`, ok("", "groups", "describe", "g"))

	lag := func() (lags []string) {
		for line := range strings.Lines(ok("", "groups", "describe", "g", "--json")) {
			var r lagRow
			require.NoError(t, json.Unmarshal([]byte(line), &r))
			lags = append(lags, fmt.Sprintf("%s/%d at %d of %d", r.Topic, r.Partition, *r.Offset, *r.End))
		}
		return lags
	}
	reset := func(args ...string) { ok("", append([]string{"groups", "reset-offsets", "g"}, args...)...) }
	reset("--all-topics", "--to", "beginning") // only shows
	require.Equal(t, []string{"a/0 at 1 of 4", "a/1 at 4 of 4"}, lag())
	reset("--all-topics", "--to", "+2", "--execute")
	require.Equal(t, []string{"a/0 at 3 of 4", "a/1 at 4 of 4"}, lag())
	reset("--topic", "a:1", "--to", "beginning", "--execute")
	require.Equal(t, []string{"a/0 at 3 of 4", "a/1 at 0 of 4"}, lag())
	reset("--topic", "a", "--to", "@1700000000500", "--execute")
	require.Equal(t, []string{"a/0 at 4 of 4", "a/1 at 0 of 4"}, lag())
	reset("--topic", "a", "--to", "2", "--execute")
	require.Equal(t, []string{"a/0 at 2 of 4", "a/1 at 2 of 4"}, lag())

	require.Contains(t, fails("", "groups", "reset-offsets", "g", "-t", "a:7", "--to", "1"), "topic a has no partition 7")
	require.Contains(t, fails("", "groups", "describe", "nobody"), "group nobody doesn't exist")
	require.Equal(t, "deleted g\n", ok("", "groups", "delete", "g"))
	require.Contains(t, fails("", "groups", "delete", "g"), "group g doesn't exist")
}

func TestAGroupWithMembersIsNeitherResetNorDeleted(t *testing.T) {
	ok, fails, b := cluster(t)
	ok("x\n", "produce", "-t", "a", "--create")
	c := client(t, b, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("a"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.ClientID("reader"))
	require.NoError(t, c.PollFetches(t.Context()).Err())
	require.Regexp(t, `(?m)^  \S+ +reader +\S+ +a\[0\]$`, ok("", "groups", "describe", "-m", "g"))
	require.Contains(t, fails("", "groups", "reset-offsets", "g", "--topic", "a", "--to", "end", "--execute"), "stop them first")
	require.Contains(t, fails("", "groups", "delete", "g"), "delete group g: it has members; stop them first")
}

func TestTransactionsAreShown(t *testing.T) {
	ok, fails, b := cluster(t)
	ok("", "topics", "create", "a")
	c := client(t, b, kgo.TransactionalID("billing"), kgo.DefaultProduceTopic("a"))
	require.NoError(t, c.BeginTransaction())
	require.NoError(t, c.ProduceSync(t.Context(), kgo.StringRecord("x")).FirstErr())

	require.Regexp(t, `^ID +PRODUCER +STATE +COORDINATOR\nbilling +\d+ +Ongoing +1\n$`, ok("", "transactions", "list"))
	require.Empty(t, ok("", "transactions", "list", "--state", "Empty", "--json"))
	require.Empty(t, ok("", "transactions", "list", "--older-than", "1h", "--json"))
	require.Regexp(t, `(?m)^billing +\d+ +0 +Ongoing +\S+ +\S+ +a\[0\]$`, ok("", "transactions", "describe", "billing"))
	require.Contains(t, fails("", "transactions", "describe", "nothing"), "transactional id nothing doesn't exist")

	require.Contains(t, ok("", "transactions", "terminate", "billing"), "terminated billing;")
	require.Error(t, c.EndTransaction(t.Context(), kgo.TryCommit))
	require.Empty(t, ok("", "consume", "-t", "a", "--from-beginning", "-e"))
}

func TestRecordsAsJSON(t *testing.T) {
	ok, _, b := cluster(t)
	ok("", "topics", "create", "a")
	c := client(t, b)
	at := time.UnixMilli(1700000000123)
	require.NoError(t, c.ProduceSync(context.WithoutCancel(t.Context()),
		&kgo.Record{Topic: "a", Timestamp: at, Key: []byte("k"), Value: []byte(`<"v">`), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte{0xff}}, {Key: "n"}}},
		&kgo.Record{Topic: "a", Timestamp: at, Value: []byte{0, 0, 0, 0, 0, 0, 0, 7}},
	).FirstErr())
	lines := strings.Split(ok("", "consume", "-t", "a", "--from-beginning", "-e", "--json"), "\n")
	require.Equal(t, `{"topic":"a","partition":0,"offset":0,"timestamp":1700000000123,"key":"k","value":"<\"v\">","headers":[{"key":"h","value":{"base64":"/w=="}},{"key":"n","value":null}]}`, lines[0])
	require.JSONEq(t, `{"topic":"a","partition":0,"offset":1,"timestamp":1700000000123,"key":null,"value":7,"headers":[]}`,
		ok("", "consume", "-t", "a", "-o", "1", "-e", "--json", "--value-as", "int64"))
}

func TestAHangingTransactionIsFoundAndAborted(t *testing.T) {
	ok, fails, b := cluster(t)
	ok("", "topics", "create", "a")
	c := client(t, b, kgo.TransactionalID("left"), kgo.DefaultProduceTopic("a"))
	require.NoError(t, c.BeginTransaction())
	require.NoError(t, c.ProduceSync(t.Context(), kgo.StringRecord("x")).FirstErr())

	require.Regexp(t, `(?m)^a +0 +\d+ +0 +0 +\S+ +0$`, ok("", "transactions", "producers", "a"))
	require.Empty(t, ok("", "transactions", "hanging", "--idle", "0s", "--json"), "its coordinator knows it")
	require.Contains(t, fails("", "transactions", "abort", "a", "-p", "0", "--start-offset", "7"), "no transaction is open since offset 7")
	require.Contains(t, ok("", "transactions", "abort", "a", "-p", "0", "--start-offset", "0"), "aborted the transaction of producer")
	require.Empty(t, ok("", "consume", "-t", "a", "--from-beginning", "-e"))
}

func TestOffsetsOfAGroupAreDeleted(t *testing.T) {
	ok, fails, b := cluster(t)
	ok("x\n", "produce", "-t", "a", "--create")
	commit(t, b, "g", "a", map[int32]int64{0: 1})
	require.Contains(t, fails("", "groups", "delete-offsets", "g", "-t", "other"), "group g has no offsets of topic other there")
	require.Equal(t, "deleted the offsets of a [0]\n", ok("", "groups", "delete-offsets", "g", "-t", "a"))
	require.Empty(t, ok("", "groups", "list", "--state", "Stable"))
}

func TestUsersLogInWithThePasswordThatWasSet(t *testing.T) {
	certs := brokertest.NewCertificates(t)
	b := brokertest.New(t, brokertest.TCP(), brokertest.TLS(certs), brokertest.SASL(map[string]string{"admin": "secret"}))
	plain, secured := b.Addrs()[0], b.Addrs()[1]
	run := func(code int, args ...string) string {
		t.Helper()
		r := moldau(t, "", environment{"MOLDAU_SASL_PASSWORD": "let me in"}, args...)
		require.Equal(t, code, r.code, r.stderr)
		return r.stdout + r.stderr
	}
	at := func(args ...string) []string {
		return append([]string{"-b", secured, "--tls-skip-verify", "--sasl-mechanism", "SCRAM-SHA-512", "--sasl-user", "alice"}, args...)
	}
	refused := run(1, append([]string{"topics", "list"}, at()...)...)
	require.Contains(t, refused, "check the --tls and --sasl flags")

	set := moldau(t, "let me in\n", nil, "users", "set", "alice", "--mechanism", "SCRAM-SHA-512", "-b", plain)
	require.Equal(t, "set alice for SCRAM-SHA-512\n", set.stdout, set.stderr)
	require.Regexp(t, `(?m)^alice +SCRAM-SHA-512 +8192$`, run(0, append([]string{"users", "list"}, at()...)...))
	require.Contains(t, run(1, append([]string{"users", "delete", "bob"}, at()...)...), "user bob has no credential for SCRAM-SHA-256")
	require.Equal(t, "deleted alice for SCRAM-SHA-512\n", run(0, append([]string{"users", "delete", "alice", "--mechanism", "SCRAM-SHA-512"}, at()...)...))
	require.Contains(t, run(1, append([]string{"topics", "list"}, at()...)...), "check the --tls and --sasl flags")
}

func TestAShareGroupIsDescribedAndReset(t *testing.T) {
	ok, _, b := cluster(t)
	ok("1\n2\n3\n", "produce", "-t", "a", "--create")
	ok("", "configs", "set", "group/s", "share.auto.offset.reset=earliest")
	c := client(t, b, kgo.ShareGroup("s"), kgo.ConsumeTopics("a"))
	for got := 0; got < 3; {
		f := c.PollFetches(t.Context())
		require.NoError(t, f.Err())
		got += f.NumRecords()
	}
	require.Regexp(t, `(?m)^s +share +Stable +share +1$`, ok("", "groups", "list", "--long"))
	require.Contains(t, ok("", "groups", "describe", "s", "--members"), "a[0]")
	c.Close()
	require.Contains(t, ok("", "groups", "describe", "s"), "type share  state Empty")
	ok("", "groups", "reset-offsets", "s", "--topic", "a", "--to", "1", "--execute")
	require.Regexp(t, `(?m)^  a +0 +1 +3 +2 *$`, ok("", "groups", "describe", "s"))
	ok("", "groups", "delete", "s")
	require.Empty(t, ok("", "groups", "list"))
}
