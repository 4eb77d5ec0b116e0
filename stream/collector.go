package stream

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/moldau-stream/moldau/internal/task"
)

// Collector returns the application's metrics, to be registered by the program. Names are those that Kafka
// Streams has behind Prometheus' JMX exporter, so that dashboards work: kafka_streams_stream_thread_metrics_...
// with thread_id (one per worker), kafka_streams_stream_task_metrics_... with task_id. What Kafka Streams counts in
// one number, dropped records, has a reason here. Rates are left to PromQL.
func (a *App) Collector() prometheus.Collector { return &collector{a} }

type collector struct{ a *App }

// metric is one family with its labels; every one also has client_id.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func newMetric(kind prometheus.ValueType, name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc(name, help, append([]string{"client_id"}, labels...), nil), kind}
}

const (
	threadGroup = "kafka_streams_stream_thread_metrics_"
	taskGroup   = "kafka_streams_stream_task_metrics_"
	topicGroup  = "kafka_streams_stream_topic_metrics_"
)

// families returns all of them; they are few, and made once per collection.
func families() map[string]metric {
	c, g := prometheus.CounterValue, prometheus.GaugeValue
	return map[string]metric{
		"state":     newMetric(g, "kafka_streams_stream_metrics_client_state", "State of the application, see stream.State: 4 is RUNNING.", "state"),
		"alive":     newMetric(g, "kafka_streams_stream_metrics_alive_stream_threads", "Workers."),
		"deleted":   newMetric(c, "kafka_streams_stream_metrics_deleted_before_read_total", "Input records that the cluster deleted before they were read."),
		"commits":   newMetric(c, threadGroup+"commit_total", "Commits.", "thread_id"),
		"commitAvg": newMetric(g, threadGroup+"commit_latency_avg", "Average duration of a commit, in milliseconds.", "thread_id"),
		"commitMax": newMetric(g, threadGroup+"commit_latency_max", "Longest commit, in milliseconds.", "thread_id"),
		"poll":      newMetric(c, threadGroup+"poll_total", "Batches of input, each of one partition, that were taken over from the fetcher.", "thread_id"),
		"process":   newMetric(c, threadGroup+"process_total", "Processed records.", "thread_id"),
		"busy":      newMetric(c, threadGroup+"process_time_ns_total", "Time spent in processing, in nanoseconds.", "thread_id"),
		"created":   newMetric(c, threadGroup+"task_created_total", "Tasks started.", "thread_id"),
		"closed":    newMetric(c, threadGroup+"task_closed_total", "Tasks closed.", "thread_id"),
		"resets":    newMetric(c, threadGroup+"reset_total", "Times that the tasks went back to the last commit.", "thread_id"),
		"tprocess":  newMetric(c, taskGroup+"process_total", "Processed records.", "task_id"),
		"dropped":   newMetric(c, taskGroup+"dropped_records_total", "Records that were left out, by reason.", "task_id", "reason"),
		"errors":    newMetric(c, taskGroup+"record_errors_total", "Failed attempts to process a record, whatever the policy answered.", "task_id"),
		"emitted":   newMetric(c, taskGroup+"emitted_records_total", "Changes of tables that were emitted at commits.", "task_id"),
		"changelog": newMetric(c, taskGroup+"changelog_records_total", "Records written to changelogs.", "task_id"),
		"time":      newMetric(g, taskGroup+"stream_time_ms", "Largest timestamp that was processed, in milliseconds since 1970.", "task_id"),
		"buffer":    newMetric(g, taskGroup+"input_buffer_bytes_total", "Input that was fetched and is not processed, in bytes.", "task_id"),
		"restored":  newMetric(c, taskGroup+"restore_total", "Records restored from a changelog.", "task_id", "store"),
		"remaining": newMetric(g, taskGroup+"restore_remaining_records_total", "Offsets of the changelog that restore still has to read.", "task_id", "store"),
		"consumed":  newMetric(c, topicGroup+"records_consumed_total", "Records fetched from a source partition.", "task_id", "topic", "partition"),
		"bytes":     newMetric(c, topicGroup+"bytes_consumed_total", "Bytes fetched from a source partition.", "task_id", "topic", "partition"),
		"produced":  newMetric(c, topicGroup+"records_produced_total", "Records that the cluster acknowledged.", "topic"),
		"lag":       newMetric(g, "kafka_consumer_fetch_manager_records_lag", "Records of a source partition that are not committed yet.", "topic", "partition"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range families() {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	a, fs := c.a, families()
	put := func(name string, v float64, labels ...string) {
		m := fs[name]
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, v, append([]string{a.cfg.AppID}, labels...)...)
	}
	st, _ := a.State()
	put("state", float64(st), st.String())
	put("deleted", float64(a.skipped.Load()))
	put("alive", float64(len(a.workerStats)))
	for i, m := range a.workerStats {
		id := fmt.Sprintf("%s-StreamThread-%d", a.cfg.AppID, i+1)
		n := m.commits.Load()
		put("commits", float64(n), id)
		put("commitAvg", milliseconds(m.commitNanos.Load()/max(n, 1)), id)
		put("commitMax", milliseconds(m.commitMax.Load()), id)
		put("poll", float64(m.polls.Load()), id)
		put("process", float64(m.process.Load()), id)
		put("busy", float64(m.processNanos.Load()), id)
		put("created", float64(m.created.Load()), id)
		put("closed", float64(m.closed.Load()), id)
		put("resets", float64(m.resets.Load()), id)
	}
	a.mu.Lock()
	tasks := make(map[task.ID]*task.Metrics, len(a.taskStats))
	for id, m := range a.taskStats {
		tasks[id] = m
	}
	f := a.fetcher
	a.mu.Unlock()
	for id, m := range tasks {
		t := id.String()
		put("tprocess", float64(m.Processed.Load()), t)
		put("errors", float64(m.Errors.Load()), t)
		put("emitted", float64(m.Emitted.Load()), t)
		put("changelog", float64(m.Changelog.Load()), t)
		put("time", float64(m.StreamTime.Load()), t)
		for _, r := range task.Reasons() {
			put("dropped", float64(m.Dropped(r)), t, r.String())
		}
	}
	for k, n := range a.restored.all() {
		put("restored", float64(n.restored), k.task, k.store)
		put("remaining", float64(n.remaining), k.task, k.store)
	}
	for topic, n := range a.produced.all() {
		put("produced", float64(n.Load()), topic)
	}
	if f == nil {
		return
	}
	backlog := make(map[task.ID]int64)
	for _, in := range f.all() {
		t, p := in.task.id.String(), strconv.Itoa(int(in.tp.Partition))
		put("consumed", float64(in.records.Load()), t, in.tp.Topic, p)
		put("bytes", float64(in.received.Load()), t, in.tp.Topic, p)
		put("lag", float64(max(in.end.Load()-in.next.Load(), 0)), in.tp.Topic, p)
		in.mu.Lock()
		backlog[in.task.id] += in.backlog
		in.mu.Unlock()
	}
	for id, n := range backlog {
		put("buffer", float64(n), id.String())
	}
}

func milliseconds(nanos int64) float64 { return float64(nanos) / float64(time.Millisecond) }
