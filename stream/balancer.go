package stream

import (
	"fmt"
	"maps"
	"slices"
	"sort"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/internal/task"
)

// protocolName is the name of our assignment protocol in JoinGroup. Members with another one (a Java
// application that has the same application id) are refused by the coordinator: INCONSISTENT_GROUP_PROTOCOL.
const protocolName = "moldau"

// sourceTopics are the topics of one sub-topology: partition i of every one of them belongs to task i.
type sourceTopics struct {
	Subtopology int32
	Topics      []string // sorted
}

// balancer assigns whole tasks to the members of the application's group.
//
// A task is the set of partitions with the same number of all source topics of a sub-topology, and it
// is never divided: a member gets all of it or nothing. Assignment is sticky (a task stays with the member
// that had it as long as that is fair) and eager: in each rebalance every member commits, gives up all
// its tasks and gets most of them back, whose stores resume from their own position in milliseconds. A
// cooperative protocol saves that pause and comes with standby tasks.
//
// It is the glue to kgo; the decision is in assignTasks, which is pure.
type balancer struct {
	subtopologies []sourceTopics
	processID     uuid.UUID
	workers       int
	owned         func() []task.ID // tasks that this process has now, or has state of
}

var _ kgo.GroupBalancer = (*balancer)(nil)

func (b *balancer) ProtocolName() string { return protocolName }
func (b *balancer) IsCooperative() bool  { return false }

// JoinGroupMetadata is the subscription in the consumer protocol's format, so that stock tools show the
// topics; what is ours is in the user data.
func (b *balancer) JoinGroupMetadata(topics []string, _ map[string][]int32, generation int32) []byte {
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Version = 0
	meta.Topics = topics
	meta.UserData = appendMemberData(nil, memberData{
		ProcessID:  b.processID,
		Workers:    uint16(min(b.workers, 1<<16-1)),
		Generation: generation,
		Tasks:      b.owned(),
	})
	return meta.AppendTo(nil)
}

// ParseSyncAssignment returns the partitions of our tasks.
func (b *balancer) ParseSyncAssignment(assignment []byte) (map[string][]int32, error) {
	if len(assignment) == 0 {
		return nil, nil // a member that got nothing
	}
	var a kmsg.ConsumerMemberAssignment
	if err := a.ReadFrom(assignment); err != nil {
		return nil, fmt.Errorf("decode assignment of %d bytes: %w", len(assignment), err)
	}
	if _, err := parseAssignmentData(a.UserData); err != nil {
		return nil, err
	}
	parts := make(map[string][]int32, len(a.Topics))
	for _, t := range a.Topics {
		parts[t.Topic] = append(parts[t.Topic], t.Partitions...)
	}
	return parts, nil
}

// MemberBalancer is called on the leader.
func (b *balancer) MemberBalancer(members []kmsg.JoinGroupResponseMember) (kgo.GroupMemberBalancer, map[string]struct{}, error) {
	gb := &groupBalancer{subtopologies: b.subtopologies}
	topics := make(map[string]struct{})
	for _, s := range b.subtopologies {
		for _, t := range s.Topics {
			topics[t] = struct{}{}
		}
	}
	for i := range members {
		m := &members[i]
		var meta kmsg.ConsumerMemberMetadata
		if err := meta.ReadFrom(m.ProtocolMetadata); err != nil {
			return nil, nil, fmt.Errorf("decode the subscription of group member %q: %w", m.MemberID, err)
		}
		data, err := parseMemberData(meta.UserData)
		if err != nil {
			return nil, nil, fmt.Errorf("group member %q: %w", m.MemberID, err)
		}
		id := m.MemberID
		if m.InstanceID != nil {
			id = *m.InstanceID
		}
		gb.members = append(gb.members, member{ID: m.MemberID, SortKey: id, Topics: meta.Topics, memberData: data})
	}
	return gb, topics, nil
}

// groupBalancer is one rebalance on the leader.
type groupBalancer struct {
	subtopologies []sourceTopics
	members       []member
}

var _ kgo.GroupMemberBalancerOrError = (*groupBalancer)(nil)

