package takeover

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// codecs are those of the topics fill-<codec>.
var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func ptr(s string) *string { return &s }

// TestFill fills an Apache Kafka with what the directories in testdata hold; see testdata/make.sh.
func TestFill(t *testing.T) {
	addr := os.Getenv("TAKEOVER_FILL")
	if addr == "" {
		t.Skip("TAKEOVER_FILL names no Apache Kafka; testdata/make.sh does when it makes the directories anew")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	require.NoError(t, err)
	defer cl.Close()
	adm := kadm.NewClient(cl)
	small := map[string]*string{"segment.index.bytes": ptr("4096")}
	create := func(partitions int32, topic string, configs map[string]*string) {
		for k, v := range small {
			if _, ok := configs[k]; !ok {
				configs[k] = v
			}
		}
		r, err := adm.CreateTopic(ctx, partitions, 1, configs, topic)
		if err != nil {
			require.ErrorIs(t, err, kerr.TopicAlreadyExists, "%v", r)
		}
	}
	for name := range codecs {
		create(2, "fill-"+name, map[string]*string{"retention.ms": ptr("-1")})
	}
	create(1, "fill-txn", map[string]*string{"retention.ms": ptr("-1")})
	create(1, "fill-open", map[string]*string{"retention.ms": ptr("-1")})
	create(1, "fill-compact", map[string]*string{"cleanup.policy": ptr("compact"), "segment.ms": ptr("500"), "min.cleanable.dirty.ratio": ptr("0.01"), "delete.retention.ms": ptr("86400000")})
	create(1, "fill-segments", map[string]*string{"segment.ms": ptr("300"), "retention.ms": ptr("-1")})
	create(1, "fill-deleted", map[string]*string{"retention.ms": ptr("-1")})
	create(1, "fill-empty", map[string]*string{"max.message.bytes": ptr("1234")})

	for name, codec := range codecs {
		p, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ProducerBatchCompression(codec), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		require.NoError(t, err)
		for i := range 40 {
			r := &kgo.Record{Topic: "fill-" + name, Partition: int32(i % 2), Key: []byte(fmt.Sprint("key-", i)), Value: []byte(fmt.Sprint("value-", i, "-", name)),
				Headers: []kgo.RecordHeader{{Key: "n", Value: []byte{byte(i)}}}}
			if i%7 == 0 {
				r.Value = nil
			}
			require.NoError(t, p.ProduceSync(ctx, r).FirstErr())
		}
		p.Close()
	}
	txn := func(id, topic string, commit bool, n int) *kgo.Client {
		p, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.TransactionalID(id))
		require.NoError(t, err)
		require.NoError(t, p.BeginTransaction())
		for i := range n {
			require.NoError(t, p.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(fmt.Sprint(id, "-", i))}).FirstErr())
		}
		if n > 0 && topic != "fill-open" {
			require.NoError(t, p.EndTransaction(ctx, kgo.TransactionEndTry(commit)))
		}
		return p
	}
	txn("committed", "fill-txn", true, 5).Close()
	txn("aborted", "fill-txn", false, 4).Close()
	txn("committed-2", "fill-txn", true, 3).Close()

	for round := range 6 {
		for k := range 5 {
			v := []byte(fmt.Sprint("round-", round))
			if round == 5 && k == 4 {
				v = nil
			}
			require.NoError(t, cl.ProduceSync(ctx, &kgo.Record{Topic: "fill-compact", Key: []byte(fmt.Sprint("k", k)), Value: v}).FirstErr())
		}
		for i := range 3 {
			require.NoError(t, cl.ProduceSync(ctx, &kgo.Record{Topic: "fill-segments", Value: []byte(fmt.Sprint(round, "/", i))}).FirstErr())
		}
		time.Sleep(600 * time.Millisecond)
	}
	for i := range 20 {
		require.NoError(t, cl.ProduceSync(ctx, &kgo.Record{Topic: "fill-deleted", Value: []byte(fmt.Sprint(i))}).FirstErr())
	}
	_, err = adm.DeleteRecords(ctx, kadm.Offsets{"fill-deleted": {0: {Topic: "fill-deleted", Partition: 0, At: 12}}})
	require.NoError(t, err)
	offsets := kadm.Offsets{}
	offsets.AddOffset("fill-none", 0, 7, -1)
	offsets.AddOffset("fill-none", 1, 3, -1)
	_, err = adm.CommitOffsets(ctx, "fill-group", offsets)
	require.NoError(t, err)
	// Wait for the cleaner, which is what makes this take half a minute.
	if os.Getenv("TAKEOVER_FILL_COMPACTED") != "" {
		for {
			ends, err := adm.ListEndOffsets(ctx, "fill-compact")
			require.NoError(t, err)
			o, _ := ends.Lookup("fill-compact", 0)
			if n := len(read(t, ctx, addr, "fill-compact", false)["fill-compact/0"]); int64(n) < o.Offset {
				break
			}
			time.Sleep(time.Second)
		}
	}
	_ = txn("left-open", "fill-open", false, 3) // never ended: the node is stopped, or killed, in the middle of it
	if out := os.Getenv("TAKEOVER_FILL_OUT"); out != "" {
		require.NoError(t, os.WriteFile(out, []byte(describe(t, ctx, addr)), 0o644))
	}
}

