package group

import (
	"bytes"
	"cmp"
	"slices"
)

// uniformBalancer is the uniform assignor for members that subscribe to different
// topics. It keeps what members have and still subscribe to, gives each free partition
// to the subscriber with the fewest, and then moves partitions of one topic after the
// other from who has most to who has least, until a whole round changes nothing.
type uniformBalancer struct {
	spec        assignorSpec
	topics      []topicID         // subscribed ones: those that bind members most first
	subscribers map[topicID][]int // indexes of members, ascending
	owners      map[topicID][]int // by partition: index of the member that shall have it, -1 for none
	sizes       []int             // by member: partitions that it shall have
}

// maxBalanceRounds bounds the passes over all topics.
const maxBalanceRounds = 16

func newUniformBalancer(s assignorSpec) *uniformBalancer {
	u := &uniformBalancer{
		spec: s, subscribers: map[topicID][]int{}, owners: map[topicID][]int{}, sizes: make([]int, len(s.members)),
	}
	for i, mb := range s.members {
		for _, topic := range mb.topics {
			if u.subscribers[topic] == nil {
				owners := make([]int, s.partitions[topic])
				for p := range owners {
					owners[p] = -1
				}
				u.owners[topic] = owners
			}
			u.subscribers[topic] = append(u.subscribers[topic], i)
		}
	}
	// Topics with many partitions for few members come first: they leave no choice.
	for topic := range u.subscribers {
		u.topics = append(u.topics, topic)
	}
	slices.SortFunc(u.topics, func(a, b topicID) int {
		load := func(t topicID) float64 { return float64(s.partitions[t]) / float64(len(u.subscribers[t])) }
		return cmp.Or(
			cmp.Compare(load(b), load(a)),
			cmp.Compare(len(u.subscribers[a]), len(u.subscribers[b])),
			bytes.Compare(a[:], b[:]))
	})
	return u
}

func (u *uniformBalancer) run() map[string]target {
	if len(u.topics) == 0 {
		return map[string]target{}
	}
	for i, mb := range u.spec.members {
		for topic, partitions := range mb.had {
			owners := u.owners[topic]
			if _, ok := slices.BinarySearch(u.subscribers[topic], i); !ok {
				continue
			}
			for _, p := range partitions {
				if int(p) < len(owners) {
					owners[p] = i
					u.sizes[i]++
				}
			}
		}
	}
	u.fill()
	u.balance()

	out := make(map[string]target, len(u.spec.members))
	for _, mb := range u.spec.members {
		out[mb.id] = target{}
	}
	for topic, owners := range u.owners {
		for p, i := range owners {
			if i >= 0 {
				t := out[u.spec.members[i].id]
				t[topic] = append(t[topic], int32(p))
			}
		}
	}
	return out
}

func (u *uniformBalancer) give(topic topicID, partition, to int) {
	if from := u.owners[topic][partition]; from >= 0 {
		u.sizes[from]--
	}
	u.owners[topic][partition] = to
	u.sizes[to]++
}

// fill gives away what nobody has.
func (u *uniformBalancer) fill() {
	for _, topic := range u.topics {
		var q *scales
		for p, owner := range u.owners[topic] {
			if owner >= 0 {
				continue
			}
			if q == nil {
				q, _ = u.weigh(topic)
			}
			u.give(topic, p, q.lightest())
		}
	}
}

// balance moves partitions until it has seen all topics without a change.
func (u *uniformBalancer) balance() {
	last := -1 // the topic that last changed something, or the first
	topics := slices.DeleteFunc(slices.Clone(u.topics), func(t topicID) bool { return len(u.subscribers[t]) < 2 })
	for range maxBalanceRounds {
		for i, topic := range topics {
			if i == last {
				return
			}
			if moved := u.balanceTopic(topic); moved > 0 || last < 0 {
				last = i
			}
		}
	}
}

// balanceTopic moves partitions of one topic and tells how many.
func (u *uniformBalancer) balanceTopic(topic topicID) (moved int) {
	q, imbalance := u.weigh(topic)
	if imbalance <= 1 {
		return 0
	}
	of := map[int][]int{} // by member: its partitions, the ones to move first last
	for p, owner := range u.owners[topic] {
		of[owner] = append(of[owner], p)
	}
	for !q.balanced() {
		heavy := q.heaviest()
		for heavy >= 0 && len(of[heavy]) == 0 {
			q.exclude() // it has none of this topic
			heavy = q.heaviest()
		}
		if heavy < 0 {
			break
		}
		p := of[heavy][len(of[heavy])-1]
		of[heavy] = of[heavy][:len(of[heavy])-1]
		light := q.lightest()
		if q.balanced() {
			break
		}
		u.give(topic, p, light)
		moved++
	}
	return moved
}

// scales line up the subscribers of one topic by how much they have. From the light end
// they hand out members to be given a partition, from the heavy end members to take one
// from. Each end is a run of members with the same load; when the run was gone through
// once, its load is one more or less and it takes in who has that already.
type scales struct {
	sizes []int
	line  []int // members, lightest first

	lightEnd, lightLoad, nextLight             int
	heavyStart, heavyEnd, heavyLoad, nextHeavy int
}

// weigh lines up the subscribers of a topic and tells how far apart they are.
func (u *uniformBalancer) weigh(topic topicID) (q *scales, imbalance int) {
	q = &scales{sizes: u.sizes, line: slices.Clone(u.subscribers[topic])}
	slices.SortFunc(q.line, func(a, b int) int { return cmp.Or(cmp.Compare(u.sizes[a], u.sizes[b]), cmp.Compare(a, b)) })
	n := len(q.line)
	light, heavy := u.sizes[q.line[0]], u.sizes[q.line[n-1]]
	q.lightLoad = light - 1
	q.heavyStart, q.heavyEnd, q.heavyLoad, q.nextHeavy = n, n, heavy+1, n-1
	return q, heavy - light
}

// lightest returns the member to be given the next partition.
func (q *scales) lightest() int {
	if q.nextLight >= q.lightEnd {
		q.lightLoad++
		for q.lightEnd < len(q.line) && q.sizes[q.line[q.lightEnd]] == q.lightLoad {
			q.lightEnd++
		}
		q.nextLight = 0
	}
	mb := q.line[q.nextLight]
	q.nextLight++
	return mb
}

// heaviest returns the member to take the next partition from, -1 if there is none.
func (q *scales) heaviest() int {
	if q.nextHeavy < q.heavyStart {
		if q.heavyEnd <= q.heavyStart && q.heavyStart > 0 {
			// All of the run are excluded: on to the next load that there is.
			q.heavyLoad = q.sizes[q.line[q.heavyStart-1]]
		} else {
			q.heavyLoad--
		}
		for q.heavyStart > 0 && q.sizes[q.line[q.heavyStart-1]] == q.heavyLoad {
			q.heavyStart--
		}
		q.nextHeavy = q.heavyEnd - 1
	}
	if q.nextHeavy < 0 {
		return -1
	}
	mb := q.line[q.nextHeavy]
	q.nextHeavy--
	return mb
}

// exclude takes the member that heaviest returned last out of the heavy run.
func (q *scales) exclude() {
	q.line[q.nextHeavy+1], q.line[q.heavyEnd-1] = q.line[q.heavyEnd-1], q.line[q.nextHeavy+1]
	q.heavyEnd--
}

func (q *scales) balanced() bool { return q.heavyLoad-q.lightLoad <= 1 }
