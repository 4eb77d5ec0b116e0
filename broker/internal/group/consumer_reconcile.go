package group

import (
	"maps"

	"github.com/twmb/franz-go/pkg/kerr"
)

// owned is what a member says that it has; nil if it does not say.
type owned map[topicID][]int32

// within tells whether the member said what it has and all of that is assigned to it.
func (o owned) within(a assignment) bool {
	if o == nil {
		return false
	}
	for topic, partitions := range o {
		for _, p := range partitions {
			if !a.has(topic, p) {
				return false
			}
		}
	}
	return true
}

// keepsAny tells whether the member may still have one of these partitions: who does
// not say may.
func (o owned) keepsAny(a assignment) bool {
	if o == nil {
		return true
	}
	for topic, partitions := range o {
		for _, p := range partitions {
			if a.has(topic, p) {
				return true
			}
		}
	}
	return false
}

// reconciler takes a member one step towards its target assignment:
//
//	          target is newer            gave up all
//	Stable ─────────────────► Unrevoked ────────────► Stable, at the epoch of the target
//	   ▲                          │                     ▲
//	   └────── all are free ──────┴──► Unreleased ──────┘
//
// A member first gives up what it must not have any more, at its old epoch. Then it
// gets the target's epoch, and of the target what no other member holds.
type reconciler struct {
	g          *consumerGroup
	epoch      int32 // of the target assignment
	target     target
	subscribed map[topicID]bool
	changed    bool // the member's subscription changed
	owned      owned
}

// next returns the member's next state, mb itself if nothing changes.
func (r reconciler) next(mb *consumerMember) (*consumerMember, *apiError) {
	switch mb.state {
	case memberStable:
		if mb.epoch != r.epoch {
			return r.advance(mb, mb.epoch), nil
		}
		if r.changed {
			return r.unsubscribe(mb), nil
		}
	case memberUnrevoked:
		if !r.owned.keepsAny(mb.revoking) {
			return r.advance(mb, mb.epoch), nil
		}
		if r.changed {
			return r.unsubscribe(mb), nil
		}
	case memberUnreleased:
		return r.advance(mb, mb.epoch), nil
	case memberUnknown:
		// A newer version wrote it. All that is known is what the member itself says.
		if r.owned == nil || len(r.owned) > 0 {
			return nil, errorf(kerr.FencedMemberEpoch, "the state of member %q is not known here: it must give up its partitions and join again", mb.id)
		}
		return r.advance(mb, r.epoch), nil
	}
	return mb, nil
}

// unsubscribe takes partitions of topics that the member does not subscribe to any more,
// without waiting for a new target.
func (r reconciler) unsubscribe(mb *consumerMember) *consumerMember {
	keep, revoke := assignment{}, maps.Clone(mb.revoking)
	if revoke == nil {
		revoke = assignment{}
	}
	for topic, partitions := range mb.assigned {
		if r.subscribed[topic] {
			keep[topic] = partitions
			continue
		}
		all := maps.Clone(partitions)
		maps.Copy(all, revoke[topic])
		revoke[topic] = all
	}
	if len(keep) == len(mb.assigned) {
		return mb
	}
	return mb.with(func(next *consumerMember) {
		next.previousEpoch = mb.epoch
		next.assigned = keep
		if r.owned.keepsAny(revoke) {
			next.state, next.revoking = memberUnrevoked, revoke
		}
	})
}

// advance computes the assignment from what the member has, what it shall have and what
// is free. epoch is what it keeps while it has to give up partitions.
func (r reconciler) advance(mb *consumerMember, epoch int32) *consumerMember {
	keep, revoke := assignment{}, assignment{}
	for topic, partitions := range mb.assigned {
		shall := r.shall(topic)
		for p, since := range partitions {
			into := revoke
			if shall[p] {
				into = keep
			}
			into.put(topic, p, since)
		}
	}
	if len(revoke) > 0 && r.owned.keepsAny(revoke) {
		return mb.with(func(next *consumerMember) {
			next.previousEpoch, next.epoch = mb.epoch, epoch
			next.state, next.assigned, next.revoking = memberUnrevoked, keep, revoke
		})
	}
	next := memberStable
	for topic := range r.target {
		for p := range r.shall(topic) {
			if mb.assigned.has(topic, p) {
				continue
			}
			if holder, held := r.g.holders[topic][p]; held && !(holder == mb.id && mb.revoking.has(topic, p)) {
				next = memberUnreleased
				continue
			}
			keep.put(topic, p, r.epoch)
		}
	}
	return mb.with(func(m *consumerMember) {
		m.previousEpoch, m.epoch = mb.epoch, r.epoch
		m.state, m.assigned, m.revoking = next, keep, nil
	})
}

// shall are the partitions of a topic that the member shall have and still wants.
func (r reconciler) shall(topic topicID) map[int32]bool {
	if !r.subscribed[topic] {
		return nil
	}
	out := make(map[int32]bool, len(r.target[topic]))
	for _, p := range r.target[topic] {
		out[p] = true
	}
	return out
}

func (a assignment) put(topic topicID, partition, since int32) {
	if a[topic] == nil {
		a[topic] = make(map[int32]int32)
	}
	a[topic][partition] = since
}

// plain is the assignment without epochs.
func (a assignment) plain() target {
	t := make(target, len(a))
	for topic, partitions := range a {
		t[topic] = sortedKeys(partitions)
	}
	return t
}
