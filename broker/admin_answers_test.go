package broker_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/brokertest"
)

// answersOf names a node of Apache Kafka whose answers are written into testdata/admin, with -rewrite. The scripts leave nothing behind
// that another run needs to be without, but topics: begin with a new node.
const answersOf = "KAFKA_ANSWERS_OF"

// TestAdministrationAnswersAsKafka asks what testdata/admin says, and expects the answers of Apache Kafka 4.3.1: codes, sentences,
// values, sources and synonyms.
func TestAdministrationAnswersAsKafka(t *testing.T) {
	datadriven.Walk(t, "testdata/admin", func(t *testing.T, path string) {
		var cl *kgo.Client
		if address := os.Getenv(answersOf); address != "" {
			var err error
			cl, err = kgo.NewClient(kgo.SeedBrokers(address), kgo.RequestRetries(0))
			require.NoError(t, err)
			t.Cleanup(cl.Close)
		} else {
			cl = client(t, brokertest.New(t).Broker, kgo.RequestRetries(0))
		}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var lines []string
			for line := range strings.Lines(d.Input) {
				fields := strings.Fields(line)
				lines = append(lines, strings.TrimSpace(line)+" -> "+adminAnswer(t, cl.SeedBrokers()[0], d.Cmd, fields))
			}
			return strings.Join(lines, "\n") + "\n"
		})
	})
}

// said is a code and its sentence.
func said(code int16, message *string) string {
	out := strconv.Itoa(int(code))
	if message != nil && *message != "" {
		out += " " + strings.ReplaceAll(*message, "\n", `\n`)
	}
	return out
}

// nullable gives a word its value: NULL is null, EMPTY is empty, and + stands for a space.
func nullable(word string) *string {
	switch word {
	case "NULL":
		return nil
	case "EMPTY":
		word = ""
	}
	word = strings.ReplaceAll(word, "+", " ")
	return &word
}

func number(t *testing.T, s string) int32 {
	n, err := strconv.ParseInt(s, 10, 32)
	require.NoError(t, err)
	return int32(n)
}

