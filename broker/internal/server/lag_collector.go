package server

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/replica"
)

// LagCollector gives offsets and lag of topics and groups, under the names of kafka_exporter, which dashboards of consumer lag read.
func (s *Server) LagCollector() prometheus.Collector { return lagCollector{s} }

type lagCollector struct{ s *Server }

// Describe says nothing: which topics and groups there are is known at the scrape.
func (lagCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c lagCollector) Collect(ch chan<- prometheus.Metric) {
	k := sink{ch}
	k.gauge("kafka_brokers", "Brokers of the cluster.", 1)
	ends := map[string]map[int32]int64{}
	for t := range c.s.ctl.Image().Topics() {
		ends[t.Name] = map[int32]int64{}
		k.gauge("kafka_topic_partitions", "Partitions of the topic.", float64(len(t.Partitions)), "topic", t.Name)
		for i := range t.Partitions {
			p, ok := c.s.replicas.Partition(t.Name, int32(i))
			if !ok {
				continue
			}
			ends[t.Name][int32(i)] = p.HighWatermark()
			c.partition(k, p, t.Partitions[i].Leader, t.Partitions[i].Replicas, t.Partitions[i].ISR)
		}
	}
	c.groups(k, ends)
}

func (c lagCollector) partition(k sink, p *replica.Partition, leader int32, replicas, isr []int32) {
	const group = "kafka_topic_partition_"
	labels := []string{"topic", p.Topic(), "partition", strconv.Itoa(int(p.ID()))}
	k.gauge(group+"current_offset", "High watermark.", float64(p.HighWatermark()), labels...)
	k.gauge(group+"oldest_offset", "First offset that can be read.", float64(p.LogStartOffset()), labels...)
	k.gauge(group+"leader", "Node id of the leader.", float64(leader), labels...)
	k.gauge(group+"replicas", "Number of replicas.", float64(len(replicas)), labels...)
	k.gauge(group+"in_sync_replica", "Number of replicas in sync.", float64(len(isr)), labels...)
	preferred, under := 0.0, 0.0
	if len(replicas) > 0 && replicas[0] == leader {
		preferred = 1
	}
	if len(isr) < len(replicas) {
		under = 1
	}
	k.gauge(group+"leader_is_preferred", "1 if the preferred replica leads.", preferred, labels...)
	k.gauge(group+"under_replicated_partition", "1 if replicas are not in sync.", under, labels...)
}

// groups shows committed offsets and lag of every group.
func (c lagCollector) groups(k sink, ends map[string]map[int32]int64) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = 9
	for _, g := range collector(c).groups() {
		if g.GroupType == "share" {
			continue // its partitions have no committed offset
		}
		asked := kmsg.NewOffsetFetchRequestGroup()
		asked.Group, asked.MemberEpoch = g.Group, -1
		req.Groups = append(req.Groups, asked)
	}
	if len(req.Groups) == 0 {
		return
	}
	answer := make(chan *kmsg.OffsetFetchResponse, 1)
	c.s.groups.OffsetFetch(req, func(r kmsg.Response) { answer <- r.(*kmsg.OffsetFetchResponse) })
	var resp *kmsg.OffsetFetchResponse
	select {
	case resp = <-answer:
	case <-c.s.ctx.Done():
		return
	}
	const group = "kafka_consumergroup_"
	for _, g := range resp.Groups {
		for _, t := range g.Topics {
			offsets, lags := 0.0, 0.0
			for _, p := range t.Partitions {
				if p.ErrorCode != 0 || p.Offset < 0 {
					continue
				}
				labels := []string{"consumergroup", g.Group, "topic", t.Topic, "partition", strconv.Itoa(int(p.Partition))}
				k.gauge(group+"current_offset", "Committed offset.", float64(p.Offset), labels...)
				offsets += float64(p.Offset)
				if end, ok := ends[t.Topic][p.Partition]; ok {
					lag := float64(max(end-p.Offset, 0))
					k.gauge(group+"lag", "Records between the committed offset and the high watermark.", lag, labels...)
					lags += lag
				}
			}
			k.gauge(group+"current_offset_sum", "Sum of the committed offsets of the topic.", offsets, "consumergroup", g.Group, "topic", t.Topic)
			k.gauge(group+"lag_sum", "Sum of the lags of the topic.", lags, "consumergroup", g.Group, "topic", t.Topic)
		}
	}
}
