package stream_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

// metrics reads an application's collector.
type metrics struct {
	t   *testing.T
	reg *prometheus.Registry
}

func collect(t *testing.T, app *stream.App) *metrics {
	m := &metrics{t, prometheus.NewPedanticRegistry()}
	require.NoError(t, m.reg.Register(app.Collector()))
	return m
}

// values are the values of a family by labels without the client's id, as "task_id=0_0 topic=lines".
func (m *metrics) values(name string) map[string]float64 {
	m.t.Helper()
	families, err := m.reg.Gather()
	require.NoError(m.t, err)
	all := make(map[string]float64)
	for _, f := range families {
		if f.GetName() != "kafka_"+name {
			continue
		}
		for _, x := range f.Metric {
			var labels []string
			for _, l := range x.Label {
				if l.GetName() != "client_id" {
					labels = append(labels, l.GetName()+"="+l.GetValue())
				}
			}
			all[strings.Join(labels, " ")] = x.GetCounter().GetValue() + x.GetGauge().GetValue()
		}
	}
	return all
}

func (m *metrics) sum(name string) (n float64) {
	m.t.Helper()
	for _, v := range m.values(name) {
		n += v
	}
	return n
}

// metricNames is what dashboards use: changing it breaks them.
const metricNames = `
kafka_consumer_fetch_manager_records_lag GAUGE client_id partition topic
kafka_streams_stream_metrics_alive_stream_threads GAUGE client_id
kafka_streams_stream_metrics_client_state GAUGE client_id
kafka_streams_stream_metrics_deleted_before_read_total COUNTER client_id
kafka_streams_stream_metrics_state GAUGE client_id state
kafka_streams_stream_processor_node_metrics_record_e2e_latency_avg GAUGE client_id processor_node_id task_id
kafka_streams_stream_processor_node_metrics_record_e2e_latency_max GAUGE client_id processor_node_id task_id
kafka_streams_stream_processor_node_metrics_record_e2e_latency_min GAUGE client_id processor_node_id task_id
kafka_streams_stream_task_metrics_active_buffer_count GAUGE client_id task_id
kafka_streams_stream_task_metrics_cache_size_bytes_total GAUGE client_id task_id
kafka_streams_stream_task_metrics_changelog_records_total COUNTER client_id task_id
kafka_streams_stream_task_metrics_dropped_records_total COUNTER client_id reason task_id
kafka_streams_stream_task_metrics_emitted_records_total COUNTER client_id task_id
kafka_streams_stream_task_metrics_input_buffer_bytes_total GAUGE client_id task_id
kafka_streams_stream_task_metrics_process_latency_avg GAUGE client_id task_id
kafka_streams_stream_task_metrics_process_latency_max GAUGE client_id task_id
kafka_streams_stream_task_metrics_process_total COUNTER client_id task_id
kafka_streams_stream_task_metrics_record_errors_total COUNTER client_id task_id
kafka_streams_stream_task_metrics_record_lateness_avg GAUGE client_id task_id
kafka_streams_stream_task_metrics_record_lateness_max GAUGE client_id task_id
kafka_streams_stream_task_metrics_restore_remaining_records_total GAUGE client_id store task_id
kafka_streams_stream_task_metrics_restore_total COUNTER client_id store task_id
kafka_streams_stream_task_metrics_stream_time_seconds GAUGE client_id task_id
kafka_streams_stream_thread_metrics_blocked_time_ns_total COUNTER client_id thread_id
kafka_streams_stream_thread_metrics_commit_latency_avg GAUGE client_id thread_id
kafka_streams_stream_thread_metrics_commit_latency_max GAUGE client_id thread_id
kafka_streams_stream_thread_metrics_commit_total COUNTER client_id thread_id
kafka_streams_stream_thread_metrics_poll_latency_avg GAUGE client_id thread_id
kafka_streams_stream_thread_metrics_poll_latency_max GAUGE client_id thread_id
kafka_streams_stream_thread_metrics_poll_records_avg GAUGE client_id thread_id
kafka_streams_stream_thread_metrics_poll_records_max GAUGE client_id thread_id
kafka_streams_stream_thread_metrics_poll_total COUNTER client_id thread_id
kafka_streams_stream_thread_metrics_process_latency_avg GAUGE client_id thread_id
kafka_streams_stream_thread_metrics_process_latency_max GAUGE client_id thread_id
kafka_streams_stream_thread_metrics_process_records_avg GAUGE client_id thread_id
kafka_streams_stream_thread_metrics_process_records_max GAUGE client_id thread_id
kafka_streams_stream_thread_metrics_process_time_seconds_total COUNTER client_id thread_id
kafka_streams_stream_thread_metrics_process_total COUNTER client_id thread_id
kafka_streams_stream_thread_metrics_reset_total COUNTER client_id thread_id
kafka_streams_stream_thread_metrics_task_closed_total COUNTER client_id thread_id
kafka_streams_stream_thread_metrics_task_created_total COUNTER client_id thread_id
kafka_streams_stream_topic_metrics_bytes_consumed_total COUNTER client_id partition task_id topic
kafka_streams_stream_topic_metrics_bytes_produced_total COUNTER client_id topic
kafka_streams_stream_topic_metrics_records_consumed_total COUNTER client_id partition task_id topic
kafka_streams_stream_topic_metrics_records_produced_total COUNTER client_id topic
`

