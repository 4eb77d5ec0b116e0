package stream

import (
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/moldau-stream/moldau/internal/task"
)

// Collector returns the application's metrics, to be registered by the program. Names are those that Kafka
// Streams has behind Prometheus' JMX exporter, so that dashboards work: kafka_streams_<group>_<metric>, with client_id (the
// AppID), thread_id (one per worker) or task_id. What Kafka Streams counts in one number, dropped records, has a reason here.
//
//   - There is no *_rate: use rate() over the counter of the same name with _total.
//   - *_avg, *_min and *_max are over the last 30 to 60 seconds, as by default in Kafka Streams, and are left out
//     when there was nothing to measure in that time. Times are in milliseconds, unless the name says
//     another unit.
//   - client_state has Kafka Streams' numbers: CREATED 0, REBALANCING 1, RUNNING 2, PENDING_SHUTDOWN 3, NOT_RUNNING 4,
//     PENDING_ERROR 5, ERROR 6. States that it does not have, Starting, Restoring and Waiting, are REBALANCING: not all
//     assigned tasks can process, and nobody has to do something about it. The metric state tells them apart.
//   - Nothing is here of what the runtime does not do: punctuation, suppression, enforced processing (a task never gives
//     up waiting for records that exist), standbys.
//   - What fills a global store has the metrics of a task; its task_id is global-<store>.
//   - Counters begin at 0 when the process starts, those of what is fetched when the task is opened. A task that went to another process keeps its counters here, they
//     only stand still.
func (a *App) Collector() prometheus.Collector { return &collector{a, families()} }

type collector struct {
	a        *App
	families map[string]metric
}

// metric is one family with its labels; every one also has client_id.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func newMetric(kind prometheus.ValueType, name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc(name, help, append([]string{"client_id"}, labels...), nil), kind}
}

const (
	clientGroup = "kafka_streams_stream_metrics_"
	threadGroup = "kafka_streams_stream_thread_metrics_"
	taskGroup   = "kafka_streams_stream_task_metrics_"
	nodeGroup   = "kafka_streams_stream_processor_node_metrics_"
	topicGroup  = "kafka_streams_stream_topic_metrics_"
)