func (g *groupBalancer) Balance(map[string]int32) kgo.IntoSyncAssignment {
	panic("stream: kgo called Balance although BalanceOrError exists")
}

func (g *groupBalancer) BalanceOrError(partitions map[string]int32) (kgo.IntoSyncAssignment, error) {
	for _, s := range g.subtopologies {
		for _, t := range s.Topics {
			if partitions[t] == 0 {
				return nil, fmt.Errorf("source topic %q of sub-topology %d does not exist; create it, then the group rebalances", t, s.Subtopology)
			}
		}
	}
	tasks, err := assignTasks(g.subtopologies, partitions, g.members)
	if err != nil {
		return nil, err
	}
	return &plan{g: g, partitions: partitions, tasks: tasks}, nil
}

// plan is who gets which tasks.
type plan struct {
	g          *groupBalancer
	partitions map[string]int32
	tasks      map[string][]task.ID // by member id
}

// IntoSyncAssignment encodes the plan, in the order of the members, topics and partitions.
func (p *plan) IntoSyncAssignment() []kmsg.SyncGroupRequestGroupAssignment {
	out := make([]kmsg.SyncGroupRequestGroupAssignment, 0, len(p.g.members))
	for _, m := range p.g.members {
		ids := p.tasks[m.ID]
		a := kmsg.NewConsumerMemberAssignment()
		a.Version = 0
		parts := taskPartitions(p.g.subtopologies, p.partitions, ids)
		for _, t := range slices.Sorted(maps.Keys(parts)) {
			at := kmsg.NewConsumerMemberAssignmentTopic()
			at.Topic, at.Partitions = t, parts[t]
			a.Topics = append(a.Topics, at)
		}
		a.UserData = appendAssignmentData(nil, ids)
		sync := kmsg.NewSyncGroupRequestGroupAssignment()
		sync.MemberID = m.ID
		sync.MemberAssignment = a.AppendTo(nil)
		out = append(out, sync)
	}
	return out
}

// taskPartitions lists the source partitions of tasks, sorted.
func taskPartitions(subs []sourceTopics, partitions map[string]int32, ids []task.ID) map[string][]int32 {
	out := make(map[string][]int32)
	for _, id := range ids {
		for _, s := range subs {
			if s.Subtopology != id.Subtopology {
				continue
			}
			for _, t := range s.Topics {
				if id.Partition < partitions[t] {
					out[t] = append(out[t], id.Partition)
				}
			}
		}
	}
	for t := range out {
		slices.Sort(out[t])
	}
	return out
}

// tasksOf is the reverse: the tasks whose partitions these are. Part of a task is an error, because the
// task would run on part of its input.
func tasksOf(subs []sourceTopics, partitions map[string]int32, assigned map[string][]int32) ([]task.ID, error) {
	seen := make(map[task.ID]int)
	known := 0
	for _, s := range subs {
		for _, t := range s.Topics {
			ps, ok := assigned[t]
			if ok {
				known++
			}
			for _, p := range ps {
				seen[task.ID{Subtopology: s.Subtopology, Partition: p}]++
			}
		}
	}
	if known != len(assigned) {
		for t := range assigned {
			if !slices.ContainsFunc(subs, func(s sourceTopics) bool { return slices.Contains(s.Topics, t) }) {
				return nil, fmt.Errorf("assigned topic %q is no source of this topology; do all instances run the same program?", t)
			}
		}
	}
	ids := slices.SortedFunc(maps.Keys(seen), compareTasks)
	for _, id := range ids {
		want := 0
		for _, ps := range taskPartitions(subs, partitions, []task.ID{id}) {
			want += len(ps)
		}
		if seen[id] != want {
			return nil, fmt.Errorf("task %d_%d was assigned %d of its %d source partitions; do all instances run the same program?",
				id.Subtopology, id.Partition, seen[id], want)
		}
	}
	return ids, nil
}

func compareTasks(a, b task.ID) int {
	if a.Subtopology != b.Subtopology {
		return int(a.Subtopology) - int(b.Subtopology)
	}
	return int(a.Partition) - int(b.Partition)
}

