package group

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// TestSimpleAssignor: whoever subscribes gets partitions only of what it subscribes to, no partition is without a member, all have
// about as many, and a second assignment of the same moves nothing.
func TestSimpleAssignor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := shareSpec{partitions: map[topicID][]int32{}}
		var all []topicID
		for i := range rapid.IntRange(1, 3).Draw(t, "topics") {
			id := topicID{15: byte(i + 1)}
			all = append(all, id)
			for p := range int32(rapid.IntRange(0, 5).Draw(t, "partitions")) {
				spec.partitions[id] = append(spec.partitions[id], p)
			}
		}
		same := rapid.Bool().Draw(t, "same")
		lives := 0
		change := func() {
			spec.members = slices.DeleteFunc(spec.members, func(shareSpecMember) bool { return rapid.IntRange(0, 3).Draw(t, "leaves") == 0 })
			for range rapid.IntRange(0, 4).Draw(t, "new") {
				lives++
				topics := all
				if !same {
					topics = slices.DeleteFunc(slices.Clone(all), func(topicID) bool { return rapid.Bool().Draw(t, "not subscribed") })
				}
				spec.members = append(spec.members, shareSpecMember{id: fmt.Sprintf("m%d", lives), topics: topics})
			}
		}
		for range rapid.IntRange(1, 5).Draw(t, "rounds") {
			change()
			got := assignSimple(spec)
			checkSimple(t, spec, got, same)
			for i := range spec.members {
				spec.members[i].had = got[spec.members[i].id]
			}
			again := assignSimple(spec)
			for _, mb := range spec.members {
				require.Equal(t, renderTarget(got[mb.id]), renderTarget(again[mb.id]), "an assignment that is as it should be moves nothing")
			}
		}
	})
}

func checkSimple(t *rapid.T, spec shareSpec, got map[string]target, same bool) {
	holders := map[partitionOf]int{}
	subscribers := map[topicID]int{}
	var counts []int
	for _, mb := range spec.members {
		n := 0
		for _, id := range mb.topics {
			subscribers[id]++
		}
		for id, partitions := range got[mb.id] {
			require.Contains(t, mb.topics, id)
			require.Subset(t, spec.partitions[id], partitions)
			require.True(t, slices.IsSorted(partitions))
			require.Len(t, slices.Compact(slices.Clone(partitions)), len(partitions))
			n += len(partitions)
			for _, p := range partitions {
				holders[partitionOf{id, p}]++
			}
		}
		counts = append(counts, n)
	}
	for id, partitions := range spec.partitions {
		for _, p := range partitions {
			if subscribers[id] > 0 {
				require.Positive(t, holders[partitionOf{id, p}], "nobody has partition %d of %x", p, id[15])
			}
		}
	}
	if same && len(counts) > 0 {
		require.LessOrEqual(t, slices.Max(counts)-slices.Min(counts), 1, "members share evenly")
	}
}

// TestRandomShareGroups lets members of a share group join, leave, crash, lose answers and change what they subscribe to, while
// topics come, grow and go, writes and the share coordinator fail, offsets are altered and deleted, and the coordinator restarts.
// At all times:
//
//   - a member is given only partitions of topics that it subscribes to and for which the share coordinator made a state;
//   - replaying the log gives the state that there was.
//
// And when everything rests, all members are in the same epoch, and together have all partitions of what they subscribe to.
func TestRandomShareGroups(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		interval := time.Duration(rapid.SampledFrom([]int{0, 1000, 5000}).Draw(t, "interval")) * time.Millisecond
		w := &shareWorld{sim: newSim(Config{Share: ShareConfig{AssignmentInterval: func() time.Duration { return interval }}}), made: map[partitionOf]bool{}}
		w.change(w.topics.set("a", 3))
		for i := range 4 {
			name := fmt.Sprintf("m%d", i)
			w.members = append(w.members, &shareModel{client: w.client(name), w: w, id: name, topics: []string{"a"}})
		}
		for range 60 {
			w.act(t)
			w.checkTargets(t)
		}
		w.settle(t)
	})
}

// shareWorld is a coordinator with members of a share group.
type shareWorld struct {
	*sim
	members []*shareModel
	made    map[partitionOf]bool // what the share coordinator has
	lives   int
}

