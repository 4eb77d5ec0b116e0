package topo

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/store"
)

// source, through and sink add nodes with the given names, which say where they are.
func source(g *Graph, topic string) *Node {
	return g.AddSource(&Node{Name: g.Name("", "KSTREAM-SOURCE-"), At: "at " + topic, Topics: []Topic{{Name: topic}}}, Reading{})
}

func through(g *Graph, prefix string, parents ...*Node) *Node {
	return g.Add(&Node{Kind: Processor, Name: g.Name("", prefix), At: "at " + prefix}, parents...)
}

func sink(g *Graph, topic string, parent *Node) *Node {
	return g.Add(&Node{Kind: Sink, Name: g.Name("", "KSTREAM-SINK-"), At: "at " + topic, Topic: Topic{Name: topic}}, parent)
}

func keep(g *Graph, name string, n *Node) {
	g.AddStore(&Store{Name: name, At: "at " + n.Name, Spec: store.Spec{Name: name, Changelog: true}}, n)
}

func TestNamesAreNumberedWhetherGivenOrNot(t *testing.T) {
	var g Graph
	require.Equal(t, "A-0000000000", g.Name("", "A-"))
	require.Equal(t, "given", g.Name("given", "A-"))
	require.Equal(t, "B-STATE-STORE-0000000002", g.StoreName("B-"))
	g.BurnRepartition()
	require.Equal(t, "A-0000000006", g.Name("", "A-"))
}

func TestSubtopologiesAreJoinedByEdgesAndStoresButNotByTopics(t *testing.T) {
	var g Graph
	a, b, c := source(&g, "a"), source(&g, "b"), source(&g, "c")
	pa, pb := through(&g, "P-", a), through(&g, "P-", b)
	keep(&g, "shared", pa)
	g.stores[0].Nodes = append(g.stores[0].Nodes, pb)
	r := g.AddRepartition("here", "by", 0, c, &Node{}, &Node{}, &Node{})
	sink(&g, "out", r.Source)

	topology, err := g.Build()
	require.NoError(t, err)
	require.Len(t, topology.Subs, 3)
	require.Equal(t, []*Node{a, b, pa, pb}, topology.Subs[0].Nodes)
	require.Equal(t, []*Node{c}, topology.Subs[1].Sources)
	require.Equal(t, []*Node{r.Source}, topology.Subs[2].Sources)
	require.Equal(t, []Topic{{"by-repartition", true}}, r.Source.Topics)
}

func TestRepartitionNames(t *testing.T) {
	for name, want := range map[string]string{
		"by":                         "by-repartition by-repartition-filter by-repartition-sink by-repartition-source",
		"by-repartition":             "by-repartition by-repartition-filter by-repartition-sink by-repartition-source",
		"KSTREAM-TOTABLE-0000000002": "KSTREAM-TOTABLE-0000000002-repartition KSTREAM-FILTER-0000000002 KSTREAM-SINK-0000000001 KSTREAM-SOURCE-0000000003",
		"KSTREAM-AGGREGATE-STATE-STORE-0000000002": "KSTREAM-AGGREGATE-STATE-STORE-0000000002-repartition KSTREAM-FILTER-0000000002 KSTREAM-SINK-0000000001 KSTREAM-SOURCE-0000000003",
	} {
		var g Graph
		var filter Node
		r := g.AddRepartition("here", name, 0, source(&g, "a"), &filter, &Node{}, &Node{})
		require.Equal(t, want, strings.Join([]string{r.Topic.Name, filter.Name, r.Sink.Name, r.Source.Name}, " "))
	}
}

func TestNullKeysPassTheFilterOnlyBeforeAJoinThatKeepsThem(t *testing.T) {
	var g Graph
	a := source(&g, "a")
	var f1, f2, f3 Node
	r1 := g.AddRepartition("1", "one", 0, a, &f1, &Node{}, &Node{})
	r2 := g.AddRepartition("2", "two", 0, r1.Source, &f2, &Node{}, &Node{})
	join := through(&g, "JOIN-", r2.Source)
	join.KeepNullKeys = true
	g.AddRepartition("3", "three", 0, join, &f3, &Node{}, &Node{})
	_, err := g.Build()
	require.NoError(t, err)
	require.False(t, f1.DropNullKeys)
	require.False(t, f2.DropNullKeys)
	require.True(t, f3.DropNullKeys)
}