// families are all metrics by a short name.
func families() map[string]metric {
	c, g := prometheus.CounterValue, prometheus.GaugeValue
	return map[string]metric{
		"clientState": newMetric(g, clientGroup+"client_state", "State of the application as a number of Kafka Streams: 0 CREATED, 1 REBALANCING (also while it starts, restores or waits for the cluster), 2 RUNNING, 3 PENDING_SHUTDOWN, 4 NOT_RUNNING, 5 PENDING_ERROR, 6 ERROR."),
		"state":       newMetric(g, clientGroup+"state", "1 for the state that the application is in, see stream.State, 0 for all others.", "state"),
		"alive":       newMetric(g, clientGroup+"alive_stream_threads", "Workers that run."),
		"deleted":     newMetric(c, clientGroup+"deleted_before_read_total", "Input records that the cluster deleted before they were read."),

		"commits":       newMetric(c, threadGroup+"commit_total", "Commits.", "thread_id"),
		"commitAvg":     newMetric(g, threadGroup+"commit_latency_avg", "Average duration of a commit, stores included, in milliseconds.", "thread_id"),
		"commitMax":     newMetric(g, threadGroup+"commit_latency_max", "Longest commit, stores included, in milliseconds.", "thread_id"),
		"poll":          newMetric(c, threadGroup+"poll_total", "Batches of input, each of one partition, that were taken over from the fetcher.", "thread_id"),
		"pollAvg":       newMetric(g, threadGroup+"poll_latency_avg", "Average time that the worker was idle before it got a batch, in milliseconds.", "thread_id"),
		"pollMax":       newMetric(g, threadGroup+"poll_latency_max", "Longest time that the worker was idle before it got a batch, in milliseconds.", "thread_id"),
		"pollRecAvg":    newMetric(g, threadGroup+"poll_records_avg", "Average number of records of a batch.", "thread_id"),
		"pollRecMax":    newMetric(g, threadGroup+"poll_records_max", "Largest number of records of a batch.", "thread_id"),
		"process":       newMetric(c, threadGroup+"process_total", "Processed records.", "thread_id"),
		"processAvg":    newMetric(g, threadGroup+"process_latency_avg", "Average time to process a record, in milliseconds; taken per turn of a task.", "thread_id"),
		"processMax":    newMetric(g, threadGroup+"process_latency_max", "Time to process a record in the turn of a task where it was longest on average, in milliseconds.", "thread_id"),
		"processRecAvg": newMetric(g, threadGroup+"process_records_avg", "Average number of records that a task processed in one turn.", "thread_id"),
		"processRecMax": newMetric(g, threadGroup+"process_records_max", "Largest number of records that a task processed in one turn.", "thread_id"),
		"busy":          newMetric(c, threadGroup+"process_time_seconds_total", "Time spent in processing, in seconds.", "thread_id"),
		"blocked":       newMetric(c, threadGroup+"blocked_time_ns_total", "Time spent in waiting for input or for the cluster to commit, in nanoseconds. Waiting for room in the producer's buffers is not in it.", "thread_id"),
		"created":       newMetric(c, threadGroup+"task_created_total", "Tasks started.", "thread_id"),
		"closed":        newMetric(c, threadGroup+"task_closed_total", "Tasks closed.", "thread_id"),
		"resets":        newMetric(c, threadGroup+"reset_total", "Times that the tasks went back to the last commit.", "thread_id"),

		"tprocess":    newMetric(c, taskGroup+"process_total", "Processed records.", "task_id"),
		"tprocessAvg": newMetric(g, taskGroup+"process_latency_avg", "Average time to process a record, in milliseconds; taken per turn of the task.", "task_id"),
		"tprocessMax": newMetric(g, taskGroup+"process_latency_max", "Time to process a record in the turn where it was longest on average, in milliseconds.", "task_id"),
		"lateAvg":     newMetric(g, taskGroup+"record_lateness_avg", "How far records were behind stream time on average, in milliseconds.", "task_id"),
		"lateMax":     newMetric(g, taskGroup+"record_lateness_max", "How far the latest record was behind stream time, in milliseconds.", "task_id"),
		"dropped":     newMetric(c, taskGroup+"dropped_records_total", "Records that were left out, by reason.", "task_id", "reason"),
		"errors":      newMetric(c, taskGroup+"record_errors_total", "Failed attempts to process a record, whatever the policy answered.", "task_id"),
		"emitted":     newMetric(c, taskGroup+"emitted_records_total", "Changes of tables that were emitted at commits.", "task_id"),
		"changelog":   newMetric(c, taskGroup+"changelog_records_total", "Records written to changelogs.", "task_id"),
		"time":        newMetric(g, taskGroup+"stream_time_seconds", "Largest timestamp that was processed, in seconds since 1970.", "task_id"),
		"buffered":    newMetric(g, taskGroup+"active_buffer_count", "Input records that the task has and did not process yet.", "task_id"),
		"buffer":      newMetric(g, taskGroup+"input_buffer_bytes_total", "Memory of input that was fetched and is not processed, in bytes.", "task_id"),
		"cache":       newMetric(g, taskGroup+"cache_size_bytes_total", "Memory of the caches of the task's stores after its last turn, in bytes.", "task_id"),
		"restored":    newMetric(c, taskGroup+"restore_total", "Records restored from a changelog.", "task_id", "store"),
		"remaining":   newMetric(g, taskGroup+"restore_remaining_records_total", "Offsets of the changelog that restore still has to read.", "task_id", "store"),

		"e2eAvg": newMetric(g, nodeGroup+"record_e2e_latency_avg", "Average time from the timestamp of a record of this source until its task had processed it, in milliseconds. The clock is read at the end of the task's turn, of at most 1000 records; the commit is not in it.", "task_id", "processor_node_id"),
		"e2eMin": newMetric(g, nodeGroup+"record_e2e_latency_min", "Shortest time from the timestamp of a record of this source until its task had processed it, in milliseconds; see the average.", "task_id", "processor_node_id"),
		"e2eMax": newMetric(g, nodeGroup+"record_e2e_latency_max", "Longest time from the timestamp of a record of this source until its task had processed it, in milliseconds; see the average.", "task_id", "processor_node_id"),

		"consumed":      newMetric(c, topicGroup+"records_consumed_total", "Records fetched from a source partition, since the task was opened.", "task_id", "topic", "partition"),
		"bytes":         newMetric(c, topicGroup+"bytes_consumed_total", "Bytes of keys, values and headers fetched from a source partition, since the task was opened.", "task_id", "topic", "partition"),
		"produced":      newMetric(c, topicGroup+"records_produced_total", "Records that the cluster acknowledged, changelogs included.", "topic"),
		"producedBytes": newMetric(c, topicGroup+"bytes_produced_total", "Bytes of keys, values and headers that the cluster acknowledged, changelogs included.", "topic"),
		"lag":           newMetric(g, "kafka_consumer_fetch_manager_records_lag", "Records of a source partition that are not committed yet.", "topic", "partition"),
	}
}

// clientState is the number that Kafka Streams has for a state.
func clientState(s State, failed bool) int {
	switch s {
	case Created:
		return 0
	case Running:
		return 2
	case Stopping:
		if failed {
			return 5
		}
		return 3
	case Stopped:
		return 4
	case Failed:
		return 6
	}
	return 1 // Starting, Rebalancing, Restoring, Waiting
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.families {
		ch <- m.desc
	}
}