// shareModel is what a member knows.
type shareModel struct {
	*client
	w      *shareWorld
	id     string
	joined bool
	unsure bool // an answer was lost: says everything again, to be told everything
	epoch  int32
	topics []string
	has    map[topicID][]int32
}

func (w *shareWorld) group() *shareGroup {
	g, _ := w.m.modern("g").(*shareGroup)
	return g
}

func (w *shareWorld) act(t *rapid.T) {
	mb := rapid.SampledFrom(w.members).Draw(t, "who")
	switch rapid.SampledFrom([]string{
		"beat", "beat", "beat", "beat", "beat", "leave", "crash", "lose", "subscribe", "topic", "time", "time", "restart", "fail",
		"states", "states", "states", "no states", "alter", "drop", "delete",
	}).Draw(t, "action") {
	case "beat":
		mb.heartbeat(t, false)
	case "leave":
		mb.leave()
	case "crash":
		w.lives++
		mb.forget()
		mb.id = fmt.Sprintf("%s-%d", mb.name, w.lives)
	case "lose":
		if mb.joined {
			epoch, has := mb.epoch, mb.has
			mb.heartbeat(t, false)
			if mb.joined {
				mb.epoch, mb.has, mb.unsure = epoch, has, true
			}
		}
	case "subscribe":
		mb.topics = rapid.SampledFrom([][]string{{"a"}, {"b"}, {"a", "b"}, {"nowhere"}}).Draw(t, "topics")
		if mb.joined {
			mb.heartbeat(t, true)
		}
	case "topic":
		name := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "topic")
		n := int32(rapid.IntRange(0, 5).Draw(t, "partitions"))
		old, exists := w.topics.topics[name]
		if exists && n > 0 && n <= old.Partitions || !exists && n == 0 {
			return
		}
		change := w.topics.set(name, n)
		if rapid.Bool().Draw(t, "down") {
			// It happens while nobody serves the group.
			w.topics = change.View.(*testCluster)
			w.restart()
			w.step(topicsChanged{TopicChange{View: w.topics}})
		} else {
			w.change(change)
		}
		if n == 0 {
			maps.DeleteFunc(w.made, func(tp partitionOf, _ bool) bool { return tp.topic == old.ID })
		}
	case "time":
		w.advance(time.Duration(rapid.SampledFrom([]int{100, 1100, 6000, 30000, 61000}).Draw(t, "ms")) * time.Millisecond)
	case "restart":
		before := w.m.ledger.dump()
		w.restart()
		require.Equal(t, before, w.m.ledger.dump(), "replaying the log must give the state before the crash")
	case "fail":
		w.fail = true
		mb.heartbeat(t, false)
		w.fail = false
	case "states":
		w.initialize(true)
	case "no states":
		w.initialize(false)
	case "alter":
		w.alter(t)
	case "drop":
		w.drop([]string{"a"}, false)
	case "delete":
		if g := w.group(); g != nil && g.isEmpty() {
			w.drop(nil, true)
			w.others = nil // of the group as it was; the states would be left over, and made anew when needed
			w.ask(w.client("admin"), "delete", func(ref coordinator.Ref) any { return &deleteEvent{ref, []string{"g"}} })
			require.Nil(t, w.group())
		}
	}
	w.take()
}

// initialize is the share coordinator answering the oldest question.
func (w *shareWorld) initialize(ok bool) {
	if len(w.others) == 0 {
		return
	}
	call := w.others[0].(initializeShare)
	w.others = w.others[1:]
	var made map[topicID]statePartitions
	for id, s := range call.topics {
		for _, p := range s.partitions {
			if _, exists := w.topics.TopicByID(id); ok && exists {
				w.made[partitionOf{id, p}] = true
			}
		}
	}
	if ok {
		made = call.topics
	}
	w.step(shareInitialized{call.group, call.topics, made})
}

