package differential

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// This file and its neighbours requests_*.go make requests. Each takes the version first, as it decides what the request says.

// past is a time that no broker confuses with now: 2020-09-13.
const past = 1_600_000_000_000

func (g *generator) createTopic(name string) {
	req := kmsg.NewPtrCreateTopicsRequest()
	g.version(req)
	req.TimeoutMillis = 10_000
	req.Topics = []kmsg.CreateTopicsRequestTopic{g.newTopic(name)}
	g.add(g.conn(), "", req)
}

func (g *generator) newTopic(name string) kmsg.CreateTopicsRequestTopic {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, int32(1+g.rnd.IntN(3)), 1
	if g.chance(40) {
		for range 1 + g.rnd.IntN(2) {
			c := kmsg.NewCreateTopicsRequestTopicConfig()
			c.Name, c.Value = g.topicConfig()
			t.Configs = append(t.Configs, c)
		}
	}
	return t
}

// topicConfig chooses a configuration, mostly one that makes a difference at once.
func (g *generator) topicConfig() (string, *string) {
	if g.chance(70) {
		p := pick(g,
			[2]string{"cleanup.policy", "compact"}, [2]string{"cleanup.policy", "compact,delete"}, [2]string{"cleanup.policy", "delete"},
			[2]string{"compression.type", "gzip"}, [2]string{"compression.type", "zstd"}, [2]string{"compression.type", "uncompressed"},
			[2]string{"compression.type", "lz4"}, [2]string{"compression.type", "snappy"}, [2]string{"compression.type", "producer"},
			[2]string{"message.timestamp.type", "LogAppendTime"}, [2]string{"message.timestamp.type", "CreateTime"},
			[2]string{"max.message.bytes", "500"}, [2]string{"max.message.bytes", "0"}, [2]string{"segment.bytes", "1048576"},
			[2]string{"message.timestamp.before.max.ms", "1000"}, [2]string{"message.timestamp.after.max.ms", "1000"},
			[2]string{"retention.ms", "-1"}, [2]string{"retention.ms", "3600000"}, [2]string{"retention.bytes", "1000"},
			[2]string{"min.insync.replicas", "1"}, [2]string{"min.insync.replicas", "2"}, [2]string{"segment.ms", "10000"},
		)
		return p[0], &p[1]
	}
	name := pick(g, topicConfigs...)
	if g.chance(5) {
		name = pick(g, "no.such.config", "", "log.retention.ms")
	}
	if name == "segment.index.bytes" { // Kafka takes 5, and has no log then
		return name, ptr("100000")
	}
	return name, g.configValue()
}

func (g *generator) configValue() *string {
	return pick(g, nil, ptr(""), ptr("0"), ptr("1"), ptr("-1"), ptr("-2"), ptr("true"), ptr("false"), ptr("compact"), ptr("delete"), ptr("1.5"), ptr("0.5"),
		ptr("9223372036854775807"), ptr("9223372036854775808"), ptr("2147483648"), ptr("abc"), ptr("1024"), ptr("100000000"), ptr("*"), ptr("zstd"),
		ptr("1:1"), ptr("TRUE"), ptr(" 7 "), ptr("5"), ptr("none"))
}

var topicConfigs = []string{
	"cleanup.policy", "compression.gzip.level", "compression.lz4.level", "compression.type", "compression.zstd.level", "delete.retention.ms",
	"file.delete.delay.ms", "flush.messages", "flush.ms", "follower.replication.throttled.replicas", "index.interval.bytes",
	"leader.replication.throttled.replicas", "local.retention.bytes", "local.retention.ms", "max.compaction.lag.ms", "max.message.bytes",
	"message.timestamp.after.max.ms", "message.timestamp.before.max.ms", "message.timestamp.type", "min.cleanable.dirty.ratio",
	"min.compaction.lag.ms", "min.insync.replicas", "preallocate", "remote.log.copy.disable", "remote.log.delete.on.disable",
	"remote.storage.enable", "retention.bytes", "retention.ms", "segment.bytes", "segment.index.bytes", "segment.jitter.ms", "segment.ms",
	"unclean.leader.election.enable",
}

