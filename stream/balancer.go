package stream

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

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
	Topics      []string // that its sources name; sorted
	Patterns    []string // of its other sources
	Matched     []string // topics that match the patterns; sorted
}

func (s sourceTopics) all() []string { return slices.Concat(s.Topics, s.Matched) }

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
	look      func() *layout // which tasks there are now; it asks the cluster
	processID uuid.UUID
	workers   int
	owned     func() []task.ID // tasks that this process has now, or has state of

	received atomic.Pointer[assignment] // the last one
}

// assignment is what a member got.
type assignment struct {
	made       uint64 // fingerprint of what was divided; 0: not known
	partitions map[string][]int32
}

var _ kgo.GroupBalancer = (*balancer)(nil)

func (b *balancer) ProtocolName() string { return protocolName }
func (b *balancer) IsCooperative() bool  { return false }

// JoinGroupMetadata is the subscription in the consumer protocol's format, so that stock tools show the
// topics; what is ours is in the user data.
func (b *balancer) JoinGroupMetadata(_ []string, _ map[string][]int32, generation int32) []byte {
	l := b.look()
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Version = 0
	meta.Topics = l.all()
	var patterns []string
	for _, s := range l.subs {
		patterns = append(patterns, s.Patterns...)
	}
	meta.UserData = appendMemberData(nil, memberData{
		ProcessID:  b.processID,
		Workers:    uint16(min(b.workers, 1<<16-1)),
		Generation: generation,
		Tasks:      b.owned(),
		Patterns:   patterns,
	})
	return meta.AppendTo(nil)
}

// ParseSyncAssignment keeps the partitions of our tasks. kgo hears of none: another client reads them.
func (b *balancer) ParseSyncAssignment(data []byte) (map[string][]int32, error) {
	b.received.Store(&assignment{})
	if len(data) == 0 {
		return nil, nil // a member that got nothing
	}
	var a kmsg.ConsumerMemberAssignment
	if err := a.ReadFrom(data); err != nil {
		return nil, fmt.Errorf("decode assignment of %d bytes: %w", len(data), err)
	}
	made, _, err := parseAssignmentData(a.UserData)
	if err != nil {
		return nil, err
	}
	parts := make(map[string][]int32, len(a.Topics))
	for _, t := range a.Topics {
		parts[t.Topic] = append(parts[t.Topic], t.Partitions...)
	}
	b.received.Store(&assignment{made, parts})
	return nil, nil
}

// MemberBalancer is called on the leader.
func (b *balancer) MemberBalancer(members []kmsg.JoinGroupResponseMember) (kgo.GroupMemberBalancer, map[string]struct{}, error) {
	gb := &groupBalancer{layout: b.look()}
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
	return gb, nil, nil // no topics: how many partitions there are is in the layout
}

// groupBalancer is one rebalance on the leader.
type groupBalancer struct {
	layout  *layout
	members []member
}

var _ kgo.GroupMemberBalancerOrError = (*groupBalancer)(nil)

func (g *groupBalancer) Balance(map[string]int32) kgo.IntoSyncAssignment {
	panic("stream: kgo called Balance although BalanceOrError exists")
}

func (g *groupBalancer) BalanceOrError(map[string]int32) (kgo.IntoSyncAssignment, error) {
	tasks, err := assignTasks(g.layout.subs, g.layout.plan.Partition, g.members)
	if err != nil {
		return nil, err
	}
	return &division{g: g, tasks: tasks}, nil
}

// division is who gets which tasks.
type division struct {
	g     *groupBalancer
	tasks map[string][]task.ID // by member id
}

// IntoSyncAssignment encodes the division, in the order of the members, topics and partitions.
func (d *division) IntoSyncAssignment() []kmsg.SyncGroupRequestGroupAssignment {
	out := make([]kmsg.SyncGroupRequestGroupAssignment, 0, len(d.g.members))
	l := d.g.layout
	for _, m := range d.g.members {
		ids := d.tasks[m.ID]
		a := kmsg.NewConsumerMemberAssignment()
		a.Version = 0
		parts := taskPartitions(l.subs, l.plan.Partition, ids)
		for _, t := range slices.Sorted(maps.Keys(parts)) {
			at := kmsg.NewConsumerMemberAssignmentTopic()
			at.Topic, at.Partitions = t, parts[t]
			a.Topics = append(a.Topics, at)
		}
		a.UserData = appendAssignmentData(nil, l.made, ids)
		sync := kmsg.NewSyncGroupRequestGroupAssignment()
		sync.MemberID = m.ID
		sync.MemberAssignment = a.AppendTo(nil)
		out = append(out, sync)
	}
	return out
}

// fingerprint tells apart what can be divided: source topics by sub-topology, with their numbers of partitions, and the ids of those that
// may go and come. It is never 0.
func fingerprint(subs []sourceTopics, partitions map[string]int32, ids map[string][16]byte) uint64 {
	h := fnv.New64a()
	for _, s := range subs {
		fmt.Fprintf(h, "%d\n", s.Subtopology)
		for _, t := range s.Topics {
			fmt.Fprintf(h, "%s %d\n", t, partitions[t])
		}
		for _, t := range s.Matched {
			fmt.Fprintf(h, "%s %d %x\n", t, partitions[t], ids[t])
		}
	}
	return max(h.Sum64(), 1)
}

