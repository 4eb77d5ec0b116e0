package broker_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/brokertest"
)

func TestACLsWithoutAuthorizer(t *testing.T) {
	b := brokertest.New(t)
	c := dial(t, b.Broker)
	for version := int16(1); version <= 3; version++ {
		d := kmsg.NewPtrDescribeACLsRequest()
		d.Version, d.ResourceType, d.ResourcePatternType, d.Operation, d.PermissionType = version, 1, 1, 1, 1
		described, err := do[*kmsg.DescribeACLsResponse](c, d)
		require.NoError(t, err)
		require.Equal(t, kerr.SecurityDisabled.Code, described.ErrorCode)
		require.Equal(t, "No Authorizer is configured on the broker", *described.ErrorMessage)

		cr := kmsg.NewPtrCreateACLsRequest()
		cr.Version = version
		a := kmsg.NewCreateACLsRequestCreation()
		a.ResourceType, a.ResourceName, a.ResourcePatternType, a.Principal, a.Host, a.Operation, a.PermissionType = 2, "t", 3, "User:a", "*", 3, 3
		cr.Creations = append(cr.Creations, a, a)
		created, err := do[*kmsg.CreateACLsResponse](c, cr)
		require.NoError(t, err)
		require.Len(t, created.Results, 2)
		require.Equal(t, kerr.SecurityDisabled.Code, created.Results[1].ErrorCode)

		del := kmsg.NewPtrDeleteACLsRequest()
		del.Version = version
		f := kmsg.NewDeleteACLsRequestFilter()
		f.ResourceType, f.ResourcePatternType, f.Operation, f.PermissionType = 1, 1, 1, 1
		del.Filters = append(del.Filters, f)
		deleted, err := do[*kmsg.DeleteACLsResponse](c, del)
		require.NoError(t, err)
		require.Equal(t, kerr.SecurityDisabled.Code, deleted.Results[0].ErrorCode)
		require.Equal(t, "No Authorizer is configured.", *deleted.Results[0].ErrorMessage)
	}
	bad := kmsg.NewPtrDescribeACLsRequest()
	bad.Version = 3
	_, err := c.send(bad)
	require.NoError(t, err)
	_, _, err = c.receive()
	require.Error(t, err, "the kind UNKNOWN closes the connection")
}

func TestLogDirs(t *testing.T) {
	for name, onDisk := range map[string]bool{"disk": true, "memory": false} {
		t.Run(name, func(t *testing.T) {
			var opts []brokertest.Option
			if onDisk {
				opts = append(opts, brokertest.OnDisk())
			}
			b := brokertest.New(t, opts...)
			c := dial(t, b.Broker)
			makeTopic(t, c, "t")
			makeTopic(t, c, "u")
			_, err := do[*kmsg.ProduceResponse](c, produceOf(9, -1, "t", 0, "xyz"))
			require.NoError(t, err)
			describe := func(version int16, topics []kmsg.DescribeLogDirsRequestTopic) kmsg.DescribeLogDirsResponseDir {
				req := kmsg.NewPtrDescribeLogDirsRequest()
				req.Version, req.Topics = version, topics
				resp, err := do[*kmsg.DescribeLogDirsResponse](c, req)
				require.NoError(t, err)
				require.Zero(t, resp.ErrorCode)
				require.Len(t, resp.Dirs, 1)
				return resp.Dirs[0]
			}
			for version := int16(1); version <= 5; version++ {
				dir := describe(version, nil)
				require.Len(t, dir.Topics, 2, "the metadata log is none of clients' business")
				require.Equal(t, "t", dir.Topics[0].Topic)
				require.Greater(t, dir.Topics[0].Partitions[0].Size, int64(60))
				require.Zero(t, dir.Topics[0].Partitions[0].OffsetLag)
				require.Zero(t, dir.Topics[1].Partitions[0].Size)
				if version < 4 || !onDisk {
					require.EqualValues(t, -1, dir.TotalBytes)
				} else {
					require.Greater(t, dir.TotalBytes, dir.UsableBytes)
					require.Positive(t, dir.UsableBytes)
				}
			}
			require.Empty(t, describe(4, []kmsg.DescribeLogDirsRequestTopic{}).Topics)
			require.Empty(t, describe(4, []kmsg.DescribeLogDirsRequestTopic{{Topic: "missing", Partitions: []int32{0}}, {Topic: "t", Partitions: []int32{7}}}).Topics)
			some := describe(4, []kmsg.DescribeLogDirsRequestTopic{{Topic: "u", Partitions: []int32{0, 0}}, {Topic: "u", Partitions: []int32{0}}})
			require.Len(t, some.Topics, 1)
			require.Len(t, some.Topics[0].Partitions, 1)
		})
	}
}