func adminAnswer(t *testing.T, cl *kgo.Broker, command string, f []string) string {
	ctx := bounded(t)
	switch command {
	case "create", "validate": // NAME PARTITIONS REPLICAS [CONFIG=VALUE ...]
		req := kmsg.NewPtrCreateTopicsRequest()
		req.TimeoutMillis, req.ValidateOnly = 10_000, command == "validate"
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = *nullable(f[0]), number(t, f[1]), int16(number(t, f[2]))
		for _, c := range f[3:] {
			name, value, _ := strings.Cut(c, "=")
			if partition, ok := strings.CutPrefix(name, "@"); ok { // @PARTITION=REPLICA,...
				a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
				a.Partition = number(t, partition)
				for r := range strings.SplitSeq(value, ",") {
					if r != "" {
						a.Replicas = append(a.Replicas, number(t, r))
					}
				}
				topic.ReplicaAssignment = append(topic.ReplicaAssignment, a)
				continue
			}
			config := kmsg.NewCreateTopicsRequestTopicConfig()
			config.Name, config.Value = name, nullable(value)
			topic.Configs = append(topic.Configs, config)
		}
		req.Topics = append(req.Topics, topic)
		resp, err := req.RequestWith(ctx, cl)
		require.NoError(t, err)
		out := resp.Topics[0]
		text := said(out.ErrorCode, out.ErrorMessage) + fmt.Sprintf(" partitions=%d replicas=%d", out.NumPartitions, out.ReplicationFactor)
		for _, c := range out.Configs {
			if c.Source != int8(kmsg.ConfigSourceDefaultConfig) {
				text += fmt.Sprintf(" %s=%s(%d)", c.Name, *c.Value, c.Source)
			}
		}
		return text
	case "partitions": // NAME COUNT [REPLICA,... ...]
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.TimeoutMillis = 10_000
		topic := kmsg.NewCreatePartitionsRequestTopic()
		topic.Topic, topic.Count = f[0], number(t, f[1])
		for _, replicas := range f[2:] {
			a := kmsg.NewCreatePartitionsRequestTopicAssignment()
			for r := range strings.SplitSeq(replicas, ",") {
				a.Replicas = append(a.Replicas, number(t, r))
			}
			topic.Assignment = append(topic.Assignment, a)
		}
		req.Topics = append(req.Topics, topic)
		resp, err := req.RequestWith(ctx, cl)
		require.NoError(t, err)
		return said(resp.Topics[0].ErrorCode, resp.Topics[0].ErrorMessage)
	case "delete": // NAME
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.TimeoutMillis = 10_000
		topic := kmsg.NewDeleteTopicsRequestTopic()
		topic.Topic = nullable(f[0])
		req.Topics = append(req.Topics, topic)
		resp, err := req.RequestWith(ctx, cl)
		require.NoError(t, err)
		return said(resp.Topics[0].ErrorCode, resp.Topics[0].ErrorMessage)
	case "change": // TYPE NAME [+|-|^|.CONFIG=VALUE ...]
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		res := kmsg.NewIncrementalAlterConfigsRequestResource()
		res.ResourceType, res.ResourceName = kmsg.ConfigResourceType(number(t, f[0])), *nullable(f[1])
		for _, c := range f[2:] {
			name, value, _ := strings.Cut(c[1:], "=")
			config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			config.Name, config.Value, config.Op = name, nullable(value), kmsg.IncrementalAlterConfigOp(strings.IndexByte("=!+-?", c[0]))
			res.Configs = append(res.Configs, config)
		}
		req.Resources = append(req.Resources, res)
		resp, err := req.RequestWith(ctx, cl)
		require.NoError(t, err)
		return said(resp.Resources[0].ErrorCode, resp.Resources[0].ErrorMessage)
	case "replace": // TYPE NAME [CONFIG=VALUE ...]
		req := kmsg.NewPtrAlterConfigsRequest()
		res := kmsg.NewAlterConfigsRequestResource()
		res.ResourceType, res.ResourceName = kmsg.ConfigResourceType(number(t, f[0])), *nullable(f[1])
		for _, c := range f[2:] {
			name, value, _ := strings.Cut(c, "=")
			config := kmsg.NewAlterConfigsRequestResourceConfig()
			config.Name, config.Value = name, nullable(value)
			res.Configs = append(res.Configs, config)
		}
		req.Resources = append(req.Resources, res)
		resp, err := req.RequestWith(ctx, cl)
		require.NoError(t, err)
		return said(resp.Resources[0].ErrorCode, resp.Resources[0].ErrorMessage)
	case "describe": // TYPE NAME [CONFIG ...]
		return describeAnswer(t, cl, f)
	case "features": // [NAME=LEVEL:TYPE ...]
		req := kmsg.NewPtrUpdateFeaturesRequest()
		req.ValidateOnly = true
		for _, u := range f {
			name, rest, _ := strings.Cut(u, "=")
			level, kind, _ := strings.Cut(rest, ":")
			update := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
			update.Feature, update.MaxVersionLevel, update.UpgradeType = name, int16(number(t, level)), int8(number(t, kind))
			req.FeatureUpdates = append(req.FeatureUpdates, update)
		}
		resp, err := req.RequestWith(ctx, cl)
		require.NoError(t, err)
		return said(resp.ErrorCode, resp.ErrorMessage)
	case "list": // [TYPE ...]
		req := kmsg.NewPtrListConfigResourcesRequest()
		for _, kind := range f {
			if kind != "all" {
				req.ResourceTypes = append(req.ResourceTypes, int8(number(t, kind)))
			}
		}
		resp, err := req.RequestWith(ctx, cl)
		require.NoError(t, err)
		return fmt.Sprintf("%d, %v found", resp.ErrorCode, len(resp.ConfigResources) > 0)
	case "late": // API: what is given no time
		return lateAnswer(t, cl, f[0])
	case "scram": // [-USER:MECHANISM | +USER:MECHANISM:ITERATIONS ...]
		req := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
		for _, a := range f {
			parts := strings.Split(a[1:], ":")
			if a[0] == '-' {
				d := kmsg.NewAlterUserSCRAMCredentialsRequestDeletion()
				d.Name, d.Mechanism = *nullable(parts[0]), int8(number(t, parts[1]))
				req.Deletions = append(req.Deletions, d)
				continue
			}
			u := kmsg.NewAlterUserSCRAMCredentialsRequestUpsertion()
			u.Name, u.Mechanism, u.Iterations = *nullable(parts[0]), int8(number(t, parts[1])), number(t, parts[2])
			u.Salt, u.SaltedPassword = []byte("salt"), []byte("a password that was salted")
			req.Upsertions = append(req.Upsertions, u)
		}
		resp, err := req.RequestWith(ctx, cl)
		require.NoError(t, err)
		var out []string
		for _, r := range resp.Results {
			out = append(out, r.User+": "+said(r.ErrorCode, r.ErrorMessage))
		}
		slices.Sort(out)
		return strings.Join(out, "; ")
	case "pages": // LIMIT CURSOR-TOPIC CURSOR-PARTITION [NAME ...]
		return pagesAnswer(t, cl, f)
	}
	t.Fatalf("unknown command %q", command)
	return ""
}