// kafkasNames are Kafka Streams' names that are not as Prometheus wants names to be.
var kafkasNames = []string{
	"kafka_streams_stream_task_metrics_active_buffer_count: non-histogram and non-summary metrics should not have \"_count\" suffix",
	"kafka_streams_stream_task_metrics_cache_size_bytes_total: non-counter metrics should not have \"_total\" suffix",
	"kafka_streams_stream_task_metrics_input_buffer_bytes_total: non-counter metrics should not have \"_total\" suffix",
	"kafka_streams_stream_task_metrics_restore_remaining_records_total: non-counter metrics should not have \"_total\" suffix",
	"kafka_streams_stream_thread_metrics_blocked_time_ns_total: metric names should not contain abbreviated units",
}

// names lists families with their types and labels.
func (m *metrics) names() string {
	families, err := m.reg.Gather()
	require.NoError(m.t, err)
	var s strings.Builder
	for _, f := range families {
		fmt.Fprintf(&s, "%s %s", f.GetName(), f.GetType())
		for _, l := range f.Metric[0].Label {
			fmt.Fprintf(&s, " %s", l.GetName())
		}
		s.WriteByte('\n')
	}
	return s.String()
}

// One task that counts keys, on one partition, so that all numbers are known.
func countLines(t *testing.T) *stream.Topology {
	b := stream.NewBuilder()
	lines := stream.From(b, stream.NewTopic("lines", serde.Nullable(serde.String), serde.String))
	stream.Count(lines.GroupByKey(), state.KeyValue("counts", serde.Nullable(serde.String), serde.Int64)).
		ToStream().To(stream.NewTopic("word-counts", serde.Nullable(serde.String), serde.Int64))
	return build(t, b)
}