func TestElectLeaders(t *testing.T) {
	b := brokertest.New(t)
	c := dial(t, b.Broker)
	makeTopic(t, c, "t")
	for version := int16(0); version <= 2; version++ {
		for kind, code := range map[int8]int16{0: kerr.ElectionNotNeeded.Code, 1: kerr.ElectionNotNeeded.Code, 5: kerr.InvalidRequest.Code} {
			if version == 0 && kind == 5 {
				continue // has no kinds
			}
			req := kmsg.NewPtrElectLeadersRequest()
			req.Version, req.ElectionType = version, kind
			req.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: "t", Partitions: []int32{0, 1, 0}}, {Topic: "missing", Partitions: []int32{0}}}
			resp, err := do[*kmsg.ElectLeadersResponse](c, req)
			require.NoError(t, err)
			require.Len(t, resp.Topics, 2)
			got := resp.Topics[0].Partitions
			require.Equal(t, []int16{code, code}, []int16{got[0].ErrorCode, got[2].ErrorCode})
			if kind == 5 {
				require.Equal(t, kerr.InvalidRequest.Code, resp.ErrorCode)
				continue
			}
			require.Zero(t, resp.ErrorCode)
			require.Equal(t, "Leader election not needed for topic partition.", *got[0].ErrorMessage)
			require.Equal(t, "No such partition as t-1", *got[1].ErrorMessage)
			require.Equal(t, kerr.UnknownTopicOrPartition.Code, resp.Topics[1].Partitions[0].ErrorCode)
		}
		all := kmsg.NewPtrElectLeadersRequest()
		all.Version = version
		resp, err := do[*kmsg.ElectLeadersResponse](c, all)
		require.NoError(t, err)
		require.Len(t, resp.Topics, 1)
		require.Empty(t, resp.Topics[0].Partitions, "of all partitions only those that were elected are told")
	}
}

func TestReassignments(t *testing.T) {
	b := brokertest.New(t)
	c := dial(t, b.Broker)
	makeTopic(t, c, "t")
	for version := int16(0); version <= 1; version++ {
		for want, tc := range map[*kerr.Error]struct {
			topic     string
			partition int32
			replicas  []int32
		}{
			nil:                           {"t", 0, []int32{1}},
			kerr.NoReassignmentInProgress: {"t", 0, nil},
			kerr.InvalidReplicaAssignment: {"t", 0, []int32{1, 2}},
			kerr.UnknownTopicOrPartition:  {"t", 9, []int32{1}},
		} {
			req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
			req.Version = version
			rt := kmsg.NewAlterPartitionAssignmentsRequestTopic()
			rt.Topic = tc.topic
			rt.Partitions = []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Partition: tc.partition, Replicas: tc.replicas}}
			req.Topics = append(req.Topics, rt)
			resp, err := do[*kmsg.AlterPartitionAssignmentsResponse](c, req)
			require.NoError(t, err)
			p := resp.Topics[0].Partitions[0]
			if want == nil {
				require.Zero(t, p.ErrorCode)
			} else {
				require.Equal(t, want.Code, p.ErrorCode)
			}
		}
	}
	list, err := do[*kmsg.ListPartitionReassignmentsResponse](c, kmsg.NewPtrListPartitionReassignmentsRequest())
	require.NoError(t, err)
	require.Zero(t, list.ErrorCode)
	require.Empty(t, list.Topics)
}