// lateAnswer gives the codes of the answer to a request that has no time.
func lateAnswer(t *testing.T, cl *kgo.Broker, api string) string {
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "order-late", 1, 1
	victim := kmsg.NewDeleteTopicsRequestTopic()
	victim.Topic = &topic.Topic
	extended := kmsg.NewCreatePartitionsRequestTopic()
	extended.Topic, extended.Count = topic.Topic, 2
	elected := kmsg.ElectLeadersRequestTopic{Topic: topic.Topic, Partitions: []int32{0}}
	moved := kmsg.AlterPartitionAssignmentsRequestTopic{Topic: topic.Topic, Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Replicas: []int32{1}}}}
	req := map[string]kmsg.Request{
		"create":        &kmsg.CreateTopicsRequest{Topics: []kmsg.CreateTopicsRequestTopic{topic}},
		"create-twice":  &kmsg.CreateTopicsRequest{Topics: []kmsg.CreateTopicsRequestTopic{topic, topic}, TimeoutMillis: -1},
		"create-none":   &kmsg.CreateTopicsRequest{},
		"delete":        &kmsg.DeleteTopicsRequest{Topics: []kmsg.DeleteTopicsRequestTopic{victim}, TimeoutMillis: -1},
		"delete-twice":  &kmsg.DeleteTopicsRequest{Topics: []kmsg.DeleteTopicsRequestTopic{victim, victim}},
		"partitions":    &kmsg.CreatePartitionsRequest{Topics: []kmsg.CreatePartitionsRequestTopic{extended}},
		"elect":         &kmsg.ElectLeadersRequest{ElectionType: 7, Topics: []kmsg.ElectLeadersRequestTopic{elected}},
		"elect-none":    &kmsg.ElectLeadersRequest{ElectionType: 7, Topics: []kmsg.ElectLeadersRequestTopic{}},
		"reassign":      &kmsg.AlterPartitionAssignmentsRequest{Topics: []kmsg.AlterPartitionAssignmentsRequestTopic{moved}},
		"reassign-none": &kmsg.AlterPartitionAssignmentsRequest{},
		"reassigned":    &kmsg.ListPartitionReassignmentsRequest{},
	}[api]
	require.NotNil(t, req, api)
	resp, err := cl.Request(bounded(t), req)
	require.NoError(t, err)
	switch r := resp.(type) {
	case *kmsg.CreateTopicsResponse:
		if len(r.Topics) > 0 {
			return strconv.Itoa(int(r.Topics[0].ErrorCode)) + " " + strconv.Itoa(len(r.Topics))
		}
	case *kmsg.DeleteTopicsResponse:
		return strconv.Itoa(int(r.Topics[0].ErrorCode)) + " " + strconv.Itoa(len(r.Topics))
	case *kmsg.CreatePartitionsResponse:
		return strconv.Itoa(int(r.Topics[0].ErrorCode))
	case *kmsg.ElectLeadersResponse:
		text := strconv.Itoa(int(r.ErrorCode))
		for _, e := range r.Topics {
			text += fmt.Sprintf(" %s-%d: %d", e.Topic, e.Partitions[0].Partition, e.Partitions[0].ErrorCode)
		}
		return text
	case *kmsg.AlterPartitionAssignmentsResponse:
		text := fmt.Sprint(r.ErrorCode, r.AllowReplicationFactorChange)
		for _, e := range r.Topics {
			text += fmt.Sprintf(" %s-%d: %d", e.Topic, e.Partitions[0].Partition, e.Partitions[0].ErrorCode)
		}
		return text
	case *kmsg.ListPartitionReassignmentsResponse:
		return strconv.Itoa(int(r.ErrorCode))
	}
	return "nothing"
}

