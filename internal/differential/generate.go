package differential

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// versions are the versions of an API that both brokers advertise.
type versions map[int16][2]int16

// generator makes one sequence. It keeps a rough model of the world, only to ask things that make sense most of the time.
type generator struct {
	rnd      *rand.Rand
	versions versions
	seq      *Sequence
	vars     vars
	topics   []string         // may exist
	members  []*member        // of classic groups
	seqs     map[string]int32 // producer and partition -> next sequence number
	sessions map[string]int32 // fetch session -> next epoch
	inTxn    map[string]bool
	calm     bool // nothing is made wrong
}

// member is a classic member that keeps to one connection.
type member struct {
	name, group string
	instance    *string
	conn        int
}

// theme is what a sequence is mostly about: weights of the kinds of steps.
type theme struct {
	name  string
	steps []weighted
}

type weighted struct {
	weight int
	key    kmsg.Key // the API that it needs
	make   func(*generator)
}

// generate makes the sequence of a seed.
func generate(seed uint64, v versions, restart string) *Sequence {
	g := &generator{
		rnd: rand.New(rand.NewPCG(seed, 0x6d6f6c646175)), versions: v, seq: &Sequence{Seed: seed},
		seqs: map[string]int32{}, sessions: map[string]int32{}, inTxn: map[string]bool{},
	}
	for i := range 3 {
		g.topics = append(g.topics, fmt.Sprintf("~t%d", i))
		for j := range 3 {
			m := &member{name: fmt.Sprintf("m%d%d", i, j), group: fmt.Sprintf("~g%d", i), conn: (i + j) % connections}
			if g.chance(20) {
				m.instance = ptr(fmt.Sprintf("~i%d%d", i, j))
			}
			g.members = append(g.members, m)
		}
	}
	th := themes[g.rnd.IntN(len(themes))]
	g.seq.Theme = th.name
	for i := range g.topics {
		if i == 0 || g.chance(60) {
			g.createTopic(g.topics[i])
		}
	}
	n := 10 + g.rnd.IntN(40)
	for len(g.seq.Steps) < n {
		g.step(th)
	}
	if restart != "" {
		g.seq.Steps = append(g.seq.Steps, Step{Restart: restart})
		for n += 10; len(g.seq.Steps) < n; {
			g.step(th)
		}
	}
	g.seq.Vars = g.vars.names
	return g.seq
}

func (g *generator) step(th theme) {
	from := everywhere
	if !g.chance(15) {
		from = th.steps
	}
	total := 0
	for _, w := range from {
		if _, ok := g.versions[int16(w.key)]; ok {
			total += w.weight
		}
	}
	if total == 0 {
		return
	}
	pick := g.rnd.IntN(total)
	for _, w := range from {
		if _, ok := g.versions[int16(w.key)]; !ok {
			continue
		}
		if pick -= w.weight; pick < 0 {
			w.make(g)
			return
		}
	}
}

// add appends a request. Now and then something about it is made wrong.
func (g *generator) add(conn int, actor string, req kmsg.Request, batches ...Batch) *Step {
	if !g.calm && g.chance(5) {
		for range 1 + g.rnd.IntN(2) {
			g.disturb(reflect.ValueOf(req).Elem())
		}
	}
	if f, ok := req.(*kmsg.FetchRequest); ok && f.Version < 15 { // kmsg would encode it all the same
		f.ReplicaState = kmsg.NewFetchRequestReplicaState()
	}
	g.seq.Steps = append(g.seq.Steps, Step{
		Conn: conn, Actor: actor, Key: req.Key(), Version: req.GetVersion(), Request: req.AppendTo(nil), Batches: batches,
	})
	st := &g.seq.Steps[len(g.seq.Steps)-1]
	if g.chance(1) && g.chance(60) {
		st.Mangle = g.mangle()
	}
	return st
}

func (g *generator) mangle() *Mangle {
	switch g.rnd.IntN(6) {
	case 0:
		return &Mangle{Op: "key", At: pick(g, 4, 5, 6, 7, 52, 58, 999, -1)}
	case 1:
		return &Mangle{Op: "version", At: pick(g, 100, -1, 20)}
	case 2:
		return &Mangle{Op: "cut", At: 1 + g.rnd.IntN(6)}
	case 3:
		return &Mangle{Op: "null client"}
	default:
		return &Mangle{Op: "cut", At: 1000}
	}
}

// version chooses a version of a request and sets it: the newest, or any.
func (g *generator) version(req kmsg.Request) int16 {
	r := g.versions[req.Key()]
	v := r[1]
	if g.chance(60) {
		v = r[0] + int16(g.rnd.IntN(int(r[1]-r[0])+1))
	}
	req.SetVersion(v)
	return v
}

