package server

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/metrics"
	"github.com/moldau-stream/moldau/broker/internal/replica"
)

// Collector gives the metrics of the server, under the names that Apache Kafka's have behind the stock rules of Prometheus' JMX
// exporter, so that dashboards and alerts work.
func (s *Server) Collector() prometheus.Collector { return collector{s} }

type collector struct{ s *Server }

// Describe says nothing: which topics and APIs there are is known at the scrape.
func (collector) Describe(chan<- *prometheus.Desc) {}

// sink sends metrics.
type sink struct {
	ch chan<- prometheus.Metric
}

func (k sink) send(kind prometheus.ValueType, name, help string, value float64, labels ...string) {
	names := make([]string, 0, len(labels)/2)
	values := make([]string, 0, len(labels)/2)
	for i := 0; i < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	k.ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, value, values...)
}

func (k sink) gauge(name, help string, value float64, labels ...string) {
	k.send(prometheus.GaugeValue, name, help, value, labels...)
}

func (k sink) counter(name, help string, value float64, labels ...string) {
	k.send(prometheus.CounterValue, name, help, value, labels...)
}

// times sends durations as the JMX exporter shows a histogram: quantiles as gauges, and their number.
func (k sink) times(now time.Time, name, help string, d *metrics.Durations, labels ...string) {
	quantiles := []float64{0.5, 0.75, 0.95, 0.98, 0.99, 0.999}
	for i, v := range d.Quantiles(now, quantiles...) {
		if !math.IsNaN(v) {
			k.gauge(name, help+" In milliseconds, over the last minute.", v, append(labels, "quantile", strconv.FormatFloat(quantiles[i], 'g', -1, 64))...)
		}
	}
	n, _ := d.Count()
	k.counter(name+"_count", help+" How many there were.", float64(n), labels...)
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	k, now := sink{ch}, time.Now()
	img, partitions := c.s.ctl.Image(), c.s.replicas.Partitions()
	offline := max(img.NumPartitions()-len(partitions)+1, 0) // the metadata log is in no image
	c.controller(k, img, offline)
	c.replicas(k, img, partitions, offline)
	c.traffic(k, partitions)
	c.requests(k, now)
	c.logs(k, now, partitions)
	c.coordinators(k)
	c.connections(k)
}

func (c collector) controller(k sink, img *controller.Image, offline int) {
	const group = "kafka_controller_kafkacontroller_"
	k.gauge(group+"activecontrollercount", "1 on the active controller.", 1)
	k.gauge(group+"activebrokercount", "Brokers that are registered and not fenced.", 1)
	k.gauge(group+"fencedbrokercount", "Brokers that are registered and fenced.", 0)
	k.gauge(group+"globaltopiccount", "Topics.", float64(img.NumTopics()))
	k.gauge(group+"globalpartitioncount", "Partitions of all topics.", float64(img.NumPartitions()))
	k.gauge(group+"offlinepartitionscount", "Partitions without a leader.", float64(offline))
	k.gauge(group+"preferredreplicaimbalancecount", "Partitions that their preferred replica does not lead.", 0)
	k.gauge(group+"metadataerrorcount", "Metadata records that could not be applied.", 0)
	k.gauge(group+"lastappliedrecordoffset", "Offset of the newest metadata record that is applied.", float64(img.Offset()))
	k.gauge(group+"lastappliedrecordlagms", "How far the applied metadata is behind.", 0)
	k.counter("kafka_controller_controllerstats_uncleanleaderelections_total", "Elections of replicas that were not in sync.", 0)
	const raft = "kafka_server_raft_metrics_"
	k.gauge(raft+"current_state", "1 for the state of this node in the metadata quorum.", 1, "state", "leader")
	k.gauge(raft+"current_leader", "Node id of the leader of the metadata quorum.", float64(c.s.cfg.NodeID))
	k.gauge(raft+"high_watermark", "High watermark of the metadata log.", float64(img.Offset()+1))
	k.gauge(raft+"log_end_offset", "End of the metadata log.", float64(img.Offset()+1))
}

// lateAfter is how long a transaction may be open before it hangs.
const lateAfter = 20 * time.Minute