// allTasks lists every task of the topology, sorted.
func allTasks(subs []sourceTopics, partitions map[string]int32) []task.ID {
	var ids []task.ID
	for _, s := range subs {
		var n int32
		for _, t := range s.Topics {
			n = max(n, partitions[t])
		}
		for p := range n {
			ids = append(ids, task.ID{Subtopology: s.Subtopology, Partition: p})
		}
	}
	slices.SortFunc(ids, compareTasks)
	return ids
}

// member is one process, as its subscription describes it.
type member struct {
	ID      string   // member id of the group
	SortKey string   // instance id when it has one: stable across restarts
	Topics  []string // subscription
	memberData
}

// assignTasks divides the tasks among the members in proportion to their workers. The answer depends on nothing but the arguments.
// Rules, in order: a task goes only to a member that subscribes to all its topics; a task stays where it
// is while its owner has not more than its share; the rest goes to the member with most room, and among those
// to the one with fewest tasks of the same sub-topology.
func assignTasks(subs []sourceTopics, partitions map[string]int32, members []member) (map[string][]task.ID, error) {
	if len(members) == 0 {
		return nil, nil
	}
	ms := slices.Clone(members)
	sort.SliceStable(ms, func(i, j int) bool { return ms[i].SortKey < ms[j].SortKey })
	tasks := allTasks(subs, partitions)

	eligible := func(m *member, id task.ID) bool {
		for _, s := range subs {
			if s.Subtopology == id.Subtopology {
				for _, t := range s.Topics {
					if !slices.Contains(m.Topics, t) {
						return false
					}
				}
			}
		}
		return true
	}

	// The owner of a task is the member that names it with the newest generation; of two, the first.
	owner := make(map[task.ID]int)
	for i := range ms {
		for _, id := range ms[i].Tasks {
			if o, ok := owner[id]; ok && ms[o].Generation >= ms[i].Generation {
				continue
			}
			if eligible(&ms[i], id) {
				owner[id] = i
			}
		}
	}

	// Shares: in proportion to the workers, the remainder first to those that own most.
	total, owns := 0, make([]int, len(ms))
	for _, m := range ms {
		total += max(int(m.Workers), 1)
	}
	for _, id := range tasks {
		if o, ok := owner[id]; ok {
			owns[o]++
		}
	}
	quota, left := make([]int, len(ms)), len(tasks)
	for i, m := range ms {
		quota[i] = len(tasks) * max(int(m.Workers), 1) / total
		left -= quota[i]
	}
	order := make([]int, len(ms))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return owns[order[i]]-quota[order[i]] > owns[order[j]]-quota[order[j]] })
	for i := 0; left > 0; i, left = (i+1)%len(order), left-1 {
		quota[order[i]]++
	}

	got := make([][]task.ID, len(ms))
	of := make([]map[int32]int, len(ms)) // tasks per sub-topology
	for i := range of {
		of[i] = make(map[int32]int)
	}
	give := func(i int, id task.ID) {
		got[i] = append(got[i], id)
		of[i][id.Subtopology]++
	}
	var free []task.ID
	for _, id := range tasks {
		if o, ok := owner[id]; ok && len(got[o]) < quota[o] {
			give(o, id)
		} else {
			free = append(free, id)
		}
	}
	for _, id := range free {
		best := -1
		for i := range ms {
			if !eligible(&ms[i], id) {
				continue
			}
			if best < 0 {
				best = i
				continue
			}
			roomI, roomB := quota[i]-len(got[i]), quota[best]-len(got[best])
			switch {
			case (roomI > 0) != (roomB > 0):
				if roomI > 0 {
					best = i
				}
			case of[i][id.Subtopology] != of[best][id.Subtopology]:
				if of[i][id.Subtopology] < of[best][id.Subtopology] {
					best = i
				}
			case roomI > roomB:
				best = i
			}
		}
		if best < 0 {
			return nil, fmt.Errorf("no member of the group subscribes to all source topics of task %d_%d; do all instances run the same program?", id.Subtopology, id.Partition)
		}
		give(best, id)
	}
	out := make(map[string][]task.ID, len(ms))
	for i := range ms {
		slices.SortFunc(got[i], compareTasks)
		out[ms[i].ID] = got[i]
	}
	return out, nil
}