func describeAnswer(t *testing.T, cl *kgo.Broker, f []string) string {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.IncludeSynonyms = true
	res := kmsg.NewDescribeConfigsRequestResource()
	res.ResourceType, res.ResourceName, res.ConfigNames = kmsg.ConfigResourceType(number(t, f[0])), *nullable(f[1]), f[2:]
	req.Resources = append(req.Resources, res)
	resp, err := req.RequestWith(bounded(t), cl)
	require.NoError(t, err)
	text := said(resp.Resources[0].ErrorCode, resp.Resources[0].ErrorMessage)
	value := func(v *string) string {
		if v == nil {
			return "NULL"
		}
		return *v
	}
	configs := resp.Resources[0].Configs
	slices.SortFunc(configs, func(a, b kmsg.DescribeConfigsResponseResourceConfig) int { return strings.Compare(a.Name, b.Name) })
	for _, c := range configs {
		if len(f) == 2 && c.Source == kmsg.ConfigSourceDefaultConfig {
			continue // all: what is set
		}
		text += fmt.Sprintf("\n  %s=%s source=%d type=%d", c.Name, value(c.Value), c.Source, c.ConfigType)
		if c.ReadOnly {
			text += " read-only"
		}
		if c.IsSensitive {
			text += " sensitive"
		}
		for _, s := range c.ConfigSynonyms {
			text += fmt.Sprintf(" %s=%s(%d)", s.Name, value(s.Value), s.Source)
		}
	}
	return text
}

func pagesAnswer(t *testing.T, cl *kgo.Broker, f []string) string {
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.ResponsePartitionLimit = number(t, f[0])
	if f[1] != "NULL" {
		req.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: f[1], Partition: number(t, f[2])}
	}
	for _, name := range f[3:] {
		topic := kmsg.NewDescribeTopicPartitionsRequestTopic()
		topic.Topic = name
		req.Topics = append(req.Topics, topic)
	}
	resp, err := req.RequestWith(bounded(t), cl)
	require.NoError(t, err)
	var out []string
	for _, topic := range resp.Topics {
		text := fmt.Sprintf("%s %d", *topic.Topic, topic.ErrorCode)
		for _, p := range topic.Partitions {
			text += fmt.Sprintf(" %d:leader=%d,epoch=%d,%v,%v,%v", p.Partition, p.LeaderID, p.LeaderEpoch, p.Replicas, p.ISR, p.EligibleLeaderReplicas)
		}
		out = append(out, text)
	}
	if c := resp.NextCursor; c != nil {
		out = append(out, fmt.Sprintf("next %s %d", c.Topic, c.Partition))
	}
	return strings.Join(out, "; ")
}
