package broker_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/internal/batch"
)

// cutRetention is the retention.bytes of the topics of cutDeletes, cutUnacked an upper bound of what is written to one of them without
// having been acknowledged.
const (
	cutRetention = 6000
	cutUnacked   = 2500
)

// cutDeletes writes numbered batches to a topic whose beginning goes, by DeleteRecords and by retention.
type cutDeletes struct {
	c           *powerCut
	topic       string
	producer    *batch.Producer
	sequence    int32
	sent        int
	acked       map[int64]string // base offset -> batch
	end         int64            // acknowledged
	deleteSent  int64
	deleteAcked int64
}

func newCutDeletes(c *powerCut) *cutDeletes {
	return &cutDeletes{c: c, topic: fmt.Sprint("deleted-", c.phase), acked: make(map[int64]string)}
}

func (w *cutDeletes) work(client *rawClient, rng *rand.Rand) error {
	if w.producer == nil {
		id, err := initProducer(client, "")
		if err != nil {
			return err
		}
		w.producer = &id
	}
	switch rng.IntN(8) {
	case 0:
		return w.c.b.Retain()
	case 1:
		to := w.end - rng.Int64N(w.end/2+1)
		if to < w.deleteSent {
			return nil
		}
		w.deleteSent = to
		low, err := deleteRecords(client, w.topic, to)
		if err == kerr.OffsetOutOfRange { // retention was faster
			return nil
		}
		if err != nil {
			return err
		}
		if low < to {
			return fmt.Errorf("DeleteRecords below %d of %s answers with %d", to, w.topic, low)
		}
		if w.c.got() {
			w.deleteAcked = low
		}
		return nil
	}
	name, n := fmt.Sprintf("%s/%d", w.topic, w.sent), 1+rng.IntN(3)
	b, err := newBatch("", *w.producer, w.sequence, name, n, rng.IntN(700))
	if err != nil {
		return err
	}
	w.sent++
	base, err := produceBatch(client, 9, "", w.topic, 0, b)
	if err != nil {
		return err
	}
	w.sequence += int32(n)
	if w.c.got() {
		w.acked[base], w.end = name, base+int64(n)
	}
	return nil
}

func (w *cutDeletes) check(t *testing.T, client *rawClient) {
	start := listOffset(t, client, w.topic, 0, 0, -2)
	require.GreaterOrEqual(t, start, w.deleteAcked, "%s: deleted records are there again", w.topic)
	found, size, times := make(map[int64]string), 0, make(map[string]int)
	readAll(t, client, w.topic, 0, 0, func(b batch.Batch) {
		name := string(recordsOf(t, b)[0].Key)
		found[b.BaseOffset()] = name
		times[name]++
		require.Equal(t, 1, times[name], "%s is twice", name)
		size += len(b)
	})
	for base, name := range w.acked {
		if base >= start {
			require.Equal(t, name, found[base], "acknowledged batch at offset %d, the log starts at %d", base, start)
		}
	}
	if start > w.deleteSent {
		require.GreaterOrEqual(t, size, cutRetention-cutUnacked, "%s starts at %d: more is gone than its retention allows", w.topic, start)
	}
}

func deleteRecords(client *rawClient, topic string, to int64) (low int64, err error) {
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Version, req.TimeoutMillis = 2, 10_000
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Offset = to
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := do[*kmsg.DeleteRecordsResponse](client, req)
	if err != nil {
		return 0, err
	}
	p := resp.Topics[0].Partitions[0]
	return p.LowWatermark, kerr.ErrorForCode(p.ErrorCode)
}

// cutCompacted writes counters of a few keys to a compacted topic, and has all compacted topics compacted, those of the coordinators too.
type cutCompacted struct {
	c        *powerCut
	topic    string
	producer *batch.Producer
	sequence int32
	sent     map[string]int // key -> last counter
	acked    map[string]int
	at       map[int64]string // offset -> key and counter, as acknowledged
	n        int
}

func newCutCompacted(c *powerCut) *cutCompacted {
	return &cutCompacted{c: c, topic: fmt.Sprint("compacted-", c.phase), sent: make(map[string]int), acked: make(map[string]int), at: make(map[int64]string)}
}

func (w *cutCompacted) work(client *rawClient, rng *rand.Rand) error {
	if w.producer == nil {
		id, err := initProducer(client, "")
		if err != nil {
			return err
		}
		w.producer = &id
	}
	if rng.IntN(10) == 0 {
		return w.c.b.Compact()
	}
	bb := batch.NewBuilder(batch.Options{Producer: w.producer, BaseSequence: w.sequence})
	var keys, records []string
	for range 1 + rng.IntN(4) {
		w.n++
		key := fmt.Sprint("k", rng.IntN(8))
		value := fmt.Sprintf("%d:%*d", w.n, rng.IntN(200), 0)
		w.sent[key] = w.n
		keys, records = append(keys, key), append(records, key+"="+value)
		bb.Add(batch.Record{Key: []byte(key), Value: []byte(value), Timestamp: 1_700_000_000_000})
	}
	b, err := bb.Build()
	if err != nil {
		return err
	}
	base, err := produceBatch(client, 9, "", w.topic, 0, b)
	if err != nil {
		return err
	}
	w.sequence += int32(len(keys))
	if w.c.got() {
		for i, key := range keys {
			w.acked[key] = w.n - len(keys) + 1 + i
			w.at[base+int64(i)] = records[i]
		}
	}
	return nil
}