var brokerConfigs = []string{
	"log.retention.ms", "num.io.threads", "log.cleaner.threads", "message.max.bytes", "num.partitions", "auto.create.topics.enable",
	"compression.type", "background.threads", "min.insync.replicas", "log.segment.bytes", "max.connections", "zookeeper.connect",
	"group.max.size", "transaction.max.timeout.ms", "listeners", "advertised.listeners", "node.id", "ssl.keystore.location", "log.dirs",
	"unclean.leader.election.enable", "follower.replication.throttled.rate", "leader.replication.throttled.rate", "log.cleanup.policy",
	"producer.id.expiration.ms", "transaction.partition.verification.enable", "group.consumer.session.timeout.ms", "nonsense",
	"log.retention.hours", "log.roll.ms", "num.network.threads", "sasl.jaas.config", "max.connections.per.ip", "metric.reporters",
	"num.replica.fetchers", "num.recovery.threads.per.data.dir", "remote.log.reader.threads", "offsets.retention.minutes",
}

var groupConfigs = []string{
	"consumer.session.timeout.ms", "consumer.heartbeat.interval.ms", "share.session.timeout.ms", "share.heartbeat.interval.ms",
	"share.record.lock.duration.ms", "share.auto.offset.reset", "share.isolation.level", "streams.session.timeout.ms",
	"streams.heartbeat.interval.ms", "streams.num.standby.replicas", "streams.initial.rebalance.delay.ms", "share.delivery.count.limit",
	"share.partition.max.record.locks", "share.renew.acknowledge.enable", "consumer.assignment.interval.ms", "share.assignment.interval.ms",
}

var metricsConfigs = []string{"interval.ms", "metrics", "match", "nonsense"}

func (g *generator) batch() Batch {
	b := Batch{Magic: 2, BaseTimestamp: past + int64(g.rnd.IntN(50)), ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1, LeaderEpoch: -1}
	for i := range 1 + g.rnd.IntN(4) {
		r := Record{Value: ptr(fmt.Sprintf("v%d", g.rnd.IntN(10))), TimestampDelta: int64(g.rnd.IntN(40) - 10)}
		if i == 0 {
			r.TimestampDelta = 0
		}
		if g.chance(70) {
			r.Key = ptr(fmt.Sprintf("k%d", g.rnd.IntN(4)))
		}
		if g.chance(10) {
			r.Value = nil
		}
		if g.chance(10) {
			r.Headers = []string{"h=1", "h", "="}
		}
		b.Records = append(b.Records, r)
	}
	if g.chance(35) {
		b.Codec = 1 + g.rnd.IntN(4)
	}
	if g.chance(10) {
		b.Filler = pick(g, 100, 300, 5000)
	}
	if g.chance(10) {
		g.spoil(&b)
	}
	return b
}

// spoil makes something about a batch wrong, or unusual.
func (g *generator) spoil(b *Batch) {
	switch g.rnd.IntN(28) {
	case 0:
		b.CRCAdd = 1
	case 1:
		b.Count = ptr(pick(g, int32(len(b.Records))+1, int32(len(b.Records))-1, 0, -1, math.MaxInt32))
	case 2:
		b.LastDelta = ptr(pick(g, int32(len(b.Records)), int32(len(b.Records))-2, -1, math.MaxInt32, 1000))
	case 3:
		b.Attributes |= 0x20 // control
	case 4:
		b.Attributes |= 0x10 // transactional
	case 5:
		b.Attributes |= 0x08 // log append time
	case 6:
		b.Attributes |= 0x40 // delete horizon
	case 7:
		b.Attributes |= pick[int16](g, 0x80, 0x100, 0x5, 0x6, 0x7)
	case 8:
		b.Magic = pick[int8](g, 0, 1, 3, -1)
	case 9:
		b.BaseOffset = pick[int64](g, 5, -1, math.MaxInt64)
	case 10:
		b.Cut = pick(g, 1, 5, 40, 70)
	case 11:
		b.Twice = true
	case 12:
		b.Garbage = true
	case 13:
		b.Records = nil
	case 14:
		b.Records[0].DeltaAdd = pick[int32](g, 1, -1, 100)
	case 15:
		b.Records[len(b.Records)-1].LengthAdd = pick[int32](g, 1, -1, 1000, -1000)
	case 16:
		b.Records[0].Attributes = pick[int8](g, 1, -1)
	case 17:
		b.LengthAdd = pick[int32](g, 1, -1, 1000, -100000)
	case 18:
		b.BaseTimestamp = pick[int64](g, -1, -2, 0, math.MaxInt64, math.MinInt64, 4_000_000_000_000)
	case 19:
		b.MaxTimestamp = ptr(pick[int64](g, -1, 0, math.MaxInt64, past+1))
	case 20:
		b.Records[0].TimestampDelta = pick[int64](g, 1, -5000, math.MaxInt64/2, -past-5)
	case 21:
		b.ProducerID = pick[int64](g, 0, 424242, -2, math.MaxInt64)
	case 22:
		b.ProducerID, b.ProducerEpoch, b.BaseSequence = 424242, pick[int16](g, 0, -1, 5), pick[int32](g, 0, -1, 5, math.MaxInt32)
	case 23:
		b.LeaderEpoch = pick[int32](g, 0, 5, math.MaxInt32)
	case 24:
		b.ProducerEpoch = pick[int16](g, 0, 3)
	case 25:
		b.BaseSequence = pick[int32](g, 0, 3, -2)
	case 26:
		b.Records[0].Key, b.Records[0].Value = ptr(""), ptr("")
	case 27:
		b.Attributes |= 0x30
		b.Records = []Record{{Key: ptr("\x00\x00\x00\x01"), Value: ptr("\x00\x00\x00\x00\x00\x00")}}
	}
}