func quotaAdmin(t *testing.T, b *brokertest.Broker) *kadm.Client {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addrs()...), kgo.Dialer(b.DialContext))
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

// entity makes a quota entity of types and names; "" is the default.
func entity(parts ...string) (e kadm.ClientQuotaEntity) {
	for i := 0; i < len(parts); i += 2 {
		c := kadm.ClientQuotaEntityComponent{Type: parts[i]}
		if parts[i+1] != "" {
			c.Name = &parts[i+1]
		}
		e = append(e, c)
	}
	return e
}

func setQuota(t *testing.T, adm *kadm.Client, key string, value float64, parts ...string) {
	t.Helper()
	res, err := adm.AlterClientQuotas(bounded(t), []kadm.AlterClientQuotaEntry{{
		Entity: entity(parts...), Ops: []kadm.AlterClientQuotaOp{{Key: key, Value: value, Remove: value == 0}},
	}})
	require.NoError(t, err)
	require.NoError(t, res[0].Err, res[0].ErrMessage)
}

func TestQuotasAreStored(t *testing.T) {
	dir := t.TempDir()
	b := brokertest.New(t, brokertest.InDir(dir))
	adm := quotaAdmin(t, b)
	setQuota(t, adm, "producer_byte_rate", 1000, "user", "alice")
	setQuota(t, adm, "request_percentage", 12.5, "user", "alice")
	setQuota(t, adm, "producer_byte_rate", 2000, "user", "alice", "client-id", "c")
	setQuota(t, adm, "producer_byte_rate", 3000, "user", "", "client-id", "")
	setQuota(t, adm, "connection_creation_rate", 5, "ip", "127.0.0.9")
	setQuota(t, adm, "consumer_byte_rate", 5, "user", "bob")
	setQuota(t, adm, "consumer_byte_rate", 0, "user", "bob")
	require.NoError(t, b.Close())

	b = brokertest.New(t, brokertest.InDir(dir))
	adm = quotaAdmin(t, b)
	exact := func(typ, name string) kadm.DescribeClientQuotaComponent {
		return kadm.DescribeClientQuotaComponent{Type: typ, MatchName: &name, MatchType: kmsg.QuotasMatchTypeExact}
	}
	of := func(typ string, m kmsg.QuotasMatchType) kadm.DescribeClientQuotaComponent {
		return kadm.DescribeClientQuotaComponent{Type: typ, MatchType: m}
	}
	for name, tc := range map[string]struct {
		strict bool
		filter []kadm.DescribeClientQuotaComponent
		want   []string
	}{
		"all":               {false, nil, []string{"127.0.0.9", "alice", "alice/c", "default/default"}},
		"all, strictly":     {true, nil, nil},
		"a user":            {false, []kadm.DescribeClientQuotaComponent{exact("user", "alice")}, []string{"alice", "alice/c"}},
		"a user, strictly":  {true, []kadm.DescribeClientQuotaComponent{exact("user", "alice")}, []string{"alice"}},
		"any client id":     {false, []kadm.DescribeClientQuotaComponent{of("client-id", kmsg.QuotasMatchTypeAny)}, []string{"alice/c", "default/default"}},
		"default client id": {false, []kadm.DescribeClientQuotaComponent{of("client-id", kmsg.QuotasMatchTypeDefault)}, []string{"default/default"}},
		"addresses":         {true, []kadm.DescribeClientQuotaComponent{of("ip", kmsg.QuotasMatchTypeAny)}, []string{"127.0.0.9"}},
		"nobody":            {true, []kadm.DescribeClientQuotaComponent{exact("user", "bob")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := adm.DescribeClientQuotas(bounded(t), tc.strict, tc.filter)
			require.NoError(t, err)
			var names []string
			for _, q := range got {
				name := ""
				for i := len(q.Entity) - 1; i >= 0; i-- { // the client id comes first
					if name != "" {
						name += "/"
					}
					if q.Entity[i].Name == nil {
						name += "default"
					} else {
						name += *q.Entity[i].Name
					}
				}
				names = append(names, name)
			}
			require.ElementsMatch(t, tc.want, names)
		})
	}
}