func (w *shareWorld) alter(t *rapid.T) {
	req := kmsg.NewPtrAlterShareGroupOffsetsRequest()
	req.GroupID = "g"
	for _, name := range []string{"a", "nowhere"} {
		rt := kmsg.NewAlterShareGroupOffsetsRequestTopic()
		rt.Topic = name
		for _, p := range []int32{0, 1, 9} {
			rp := kmsg.NewAlterShareGroupOffsetsRequestTopicPartition()
			rp.Partition, rp.StartOffset = p, 7
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
	}
	w.last = nil
	w.ask(w.client("admin"), "alter", func(ref coordinator.Ref) any { return &shareAlterEvent{ref, req} })
	a := w.last.(*shareAlteration)
	if g := w.group(); g != nil && !g.isEmpty() {
		require.Equal(t, kerr.NonEmptyGroup, a.err.code)
		return
	}
	require.Nil(t, a.err)
	info, exists := w.topics.Topic("a")
	for i, rt := range a.resp.Topics {
		for _, rp := range rt.Partitions {
			require.Equal(t, i == 0 && exists && rp.Partition < info.Partitions, rp.ErrorCode == 0)
		}
	}
	if len(a.topics) > 0 {
		w.others = append(w.others, initializeShare{"g", a.stateEpoch, a.topics})
		w.initializeLast()
	}
}

// initializeLast answers what was asked last; the service does it before it answers AlterShareGroupOffsets.
func (w *shareWorld) initializeLast() {
	w.others = append(w.others[len(w.others)-1:], w.others[:len(w.others)-1]...)
	w.initialize(true)
}

func (w *shareWorld) drop(topics []string, all bool) {
	w.last = nil
	w.ask(w.client("admin"), "drop", func(ref coordinator.Ref) any { return &shareDropEvent{ref, "g", topics, all} })
	d := w.last.(*shareDeletion)
	if d.err != nil {
		return
	}
	// What the share coordinator was asked before it does before.
	for len(w.others) > 0 {
		w.initialize(true)
	}
	var gone []topicID
	for id, s := range d.topics {
		gone = append(gone, id)
		for _, p := range s.partitions {
			delete(w.made, partitionOf{id, p})
		}
	}
	w.ask(w.client("admin"), "dropped", func(ref coordinator.Ref) any { return &shareDroppedEvent{ref, "g", gone} })
}

func (mb *shareModel) forget() { mb.joined, mb.epoch, mb.has = false, 0, nil }

func (mb *shareModel) send(req *kmsg.ShareGroupHeartbeatRequest) *kmsg.ShareGroupHeartbeatResponse {
	mb.w.last = nil
	req.Version, req.GroupID, req.MemberID = 1, "g", mb.id
	mb.w.ask(mb.client, "share", func(ref coordinator.Ref) any {
		return &shareHeartbeatEvent{ref: ref, req: req, clientID: mb.name, clientHost: "/h"}
	})
	r, ok := mb.w.last.(*kmsg.ShareGroupHeartbeatResponse)
	if !ok {
		r = kmsg.NewPtrShareGroupHeartbeatResponse() // the write failed
		r.ErrorCode = kerr.CoordinatorNotAvailable.Code
	}
	return r
}

func (mb *shareModel) heartbeat(t *rapid.T, full bool) {
	req := kmsg.NewPtrShareGroupHeartbeatRequest()
	req.MemberEpoch = mb.epoch
	if !mb.joined || mb.unsure || full {
		req.SubscribedTopicNames = mb.topics
	}
	r := mb.send(req)
	switch r.ErrorCode {
	case 0:
		require.GreaterOrEqual(t, r.MemberEpoch, mb.epoch, "epochs do not go back")
		require.True(t, mb.joined || r.Assignment != nil, "who joins is told what it has")
		mb.joined, mb.unsure, mb.epoch = true, false, r.MemberEpoch
		if r.Assignment == nil {
			return
		}
		mb.has = map[topicID][]int32{}
		for _, tp := range r.Assignment.TopicPartitions {
			mb.has[tp.TopicID] = tp.Partitions
			if info, ok := mb.w.topics.TopicByID(tp.TopicID); ok {
				require.Contains(t, mb.topics, info.Name)
			}
		}
	case kerr.FencedMemberEpoch.Code, kerr.UnknownMemberID.Code, kerr.GroupIDNotFound.Code:
		mb.forget()
	default:
		require.Equal(t, kerr.CoordinatorNotAvailable.Code, r.ErrorCode)
	}
}

func (mb *shareModel) leave() {
	if mb.joined {
		req := kmsg.NewPtrShareGroupHeartbeatRequest()
		req.MemberEpoch = epochLeave
		mb.send(req)
		mb.forget()
	}
}

// checkTargets: nothing is assigned that the share coordinator does not know.
func (w *shareWorld) checkTargets(t *rapid.T) {
	g := w.group()
	if g == nil {
		return
	}
	for id, s := range g.stateOf().initialized {
		for _, p := range s.partitions {
			_, exists := w.topics.TopicByID(id)
			require.True(t, !exists || w.made[partitionOf{id, p}], "the group believes that partition %d of %s has a state", p, s.name)
		}
	}
	for _, mb := range w.members {
		require.True(t, !mb.joined || g.members[mb.id] == nil || mb.epoch <= g.members[mb.id].epoch)
	}
}

// settle lets everything come to rest.
func (w *shareWorld) settle(t *rapid.T) {
	for range 20 {
		for len(w.others) > 0 {
			w.initialize(true)
		}
		for _, mb := range w.members {
			mb.heartbeat(t, false)
		}
		w.advance(10 * time.Second)
	}
	before := w.group().epoch
	for _, mb := range w.members {
		mb.heartbeat(t, false)
	}
	g := w.group()
	require.Equal(t, before, g.epoch, "at rest")
	held := map[partitionOf]bool{}
	wanted := map[partitionOf]bool{}
	for _, mb := range w.members {
		require.True(t, mb.joined)
		require.Equal(t, g.epoch, mb.epoch, "all are in the epoch of the group")
		require.Equal(t, renderTarget(g.targets[mb.id]), renderTarget(target(mb.has)), "%s has its target", mb.id)
		for id, partitions := range mb.has {
			for _, p := range partitions {
				held[partitionOf{id, p}] = true
			}
		}
		for _, name := range mb.topics {
			info, _ := w.topics.Topic(name)
			for p := range info.Partitions {
				wanted[partitionOf{info.ID, p}] = true
			}
		}
	}
	require.Equal(t, wanted, held, "all partitions are in use")
}

// dump writes the group in a canonical form, for comparison.
func (g *shareGroup) dump(b *strings.Builder) {
	fmt.Fprintf(b, "  share epoch=%d hash=%d assigned=%d@%d\n", g.epoch, g.metadataHash, g.assignmentEpoch, g.assignedAt)
	for _, id := range g.memberIDs() {
		mb := g.members[id]
		fmt.Fprintf(b, "  %x\n  %x\n  target %x\n", g.memberRecord(mb).Value, g.currentRecord(mb).Value, encodeTarget(g.targets[id]))
	}
	if g.state != nil {
		fmt.Fprintf(b, "  state %x\n", g.stateRecord(*g.state).Value)
	}
}

// Offsets are altered while states that a heartbeat asked for are being made, and then cannot be.
func TestAlteredShareOffsetsOutliveAnOlderFailure(t *testing.T) {
	w := &shareWorld{sim: newSim(Config{}), made: map[partitionOf]bool{}}
	w.change(w.topics.set("a", 2))
	mb := &shareModel{client: w.client("m"), w: w, id: "m", topics: []string{"a"}}
	req := kmsg.NewPtrShareGroupHeartbeatRequest()
	req.SubscribedTopicNames = mb.topics
	require.Zero(t, mb.send(req).ErrorCode)
	older := w.others[0].(initializeShare)
	mb.joined = true
	mb.leave()

	info, _ := w.topics.Topic("a")
	alter := kmsg.NewPtrAlterShareGroupOffsetsRequest()
	alter.GroupID = "g"
	rt := kmsg.NewAlterShareGroupOffsetsRequestTopic()
	rt.Topic = "a"
	rp := kmsg.NewAlterShareGroupOffsetsRequestTopicPartition()
	rp.StartOffset = 7
	rt.Partitions = append(rt.Partitions, rp)
	alter.Topics = append(alter.Topics, rt)
	w.ask(w.client("admin"), "alter", func(ref coordinator.Ref) any { return &shareAlterEvent{ref, alter} })
	a := w.last.(*shareAlteration)
	require.Nil(t, a.err)

	w.step(shareInitialized{older.group, older.topics, nil}) // it failed
	w.step(shareInitialized{"g", a.topics, a.topics})
	require.Equal(t, []int32{0}, w.group().stateOf().initialized[info.ID].partitions)
}