func TestPlanCountsTasksAndInternalTopics(t *testing.T) {
	var g Graph
	a, b := source(&g, "a"), source(&g, "b")
	m := through(&g, "MERGE-", a, b)
	r1 := g.AddRepartition("here", "one", 0, m, &Node{}, &Node{}, &Node{})
	p := through(&g, "COUNT-", r1.Source)
	keep(&g, "counts", p)
	r2 := g.AddRepartition("here", "two", 3, p, &Node{}, &Node{}, &Node{})
	sink(&g, "out", r2.Source)
	topology, err := g.Build()
	require.NoError(t, err)

	plan, err := topology.Plan("app", map[string]int32{"a": 4, "b": 6})
	require.NoError(t, err)
	require.Equal(t, []int32{6, 6, 3}, plan.Tasks)
	require.Equal(t, map[string]int32{"a": 4, "b": 6, "app-one-repartition": 6, "app-two-repartition": 3}, plan.Partition)
	var topics []string
	for _, i := range plan.Internal {
		topics = append(topics, fmt.Sprint(i.Name, " ", i.Partitions, " ", i.Config["cleanup.policy"], ": ", plan.Why(i)))
	}
	require.Equal(t, []string{
		"app-one-repartition 6 delete: topic b has 6", "app-two-repartition 3 delete: the topology demands them",
		"app-counts-changelog 6 compact: topic app-one-repartition has 6",
	}, topics)

	read, written := topology.UserTopics()
	require.Equal(t, []string{"a", "b"}, read)
	require.Equal(t, []string{"out"}, written)

	_, err = topology.Plan(strings.Repeat("a", 240), map[string]int32{"a": 4, "b": 6})
	require.ErrorContains(t, err, "needed at here: topic names have at most 249")

	_, err = topology.Plan("app", map[string]int32{"a": 4})
	require.EqualError(t, err, "topic b, read at at b, does not exist: create it first")
}

func TestPlanChecksCopartitioning(t *testing.T) {
	join := func(partitions int32) *Topology {
		var g Graph
		a, b := source(&g, "a"), source(&g, "b")
		r := g.AddRepartition("there", "by", partitions, b, &Node{}, &Node{}, &Node{})
		through(&g, "JOIN-", a, r.Source)
		g.Copartition("main.go:7", a, r.Source)
		topology, err := g.Build()
		require.NoError(t, err)
		return topology
	}
	plan, err := join(0).Plan("app", map[string]int32{"a": 4, "b": 9})
	require.NoError(t, err)
	require.Equal(t, int32(4), plan.Partition["app-by-repartition"], "follows the topic it is joined with")
	require.Equal(t, "topic a has 4", plan.Why(plan.Internal[0]))

	_, err = join(5).Plan("app", map[string]int32{"a": 4, "b": 9})
	require.EqualError(t, err, "main.go:7: topics that are joined must have the same number of partitions: a has 4 (at a), by-repartition has 5 (there): repartition one of them with Repartition(Partitions(n))")
}

func TestTwoRepartitionTopicsOfAJoinHaveTheLargerCount(t *testing.T) {
	var g Graph
	a, b := source(&g, "a"), source(&g, "b")
	ra := g.AddRepartition("here", "ra", 0, a, &Node{}, &Node{}, &Node{})
	rb := g.AddRepartition("here", "rb", 0, b, &Node{}, &Node{}, &Node{})
	through(&g, "JOIN-", ra.Source, rb.Source)
	g.Copartition("here", ra.Source, rb.Source)
	topology, err := g.Build()
	require.NoError(t, err)
	plan, err := topology.Plan("app", map[string]int32{"a": 2, "b": 7})
	require.NoError(t, err)
	require.Equal(t, []int32{2, 7, 7}, plan.Tasks)
	for _, i := range plan.Internal {
		require.Equal(t, "topic b has 7", plan.Why(i), i.Name)
	}
}