// taskPartitions lists the source partitions of tasks, sorted.
func taskPartitions(subs []sourceTopics, partitions map[string]int32, ids []task.ID) map[string][]int32 {
	out := make(map[string][]int32)
	for _, id := range ids {
		for _, s := range subs {
			if s.Subtopology != id.Subtopology {
				continue
			}
			for _, t := range s.all() {
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
		for _, t := range s.all() {
			ps, ok := assigned[t]
			if ok {
				known++
			}
			for _, p := range ps {
				if p >= partitions[t] {
					return nil, fmt.Errorf("topic %s has more partitions than the %d that this process knows of", t, partitions[t])
				}
				seen[task.ID{Subtopology: s.Subtopology, Partition: p}]++
			}
		}
	}
	if known != len(assigned) {
		for t := range assigned {
			if !slices.ContainsFunc(subs, func(s sourceTopics) bool { return slices.Contains(s.all(), t) }) {
				return nil, fmt.Errorf("assigned topic %q is no source of this topology; do all instances run the same program?", t)
			}
		}
	}
	ids := slices.SortedFunc(maps.Keys(seen), task.ID.Compare)
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

// allTasks lists every task of the topology, sorted.
func allTasks(subs []sourceTopics, partitions map[string]int32) []task.ID {
	var ids []task.ID
	for _, s := range subs {
		var n int32
		for _, t := range s.all() {
			n = max(n, partitions[t])
		}
		for p := range n {
			ids = append(ids, task.ID{Subtopology: s.Subtopology, Partition: p})
		}
	}
	slices.SortFunc(ids, task.ID.Compare)
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
//
// Each sub-topology is divided by itself, because its tasks are alike and those of another are not; what is left over
// of one goes to the members that have least so far, so that the whole is even too. Within that a task stays where
// it is. It never goes to a member that does not subscribe to all its topics (another version of the program).
func assignTasks(subs []sourceTopics, partitions map[string]int32, members []member) (map[string][]task.ID, error) {
	if len(members) == 0 {
		return nil, nil
	}
	ms := slices.Clone(members)
	slices.SortStableFunc(ms, func(a, b member) int { return strings.Compare(a.SortKey, b.SortKey) })
	owner := owners(ms)
	total := 0
	for i := range ms {
		total += ms[i].weight()
	}

	got := make([][]task.ID, len(ms))
	for _, s := range subs {
		tasks := allTasks([]sourceTopics{s}, partitions)
		eligible := func(i int) bool {
			return contains(ms[i].Topics, s.Topics) && contains(ms[i].Patterns, s.Patterns)
		}
		owns := make([]int, len(ms)) // of this sub-topology
		for _, id := range tasks {
			if o, ok := owner[id]; ok && eligible(o) {
				owns[o]++
			}
		}
		room, left := make([]int, len(ms)), len(tasks)
		order := make([]int, len(ms))
		for i := range ms {
			room[i] = len(tasks) * ms[i].weight() / total
			left -= room[i]
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int {
			// Who has least in proportion; among equals, who would keep a task that way.
			if c := cmp.Compare((len(got[a])+room[a])*ms[b].weight(), (len(got[b])+room[b])*ms[a].weight()); c != 0 {
				return c
			}
			return cmp.Compare(owns[b]-room[b], owns[a]-room[a])
		})
		for i := range left { // fewer than there are members
			room[order[i]]++
		}
		var free []task.ID
		for _, id := range tasks {
			if o, ok := owner[id]; ok && eligible(o) && room[o] > 0 {
				room[o]--
				got[o] = append(got[o], id)
			} else {
				free = append(free, id)
			}
		}
		for _, id := range free {
			best := -1
			for i := range ms {
				if eligible(i) && (best < 0 || room[i] > room[best]) {
					best = i
				}
			}
			if best < 0 {
				return nil, fmt.Errorf("no member of the group subscribes to all source topics of task %s; do all instances run the same program?", id)
			}
			room[best]--
			got[best] = append(got[best], id)
		}
	}
	out := make(map[string][]task.ID, len(ms))
	for i := range ms {
		slices.SortFunc(got[i], task.ID.Compare)
		out[ms[i].ID] = got[i]
	}
	return out, nil
}

// contains is whether all of some are among all.
func contains(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

func (m *member) weight() int { return max(int(m.Workers), 1) }

// owners says which member has each task: of several that claim it, the one with the newest generation, and of those the first.
func owners(ms []member) map[task.ID]int {
	owner := make(map[task.ID]int)
	for i := range ms {
		for _, id := range ms[i].Tasks {
			if o, ok := owner[id]; !ok || ms[o].Generation < ms[i].Generation {
				owner[id] = i
			}
		}
	}
	return owner
}
