package broker_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/brokertest"
	"github.com/moldau-stream/moldau/internal/batch"
)

// TestFetchSessions runs the conversations of testdata/fetch, whose answers are Apache Kafka's.
//
//	topic NAME PARTITIONS       produce NAME-P [N]       delete-records NAME-P OFFSET     delete NAME
//	fetch vN [S] [epoch=N] [id=N] [max=BYTES] [min=BYTES] [wait=DURATION] [NAME-P@OFFSET[:MAXBYTES] ...] [forget=NAME-P ...]
//
// S names a session: its id and epoch are those of the last answer, unless it is new (epoch=0) or said otherwise.
func TestFetchSessions(t *testing.T) {
	datadriven.Walk(t, "testdata/fetch", func(t *testing.T, path string) {
		s := &fetchScript{c: dial(t, brokertest.New(t).Broker), ids: map[string][16]byte{}, sessions: map[string]*fetchState{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			for line := range strings.Lines(d.Input) {
				fmt.Fprintf(&out, "> %s\n%s", strings.TrimSpace(line), s.run(t, strings.Fields(line)))
			}
			return out.String()
		})
	})
}

type fetchScript struct {
	c        *rawClient
	ids      map[string][16]byte
	sessions map[string]*fetchState
}

type fetchState struct {
	id, epoch int32
}

func (s *fetchScript) run(t *testing.T, f []string) string {
	number := func(v string) int64 {
		n, err := strconv.ParseInt(v, 10, 64)
		require.NoError(t, err, f)
		return n
	}
	place := func(v string) (topic string, partition int32) {
		at := strings.LastIndexByte(v, '-')
		require.Positive(t, at, f)
		return v[:at], int32(number(v[at+1:]))
	}
	switch f[0] {
	case "topic":
		req := kmsg.NewPtrCreateTopicsRequest()
		req.Version, req.TimeoutMillis = 7, 10_000
		ct := kmsg.NewCreateTopicsRequestTopic()
		ct.Topic, ct.NumPartitions, ct.ReplicationFactor = f[1], int32(number(f[2])), 1
		req.Topics = append(req.Topics, ct)
		resp, err := do[*kmsg.CreateTopicsResponse](s.c, req)
		require.NoError(t, err)
		require.Zero(t, resp.Topics[0].ErrorCode)
		s.ids[f[1]] = resp.Topics[0].TopicID
	case "produce":
		topic, p := place(f[1])
		n := int64(1)
		if len(f) > 2 {
			n = number(f[2])
		}
		for range n {
			resp, err := do[*kmsg.ProduceResponse](s.c, produceOf(9, -1, topic, p, "x"))
			require.NoError(t, err)
			require.Zero(t, resp.Topics[0].Partitions[0].ErrorCode)
		}
	case "delete-records":
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.Version, req.TimeoutMillis = 2, 10_000
		dt := kmsg.NewDeleteRecordsRequestTopic()
		dp := kmsg.NewDeleteRecordsRequestTopicPartition()
		dt.Topic, dp.Partition = place(f[1])
		dp.Offset = number(f[2])
		dt.Partitions = append(dt.Partitions, dp)
		req.Topics = append(req.Topics, dt)
		resp, err := do[*kmsg.DeleteRecordsResponse](s.c, req)
		require.NoError(t, err)
		require.Zero(t, resp.Topics[0].Partitions[0].ErrorCode)
	case "delete":
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.Version, req.TopicNames, req.TimeoutMillis = 4, []string{f[1]}, 10_000
		_, err := do[*kmsg.DeleteTopicsResponse](s.c, req)
		require.NoError(t, err)
	case "fetch":
		return s.fetch(t, f, number, place)
	default:
		t.Fatalf("unknown command %q", f)
	}
	return ""
}

func (s *fetchScript) fetch(t *testing.T, f []string, number func(string) int64, place func(string) (string, int32)) string {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxBytes, req.MinBytes = int16(number(f[1][1:])), 1<<20, 1
	state := &fetchState{epoch: -1}
	for _, a := range f[2:] {
		name, value, is := strings.Cut(a, "=")
		topic, rest, named := strings.Cut(a, "@")
		switch {
		case !is && !named:
			if s.sessions[a] == nil {
				s.sessions[a] = &fetchState{}
			}
			state = s.sessions[a]
			req.SessionID, req.SessionEpoch = state.id, state.epoch
		case name == "epoch":
			req.SessionEpoch = int32(number(value))
		case name == "id":
			req.SessionID = int32(number(value))
		case name == "max":
			req.MaxBytes = int32(number(value))
		case name == "min":
			req.MinBytes = int32(number(value))
		case name == "wait":
			d, err := time.ParseDuration(value)
			require.NoError(t, err)
			req.MaxWaitMillis = int32(d.Milliseconds())
		case name == "forget":
			ft := kmsg.NewFetchRequestForgottenTopic()
			var p int32
			ft.Topic, p = place(value)
			ft.TopicID, ft.Partitions = s.ids[ft.Topic], []int32{p}
			req.ForgottenTopics = append(req.ForgottenTopics, ft)
		default:
			ft := kmsg.NewFetchRequestTopic()
			fp := kmsg.NewFetchRequestTopicPartition()
			ft.Topic, fp.Partition = place(topic)
			ft.TopicID = s.ids[ft.Topic]
			offset, most, limited := strings.Cut(rest, ":")
			fp.FetchOffset, fp.PartitionMaxBytes, fp.CurrentLeaderEpoch, fp.LastFetchedEpoch = number(offset), 1<<20, -1, -1
			if limited {
				fp.PartitionMaxBytes = int32(number(most))
			}
			ft.Partitions = append(ft.Partitions, fp)
			req.Topics = append(req.Topics, ft)
		}
	}
	if req.Version < 7 || len(s.sessions) == 0 {
		req.SessionEpoch = -1
	}
	resp, err := do[*kmsg.FetchResponse](s.c, req)
	require.NoError(t, err)
	var out strings.Builder
	if resp.ErrorCode != 0 {
		fmt.Fprintf(&out, "%s\n", kerr.TypedErrorForCode(resp.ErrorCode).Message)
	} else {
		switch {
		case resp.SessionID == 0:
			out.WriteString("no session\n")
			*state = fetchState{epoch: -1}
		case resp.SessionID != state.id:
			out.WriteString("new session\n")
			*state = fetchState{id: resp.SessionID, epoch: 1}
		default:
			fmt.Fprintf(&out, "session epoch %d\n", state.epoch)
			state.epoch++
		}
	}
	for _, rt := range resp.Topics {
		topic := rt.Topic
		for name, id := range s.ids {
			if req.Version >= 13 && id == rt.TopicID {
				topic = name
			}
		}
		for _, p := range rt.Partitions {
			n := 0
			_, err := batch.All(p.RecordBatches, func(batch.Batch) bool { n++; return true })
			require.NoError(t, err)
			fmt.Fprintf(&out, "  %s-%d: ", topic, p.Partition)
			if p.ErrorCode != 0 {
				fmt.Fprintf(&out, "%s\n", kerr.TypedErrorForCode(p.ErrorCode).Message)
				continue
			}
			fmt.Fprintf(&out, "%d batches of [%d, %d)\n", n, p.LogStartOffset, p.HighWatermark)
		}
	}
	return out.String()
}