// read returns the records of topics by topic/partition, as text.
func read(t *testing.T, ctx context.Context, addr, topic string, committed bool) map[string][]string {
	iso := kgo.ReadUncommitted()
	if committed {
		iso = kgo.ReadCommitted()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.FetchIsolationLevel(iso), kgo.FetchMaxWait(200*time.Millisecond), kgo.KeepControlRecords())
	require.NoError(t, err)
	defer cl.Close()
	adm := kadm.NewClient(cl)
	ends, err := adm.ListEndOffsets(ctx, topic)
	if committed {
		ends, err = adm.ListCommittedOffsets(ctx, topic)
	}
	require.NoError(t, err)
	require.NoError(t, ends.Error())
	starts, err := adm.ListStartOffsets(ctx, topic)
	require.NoError(t, err)
	out := map[string][]string{}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		out[fmt.Sprintf("%s/%d", topic, o.Partition)] = nil
		s, _ := starts.Lookup(topic, o.Partition)
		if s.Offset < o.Offset {
			left[o.Partition] = o.Offset
			cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {o.Partition: kgo.NewOffset().At(s.Offset)}})
		}
	})
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		require.NoError(t, fs.Err())
		fs.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			k := fmt.Sprintf("%s/%d", topic, r.Partition)
			if r.Attrs.IsControl() {
				out[k] = append(out[k], fmt.Sprintf("%d control %x", r.Offset, r.Key))
				return
			}
			sum := sha256.Sum256(fmt.Append(nil, r.Key == nil, r.Key, r.Value == nil, r.Value, r.Headers, r.Timestamp.UnixMilli(), r.ProducerID, r.ProducerEpoch))
			out[k] = append(out[k], fmt.Sprintf("%d %s", r.Offset, hex.EncodeToString(sum[:8])))
		})
	}
	return out
}

// describe is everything that a client sees of the topics that TestFill made.
func describe(t *testing.T, ctx context.Context, addr string) string {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	require.NoError(t, err)
	defer cl.Close()
	adm := kadm.NewClient(cl)
	topics, err := adm.ListTopics(ctx)
	require.NoError(t, err)
	var b strings.Builder
	for _, topic := range topics.Sorted() {
		if !strings.HasPrefix(topic.Topic, "fill-") {
			continue
		}
		fmt.Fprintf(&b, "topic %s id %x partitions %d\n", topic.Topic, topic.ID, len(topic.Partitions))
		configs, err := adm.DescribeTopicConfigs(ctx, topic.Topic)
		require.NoError(t, err)
		var set []string
		for _, c := range configs[0].Configs {
			if c.Source == kmsg.ConfigSourceDynamicTopicConfig {
				set = append(set, c.Key+"="+c.MaybeValue())
			}
		}
		slices.Sort(set)
		fmt.Fprintf(&b, "  configs %s\n", strings.Join(set, " "))
		starts, err := adm.ListStartOffsets(ctx, topic.Topic)
		require.NoError(t, err)
		ends, err := adm.ListEndOffsets(ctx, topic.Topic)
		require.NoError(t, err)
		stable, err := adm.ListCommittedOffsets(ctx, topic.Topic)
		require.NoError(t, err)
		all, committed := read(t, ctx, addr, topic.Topic, false), read(t, ctx, addr, topic.Topic, true)
		for _, d := range topic.Partitions.Sorted() {
			p := d.Partition
			s, _ := starts.Lookup(topic.Topic, p)
			e, _ := ends.Lookup(topic.Topic, p)
			l, _ := stable.Lookup(topic.Topic, p)
			fmt.Fprintf(&b, "  partition %d start %d stable %d end %d\n", p, s.Offset, l.Offset, e.Offset)
			key := fmt.Sprintf("%s/%d", topic.Topic, p)
			for _, r := range all[key] {
				mark := ""
				if !slices.Contains(committed[key], r) {
					mark = " not committed"
				}
				fmt.Fprintf(&b, "    %s%s\n", r, mark)
			}
			producers, err := adm.DescribeProducers(ctx, kadm.TopicsSet{topic.Topic: {p: {}}})
			require.NoError(t, err)
			for _, x := range producers.SortedProducers() {
				fmt.Fprintf(&b, "    producer %d epoch %d sequence %d open %d\n", x.ProducerID, x.ProducerEpoch, x.LastSequence, x.CurrentTxnStartOffset)
			}
		}
	}
	offsets, err := adm.FetchOffsets(ctx, "fill-group")
	require.NoError(t, err)
	for _, o := range offsets.Sorted() {
		fmt.Fprintf(&b, "group offset %s/%d %d\n", o.Topic, o.Partition, o.At)
	}
	return b.String()
}
