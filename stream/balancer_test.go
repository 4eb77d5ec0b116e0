package stream

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
)

var (
	testSubs = []sourceTopics{{Subtopology: 0, Topics: []string{"a", "b"}}, {Subtopology: 1, Topics: []string{"c"}}}
	testPart = map[string]int32{"a": 4, "b": 3, "c": 2}
)

func ids(names ...string) []task.ID {
	var out []task.ID
	for _, n := range names {
		id, err := task.ParseID(n)
		if err != nil {
			panic(err)
		}
		out = append(out, id)
	}
	return out
}

func topicsOf(subs []sourceTopics) []string {
	var out []string
	for _, s := range subs {
		out = append(out, s.all()...)
	}
	return out
}

func testLayout() *layout {
	return &layout{plan: &topo.Plan{Partition: testPart}, subs: testSubs, made: fingerprint(testSubs, testPart, nil)}
}

func TestOneMemberGetsEveryTask(t *testing.T) {
	got, err := assignTasks(testSubs, testPart, []member{{ID: "m", Topics: topicsOf(testSubs)}})
	require.NoError(t, err)
	require.Equal(t, ids("0_0", "0_1", "0_2", "0_3", "1_0", "1_1"), got["m"])
}

func TestSecondMemberTakesWholeTasksAndTheFirstKeepsItsOwn(t *testing.T) {
	all := topicsOf(testSubs)
	got, err := assignTasks(testSubs, testPart, []member{
		{ID: "old", SortKey: "old", Topics: all, memberData: memberData{Workers: 1, Generation: 1, Tasks: ids("0_0", "0_1", "0_2", "0_3", "1_0", "1_1")}},
		{ID: "new", SortKey: "new", Topics: all, memberData: memberData{Workers: 1, Generation: -1}},
	})
	require.NoError(t, err)
	require.Equal(t, ids("0_0", "0_1", "1_0"), got["old"])
	require.Equal(t, ids("0_2", "0_3", "1_1"), got["new"])
}

func TestTasksGoWhereTheTopicsAreSubscribed(t *testing.T) {
	got, err := assignTasks(testSubs, testPart, []member{
		{ID: "older program", SortKey: "1", Topics: []string{"a", "b"}, memberData: memberData{Workers: 1}},
		{ID: "newer program", SortKey: "2", Topics: topicsOf(testSubs), memberData: memberData{Workers: 1}},
	})
	require.NoError(t, err)
	require.Subset(t, got["newer program"], ids("1_0", "1_1"))
	_, err = assignTasks(testSubs, testPart, []member{{ID: "m", Topics: []string{"a", "b"}}})
	require.ErrorContains(t, err, "task 1_0")
}

// Whatever members say: every task has exactly one owner, shares are fair, and a second rebalance with the same
// members moves nothing.
func TestAssignmentProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var subs []sourceTopics
		parts := make(map[string]int32)
		for i := range rapid.IntRange(1, 4).Draw(t, "subtopologies") {
			s := sourceTopics{Subtopology: int32(i)}
			for j := range rapid.IntRange(1, 3).Draw(t, "topics") {
				name := fmt.Sprintf("t%d-%d", i, j)
				s.Topics = append(s.Topics, name)
				parts[name] = rapid.Int32Range(1, 9).Draw(t, "partitions")
			}
			subs = append(subs, s)
		}
		every := allTasks(subs, parts)
		var members []member
		for i := range rapid.IntRange(1, 5).Draw(t, "members") {
			id := fmt.Sprintf("m%d", i)
			members = append(members, member{ID: id, SortKey: id, Topics: topicsOf(subs), memberData: memberData{
				Workers:    1,
				Generation: rapid.Int32Range(-1, 3).Draw(t, "generation"),
				Tasks:      rapid.SliceOf(rapid.SampledFrom(append(every, task.ID{Subtopology: 99, Partition: 1}))).Draw(t, "claims"),
			}})
		}
		got, err := assignTasks(subs, parts, members)
		require.NoError(t, err)
		for _, s := range subs {
			n := len(allTasks([]sourceTopics{s}, parts))
			for m, ids := range got {
				has := len(slices.DeleteFunc(slices.Clone(ids), func(id task.ID) bool { return id.Subtopology != s.Subtopology }))
				require.GreaterOrEqual(t, has, n/len(members), "%s of sub-topology %d", m, s.Subtopology)
				require.LessOrEqual(t, has, (n+len(members)-1)/len(members), "%s of sub-topology %d", m, s.Subtopology)
			}
		}
		var assigned []task.ID
		for m, ids := range got {
			assigned = append(assigned, ids...)
			require.GreaterOrEqual(t, len(ids), len(every)/len(members), m)
			require.LessOrEqual(t, len(ids), (len(every)+len(members)-1)/len(members), m)
			back, err := tasksOf(subs, parts, taskPartitions(subs, parts, ids))
			require.NoError(t, err)
			require.ElementsMatch(t, ids, back, "partitions stand for the same tasks")
		}
		slices.SortFunc(assigned, task.ID.Compare)
		require.Equal(t, every, assigned, "each task once")

		for i := range members {
			members[i].Tasks, members[i].Generation = got[members[i].ID], 7
		}
		again, err := assignTasks(subs, parts, members)
		require.NoError(t, err)
		require.Equal(t, got, again, "nothing moves without a reason")
	})
}