func TestCollector(t *testing.T) {
	c := newCluster(t)
	c.topic("lines", 1)
	c.topic("word-counts", 1)
	base := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	send := func(key []byte, seconds int) {
		r := &kgo.Record{Topic: "lines", Key: key, Value: []byte("xyz"), Timestamp: base.Add(time.Duration(seconds) * time.Second)}
		require.NoError(t, c.cl.ProduceSync(c.ctx(), r).FirstErr())
	}
	send([]byte("a"), 0)
	send([]byte("b"), 4)
	send([]byte("a"), 1)
	send(nil, 2)

	cfg := c.config(stream.ExactlyOnce)
	cfg.Workers = 1
	cfg.Now = func() time.Time { return base.Add(10 * time.Second) }
	r := c.start(countLines(t), cfg)
	r.ready()
	m := collect(t, r.app)
	const thread = "thread_id=wc-StreamThread-1"
	c.eventually("it is committed", func() bool {
		return m.sum("streams_stream_thread_metrics_commit_total") > 0 && m.sum("consumer_fetch_manager_records_lag") == 0
	})
	for name, want := range map[string]map[string]float64{
		"stream_metrics_client_state":                          {"": 2},
		"stream_metrics_alive_stream_threads":                  {"": 1},
		"stream_thread_metrics_process_total":                  {thread: 4},
		"stream_thread_metrics_task_created_total":             {thread: 1},
		"stream_thread_metrics_task_closed_total":              {thread: 0},
		"stream_thread_metrics_reset_total":                    {thread: 0},
		"stream_task_metrics_process_total":                    {"task_id=0_0": 4},
		"stream_task_metrics_record_lateness_avg":              {"task_id=0_0": (0 + 0 + 3000 + 2000) / 4},
		"stream_task_metrics_record_lateness_max":              {"task_id=0_0": 3000},
		"stream_task_metrics_active_buffer_count":              {"task_id=0_0": 0},
		"stream_task_metrics_emitted_records_total":            {"task_id=0_0": 2},
		"stream_task_metrics_stream_time_seconds":              {"task_id=0_0": float64(base.Add(4*time.Second).UnixMilli()) / 1e3},
		"stream_topic_metrics_records_consumed_total":          {"partition=0 task_id=0_0 topic=lines": 4},
		"stream_topic_metrics_bytes_consumed_total":            {"partition=0 task_id=0_0 topic=lines": 3 + 4*3},
		"stream_topic_metrics_records_produced_total":          {"topic=wc-counts-changelog": 2, "topic=word-counts": 2},
		"stream_topic_metrics_bytes_produced_total":            {"topic=wc-counts-changelog": 2 * (1 + 8), "topic=word-counts": 2 * (1 + 8)},
		"stream_processor_node_metrics_record_e2e_latency_avg": {"processor_node_id=KSTREAM-SOURCE-0000000000 task_id=0_0": (10000 + 6000 + 9000 + 8000) / 4},
		"stream_processor_node_metrics_record_e2e_latency_min": {"processor_node_id=KSTREAM-SOURCE-0000000000 task_id=0_0": 6000},
		"stream_processor_node_metrics_record_e2e_latency_max": {"processor_node_id=KSTREAM-SOURCE-0000000000 task_id=0_0": 10000},
	} {
		require.Equal(t, want, m.values("streams_"+name), name)
	}
	require.Equal(t, 1.0, m.values("streams_stream_metrics_state")["state=RUNNING"])
	require.Equal(t, 1.0, m.sum("streams_stream_metrics_state"), "one state at a time")
	dropped := m.values("streams_stream_task_metrics_dropped_records_total")
	require.Equal(t, 1.0, dropped["reason=null-key task_id=0_0"])
	require.Equal(t, 1.0, m.sum("streams_stream_task_metrics_dropped_records_total"))
	for _, name := range []string{"stream_thread_metrics_poll_total", "stream_thread_metrics_poll_records_max", "stream_thread_metrics_blocked_time_ns_total",
		"stream_thread_metrics_process_time_seconds_total", "stream_thread_metrics_process_latency_avg", "stream_thread_metrics_commit_latency_avg",
		"stream_task_metrics_process_latency_max", "stream_task_metrics_cache_size_bytes_total"} {
		require.Positive(t, m.sum("streams_"+name), name)
	}
	r.close()
	require.Equal(t, map[string]float64{"": 4}, m.values("streams_stream_metrics_client_state"), "NOT_RUNNING")
	require.Zero(t, m.sum("streams_stream_metrics_alive_stream_threads"))
	require.Equal(t, 1.0, m.sum("streams_stream_thread_metrics_task_closed_total"))
	require.Zero(t, m.sum("streams_stream_task_metrics_cache_size_bytes_total"), "the stores are closed")

	// Another process without the state restores it; then there is something of every metric.
	cfg.StateDir, cfg.InstanceID = t.TempDir(), "wc-0"
	send([]byte("a"), 5)
	r = c.start(countLines(t), cfg)
	r.ready()
	m = collect(t, r.app)
	c.eventually("it is committed", func() bool { return m.sum("streams_stream_thread_metrics_commit_total") > 0 })
	require.Equal(t, map[string]float64{"store=counts task_id=0_0": 2}, m.values("streams_stream_task_metrics_restore_total"))
	require.Equal(t, map[string]float64{"store=counts task_id=0_0": 0}, m.values("streams_stream_task_metrics_restore_remaining_records_total"))
	require.Equal(t, strings.TrimLeft(metricNames, "\n"), m.names())

	problems, err := testutil.GatherAndLint(m.reg)
	require.NoError(t, err)
	var odd []string
	for _, p := range problems {
		odd = append(odd, p.Metric+": "+p.Text)
	}
	slices.Sort(odd)
	require.Equal(t, kafkasNames, odd, "only what Kafka Streams calls so may go against Prometheus' rules")
	r.close()
}

func TestCollectorBeforeTheStart(t *testing.T) {
	app, err := stream.New(countLines(t), stream.Config{AppID: "wc", Brokers: []string{"localhost:9092"}})
	require.NoError(t, err)
	m := collect(t, app)
	require.Equal(t, map[string]float64{"": 0}, m.values("streams_stream_metrics_client_state"), "CREATED")
	require.Zero(t, m.sum("streams_stream_metrics_alive_stream_threads"))
	require.Empty(t, m.values("streams_stream_thread_metrics_commit_latency_avg"), "nothing was measured")
}
