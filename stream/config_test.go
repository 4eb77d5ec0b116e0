package stream

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/internal/task"
)

func TestConfigDefaults(t *testing.T) {
	c, err := Config{AppID: "a", Brokers: []string{"x:1"}}.withDefaults()
	require.NoError(t, err)
	require.Equal(t, 100*time.Millisecond, c.CommitInterval)
	require.Equal(t, ExactlyOnce, c.Guarantee)
	require.Equal(t, 10*time.Second, c.SessionTimeout)
	require.Equal(t, 10*time.Second, c.TransactionTimeout)
	require.Positive(t, c.Workers)
	require.NotNil(t, c.Logger)

	c, err = Config{AppID: "a", Brokers: []string{"x:1"}, Guarantee: AtLeastOnce}.withDefaults()
	require.NoError(t, err)
	require.Equal(t, 30*time.Second, c.CommitInterval)
}

func TestConfigReportsAllMistakes(t *testing.T) {
	_, err := Config{AppID: "a b", Guarantee: 7, CommitInterval: time.Minute, SessionTimeout: -1, InstanceID: "x/y", Workers: -1}.withDefaults()
	for _, want := range []string{`AppID "a b"`, "Brokers is empty", "Guarantee 7", "SessionTimeout", `InstanceID "x/y"`, "Workers is -1"} {
		require.ErrorContains(t, err, want)
	}
	_, err = Config{AppID: "a", Brokers: []string{"x:1"}, CommitInterval: time.Minute}.withDefaults()
	require.ErrorContains(t, err, "TransactionTimeout (10s) must be longer than CommitInterval (1m0s)")
}

func TestOwnedClientOptionsAreRefused(t *testing.T) {
	for name, opt := range map[string]kgo.Opt{
		"kgo.TransactionalID (use Config.InstanceID)": kgo.TransactionalID("mine"),
		"kgo.SeedBrokers (use Config.Brokers)":        kgo.SeedBrokers("other:9092"),
		"kgo.RecordPartitioner":                       kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
		"kgo.FetchIsolationLevel":                     kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		"kgo.ConsumeTopics (use stream.From)":         kgo.ConsumeTopics("x"),
		"kgo.WithContext":                             kgo.WithContext(t.Context()),
		"kgo.RequiredAcks":                            kgo.RequiredAcks(kgo.LeaderAck()),
	} {
		err := checkClientOptions([]kgo.Opt{opt})
		if strings.Contains(name, "RequiredAcks") {
			require.Error(t, err) // kgo itself refuses it beside idempotent writes
			continue
		}
		require.ErrorContains(t, err, name)
	}
	err := checkClientOptions([]kgo.Opt{kgo.OnPartitionsRevoked(func(context.Context, *kgo.Client, map[string][]int32) {})})
	require.ErrorContains(t, err, "belong to the runtime")
	require.NoError(t, checkClientOptions([]kgo.Opt{kgo.DialTimeout(time.Second), kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ClientID("me")}))
}

func TestPartitioner(t *testing.T) {
	p := byKey{}.ForTopic("t")
	require.Equal(t, 3, p.Partition(&kgo.Record{Partition: 3, Key: []byte("k")}, 8), "given")
	k := p.Partition(&kgo.Record{Partition: -1, Key: []byte("foobar")}, 1000)
	require.Equal(t, k, p.Partition(&kgo.Record{Partition: -1, Key: []byte("foobar")}, 1000), "a key always goes to one partition")
	require.Equal(t, p.Partition(&kgo.Record{Partition: -1}, 8), p.Partition(&kgo.Record{Partition: -1}, 8), "without a key: one partition until the batch is full")
	require.True(t, p.RequiresConsistency(&kgo.Record{Partition: -1, Key: []byte{}}), "an empty key is a key")
	require.False(t, p.RequiresConsistency(&kgo.Record{Partition: -1}))
}

func TestBlocksKeepBytesAndNulls(t *testing.T) {
	var bs blocks
	var recs []*kgo.Record
	big := strings.Repeat("x", 3*blockBytes)
	for i := range 3 * blockRecords {
		o := &task.Out{Topic: "t", Partition: -1, Key: []byte{byte(i)}, Timestamp: int64(i)}
		switch i % 4 {
		case 1:
			o.Value = []byte{}
		case 2:
			o.Value = []byte("value")
			o.Headers = []task.Header{{Key: "h", Value: nil}, {Key: "h", Value: []byte("x")}}
		case 3:
			if i == 7 {
				o.Value = []byte(big)
			}
		}
		r := bs.record(o)
		clear(o.Key) // the caller goes on to use its slices
		clear(o.Value)
		recs = append(recs, r)
	}
	for i, r := range recs {
		require.Equal(t, []byte{byte(i)}, r.Key)
		require.Equal(t, int64(i), r.Timestamp.UnixMilli())
		switch {
		case i == 7:
			require.Equal(t, big, string(r.Value))
		case i%4 == 1:
			require.NotNil(t, r.Value)
			require.Empty(t, r.Value)
		case i%4 == 2:
			require.Equal(t, "value", string(r.Value))
			require.Equal(t, []kgo.RecordHeader{{Key: "h", Value: nil}, {Key: "h", Value: []byte("x")}}, r.Headers)
		default:
			require.Nil(t, r.Value)
		}
	}
	for _, r := range recs {
		r.Context.(*block).done()
	}
	require.GreaterOrEqual(t, len(bs.free), 2, "acknowledged blocks come back")
	many := make([]task.Header, 2*blockHeaders)
	r := bs.record(&task.Out{Topic: "t", Headers: many})
	require.Len(t, r.Headers, 2*blockHeaders)
}

func TestStatesFollowFromFacts(t *testing.T) {
	var heard []StateChange
	s := newStates(time.Now, func(c StateChange) { heard = append(heard, c) })
	s.set(func(f *facts) { f.started = true })
	s.set(func(f *facts) { f.trouble = "broker x:1 cannot be reached" })
	s.set(func(f *facts) { f.trouble = "" })
	s.set(func(f *facts) { f.checked = true })
	s.set(func(f *facts) { f.joined, f.pending, f.restoring = true, 2, 1 })
	s.set(func(f *facts) { f.pending, f.restoring = 1, 0 })
	select {
	case <-s.ready:
		require.Fail(t, "ready before all tasks run")
	default:
	}
	s.set(func(f *facts) { f.pending = 0 })
	<-s.ready
	s.set(func(f *facts) { f.pending = 1 })
	s.set(func(f *facts) { f.stopping = true })
	s.set(func(f *facts) { f.done = true })
	s.wait()
	var names []string
	for i, c := range heard {
		names = append(names, c.To.String())
		if i > 0 {
			require.Equal(t, heard[i-1].To, c.From)
		}
	}
	require.Equal(t, []string{"STARTING", "WAITING", "STARTING", "REBALANCING", "RESTORING", "REBALANCING", "RUNNING", "REBALANCING", "PENDING_SHUTDOWN", "NOT_RUNNING"}, names)
	require.Equal(t, "broker x:1 cannot be reached", heard[1].Reason)
}