// produced makes a request with one batch per partition. txn is the transactional id, producer the actor whose ids it takes.
func (g *generator) produceAs(producer string, txn *string) {
	req := kmsg.NewPtrProduceRequest()
	v := g.version(req)
	req.TransactionID = txn
	req.Acks = pick[int16](g, -1, -1, -1, -1, -1, -1, -1, -1, 1, 1)
	if g.chance(4) {
		req.Acks = pick[int16](g, 0, 0, 2, -2)
	}
	req.TimeoutMillis = pick[int32](g, 5000, 5000, 30_000, 0, -1)
	if req.TimeoutMillis <= 0 && g.chance(80) {
		req.TimeoutMillis = 5000
	}
	var batches []Batch
	for _, name := range g.distinct(g.topic) {
		t := kmsg.NewProduceRequestTopic()
		t.Topic = name
		if g.chance(2) {
			t.Topic = pick(g, "__consumer_offsets", "__transaction_state")
		}
		t.TopicID = g.topicID(t.Topic)
		for _, partition := range g.partitions() {
			p := kmsg.NewProduceRequestTopicPartition()
			p.Partition = partition
			b := g.batch()
			if v >= 3 && v < 7 && b.Codec == 4 && g.chance(70) {
				b.Codec = 0
			}
			if producer != "" && b.ProducerID == -1 {
				b.ProducerID, b.ProducerEpoch = g.vars.i64(producer+".pid", 0), g.vars.i16(producer+".epoch", 0)
				at := fmt.Sprintf("%s/%s/%d", producer, t.Topic, p.Partition)
				b.BaseSequence = g.seqs[at]
				g.seqs[at] += int32(len(b.Records))
				if g.chance(8) {
					b.BaseSequence += pick[int32](g, 1, -1, 10, -2, -5)
				}
				if g.chance(4) {
					b.ProducerEpoch = g.vars.i16(producer+".epoch", pick(g, 1, -1))
				}
				if g.chance(5) { // once more
					b.BaseSequence = max(0, b.BaseSequence-int32(len(b.Records)))
				}
			}
			if txn != nil && g.chance(95) {
				b.Attributes |= 0x10
			}
			p.Records = fmt.Appendf(nil, "@%d", len(batches))
			batches = append(batches, b)
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	g.add(g.conn(), "", req, batches...)
}

func (g *generator) produce() {
	switch {
	case g.chance(30):
		g.produceAs(fmt.Sprintf("p%d", g.rnd.IntN(2)), nil)
	default:
		g.produceAs("", nil)
	}
}

func (g *generator) fetchTopics(v int16) (topics []kmsg.FetchRequestTopic) {
	for _, name := range g.distinct(g.topic) {
		t := kmsg.NewFetchRequestTopic()
		t.Topic = name
		t.TopicID = g.topicID(t.Topic)
		for _, partition := range g.partitions() {
			p := kmsg.NewFetchRequestTopicPartition()
			p.Partition = partition
			p.CurrentLeaderEpoch = g.leaderEpoch()
			p.FetchOffset = g.offset()
			p.LastFetchedEpoch = pick[int32](g, -1, -1, -1, -1, -1, -1, -1, 0, 1)
			p.LogStartOffset = -1
			p.PartitionMaxBytes = pick[int32](g, 1<<20, 1<<20, 1<<20, 100, 1, 0, -1, 200)
			if p.PartitionMaxBytes < 0 && g.chance(60) {
				p.PartitionMaxBytes = 1 << 20
			}
			t.Partitions = append(t.Partitions, p)
		}
		topics = append(topics, t)
	}
	return topics
}

func (g *generator) fetchRequest() (*kmsg.FetchRequest, int16) {
	req := kmsg.NewPtrFetchRequest()
	v := g.version(req)
	req.ReplicaID = -1
	req.MaxWaitMillis = pick[int32](g, 0, 0, 0, 10, 30)
	req.MinBytes = pick[int32](g, 0, 1, 1, 1, 1, 100)
	req.MaxBytes = pick[int32](g, 50<<20, 50<<20, 50<<20, 300, 1, 0, math.MaxInt32)
	req.IsolationLevel = pick[int8](g, 0, 0, 1, 1, 1)
	if g.chance(2) {
		req.IsolationLevel = 2
	}
	req.SessionID, req.SessionEpoch = 0, -1
	req.Topics = g.fetchTopics(v)
	return req, v
}

func (g *generator) fetch() {
	req, _ := g.fetchRequest()
	if g.chance(7) { // until somebody produces
		req.MaxWaitMillis, req.MinBytes = 60_000, 1
	}
	g.add(g.conn(), "", req)
}

func (g *generator) fetchSession() {
	who := fmt.Sprintf("f%d", g.rnd.IntN(2))
	req, v := g.fetchRequest()
	if v < 7 && g.chance(80) {
		req.Version = max(7, g.versions[1][1]-int16(g.rnd.IntN(4)))
	}
	epoch := g.sessions[who]
	switch {
	case epoch == 0 || g.chance(8):
		req.SessionID, req.SessionEpoch = 0, 0
		g.sessions[who] = 1
	case g.chance(5):
		req.SessionID, req.SessionEpoch = g.vars.i32(who+".session", pick(g, 0, 0, 1)), pick(g, -1, epoch+1, epoch-1, 0, math.MaxInt32)
		if req.SessionEpoch <= 0 {
			g.sessions[who] = 0
		}
	default:
		req.SessionID, req.SessionEpoch = g.vars.i32(who+".session", 0), epoch
		g.sessions[who]++
		if g.chance(60) {
			req.Topics = nil
		}
		if g.chance(25) {
			f := kmsg.NewFetchRequestForgottenTopic()
			f.Topic = g.topic()
			f.TopicID = g.topicID(f.Topic)
			f.Partitions = []int32{g.partition()}
			req.ForgottenTopics = append(req.ForgottenTopics, f)
		}
	}
	g.add(g.conn(), who, req)
}

func (g *generator) listOffsets() {
	req := kmsg.NewPtrListOffsetsRequest()
	g.version(req)
	req.ReplicaID = -1
	req.IsolationLevel = int8(g.rnd.IntN(2))
	req.TimeoutMillis = 5000
	for _, name := range g.distinct(g.topic) {
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = name
		for _, partition := range g.partitions() {
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Partition, p.CurrentLeaderEpoch = partition, g.leaderEpoch()
			p.Timestamp = pick[int64](g, -1, -1, -2, -2, -3, -3, -4, -5, -6, -7, past, past+5, past+20, past+100, 0, math.MaxInt64, math.MinInt64)
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	g.add(g.conn(), "", req)
}

func (g *generator) offsetForLeaderEpoch() {
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	g.version(req)
	req.ReplicaID = pick[int32](g, -1, -1, -1, -2, 1, 5)
	for _, name := range g.distinct(g.topic) {
		t := kmsg.NewOffsetForLeaderEpochRequestTopic()
		t.Topic = name
		for _, partition := range g.partitions() {
			p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
			p.Partition, p.CurrentLeaderEpoch, p.LeaderEpoch = partition, g.leaderEpoch(), g.leaderEpoch()
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	g.add(g.conn(), "", req)
}

func (g *generator) metadata() {
	req := kmsg.NewPtrMetadataRequest()
	v := g.version(req)
	req.AllowAutoTopicCreation = g.chance(20)
	req.IncludeTopicAuthorizedOperations = g.chance(30)
	req.IncludeClusterAuthorizedOperations = g.chance(30)
	if g.chance(10) {
		req.Topics = nil
		if g.chance(30) {
			req.Topics = []kmsg.MetadataRequestTopic{}
		}
		g.add(g.conn(), "", req)
		return
	}
	for range max(1, g.few()) {
		t := kmsg.NewMetadataRequestTopic()
		name := g.topic()
		if name == "~unknown" && g.chance(50) {
			name = fmt.Sprintf("~auto%d", g.rnd.IntN(3))
			g.topics = append(g.topics, name)
		}
		t.Topic = &name
		if v >= 12 && g.chance(40) {
			t.Topic, t.TopicID = nil, g.topicID(name)
		}
		req.Topics = append(req.Topics, t)
	}
	g.add(g.conn(), "", req)
}

func (g *generator) deleteRecords() {
	req := kmsg.NewPtrDeleteRecordsRequest()
	g.version(req)
	req.TimeoutMillis = 5000
	for _, name := range g.distinct(g.topic) {
		t := kmsg.NewDeleteRecordsRequestTopic()
		t.Topic = name
		for _, partition := range g.partitions() {
			p := kmsg.NewDeleteRecordsRequestTopicPartition()
			p.Partition, p.Offset = partition, g.offset()
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	g.add(g.conn(), "", req)
}

func (g *generator) initIdempotent() {
	req := kmsg.NewPtrInitProducerIDRequest()
	v := g.version(req)
	who := fmt.Sprintf("p%d", g.rnd.IntN(2))
	req.TransactionTimeoutMillis = pick[int32](g, 60_000, 60_000, 0, -1, math.MaxInt32)
	req.ProducerID, req.ProducerEpoch = -1, -1
	if v >= 3 && g.chance(30) {
		req.ProducerID, req.ProducerEpoch = g.vars.i64(who+".pid", 0), g.vars.i16(who+".epoch", 0)
	}
	g.restartSequences(who)
	g.add(g.conn(), who, req)
}

func (g *generator) restartSequences(producer string) {
	for k := range g.seqs {
		if len(k) > len(producer) && k[:len(producer)+1] == producer+"/" {
			delete(g.seqs, k)
		}
	}
}

func (g *generator) describeProducers() {
	req := kmsg.NewPtrDescribeProducersRequest()
	g.version(req)
	for _, name := range g.distinct(g.topic) {
		t := kmsg.NewDescribeProducersRequestTopic()
		t.Topic = name
		t.Partitions = []int32{0}
		if g.chance(50) {
			t.Partitions = append(t.Partitions, g.partition())
		}
		req.Topics = append(req.Topics, t)
	}
	g.add(g.conn(), "", req)
}

func (g *generator) findCoordinator() {
	req := kmsg.NewPtrFindCoordinatorRequest()
	g.version(req)
	req.CoordinatorType = pick[int8](g, 0, 0, 0, 1, 1, 2, 3, -1)
	keys := []string{"~g0", "~g1", "~x0", "", "~unknown", "g:AAAAAAAAAAAAAAAAAAAAAQ:0", "a:b", "a:b:c", "::", "g:bad:0", "g:AAAAAAAAAAAAAAAAAAAAAQ:x"}
	req.CoordinatorKey = pick(g, keys...)
	for range g.few() {
		req.CoordinatorKeys = append(req.CoordinatorKeys, pick(g, keys...))
	}
	g.add(g.conn(), "", req)
}

func (g *generator) apiVersions() {
	req := kmsg.NewPtrApiVersionsRequest()
	g.version(req)
	req.ClientSoftwareName = pick(g, "raw", "raw", "raw", "", "b a d", "-x", "x-", "a.b-c")
	req.ClientSoftwareVersion = pick(g, "1", "1", "1.0.0", "", "x y", ".1")
	g.add(g.conn(), "", req)
}

func (g *generator) describeCluster() {
	req := kmsg.NewPtrDescribeClusterRequest()
	g.version(req)
	req.IncludeClusterAuthorizedOperations = g.chance(50)
	req.EndpointType = pick[int8](g, 1, 1, 1, 1, 2, 0, 3, -1)
	req.IncludeFencedBrokers = g.chance(30)
	g.add(g.conn(), "", req)
}

// consumerAssignment is what a leader gives a member.
func consumerAssignment(topic string, partitions ...int32) []byte {
	p := []byte{0, 0, 0, 0, 0, 1}
	p = binary.BigEndian.AppendUint16(p, uint16(len(topic)))
	p = append(p, topic...)
	p = binary.BigEndian.AppendUint32(p, uint32(len(partitions)))
	for _, n := range partitions {
		p = binary.BigEndian.AppendUint32(p, uint32(n))
	}
	return append(p, 0xff, 0xff, 0xff, 0xff)
}