func TestQuotasAreChecked(t *testing.T) {
	b := brokertest.New(t)
	c := dial(t, b.Broker)
	name := func(s string) *string { return &s }
	type ent = kmsg.AlterClientQuotasRequestEntryEntity
	type op = kmsg.AlterClientQuotasRequestEntryOp
	user := []ent{{Type: "user", Name: name("alice")}}
	for want, tc := range map[string]struct {
		entity []ent
		ops    []op
	}{
		"Invalid configuration key nope":                                                          {user, []op{{Key: "nope", Value: 1}}},
		"Invalid configuration key connection_creation_rate":                                      {user, []op{{Key: "connection_creation_rate", Value: 1}}},
		"Quota producer_byte_rate must be greater than 0":                                         {user, []op{{Key: "producer_byte_rate"}}},
		"Quota request_percentage must be greater than 0":                                         {user, []op{{Key: "request_percentage", Value: math.NaN()}}},
		"producer_byte_rate cannot be a fractional value.":                                        {user, []op{{Key: "producer_byte_rate", Value: 0.5}}},
		"Proposed value for producer_byte_rate is too large for a LONG.":                          {user, []op{{Key: "producer_byte_rate", Value: 1e300}}},
		"Ignoring duplicate entity ClientQuotaEntity(entries={user=alice})":                       {user, []op{{Key: "producer_byte_rate", Value: 1}, {Key: "producer_byte_rate", Value: 2}}},
		"Empty user not supported":                                                                {[]ent{{Type: "user", Name: name("")}}, nil},
		"Unhandled client quota entity type: group":                                               {[]ent{{Type: "group", Name: name("g")}}, nil},
		"Invalid empty client quota entity":                                                       {nil, nil},
		"Proposed value for connection_creation_rate is too large for an INT.":                    {[]ent{{Type: "ip", Name: name("127.0.0.1")}}, []op{{Key: "connection_creation_rate", Value: 1e10}}},
		"no such host. is not a valid IP or resolvable host.":                                     {[]ent{{Type: "ip", Name: name("no such host.")}}, []op{{Key: "connection_creation_rate", Value: 1}}},
		"Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId": {[]ent{{Type: "ip"}, {Type: "user"}}, nil},
	} {
		req := kmsg.NewPtrAlterClientQuotasRequest()
		req.Version = 1
		req.Entries = []kmsg.AlterClientQuotasRequestEntry{{Entity: tc.entity, Ops: tc.ops}}
		resp, err := do[*kmsg.AlterClientQuotasResponse](c, req)
		require.NoError(t, err)
		require.Equal(t, kerr.InvalidRequest.Code, resp.Entries[0].ErrorCode, want)
		require.Equal(t, want, *resp.Entries[0].ErrorMessage)
		require.Len(t, resp.Entries[0].Entity, len(tc.entity))
	}
	same := kmsg.AlterClientQuotasRequestEntry{Entity: user, Ops: []op{{Key: "producer_byte_rate", Value: 7}}}
	req := &kmsg.AlterClientQuotasRequest{Version: 1, Entries: []kmsg.AlterClientQuotasRequestEntry{same, same}}
	resp, err := do[*kmsg.AlterClientQuotasResponse](c, req)
	require.NoError(t, err)
	require.Len(t, resp.Entries, 1, "an entity is answered once")
	require.Equal(t, kerr.InvalidRequest.Code, resp.Entries[0].ErrorCode)
}