func TestBuildReturnsAllMistakes(t *testing.T) {
	var g Graph
	a := source(&g, "a")
	g.Add(&Node{Kind: Processor, Name: "same", At: "first"}, a)
	g.Add(&Node{Kind: Processor, Name: "same", At: "second"}, a)
	g.Add(&Node{Kind: Processor, Name: "not legal!", At: "third"}, a)
	keep(&g, "store", a)
	keep(&g, "store", a)
	g.AddRepartition("fourth", "by", 0, a, &Node{}, &Node{}, &Node{})
	g.AddRepartition("fifth", "by", 0, a, &Node{}, &Node{}, &Node{})
	g.AddSource(&Node{Name: "again", At: "sixth", Topics: []Topic{{Name: "a"}}}, Reading{Types: "int to int"})
	g.AddSource(&Node{Name: "table", At: "seventh", Topics: []Topic{{Name: "a"}}}, Reading{Table: true})
	var other Graph
	g.Add(&Node{Kind: Processor, Name: "foreign", At: "eighth"}, source(&other, "b"))

	_, err := g.Build()
	require.EqualError(t, err, strings.Join([]string{
		`second: node name same is already used at first`,
		`third: node name "not legal!" is not legal: 1 to 249 of a-z A-Z 0-9 . _ - and neither . nor ..`,
		`at KSTREAM-SOURCE-0000000000: store store is already declared at at KSTREAM-SOURCE-0000000000`,
		`fifth: repartition topic by-repartition is already used at fourth: give each its own name`,
		`sixth: topic a is read as int to int, but as  at at a: use one topic handle for both`,
		`seventh: topic a is already read at at a: a table must be the only reader of its topic; use its ToStream`,
		`eighth: node foreign and its input KSTREAM-SOURCE-0000000000 belong to different builders`,
	}, "\n"))
	var m *Mistake
	require.True(t, errors.As(err, &m))
	require.Equal(t, "second", m.At)

	_, again := g.Build()
	require.EqualError(t, again, err.Error())
}

func TestAnEmptyTopologyIsAMistake(t *testing.T) {
	_, err := new(Graph).Build()
	require.ErrorContains(t, err, "topo_test.go")
	require.ErrorContains(t, err, "the topology is empty")
}

func TestOperatorTimesMustFitTheMetadataOfAnOffset(t *testing.T) {
	build := func(operators, nameLength int) error {
		var g Graph
		n := source(&g, "a")
		for i := range operators {
			n = through(&g, "WINDOW-", n)
			n.Times = []string{strings.Repeat("x", nameLength-4) + fmt.Sprintf("%04d", i)}
		}
		_, err := g.Build()
		return err
	}
	// 4096 bytes of base64 are 3072 bytes: 1 + 8 + 4, 12 for the version, and 12 + length for each name.
	require.NoError(t, build(1, 3072-25-12))
	require.ErrorContains(t, build(1, 3072-25-12+1), "need 4100 bytes of offset metadata, but brokers take 4096")
	require.NoError(t, build(50, 48))
	require.ErrorContains(t, build(51, 48), "at WINDOW-: the 51 windowed operators of sub-topology 0")
}

func TestNothingCanBeAddedAfterBuild(t *testing.T) {
	var g Graph
	a := source(&g, "a")
	_, err := g.Build()
	require.NoError(t, err)
	sink(&g, "late", a)
	_, err = g.Build()
	require.EqualError(t, err, "at late: the topology is already built: node KSTREAM-SINK-0000000001 comes too late")
}

func TestChangelogsAreConfiguredAsKafkaStreamsDoes(t *testing.T) {
	const day = "86400100" // and the retention
	for _, c := range []struct {
		spec store.Spec
		want map[string]string
	}{
		{store.Spec{}, map[string]string{"cleanup.policy": "compact"}},
		{store.Spec{Kind: store.Window, Retention: 100}, map[string]string{"cleanup.policy": "compact,delete", "retention.ms": day}},
		{store.Spec{Kind: store.Session, Retention: 100}, map[string]string{"cleanup.policy": "compact,delete", "retention.ms": day}},
		{store.Spec{Kind: store.Window, Duplicates: true, Retention: 100}, map[string]string{"cleanup.policy": "delete", "retention.ms": day}},
		{store.Spec{Kind: store.Window, Retention: math.MaxInt64}, map[string]string{"cleanup.policy": "compact,delete", "retention.ms": "9223372036854775807"}},
		{store.Spec{Kind: store.VersionedKeyValue, Retention: 100}, map[string]string{"cleanup.policy": "compact", "min.compaction.lag.ms": day}},
	} {
		c.want["message.timestamp.type"] = "CreateTime"
		require.Equal(t, c.want, changelogConfig(&Store{Spec: c.spec}), "%+v", c.spec)
	}
}