func (g *generator) chance(percent int) bool { return g.rnd.IntN(100) < percent }
func (g *generator) conn() int               { return g.rnd.IntN(connections) }
func pick[T any](g *generator, from ...T) T  { return from[g.rnd.IntN(len(from))] }
func ptr[T any](v T) *T                      { return &v }

// few is mostly one, sometimes none or more.
func (g *generator) few() int { return pick(g, 1, 1, 1, 1, 1, 1, 2, 2, 3, 0) }

func (g *generator) topic() string {
	switch n := g.rnd.IntN(30); {
	case n < 27:
		return g.topics[g.rnd.IntN(len(g.topics))]
	default:
		return pick(g, "~unknown", "~unknown", "", "bad/name", ".", strings.Repeat("n", 250))
	}
}

func (g *generator) partition() int32 {
	return pick[int32](g, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 7, -1)
}

// distinct chooses some names; only rarely the same one twice.
func (g *generator) distinct(choose func() string) (names []string) {
	twice := g.chance(6)
	for range g.few() {
		if n := choose(); twice || !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

// partitions chooses one or more partitions; only rarely the same one twice.
func (g *generator) partitions() (numbers []int32) {
	twice := g.chance(6)
	for range max(1, g.few()) {
		if n := g.partition(); twice || !slices.Contains(numbers, n) {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

func (g *generator) group() string {
	if g.chance(4) {
		return pick(g, "", "~unknown", "~"+strings.Repeat("g", 300))
	}
	return fmt.Sprintf("~g%d", g.rnd.IntN(3))
}

// topicID gives the id of a topic.
func (g *generator) topicID(topic string) [16]byte {
	if g.chance(3) {
		return pick(g, [16]byte{}, [16]byte{15: 1}, [16]byte{0x12, 0x34, 9: 0x77})
	}
	return g.vars.uuid(topic)
}

func (g *generator) offset() int64 {
	return pick[int64](g, 0, 0, 0, 1, 2, 3, 4, 5, 7, 10, 20, -1, -2, 1000, math.MaxInt64)
}

func (g *generator) leaderEpoch() int32 {
	return pick[int32](g, -1, -1, -1, -1, -1, -1, 0, 0, 0, 1, 5, -2)
}

// disturb makes one field of a message wrong.
func (g *generator) disturb(x reflect.Value) {
	var fields []reflect.Value
	var names []string
	for i := range x.NumField() {
		f := x.Type().Field(i)
		if f.IsExported() && f.Name != "Version" && f.Name != "UnknownTags" {
			fields, names = append(fields, x.Field(i)), append(names, f.Name)
		}
	}
	if len(fields) == 0 {
		return
	}
	n := g.rnd.IntN(len(fields))
	f, name := fields[n], names[n]
	switch f.Kind() {
	case reflect.Bool:
		f.SetBool(!f.Bool())
	case reflect.Int8:
		f.SetInt(pick[int64](g, -1, 0, 1, 2, 3, 100, math.MinInt8))
	case reflect.Int16:
		f.SetInt(pick[int64](g, -2, -1, 0, 1, 2, math.MaxInt16))
	case reflect.Int32:
		v := pick[int64](g, f.Int()+1, f.Int()-1, -2, -1, 0, 1, 1000, math.MaxInt32)
		if name == "TimeoutMillis" && v == 1 {
			v = 0 // whether Kafka's controller can do something within a millisecond is chance
		}
		f.SetInt(v)
	case reflect.Int64:
		f.SetInt(pick[int64](g, f.Int()+1, f.Int()-1, -2, -1, 0, 1, 424242, math.MaxInt64))
	case reflect.String:
		f.SetString(g.someText())
	case reflect.Pointer:
		switch {
		case f.Type().Elem().Kind() == reflect.String:
			if g.chance(50) {
				f.SetZero()
			} else {
				f.Set(reflect.ValueOf(ptr(g.someText())))
			}
		case !f.IsNil():
			g.disturb(f.Elem())
		}
	case reflect.Struct:
		g.disturb(f)
	case reflect.Array:
		f.Set(reflect.ValueOf(g.topicID(g.topic())))
	case reflect.Slice:
		switch n := f.Len(); {
		case f.Type().Elem().Kind() == reflect.Uint8:
			if n > 0 && f.Bytes()[0] == '@' {
				f.Set(reflect.ValueOf(pick(g, nil, []byte{}, []byte("@0@0"), []byte("garbage"))))
			} else {
				f.SetBytes(pick(g, nil, []byte{}, []byte("xyz")))
			}
		case n > 0 && f.Type().Elem().Kind() == reflect.Struct && g.chance(75):
			g.disturb(f.Index(g.rnd.IntN(n)))
		case g.chance(25):
			f.SetZero()
		case n > 0 && g.chance(70):
			f.Set(reflect.Append(f, f.Index(g.rnd.IntN(n))))
		case n > 0:
			f.Set(f.Slice(0, n-1))
		}
	}
}

func (g *generator) someText() string {
	return pick(g, "", "~t0", "~g0", "~x0", "~unknown", "~bad/name", "~none", "~"+strings.Repeat("s", 300), "${m00.id}", "~ä")
}

// everywhere are steps that fit in any sequence.
var everywhere = []weighted{
	{4, kmsg.Metadata, (*generator).metadata},
	{2, kmsg.ListOffsets, (*generator).listOffsets},
	{2, kmsg.Produce, (*generator).produce},
	{2, kmsg.Fetch, (*generator).fetch},
	{1, kmsg.FindCoordinator, (*generator).findCoordinator},
	{1, kmsg.ApiVersions, (*generator).apiVersions},
	{1, kmsg.DescribeCluster, (*generator).describeCluster},
	{1, kmsg.ListGroups, (*generator).listGroups},
}

var themes = []theme{
	{"log", []weighted{
		{30, kmsg.Produce, (*generator).produce},
		{20, kmsg.Fetch, (*generator).fetch},
		{10, kmsg.ListOffsets, (*generator).listOffsets},
		{4, kmsg.OffsetForLeaderEpoch, (*generator).offsetForLeaderEpoch},
		{4, kmsg.DeleteRecords, (*generator).deleteRecords},
		{4, kmsg.InitProducerID, (*generator).initIdempotent},
		{2, kmsg.DescribeProducers, (*generator).describeProducers},
		{1, kmsg.CreateTopics, (*generator).createTopics},
		{1, kmsg.IncrementalAlterConfigs, (*generator).incrementalAlterConfigs},
	}},
	{"sessions", []weighted{
		{10, kmsg.Produce, (*generator).produce},
		{30, kmsg.Fetch, (*generator).fetchSession},
		{2, kmsg.DeleteRecords, (*generator).deleteRecords},
		{1, kmsg.DeleteTopics, (*generator).deleteTopics},
		{1, kmsg.CreateTopics, (*generator).createTopics},
	}},
	{"topics", []weighted{
		{12, kmsg.CreateTopics, (*generator).createTopics},
		{6, kmsg.DeleteTopics, (*generator).deleteTopics},
		{6, kmsg.CreatePartitions, (*generator).createPartitions},
		{10, kmsg.Metadata, (*generator).metadata},
		{6, kmsg.DescribeConfigs, (*generator).describeConfigs},
		{6, kmsg.IncrementalAlterConfigs, (*generator).incrementalAlterConfigs},
		{4, kmsg.AlterConfigs, (*generator).alterConfigs},
		{3, kmsg.DescribeTopicPartitions, (*generator).describeTopicPartitions},
		{2, kmsg.ElectLeaders, (*generator).electLeaders},
		{2, kmsg.AlterPartitionAssignments, (*generator).alterPartitionAssignments},
		{1, kmsg.ListPartitionReassignments, (*generator).listPartitionReassignments},
		{2, kmsg.DescribeLogDirs, (*generator).describeLogDirs},
		{3, kmsg.Produce, (*generator).produce},
		{2, kmsg.Fetch, (*generator).fetch},
		{1, kmsg.ListConfigResources, (*generator).listConfigResources},
	}},
	{"groups", []weighted{
		{12, kmsg.JoinGroup, (*generator).joinGroup},
		{10, kmsg.JoinGroup, (*generator).rebalance},
		{12, kmsg.SyncGroup, (*generator).syncGroup},
		{8, kmsg.Heartbeat, (*generator).heartbeat},
		{5, kmsg.LeaveGroup, (*generator).leaveGroup},
		{10, kmsg.OffsetCommit, (*generator).offsetCommit},
		{8, kmsg.OffsetFetch, (*generator).offsetFetch},
		{5, kmsg.DescribeGroups, (*generator).describeGroups},
		{3, kmsg.ListGroups, (*generator).listGroups},
		{2, kmsg.DeleteGroups, (*generator).deleteGroups},
		{2, kmsg.OffsetDelete, (*generator).offsetDelete},
		{1, kmsg.FindCoordinator, (*generator).findCoordinator},
		{1, kmsg.DeleteTopics, (*generator).deleteTopics},
	}},
	{"transactions", []weighted{
		{10, kmsg.InitProducerID, (*generator).initTransactional},
		{10, kmsg.AddPartitionsToTxn, (*generator).addPartitionsToTxn},
		{3, kmsg.AddOffsetsToTxn, (*generator).addOffsetsToTxn},
		{20, kmsg.Produce, (*generator).produceTransactional},
		{10, kmsg.EndTxn, (*generator).endTxn},
		{5, kmsg.TxnOffsetCommit, (*generator).txnOffsetCommit},
		{4, kmsg.OffsetFetch, (*generator).offsetFetch},
		{6, kmsg.Fetch, (*generator).fetch},
		{4, kmsg.ListOffsets, (*generator).listOffsets},
		{2, kmsg.DescribeTransactions, (*generator).describeTransactions},
		{2, kmsg.ListTransactions, (*generator).listTransactions},
		{2, kmsg.DescribeProducers, (*generator).describeProducers},
		{1, kmsg.WriteTxnMarkers, (*generator).writeTxnMarkers},
	}},
	{"consumer groups", []weighted{
		{30, kmsg.ConsumerGroupHeartbeat, (*generator).consumerGroupHeartbeat},
		{5, kmsg.ConsumerGroupDescribe, (*generator).consumerGroupDescribe},
		{5, kmsg.OffsetCommit, (*generator).offsetCommit},
		{5, kmsg.OffsetFetch, (*generator).offsetFetch},
		{2, kmsg.JoinGroup, (*generator).joinGroup},
		{2, kmsg.DescribeGroups, (*generator).describeGroups},
		{2, kmsg.ListGroups, (*generator).listGroups},
		{1, kmsg.DeleteGroups, (*generator).deleteGroups},
		{1, kmsg.OffsetDelete, (*generator).offsetDelete},
		{1, kmsg.CreatePartitions, (*generator).createPartitions},
	}},
	{"share groups", []weighted{
		{15, kmsg.ShareGroupHeartbeat, (*generator).shareGroupHeartbeat},
		{5, kmsg.ShareGroupDescribe, (*generator).shareGroupDescribe},
		{15, kmsg.ShareFetch, (*generator).shareFetch},
		{10, kmsg.ShareAcknowledge, (*generator).shareAcknowledge},
		{10, kmsg.Produce, (*generator).produce},
		{4, kmsg.DescribeShareGroupOffsets, (*generator).describeShareGroupOffsets},
		{3, kmsg.AlterShareGroupOffsets, (*generator).alterShareGroupOffsets},
		{2, kmsg.DeleteShareGroupOffsets, (*generator).deleteShareGroupOffsets},
		{2, kmsg.ListGroups, (*generator).listGroups},
		{1, kmsg.DeleteGroups, (*generator).deleteGroups},
	}},
	{"cluster", []weighted{
		{4, kmsg.DescribeACLs, (*generator).acls},
		{6, kmsg.DescribeClientQuotas, (*generator).describeClientQuotas},
		{8, kmsg.AlterClientQuotas, (*generator).alterClientQuotas},
		{4, kmsg.DescribeUserSCRAMCredentials, (*generator).describeScram},
		{6, kmsg.AlterUserSCRAMCredentials, (*generator).alterScram},
		{3, kmsg.DescribeQuorum, (*generator).describeQuorum},
		{3, kmsg.UpdateFeatures, (*generator).updateFeatures},
		{3, kmsg.DescribeCluster, (*generator).describeCluster},
		{3, kmsg.ApiVersions, (*generator).apiVersions},
		{6, kmsg.DescribeConfigs, (*generator).describeConfigs},
		{6, kmsg.IncrementalAlterConfigs, (*generator).incrementalAlterConfigs},
		{3, kmsg.ListConfigResources, (*generator).listConfigResources},
		{2, kmsg.SASLHandshake, (*generator).sasl},
		{2, kmsg.FindCoordinator, (*generator).findCoordinator},
	}},
}

// subscription is the metadata of a consumer as the classic protocol has it.
func subscription(topics ...string) []byte {
	p := []byte{0, 1} // version
	p = binary.BigEndian.AppendUint32(p, uint32(len(topics)))
	for _, t := range topics {
		t = strings.Replace(t, "~", string(prefixBytes), 1)
		p = binary.BigEndian.AppendUint16(p, uint16(len(t)))
		p = append(p, t...)
	}
	p = binary.BigEndian.AppendUint32(p, 0xffffffff)
	return binary.BigEndian.AppendUint32(p, 0)
}