func (c collector) replicas(k sink, img *controller.Image, partitions []*replica.Partition, offline int) {
	const group = "kafka_server_replicamanager_"
	k.gauge(group+"partitioncount", "Partitions on this broker.", float64(img.NumPartitions()))
	k.gauge(group+"leadercount", "Partitions that this broker leads.", float64(img.NumPartitions()-offline))
	k.gauge(group+"offlinereplicacount", "Partitions of this broker whose log cannot be read or written.", float64(offline))
	k.gauge(group+"underreplicatedpartitions", "Partitions with replicas that are not in sync.", 0)
	k.gauge(group+"underminisrpartitioncount", "Partitions with fewer replicas in sync than min.insync.replicas.", 0)
	k.gauge(group+"atminisrpartitioncount", "Partitions with as many replicas in sync as min.insync.replicas.", float64(img.NumPartitions()))
	k.gauge(group+"reassigningpartitions", "Partitions that get other replicas.", 0)
	k.counter(group+"isrshrinks_total", "Replicas that fell out of sync.", 0)
	k.counter(group+"isrexpands_total", "Replicas that came back into sync.", 0)
	producers, late := 0, 0
	limit := time.Now().Add(-lateAfter)
	for _, p := range partitions {
		for _, pr := range p.Producers() {
			producers++
			if pr.TxnFirstOffset >= 0 && pr.LastTimestamp > 0 && time.UnixMilli(pr.LastTimestamp).Before(limit) {
				late++
				break
			}
		}
	}
	k.gauge(group+"produceridcount", "Idempotent producers that partitions remember.", float64(producers))
	k.gauge(group+"partitionswithlatetransactionscount", "Partitions with a transaction that is open for too long.", float64(late))
}

func (c collector) traffic(k sink, partitions []*replica.Partition) {
	topics := map[string]metrics.Totals{}
	for _, p := range partitions {
		topics[p.Topic()] = topics[p.Topic()].Add(p.Traffic.Load())
	}
	delete(topics, controller.MetadataTopic)
	const group = "kafka_server_brokertopicmetrics_"
	send := func(t metrics.Totals, labels ...string) {
		k.counter(group+"messagesin_total", "Records that clients produced.", float64(t.MessagesIn), labels...)
		k.counter(group+"bytesin_total", "Bytes of the batches that clients produced.", float64(t.BytesIn), labels...)
		k.counter(group+"bytesout_total", "Bytes that clients fetched.", float64(t.BytesOut), labels...)
		k.counter(group+"bytesrejected_total", "Bytes that were too large to be taken.", float64(t.BytesRejected), labels...)
		k.counter(group+"totalproducerequests_total", "Partitions in produce requests.", float64(t.Produces), labels...)
		k.counter(group+"failedproducerequests_total", "Partitions in produce requests that got an error.", float64(t.FailedProduces), labels...)
		k.counter(group+"totalfetchrequests_total", "Partitions in fetch requests.", float64(t.Fetches), labels...)
		k.counter(group+"failedfetchrequests_total", "Partitions in fetch requests that got an error.", float64(t.FailedFetches), labels...)
	}
	all := c.s.traffic.Load()
	send(all)
	k.counter(group+"invalidmessagecrcrecords_total", "Batches with a wrong checksum.", float64(all.CorruptProduces))
	for topic, t := range topics {
		send(t, "topic", topic)
	}
}

// requestName is the name of an API in Kafka's metrics.
func requestName(key int16) string {
	if key == int16(kmsg.Fetch) {
		return "FetchConsumer"
	}
	return strings.Replace(kmsg.NameForKey(key), "ID", "Id", 1)
}

func (c collector) requests(k sink, now time.Time) {
	const group = "kafka_network_requestmetrics_"
	c.s.measured.Each(func(key int16, a *metrics.API) {
		name := requestName(key)
		for version, n := range a.Versions() {
			k.counter(group+"requests_total", "Requests.", float64(n), "request", name, "version", strconv.Itoa(int(version)))
		}
		k.times(now, group+"totaltimems", "Time from the request's last byte to the answer's writing.", &a.Total, "request", name)
		k.times(now, group+"localtimems", "Time in the handler.", &a.Local, "request", name)
		k.times(now, group+"remotetimems", "Time waiting for disks, records or others.", &a.Remote, "request", name)
		k.times(now, group+"responsesendtimems", "Time until the answer was written.", &a.Send, "request", name)
	})
	for e, n := range c.s.measured.Errors() {
		text := strconv.Itoa(int(e.Code))
		if err := kerr.TypedErrorForCode(e.Code); err != nil {
			text = err.Message
		}
		k.counter(group+"errors_total", "Answers with an error, by code.", float64(n), "request", requestName(e.Key), "error", text)
	}
}

