package group

import (
	"math"
	"slices"
)

// assignorSimple is the name of the assignor of share groups, the only one.
const assignorSimple = "simple"

// shareSpec is what the assignor of share groups works on.
type shareSpec struct {
	members []shareSpecMember // in the order in which Kafka's assignor sees them
	// partitions are those that may be assigned: their share state is initialized. In order.
	partitions map[topicID][]int32
}

type shareSpecMember struct {
	id     string
	topics []topicID // that it subscribes to and that exist, in order
	had    target    // by the last target assignment
}

// assignSimple shares the partitions out: each member gets about as many as the others, each partition about as many members, and
// as little as possible moves. Members that subscribe to the same topics share all of their partitions, otherwise each topic is
// shared among its subscribers.
func assignSimple(s shareSpec) map[string]target {
	out := make(map[string]target, len(s.members))
	var all []topicID
	same := true
	for _, mb := range s.members {
		out[mb.id] = target{}
		same = same && slices.Equal(mb.topics, s.members[0].topics)
		all = append(all, mb.topics...)
	}
	slices.SortFunc(all, func(a, b topicID) int { return slices.Compare(a[:], b[:]) })
	all = slices.Compact(all)
	if same {
		s.share(all, out)
		return out
	}
	for i := range all {
		s.share(all[i:i+1], out)
	}
	return out
}

// share assigns the partitions of topics to the members that subscribe to them.
func (s shareSpec) share(topics []topicID, out map[string]target) {
	w := sharing{held: map[partitionOf]map[int]bool{}}
	for _, t := range topics {
		for _, p := range s.partitions[t] {
			tp := partitionOf{t, p}
			w.partitions = append(w.partitions, tp)
			w.held[tp] = map[int]bool{}
		}
	}
	for _, mb := range s.members {
		if !slices.ContainsFunc(topics, func(t topicID) bool { return slices.Contains(mb.topics, t) }) {
			continue
		}
		i := len(w.members)
		w.members = append(w.members, map[partitionOf]bool{})
		for _, t := range topics {
			for _, p := range mb.had[t] {
				if held := w.held[partitionOf{t, p}]; held != nil {
					held[i] = true
					w.members[i][partitionOf{t, p}] = true
				}
			}
		}
	}
	w.balance()
	i := 0
	for _, mb := range s.members {
		if !slices.ContainsFunc(topics, func(t topicID) bool { return slices.Contains(mb.topics, t) }) {
			continue
		}
		for _, tp := range w.partitions {
			if w.members[i][tp] {
				out[mb.id][tp.topic] = append(out[mb.id][tp.topic], tp.partition)
			}
		}
		i++
	}
}

// sharing is an assignment under way.
type sharing struct {
	partitions []partitionOf
	members    []map[partitionOf]bool // what each has
	held       map[partitionOf]map[int]bool
}

// balance makes each partition have as many members as members are to be shared out, and each member its part of that.
func (w *sharing) balance() {
	n, parts := len(w.members), len(w.partitions)
	if n == 0 || parts == 0 {
		return
	}
	per := (n + parts - 1) / parts // members of a partition
	each := float64(per*parts) / float64(n)
	wanted := make([]int, n)
	for i := range wanted {
		wanted[i] = int(math.Ceil(each*float64(i+1))) - int(math.Ceil(each*float64(i)))
	}
	drop := func(i int, tp partitionOf) {
		delete(w.members[i], tp)
		delete(w.held[tp], i)
	}
	for i, has := range w.members {
		for _, tp := range w.partitions {
			if len(has) <= wanted[i] {
				break
			}
			if has[tp] {
				drop(i, tp)
			}
		}
	}
	for _, tp := range w.partitions {
		for i := 0; i < n && len(w.held[tp]) > per; i++ {
			if w.held[tp][i] {
				drop(i, tp)
			}
		}
	}
	var unfilled []int
	for i, has := range w.members {
		if len(has) < wanted[i] {
			unfilled = append(unfilled, i)
		}
	}
	at, gave := 0, false // in unfilled, and whether this round gave anything
	for _, tp := range w.partitions {
		for len(w.held[tp]) < per && len(unfilled) > 0 {
			if at >= len(unfilled) {
				if !gave {
					break
				}
				at, gave = 0, false
			}
			i := unfilled[at]
			if w.held[tp][i] {
				at++
				continue
			}
			w.held[tp][i], w.members[i][tp], gave = true, true, true
			if len(w.members[i]) >= wanted[i] {
				unfilled = slices.Delete(unfilled, at, at+1)
			} else {
				at++
			}
		}
	}
}
