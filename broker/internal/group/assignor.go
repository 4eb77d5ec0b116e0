package group

import (
	"cmp"
	"slices"
)

// Names of the server-side assignors.
const (
	assignorUniform = "uniform"
	assignorRange   = "range"
)

// assignorSpec is what an assignor works on.
type assignorSpec struct {
	members     []assignorMember // in the order in which Kafka's assignors see them
	homogeneous bool             // all subscribe to the same topics
	partitions  map[topicID]int32
	// assigned are the partitions of the last target assignment, of whatever member.
	assigned map[topicID]map[int32]bool
}

type assignorMember struct {
	id         string
	instanceID *string
	topics     []topicID // that it subscribes to, in order, all in partitions
	had        target    // by the last target assignment
}

// byPlace sorts members as the range assignor lines them up: static members by instance
// id first, so that they keep their ranges over restarts, then the others by id.
func (s assignorSpec) byPlace() []assignorMember {
	members := slices.Clone(s.members)
	slices.SortFunc(members, func(a, b assignorMember) int {
		switch {
		case a.instanceID != nil && b.instanceID != nil:
			return cmp.Compare(*a.instanceID, *b.instanceID)
		case a.instanceID != nil:
			return -1
		case b.instanceID != nil:
			return 1
		}
		return cmp.Compare(a.id, b.id)
	})
	return members
}

// assignRange gives each member a contiguous range of each of its topics, the first
// members one partition more where it does not divide. Members with the same topics get
// the same ranges of topics with the same number of partitions.
func assignRange(s assignorSpec) map[string]target {
	type line struct{ quota, extra, next int32 }
	lines := map[topicID]*line{}
	subscribers := map[topicID]int32{}
	for _, mb := range s.members {
		for _, topic := range mb.topics {
			subscribers[topic]++
		}
	}
	for topic, n := range subscribers {
		lines[topic] = &line{quota: s.partitions[topic] / n, extra: s.partitions[topic] % n}
	}
	out := make(map[string]target, len(s.members))
	for _, mb := range s.byPlace() {
		t := target{}
		for _, topic := range mb.topics {
			l := lines[topic]
			n := l.quota
			if l.extra > 0 {
				n++
				l.extra--
			}
			for range n {
				t[topic] = append(t[topic], l.next)
				l.next++
			}
		}
		out[mb.id] = t
	}
	return out
}

// assignUniform spreads the partitions evenly and moves as few as it can.
func assignUniform(s assignorSpec) map[string]target {
	if s.homogeneous {
		return assignUniformHomogeneous(s)
	}
	return newUniformBalancer(s).run()
}

type partitionOf struct {
	topic     topicID
	partition int32
}

// assignUniformHomogeneous is for members that all subscribe to the same topics. Each
// may have its share of all partitions, some one more; who has more than that gives up
// the rest, and what is free fills up those who have less.
func assignUniformHomogeneous(s assignorSpec) map[string]target {
	out := make(map[string]target, len(s.members))
	if len(s.members) == 0 || len(s.members[0].topics) == 0 {
		return out
	}
	var free []partitionOf
	var total int
	subscribed := map[topicID]bool{}
	for _, topic := range s.members[0].topics {
		subscribed[topic] = true
		for p := range s.partitions[topic] {
			if !s.assigned[topic][p] {
				free = append(free, partitionOf{topic, p})
			}
		}
		total += int(s.partitions[topic])
	}
	share, extras := total/len(s.members), total%len(s.members)

	type gap struct {
		id   string
		room int
	}
	var gaps []gap
	for i, mb := range s.members {
		room, extra := share, extras > 0
		if extra {
			room++
		}
		t := target{}
		for _, topic := range sortedTopics(mb.had) {
			if !subscribed[topic] {
				continue
			}
			keep := mb.had[topic]
			if len(keep) > room {
				for _, p := range keep[room:] {
					free = append(free, partitionOf{topic, p})
				}
				keep = keep[:room]
			}
			if len(keep) > 0 {
				t[topic] = keep
			}
			room -= len(keep)
		}
		out[mb.id] = t
		if room > 0 && extra && len(s.members)-i > extras {
			// Enough members come that may take the extra partition without moving one.
			room--
			extra = false
		}
		if room > 0 {
			gaps = append(gaps, gap{mb.id, room})
		}
		if extra {
			extras--
		}
	}
	for _, g := range gaps {
		n := min(g.room, len(free))
		out[g.id] = out[g.id].plus(free[:n])
		free = free[n:]
	}
	return out
}

// plus returns the target with more partitions.
func (t target) plus(more []partitionOf) target {
	out := make(target, len(t)+1)
	for topic, partitions := range t {
		out[topic] = partitions
	}
	grown := map[topicID]bool{}
	for _, m := range more {
		if !grown[m.topic] {
			grown[m.topic] = true
			out[m.topic] = slices.Clone(out[m.topic])
		}
		out[m.topic] = append(out[m.topic], m.partition)
	}
	for topic := range grown {
		slices.Sort(out[topic])
	}
	return out
}

func (t target) equal(o target) bool {
	if len(t) != len(o) {
		return false
	}
	for topic, partitions := range t {
		if other, ok := o[topic]; !ok || !slices.Equal(partitions, other) {
			return false
		}
	}
	return true
}