func (w *cutCompacted) check(t *testing.T, client *rawClient) {
	last := make(map[string]int)
	readAll(t, client, w.topic, 0, 0, func(b batch.Batch) {
		for _, r := range recordsOf(t, b) {
			key, n := string(r.Key), 0
			_, err := fmt.Sscanf(string(r.Value), "%d:", &n)
			require.NoError(t, err)
			require.Less(t, last[key], n, "%s at offset %d", key, r.Offset)
			last[key] = n
			if want := w.at[r.Offset]; want != "" {
				require.Equal(t, want, key+"="+string(r.Value), "offset %d of %s", r.Offset, w.topic)
			}
		}
	})
	for key, n := range w.acked {
		require.GreaterOrEqual(t, last[key], n, "%s of %s", key, w.topic)
	}
	for key, n := range last {
		require.LessOrEqual(t, n, w.sent[key], "%s of %s", key, w.topic)
	}
}

// cutTopics creates and deletes topics and changes a configuration: with a metadata snapshot every few records.
type cutTopics struct {
	c           *powerCut
	phase       int
	sent        int
	created     map[string]bool // acknowledged
	deleteSent  map[string]bool
	deleted     map[string]bool // acknowledged
	config      int
	configAcked int
}

func (w *cutTopics) topic() string { return fmt.Sprint("configured-", w.phase) }

func (w *cutTopics) work(client *rawClient, rng *rand.Rand) error {
	if w.created == nil {
		w.created, w.deleteSent, w.deleted = make(map[string]bool), make(map[string]bool), make(map[string]bool)
		if err := createTopic(client, w.topic(), 1); err != nil {
			return err
		}
		w.created[w.topic()] = w.c.got()
	}
	switch n := rng.IntN(5); {
	case n == 0 && w.sent < 10:
		name := fmt.Sprintf("new-%d-%d", w.phase, w.sent)
		w.sent++
		if err := createTopic(client, name, 1); err != nil {
			return err
		}
		w.created[name] = w.c.got()
	case n == 1 && w.sent > 0:
		name := fmt.Sprintf("new-%d-%d", w.phase, rng.IntN(w.sent))
		if w.deleteSent[name] {
			return nil
		}
		w.deleteSent[name] = true
		if err := deleteTopic(client, name); err != nil {
			return err
		}
		w.deleted[name] = w.c.got()
	case w.config > 60:
		if w.sent == 10 {
			return io.EOF
		}
	default:
		w.config++
		if err := alterConfig(client, kmsg.ConfigResourceTypeTopic, w.topic(), "retention.ms", fmt.Sprint(1_000_000_000_000+w.config)); err != nil {
			return err
		}
		if w.c.got() {
			w.configAcked = w.config
		}
	}
	return nil
}

func (w *cutTopics) check(t *testing.T, client *rawClient) {
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.Topics = 9, nil
	resp, err := do[*kmsg.MetadataResponse](client, req)
	require.NoError(t, err)
	there := make(map[string]bool)
	for _, rt := range resp.Topics {
		require.Zero(t, rt.ErrorCode)
		there[*rt.Topic] = true
	}
	for name, acked := range w.created {
		if acked && !w.deleteSent[name] {
			require.True(t, there[name], "acknowledged topic %s", name)
		}
	}
	for name, acked := range w.deleted {
		if acked {
			require.False(t, there[name], "topic %s, whose deletion was acknowledged", name)
		}
	}
	if w.configAcked == 0 {
		return
	}
	describe := kmsg.NewPtrDescribeConfigsRequest()
	describe.Version = 4
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.ConfigNames = kmsg.ConfigResourceTypeTopic, w.topic(), []string{"retention.ms"}
	describe.Resources = append(describe.Resources, r)
	configs, err := do[*kmsg.DescribeConfigsResponse](client, describe)
	require.NoError(t, err)
	n := 0
	_, err = fmt.Sscan(*configs.Resources[0].Configs[0].Value, &n)
	require.NoError(t, err)
	n -= 1_000_000_000_000
	require.GreaterOrEqual(t, n, w.configAcked, "retention.ms of %s", w.topic())
	require.LessOrEqual(t, n, w.config, "retention.ms of %s", w.topic())
}

func deleteTopic(client *rawClient, name string) error {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version, req.TimeoutMillis, req.TopicNames = 5, 10_000, []string{name}
	resp, err := do[*kmsg.DeleteTopicsResponse](client, req)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].ErrorCode)
}

func alterConfig(client *rawClient, typ kmsg.ConfigResourceType, resource, name, value string) error {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Version = 1
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = typ, resource
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Value = name, &value
	r.Configs = append(r.Configs, c)
	req.Resources = append(req.Resources, r)
	resp, err := do[*kmsg.IncrementalAlterConfigsResponse](client, req)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Resources[0].ErrorCode)
}
