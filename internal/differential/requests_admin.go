package differential

import (
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func (g *generator) createTopics() {
	req := kmsg.NewPtrCreateTopicsRequest()
	g.version(req)
	req.TimeoutMillis = 10_000
	req.ValidateOnly = g.chance(20)
	for range g.few() {
		name := g.topics[g.rnd.IntN(3)]
		switch {
		case g.chance(25):
			name = fmt.Sprintf("~n%d", g.rnd.IntN(5))
			g.topics = append(g.topics, name)
		case g.chance(20):
			name = pick(g, "", "bad/name", ".", "..", "~a.b", "~a_b", "__consumer_offsets", "~"+longName, "~ä", "~x y", "~"+longName[:241])
		}
		t := g.newTopic(name)
		if g.chance(35) {
			t.NumPartitions = pick[int32](g, 0, -1, -1, -2, 1, 5)
			t.ReplicationFactor = pick[int16](g, 0, -1, -1, -2, 2, 1, 1)
		}
		if g.chance(15) {
			t.NumPartitions, t.ReplicationFactor = pick[int32](g, -1, -1, -1, 1), -1
			for i := range g.few() {
				a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
				a.Partition = int32(i) + pick[int32](g, 0, 0, 0, 0, 1, -1)
				a.Replicas = pick(g, []int32{1}, []int32{1}, []int32{1}, []int32{2}, []int32{}, []int32{1, 1}, []int32{1, 2}, []int32{-1})
				t.ReplicaAssignment = append(t.ReplicaAssignment, a)
			}
		}
		req.Topics = append(req.Topics, t)
	}
	g.add(g.conn(), "", req)
}

const longName = "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"

// mayDelete is a topic that a sequence may do away with: never one of the broker's own.
func (g *generator) mayDelete() string {
	for {
		if t := g.topic(); len(t) < 2 || t[:2] != "__" {
			return t
		}
	}
}

func (g *generator) deleteTopics() {
	req := kmsg.NewPtrDeleteTopicsRequest()
	v := g.version(req)
	req.TimeoutMillis = 10_000
	for range g.few() {
		name := g.mayDelete()
		req.TopicNames = append(req.TopicNames, name)
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = &name
		if v >= 6 && g.chance(40) {
			t.TopicID = g.topicID(name)
			if g.chance(85) {
				t.Topic = nil
			}
		}
		req.Topics = append(req.Topics, t)
	}
	g.add(g.conn(), "", req)
}

func (g *generator) createPartitions() {
	req := kmsg.NewPtrCreatePartitionsRequest()
	g.version(req)
	req.TimeoutMillis = 10_000
	req.ValidateOnly = g.chance(20)
	for _, name := range g.distinct(g.mayDelete) {
		t := kmsg.NewCreatePartitionsRequestTopic()
		t.Topic = name
		t.Count = pick[int32](g, 1, 2, 3, 4, 4, 5, 0, -1)
		if g.chance(30) {
			for range g.few() {
				a := kmsg.NewCreatePartitionsRequestTopicAssignment()
				a.Replicas = pick(g, []int32{1}, []int32{1}, []int32{1}, []int32{2}, []int32{}, []int32{1, 2})
				t.Assignment = append(t.Assignment, a)
			}
		}
		req.Topics = append(req.Topics, t)
	}
	g.add(g.conn(), "", req)
}

// resource chooses what to configure. Changes of the broker's own are only validated, as sequences run side by side.
func (g *generator) resource() (kmsg.ConfigResourceType, string, []string) {
	switch n := g.rnd.IntN(20); {
	case n < 11:
		return 2, g.mayDelete(), topicConfigs
	case n < 14:
		return 4, pick(g, "1", "1", "1", "", "2", "x", "-1"), brokerConfigs
	case n < 16:
		return 32, g.group(), groupConfigs
	case n < 18:
		return 16, pick(g, "~c0", "~c1", ""), metricsConfigs
	case n < 19:
		return 8, pick(g, "1", "2", "x"), []string{"org.apache.kafka", "root"}
	default:
		return kmsg.ConfigResourceType(pick[int8](g, 0, 1, 3, 64, -1)), "~t0", topicConfigs
	}
}

func (g *generator) describeConfigs() {
	req := kmsg.NewPtrDescribeConfigsRequest()
	g.version(req)
	req.IncludeSynonyms, req.IncludeDocumentation = g.chance(40), false
	for range g.few() {
		r := kmsg.NewDescribeConfigsRequestResource()
		var names []string
		r.ResourceType, r.ResourceName, names = g.resource()
		switch n := g.rnd.IntN(10); {
		case n < 4:
			r.ConfigNames = nil
		case n < 5:
			r.ConfigNames = []string{}
		default:
			for range 1 + g.rnd.IntN(4) {
				r.ConfigNames = append(r.ConfigNames, pick(g, names...))
			}
		}
		req.Resources = append(req.Resources, r)
	}
	g.add(g.conn(), "", req)
}

func (g *generator) incrementalAlterConfigs() {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	g.version(req)
	req.ValidateOnly = g.chance(15)
	for range g.few() {
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		var names []string
		r.ResourceType, r.ResourceName, names = g.resource()
		if r.ResourceType == 4 || r.ResourceType == 8 {
			req.ValidateOnly = true
		}
		for range g.few() {
			c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			c.Op = kmsg.IncrementalAlterConfigOp(pick[int8](g, 0, 0, 0, 0, 1, 2, 3, 4, -1))
			switch {
			case r.ResourceType == 2:
				c.Name, c.Value = g.topicConfig()
			case r.ResourceType == 16:
				p := pick(g, [2]string{"interval.ms", "1000"}, [2]string{"metrics", "a.b,c"}, [2]string{"match", "client_id=x"}, [2]string{"match", "bad=["}, [2]string{"interval.ms", "5"})
				c.Name, c.Value = p[0], &p[1]
			case r.ResourceType == 32:
				p := pick(g, [2]string{"consumer.session.timeout.ms", "45000"}, [2]string{"consumer.session.timeout.ms", "46000"}, [2]string{"consumer.heartbeat.interval.ms", "6000"},
					[2]string{"share.auto.offset.reset", "earliest"}, [2]string{"share.auto.offset.reset", "by_duration:PT1H"}, [2]string{"share.isolation.level", "read_committed"},
					[2]string{"share.record.lock.duration.ms", "20000"}, [2]string{"share.record.lock.duration.ms", "1"}, [2]string{"share.auto.offset.reset", "latest"})
				c.Name, c.Value = p[0], &p[1]
			default:
				c.Name, c.Value = pick(g, names...), g.configValue()
			}
			if g.chance(15) {
				c.Name, c.Value = pick(g, names...), g.configValue()
			}
			r.Configs = append(r.Configs, c)
		}
		req.Resources = append(req.Resources, r)
	}
	if len(req.Resources) > 0 && req.ValidateOnly { // must stay so
		g.exactly(func() { g.add(g.conn(), "", req) })
		return
	}
	g.add(g.conn(), "", req)
}

// exactly adds a request that must not be disturbed.
func (g *generator) exactly(add func()) {
	g.calm = true
	add()
	g.calm = false
}

func (g *generator) alterConfigs() {
	req := kmsg.NewPtrAlterConfigsRequest()
	g.version(req)
	req.ValidateOnly = g.chance(20)
	for range g.few() {
		r := kmsg.NewAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = 2, g.mayDelete()
		if g.chance(20) {
			r.ResourceType, r.ResourceName, _ = g.resource()
			req.ValidateOnly = req.ValidateOnly || r.ResourceType == 4 || r.ResourceType == 8
		}
		for range g.few() {
			c := kmsg.NewAlterConfigsRequestResourceConfig()
			c.Name, c.Value = g.topicConfig()
			r.Configs = append(r.Configs, c)
		}
		req.Resources = append(req.Resources, r)
	}
	g.exactly(func() { g.add(g.conn(), "", req) })
}

func (g *generator) listConfigResources() {
	req := kmsg.NewPtrListConfigResourcesRequest()
	g.version(req)
	for range g.rnd.IntN(3) {
		req.ResourceTypes = append(req.ResourceTypes, pick[int8](g, 2, 4, 8, 16, 32, 0, 3, -1))
	}
	g.add(g.conn(), "", req)
}

func (g *generator) describeTopicPartitions() {
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	g.version(req)
	for _, name := range g.distinct(g.topic) {
		t := kmsg.NewDescribeTopicPartitionsRequestTopic()
		t.Topic = name
		req.Topics = append(req.Topics, t)
	}
	req.ResponsePartitionLimit = pick[int32](g, 2000, 2000, 1, 2, 3, 5000)
	if g.chance(20) {
		req.ResponsePartitionLimit = pick[int32](g, 0, -1)
	}
	if g.chance(40) {
		c := kmsg.NewDescribeTopicPartitionsRequestCursor()
		c.Topic, c.Partition = g.topic(), pick[int32](g, 0, 0, 1, 2, 5, -1)
		req.Cursor = &c
	}
	g.add(g.conn(), "", req)
}

func (g *generator) electLeaders() {
	req := kmsg.NewPtrElectLeadersRequest()
	g.version(req)
	req.ElectionType = pick[int8](g, 0, 0, 0, 1, 1, 2, -1)
	req.TimeoutMillis = 10_000
	for _, name := range g.distinct(g.topic) {
		t := kmsg.NewElectLeadersRequestTopic()
		t.Topic = name
		for range g.few() {
			t.Partitions = append(t.Partitions, g.partition())
		}
		req.Topics = append(req.Topics, t)
	}
	g.exactly(func() { g.add(g.conn(), "", req) })
}

func (g *generator) alterPartitionAssignments() {
	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	g.version(req)
	req.TimeoutMillis = 10_000
	req.AllowReplicationFactorChange = g.chance(60)
	for _, name := range g.distinct(g.mayDelete) {
		t := kmsg.NewAlterPartitionAssignmentsRequestTopic()
		t.Topic = name
		for range g.few() {
			p := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
			p.Partition = g.partition()
			p.Replicas = pick(g, []int32{1}, []int32{1}, nil, []int32{2}, []int32{}, []int32{1, 2}, []int32{1, 1}, []int32{-1})
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	g.add(g.conn(), "", req)
}

func (g *generator) listPartitionReassignments() {
	req := kmsg.NewPtrListPartitionReassignmentsRequest()
	g.version(req)
	req.TimeoutMillis = 10_000
	for _, name := range g.distinct(g.topic) {
		t := kmsg.NewListPartitionReassignmentsRequestTopic()
		t.Topic = name
		t.Partitions = []int32{g.partition()}
		req.Topics = append(req.Topics, t)
	}
	g.add(g.conn(), "", req)
}

func (g *generator) describeLogDirs() {
	req := kmsg.NewPtrDescribeLogDirsRequest()
	g.version(req)
	for _, name := range g.distinct(g.mayDelete) {
		t := kmsg.NewDescribeLogDirsRequestTopic()
		t.Topic = name
		t.Partitions = []int32{0, g.partition()}
		req.Topics = append(req.Topics, t)
	}
	g.add(g.conn(), "", req)
}

func (g *generator) acls() {
	switch g.rnd.IntN(3) {
	case 0:
		req := kmsg.NewPtrDescribeACLsRequest()
		g.version(req)
		req.ResourceType, req.ResourcePatternType, req.Operation, req.PermissionType = 1, 1, 1, 1
		g.add(g.conn(), "", req)
	case 1:
		req := kmsg.NewPtrCreateACLsRequest()
		g.version(req)
		for range g.few() {
			c := kmsg.NewCreateACLsRequestCreation()
			c.ResourceType, c.ResourceName, c.ResourcePatternType, c.Principal, c.Host, c.Operation, c.PermissionType = 2, "~t0", 3, "User:a", "*", 3, 3
			req.Creations = append(req.Creations, c)
		}
		g.add(g.conn(), "", req)
	default:
		req := kmsg.NewPtrDeleteACLsRequest()
		g.version(req)
		for range g.few() {
			c := kmsg.NewDeleteACLsRequestFilter()
			c.ResourceType, c.ResourcePatternType, c.Operation, c.PermissionType = 2, 1, 1, 1
			req.Filters = append(req.Filters, c)
		}
		g.add(g.conn(), "", req)
	}
}

func (g *generator) quotaEntity() (entity []kmsg.AlterClientQuotasRequestEntryEntity) {
	add := func(typ string, name *string) {
		e := kmsg.NewAlterClientQuotasRequestEntryEntity()
		e.Type, e.Name = typ, name
		entity = append(entity, e)
	}
	switch g.rnd.IntN(12) {
	case 0, 1, 2:
		add("user", pick(g, ptr("~u0"), ptr("~u1")))
	case 3, 4, 5:
		add("client-id", pick(g, ptr("~k0"), ptr("~k1")))
	case 6, 7, 8:
		add("user", ptr("~u0"))
		add("client-id", pick(g, ptr("~k0"), nil))
	case 9:
		add("ip", pick(g, ptr("10.0.0.1"), ptr("~ip")))
	case 10:
		add("user", ptr("~u0"))
		add("ip", ptr("10.0.0.1"))
	default:
		add(pick(g, "nonsense", "", "user"), pick(g, ptr("~u0"), ptr("")))
	}
	return entity
}

func (g *generator) alterClientQuotas() {
	req := kmsg.NewPtrAlterClientQuotasRequest()
	g.version(req)
	req.ValidateOnly = g.chance(20)
	for range g.few() {
		e := kmsg.NewAlterClientQuotasRequestEntry()
		e.Entity = g.quotaEntity()
		if len(e.Entity) == 1 && e.Entity[0].Type == "ip" {
			req.ValidateOnly = true
		}
		for range g.few() {
			o := kmsg.NewAlterClientQuotasRequestEntryOp()
			o.Key = pick(g, "producer_byte_rate", "consumer_byte_rate", "request_percentage", "controller_mutation_rate", "connection_creation_rate", "nonsense")
			o.Value = pick(g, 1000, 1e9, 0, -1, 1.5, 0.0001, math.MaxFloat64)
			o.Remove = g.chance(25)
			e.Ops = append(e.Ops, o)
		}
		req.Entries = append(req.Entries, e)
	}
	g.exactly(func() { g.add(g.conn(), "", req) })
}

func (g *generator) describeClientQuotas() {
	req := kmsg.NewPtrDescribeClientQuotasRequest()
	g.version(req)
	req.Strict = g.chance(40)
	for range g.few() {
		c := kmsg.NewDescribeClientQuotasRequestComponent()
		c.EntityType = pick(g, "user", "user", "client-id", "client-id", "ip", "nonsense", "")
		c.MatchType = kmsg.QuotasMatchType(pick[int8](g, 0, 0, 0, 1, 2, 2, 3, -1))
		if c.MatchType == 0 || g.chance(10) {
			c.Match = pick(g, ptr("~u0"), ptr("~k0"), ptr("~u0"), ptr("~k1"), ptr(""))
		}
		req.Components = append(req.Components, c)
	}
	g.add(g.conn(), "", req)
}

func (g *generator) describeScram() {
	req := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()
	g.version(req)
	for range 1 + g.rnd.IntN(2) {
		u := kmsg.NewDescribeUserSCRAMCredentialsRequestUser()
		u.Name = pick(g, "~u0", "~u1", "~u2", "")
		req.Users = append(req.Users, u)
	}
	g.add(g.conn(), "", req)
}

func (g *generator) alterScram() {
	req := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	g.version(req)
	for range g.rnd.IntN(2) {
		d := kmsg.NewAlterUserSCRAMCredentialsRequestDeletion()
		d.Name, d.Mechanism = pick(g, "~u0", "~u1", ""), pick[int8](g, 1, 2, 0, 3)
		req.Deletions = append(req.Deletions, d)
	}
	for range g.few() {
		u := kmsg.NewAlterUserSCRAMCredentialsRequestUpsertion()
		u.Name, u.Mechanism = pick(g, "~u0", "~u0", "~u1", ""), pick[int8](g, 1, 1, 1, 2, 2, 2, 0, 3)
		u.Iterations = pick[int32](g, 4096, 4096, 8192, 4095, 16384, 16385, 0)
		u.Salt, u.SaltedPassword = []byte("salt"), []byte("a password that was salted, 32+b")
		req.Upsertions = append(req.Upsertions, u)
	}
	g.add(g.conn(), "", req)
}

func (g *generator) describeQuorum() {
	req := kmsg.NewPtrDescribeQuorumRequest()
	g.version(req)
	t := kmsg.NewDescribeQuorumRequestTopic()
	t.Topic = pick(g, "__cluster_metadata", "__cluster_metadata", "__cluster_metadata", "~t0")
	p := kmsg.NewDescribeQuorumRequestTopicPartition()
	p.Partition = pick[int32](g, 0, 0, 0, 1)
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	g.add(g.conn(), "", req)
}

func (g *generator) updateFeatures() {
	req := kmsg.NewPtrUpdateFeaturesRequest()
	v := g.version(req)
	req.TimeoutMillis = 10_000
	req.ValidateOnly = true
	if v == 0 { // which cannot say so
		req.Version = 1
	}
	for range 1 + g.rnd.IntN(2) {
		u := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
		u.Feature = pick(g, "metadata.version", "transaction.version", "group.version", "share.version", "streams.version", "kraft.version",
			"eligible.leader.replicas.version", "nonsense", "")
		u.MaxVersionLevel = pick[int16](g, 0, 1, 2, 3, 25, 30, 99, -1)
		u.UpgradeType = pick[int8](g, 1, 1, 2, 3, 0, 4)
		u.AllowDowngrade = g.chance(20)
		req.FeatureUpdates = append(req.FeatureUpdates, u)
	}
	g.exactly(func() { g.add(g.conn(), "", req) })
}

func (g *generator) sasl() {
	if g.chance(70) {
		req := kmsg.NewPtrSASLHandshakeRequest()
		g.version(req)
		req.Mechanism = pick(g, "PLAIN", "SCRAM-SHA-256", "")
		g.add(g.conn(), "", req)
		return
	}
	req := kmsg.NewPtrSASLAuthenticateRequest()
	g.version(req)
	req.SASLAuthBytes = []byte("\x00u\x00p")
	g.add(g.conn(), "", req)
}