func TestPartOfATaskIsRefused(t *testing.T) {
	_, err := tasksOf(testSubs, testPart, map[string][]int32{"a": {0, 1}, "b": {0}})
	require.ErrorContains(t, err, "task 0_1 was assigned 1 of its 2 source partitions")
	_, err = tasksOf(testSubs, testPart, map[string][]int32{"x": {0}})
	require.ErrorContains(t, err, `"x"`)
	_, err = tasksOf(testSubs, testPart, map[string][]int32{"c": {2}})
	require.ErrorContains(t, err, "topic c has more partitions than the 2")
	got, err := tasksOf(testSubs, testPart, map[string][]int32{"a": {3}})
	require.NoError(t, err, "b has no partition 3")
	require.Equal(t, ids("0_3"), got)
}

func TestBalancerThroughTheWire(t *testing.T) {
	newBalancer := func(owned ...string) *balancer {
		return &balancer{look: testLayout, processID: uuid.New(), workers: 2, owned: func() []task.ID { return ids(owned...) }}
	}
	b1, b2 := newBalancer("0_1", "0_3"), newBalancer()
	gb, _, err := b1.MemberBalancer([]kmsg.JoinGroupResponseMember{
		{MemberID: "m1", ProtocolMetadata: b1.JoinGroupMetadata(nil, nil, 4)},
		{MemberID: "m2", ProtocolMetadata: b2.JoinGroupMetadata(nil, nil, -1)},
	})
	require.NoError(t, err)
	into, err := gb.(*groupBalancer).BalanceOrError(nil)
	require.NoError(t, err)
	var all []task.ID
	for _, a := range into.IntoSyncAssignment() {
		parts, err := b2.ParseSyncAssignment(a.MemberAssignment)
		require.NoError(t, err)
		require.Empty(t, parts, "the client of the group reads nothing")
		require.Equal(t, testLayout().made, b2.received.Load().made)
		got, err := tasksOf(testSubs, testPart, b2.received.Load().partitions)
		require.NoError(t, err)
		if a.MemberID == "m1" {
			require.Subset(t, got, ids("0_1", "0_3"))
		}
		all = append(all, got...)
	}
	require.ElementsMatch(t, allTasks(testSubs, testPart), all)
}

func TestTasksOfAPatternGoToMembersWithThePattern(t *testing.T) {
	subs := []sourceTopics{{Subtopology: 0, Patterns: []string{"s-.*"}, Matched: []string{"s-1"}}}
	parts := map[string]int32{"s-1": 2}
	older := member{ID: "older program", SortKey: "1", Topics: []string{"s-1"}, memberData: memberData{Workers: 1}}
	with := member{ID: "with", SortKey: "2", memberData: memberData{Workers: 1, Patterns: []string{"s-.*"}}}
	got, err := assignTasks(subs, parts, []member{older, with})
	require.NoError(t, err)
	require.Equal(t, ids("0_0", "0_1"), got["with"], "also if it has not seen the topic yet")
	_, err = assignTasks(subs, parts, []member{older})
	require.ErrorContains(t, err, "task 0_0")
}

func TestUserDataOfOtherVersions(t *testing.T) {
	with := memberData{ProcessID: uuid.New(), Workers: 3, Generation: 5, Tasks: ids("0_1", "2_0"), Patterns: []string{"a.*", "b"}}
	got, err := parseMemberData(appendMemberData(nil, with))
	require.NoError(t, err)
	require.Equal(t, with, got)
	d := with
	d.Patterns = nil
	b := appendMemberData(nil, d)
	got, err = parseMemberData(append(slices.Clone(b), "fields of a later version"...))
	require.NoError(t, err, "what is behind the known fields is ignored")
	require.Equal(t, d, got)

	newer := slices.Clone(b)
	newer[0], newer[1] = userDataVersion+1, userDataVersion+1
	_, err = parseMemberData(newer)
	require.ErrorContains(t, err, "upgrade")
	_, err = parseMemberData(nil)
	require.ErrorContains(t, err, "missing")
	for n := range b {
		_, err := parseMemberData(b[:n])
		require.Error(t, err, "cut at %d", n)
	}
	huge := appendTasks([]byte{userDataVersion, userDataOldest}, nil)
	copy(huge[2:], []byte{0x7f, 0xff, 0xff, 0xff})
	_, _, err = parseAssignmentData(append(huge[:2:2], append(make([]byte, 8), huge[2:]...)...))
	require.ErrorContains(t, err, "claims", "no memory is taken for tasks that are not there")
}

func FuzzUserData(f *testing.F) {
	f.Add(appendMemberData(nil, memberData{Workers: 1, Tasks: ids("0_0", "1_3")}))
	f.Add(appendAssignmentData(nil, 7, ids("0_0", "1_3")))
	f.Add([]byte{1, 1, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := parseMemberData(b); err == nil {
			again, err := parseMemberData(appendMemberData(nil, d))
			require.NoError(t, err)
			require.ElementsMatch(t, d.Tasks, again.Tasks)
		}
		if made, tasks, err := parseAssignmentData(b); err == nil {
			madeAgain, again, err := parseAssignmentData(appendAssignmentData(nil, made, tasks))
			require.NoError(t, err)
			require.ElementsMatch(t, tasks, again)
			require.Equal(t, made, madeAgain)
		}
		bal := &balancer{look: testLayout}
		_, _ = bal.ParseSyncAssignment(b)
		_, _, _ = bal.MemberBalancer([]kmsg.JoinGroupResponseMember{{MemberID: "m", ProtocolMetadata: b}})
	})
}