// gathering is one run of Collect.
type gathering struct {
	*collector
	ch  chan<- prometheus.Metric
	now time.Time
}

func (g *gathering) put(name string, v float64, labels ...string) {
	m := g.families[name]
	g.ch <- prometheus.MustNewConstMetric(m.desc, m.kind, v, append([]string{g.a.cfg.AppID}, labels...)...)
}

// lately puts average and maximum, if anything was measured.
func (g *gathering) lately(name string, s *sampled, labels ...string) (v sample) {
	if v = s.get(g.now); v.n > 0 {
		g.put(name+"Avg", v.avg(), labels...)
		g.put(name+"Max", v.max, labels...)
	}
	return v
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	g := &gathering{c, ch, time.Now()}
	c.a.mu.Lock()
	tasks := maps.Clone(c.a.taskStats)
	globals := maps.Clone(c.a.globalStats)
	f := c.a.fetcher
	c.a.mu.Unlock()
	g.client(f != nil)
	for i, m := range c.a.workerStats {
		g.worker(fmt.Sprintf("%s-StreamThread-%d", c.a.cfg.AppID, i+1), m)
	}
	for id, m := range tasks {
		g.task(id.String(), m)
	}
	for id, m := range globals {
		g.task(id, m)
	}
	for k, n := range c.a.restored.all() {
		g.put("restored", float64(n.restored), k.task, k.store)
		g.put("remaining", float64(n.remaining), k.task, k.store)
	}
	for topic, n := range c.a.produced.all() {
		g.put("produced", float64(n[0]), topic)
		g.put("producedBytes", float64(n[1]), topic)
	}
	if f != nil {
		g.inputs(f.all())
	}
}

func (g *gathering) client(started bool) {
	a := g.a
	st, _ := a.State()
	g.put("clientState", float64(clientState(st, a.failed() != nil)))
	for i, name := range stateNames {
		v := 0.0
		if State(i) == st {
			v = 1
		}
		g.put("state", v, name)
	}
	g.put("deleted", float64(a.skipped.Load()))
	alive := 0
	if started && st != Stopped && st != Failed {
		alive = len(a.workerStats)
	}
	g.put("alive", float64(alive))
}

func (g *gathering) worker(id string, m *workerMetrics) {
	g.put("commits", float64(m.commits.Load()), id)
	g.lately("commit", &m.commitTime, id)
	g.put("poll", float64(m.polls.Load()), id)
	g.lately("poll", &m.pollTime, id)
	g.lately("pollRec", &m.pollRecords, id)
	g.put("process", float64(m.process.Load()), id)
	g.lately("process", &m.processTime, id)
	g.lately("processRec", &m.processRecords, id)
	g.put("busy", float64(m.processNanos.Load())/1e9, id)
	g.put("blocked", float64(m.blocked.Load()), id)
	g.put("created", float64(m.created.Load()), id)
	g.put("closed", float64(m.closed.Load()), id)
	g.put("resets", float64(m.resets.Load()), id)
}

func (g *gathering) task(id string, m *taskMetrics) {
	g.put("tprocess", float64(m.Processed.Load()), id)
	g.lately("tprocess", &m.processTime, id)
	g.lately("late", &m.lateness, id)
	g.put("errors", float64(m.Errors.Load()), id)
	g.put("emitted", float64(m.Emitted.Load()), id)
	g.put("changelog", float64(m.Changelog.Load()), id)
	g.put("time", float64(m.StreamTime.Load())/1e3, id)
	g.put("buffered", float64(m.buffered.Load()), id)
	g.put("cache", float64(m.cache.Load()), id)
	for _, r := range task.Reasons() {
		g.put("dropped", float64(m.Dropped(r)), id, r.String())
	}
	for why, n := range m.DroppedFor() {
		g.put("dropped", float64(n), id, why)
	}
	for i, source := range m.sources {
		if v := g.lately("e2e", &m.endToEnd[i], id, source); v.n > 0 {
			g.put("e2eMin", v.min, id, source)
		}
	}
}

func (g *gathering) inputs(ins []*input) {
	backlog := make(map[task.ID]int64)
	for _, in := range ins {
		t, p := in.task.id.String(), strconv.Itoa(int(in.tp.Partition))
		g.put("consumed", float64(in.records.Load()), t, in.tp.Topic, p)
		g.put("bytes", float64(in.received.Load()), t, in.tp.Topic, p)
		g.put("lag", float64(max(in.end.Load()-in.next.Load(), 0)), in.tp.Topic, p)
		in.mu.Lock()
		backlog[in.task.id] += in.backlog
		in.mu.Unlock()
	}
	for id, n := range backlog {
		g.put("buffer", float64(n), id.String())
	}
}
