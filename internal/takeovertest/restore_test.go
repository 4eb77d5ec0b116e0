package takeovertest

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
	"github.com/moldau-stream/moldau/stream"
)

var update = flag.Bool("takeover.update", false, "write testdata/java.jsonl.gz anew, with -takeover.java")

// left is what the Java application left behind: testdata/java.jsonl.gz, a record or an offset a line.
type left struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Of a record.
	Key       []byte `json:"key,omitempty"`
	Value     []byte `json:"value,omitempty"`
	Tombstone bool   `json:"tombstone,omitempty"`
	Time      int64  `json:"time,omitempty"`
	// Of the group's offset.
	Offset   *int64 `json:"offset,omitempty"`
	Metadata string `json:"metadata,omitempty"`
}

// long is when the orders of testdata begin.
var long = time.UnixMilli(1_699_999_980_000)

const (
	testdata = "testdata/java.jsonl.gz"
	before   = 240 // orders that the Java application had counted
)

// owned are the internal topics of the Java application.
var owned = []string{"shop-by-user-repartition", "shop-counts-changelog", "shop-windows-changelog", "shop-sessions-changelog"}

func TestRestoresWhatJavaWrote(t *testing.T) {
	for _, g := range []stream.Guarantee{stream.AtLeastOnce, stream.ExactlyOnce} {
		t.Run(g.String(), func(t *testing.T) {
			c := connect(t, broker.InProcessAddr, kgo.Dialer(brokertest.New(t).DialContext))
			c.topics(slices.Concat([]string{"orders"}, results, owned)...)
			c.leave(load(t))
			all := orders(long, 0, before)
			require.Equal(t, expected(all), c.tables())
			more := orders(long, before, 300)
			c.send(more)
			c.goOn(g, append(all, more...))
		})
	}
}

// leave brings a cluster into the state in which the Java application left its own.
func (c *cluster) leave(all []left) {
	var recs []*kgo.Record
	offsets := make(kadm.Offsets)
	for _, l := range all {
		if l.Offset != nil {
			offsets.Add(kadm.Offset{Topic: l.Topic, Partition: l.Partition, At: *l.Offset, LeaderEpoch: -1, Metadata: l.Metadata})
			continue
		}
		r := &kgo.Record{Topic: l.Topic, Partition: l.Partition, Key: l.Key, Value: l.Value, Timestamp: time.UnixMilli(l.Time)}
		if r.Value == nil && !l.Tombstone {
			r.Value = []byte{}
		}
		recs = append(recs, r)
	}
	require.NoError(c.t, c.cl.ProduceSync(c.ctx(), recs...).FirstErr())
	rs, err := c.ad.CommitOffsets(c.ctx(), "shop", offsets)
	require.NoError(c.t, err)
	require.NoError(c.t, rs.Error())
}

func load(t *testing.T) []left {
	f, err := os.Open(testdata)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	var all []left
	for s := bufio.NewScanner(z); s.Scan(); {
		var l left
		require.NoError(t, json.Unmarshal(s.Bytes(), &l))
		all = append(all, l)
	}
	return all
}

func TestWriteWhatJavaLeaves(t *testing.T) {
	if *javaDir == "" || !*update {
		t.Skip("make takeover ARGS=-takeover.update runs it: it needs Java")
	}
	c := connect(t, listening(t))
	c.topics(append([]string{"orders"}, results...)...)
	c.send(orders(long, 0, before))
	stop, _ := c.java("at_least_once")
	c.counted(orders(long, 0, before))
	stop()

	require.NoError(t, os.MkdirAll("testdata", 0o755))
	f, err := os.Create(testdata)
	require.NoError(t, err)
	z := gzip.NewWriter(f)
	enc := json.NewEncoder(z)
	for _, topic := range slices.Concat([]string{"orders"}, results, owned) {
		for _, r := range c.read(topic) {
			require.NoError(t, enc.Encode(left{
				Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Tombstone: r.Value == nil, Time: r.Timestamp.UnixMilli(),
			}))
		}
	}
	offsets, err := c.ad.FetchOffsets(c.ctx(), "shop")
	require.NoError(t, err)
	for _, o := range offsets.Sorted() {
		require.NoError(t, enc.Encode(left{Topic: o.Topic, Partition: o.Partition, Offset: &o.At, Metadata: o.Metadata}))
	}
	require.NoError(t, z.Close())
	require.NoError(t, f.Close())
}