func (c collector) logs(k sink, now time.Time, partitions []*replica.Partition) {
	k.gauge("kafka_log_logmanager_offlinelogdirectorycount", "Log directories that cannot be used.", 0)
	k.times(now, "kafka_log_logflushstats_logflushrateandtimems", "Time of an fsync.", c.s.replicas.Flushes())
	for _, p := range partitions {
		if p.Topic() == controller.MetadataTopic {
			continue
		}
		labels := []string{"topic", p.Topic(), "partition", strconv.Itoa(int(p.ID()))}
		k.gauge("kafka_log_log_size", "Bytes of the partition's segments.", float64(p.Size()), labels...)
		k.gauge("kafka_log_log_logstartoffset", "First offset that can be read.", float64(p.LogStartOffset()), labels...)
		k.gauge("kafka_log_log_logendoffset", "Offset of the next record.", float64(p.LogEndOffset()), labels...)
	}
	const cleaner, manager = "kafka_log_logcleaner_", "kafka_log_logcleanermanager_"
	st := c.s.replicas.CleanerStats()
	k.counter(cleaner+"runs_total", "Compactions of a log.", float64(st.Runs))
	k.counter(cleaner+"failures_total", "Compactions that failed.", float64(st.Failures))
	k.gauge(cleaner+"max_buffer_utilization_percent", "Use of the key map in the last compaction.", 100*st.LastMapUse)
	k.gauge(cleaner+"cleaner_recopy_percent", "Share of bytes that the last compaction kept.", 100*st.LastRecopy)
	k.gauge(cleaner+"max_clean_time_secs", "Time of the last compaction.", st.LastDuration.Seconds())
	k.gauge(cleaner+"deadthreadcount", "Cleaners that ended.", 0)
	k.gauge(manager+"uncleanable_partitions_count", "Partitions that are not compacted any more, since it failed.", float64(st.Uncleanable))
	k.gauge(manager+"uncleanable_bytes", "Bytes in them that should be compacted.", float64(st.UncleanableBytes))
	k.gauge(manager+"max_dirty_percent", "Dirty share of the dirtiest log.", 100*st.MaxDirtyRatio)
	if !st.LastRun.IsZero() {
		k.gauge(manager+"time_since_last_run_ms", "Time since the cleaner last looked for work.", float64(now.Sub(st.LastRun).Milliseconds()))
	}
}

// coordinators counts groups by type and state, and transactions by state.
func (c collector) coordinators(k sink) {
	groups := map[[2]string]int{}
	for _, g := range c.groups() {
		groups[[2]string{strings.ToLower(g.GroupType), strings.ToLower(g.GroupState)}]++
	}
	const group = "kafka_server_group_coordinator_metrics_"
	for of, n := range groups {
		k.gauge(group+"group_count", "Groups.", float64(n), "protocol", of[0], "state", of[1])
	}
}

// groups asks the coordinator for all groups.
func (c collector) groups() []kmsg.ListGroupsResponseGroup {
	req := kmsg.NewPtrListGroupsRequest()
	req.Version = 5
	answer := make(chan *kmsg.ListGroupsResponse, 1)
	c.s.groups.List(req, func(r kmsg.Response) { answer <- r.(*kmsg.ListGroupsResponse) })
	select {
	case r := <-answer:
		return r.Groups
	case <-c.s.ctx.Done():
		return nil
	}
}

func (c collector) connections(k sink) {
	c.s.mu.Lock()
	n := len(c.s.conns)
	c.s.mu.Unlock()
	k.gauge("kafka_server_socket_server_metrics_connection_count", "Open connections.", float64(n))
}
