package group

import (
	"errors"
	"fmt"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// ledger is what the log of a shard says. Only replaying changes it.
type ledger struct {
	groups map[string]*groupLedger
	// pending are the offsets that open transactions have committed, by producer id.
	pending map[int64]*pendingOffsets
	unknown int   // records with keys that we do not know
	bad     error // the first record that could not be read
}

// pendingOffsets are those of one open transaction.
type pendingOffsets struct {
	epoch   int16 // of the producer, in the last record
	offsets map[groupPartition]offset
}

type groupPartition struct {
	group string
	topicPartition
}

// groupLedger is what the log says about one group.
type groupLedger struct {
	meta    *groupMeta  // of a classic group; nil for one that only ever committed offsets
	modern  modernGroup // nil for a classic group; never beside meta
	simple  bool        // neither: it began with an offset, and stays when it has none any more, until retention takes it
	offsets map[topicPartition]offset
	// unstable counts the open transactions that hold an offset for a partition;
	// entries are positive.
	unstable map[topicPartition]int
}

func newLedger() ledger {
	return ledger{
		groups:  make(map[string]*groupLedger),
		pending: make(map[int64]*pendingOffsets),
	}
}

// group returns the entry of a group, a new one if need be.
func (l *ledger) group(id string) *groupLedger {
	g, ok := l.groups[id]
	if !ok {
		g = &groupLedger{
			offsets:  make(map[topicPartition]offset),
			unstable: make(map[topicPartition]int),
		}
		l.groups[id] = g
	}
	return g
}

// tidy forgets a group of which nothing is left.
func (l *ledger) tidy(id string) {
	if g, ok := l.groups[id]; ok && g.meta == nil && g.modern == nil && !g.simple && len(g.offsets) == 0 && len(g.unstable) == 0 {
		delete(l.groups, id)
	}
}

// effect is what a record changed about a group, offsets apart.
type effect struct {
	group   string // "" for no group
	ended   bool   // a modern group is no more
	deleted bool   // the metadata of a classic group were deleted
}

// replay applies a record.
func (l *ledger) replay(r coordinator.Replayed) effect {
	k, err := decodeKey(r.Key)
	switch {
	case errors.Is(err, errUnknownKey):
		l.unknown++
		return effect{}
	case err != nil:
		l.fail(r.Offset, err)
		return effect{}
	case k.typ > keyGroupMetadata:
		ended, err := l.replayModern(k, r.Value)
		if err != nil {
			l.fail(r.Offset, fmt.Errorf("group %q, record type %d: %w", k.group, k.typ, err))
		}
		return effect{group: k.group, ended: ended}
	case k.typ == keyGroupMetadata:
		if r.Value == nil {
			if g, ok := l.groups[k.group]; ok {
				g.meta, g.simple = nil, false
				l.tidy(k.group)
			}
			return effect{group: k.group, deleted: true}
		}
		meta, err := decodeGroupMeta(r.Value)
		if err != nil {
			l.fail(r.Offset, fmt.Errorf("group %q: %w", k.group, err))
			return effect{}
		}
		gl := l.group(k.group)
		ended := gl.modern != nil
		gl.meta, gl.modern, gl.simple = meta, nil, false
		return effect{group: k.group, ended: ended}
	case r.Value == nil:
		l.forget(k.group, k.tp)
		return effect{}
	}
	o, err := decodeOffset(r.Value)
	if err != nil {
		l.fail(r.Offset, fmt.Errorf("group %q, topic %q, partition %d: %w", k.group, k.tp.topic, k.tp.partition, err))
		return effect{}
	}
	o.position = r.Offset
	gl := l.group(k.group)
	gl.simple = gl.meta == nil && gl.modern == nil
	if r.Transactional {
		l.hold(r.ProducerID, r.ProducerEpoch, k.group, k.tp, o)
	} else {
		gl.offsets[k.tp] = o
	}
	return effect{}
}

// replayModern applies a record of a modern group. It tolerates tombstones of what does
// not exist: compaction may have dropped what came before them.
func (l *ledger) replayModern(k key, value []byte) (ended bool, err error) {
	gl := l.groups[k.group]
	if gl == nil || gl.modern == nil || gl.modern.kind() != recordKind(k.typ) {
		if value == nil {
			return false, nil
		}
		gl = l.group(k.group)
		ended = gl.modern != nil
		gl.meta, gl.simple, gl.modern = nil, false, newModern(recordKind(k.typ), k.group)
	}
	gone, err := gl.modern.replay(k, value)
	if gone {
		gl.modern = nil
		l.tidy(k.group)
	}
	return ended || gone, err
}

func (l *ledger) fail(at int64, err error) {
	if l.bad == nil {
		l.bad = fmt.Errorf("record at offset %d: %w", at, err)
	}
}

// hold keeps an offset until the producer's transaction ends.
func (l *ledger) hold(producerID int64, epoch int16, group string, tp topicPartition, o offset) {
	held := l.pending[producerID]
	if held == nil {
		held = &pendingOffsets{offsets: make(map[groupPartition]offset)}
		l.pending[producerID] = held
	}
	held.epoch = epoch
	at := groupPartition{group, tp}
	if _, ok := held.offsets[at]; !ok {
		l.group(group).unstable[tp]++
	}
	held.offsets[at] = o
}

// open tells whether the producer has offsets in an open transaction of this epoch.
func (l *ledger) open(producerID int64, epoch int16) bool {
	held := l.pending[producerID]
	return held != nil && held.epoch == epoch
}

// replayMarker ends the transaction of a producer: its offsets count, or never were.
func (l *ledger) replayMarker(producerID int64, commit bool) {
	held := l.pending[producerID]
	if held == nil {
		return
	}
	delete(l.pending, producerID)
	for at, o := range held.offsets {
		g := l.group(at.group)
		if commit {
			// A plain commit that came after the transactional one stays.
			if old, ok := g.offsets[at.topicPartition]; !ok || old.position < o.position {
				g.offsets[at.topicPartition] = o
			}
		}
		g.release(at.topicPartition)
		l.tidy(at.group)
	}
}

func (g *groupLedger) release(tp topicPartition) {
	if g.unstable[tp]--; g.unstable[tp] <= 0 {
		delete(g.unstable, tp)
	}
}

// forget applies the tombstone of an offset, which drops the offsets of open
// transactions too: whoever deletes a group or topic means all of it.
func (l *ledger) forget(group string, tp topicPartition) {
	g, ok := l.groups[group]
	if !ok {
		return
	}
	delete(g.offsets, tp)
	if g.unstable[tp] > 0 {
		at := groupPartition{group, tp}
		for id, held := range l.pending {
			if _, ok := held.offsets[at]; ok {
				delete(held.offsets, at)
				g.release(tp)
			}
			if len(held.offsets) == 0 {
				delete(l.pending, id)
			}
		}
	}
	l.tidy(group)
}
