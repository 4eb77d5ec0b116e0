package task

import (
	"fmt"

	"github.com/moldau-stream/moldau/internal/store"
)

// Prepare ends what belongs to a commit: it emits changes of tables, sends
// changelog records, and returns the offsets to commit (those that moved since
// the last commit). After an error the task must be rolled back or closed.
func (t *Task) Prepare() (Commit, error) {
	defer t.publish(0)
	t.cur, t.c.record, t.c.commit = nil, nil, false
	if err := t.emitAll(); err != nil {
		return Commit{}, err
	}
	if t.stores != nil {
		if err := t.stores.RemoveExpired(); err != nil {
			return Commit{}, err
		}
	}
	if t.flush != nil && t.c.outputsFirst {
		if err := t.flush(); err != nil {
			return Commit{}, fmt.Errorf("task %s: %w", t.id, err)
		}
	}
	if err := t.changelogs(); err != nil {
		return Commit{}, err
	}
	return t.offsets(), nil
}

// changelogs sends the last value of every key that changed, in the order of
// the first changes: plain value, time of the record, null for a deletion.
func (t *Task) changelogs() error {
	for _, s := range t.sub.Stores {
		if !s.Spec.Changelog {
			continue
		}
		o := Out{Topic: s.ChangelogTopic().For(t.c.appID), Partition: t.id.Partition}
		var version []Header
		if v := s.Spec.LogVersion; v != 0 {
			version = []Header{{Key: "v", Value: []byte{v}}}
		}
		n := int64(0)
		err := t.stores.KV(s.Name).Dirty(func(d *store.Dirty) error {
			if same, err := t.asBefore(d); err != nil || same {
				return err
			}
			o.Key, o.Value, o.Timestamp, o.Headers = d.Key, d.Value, d.Timestamp, version
			if d.Value == nil {
				o.Headers = nil
			}
			n++
			return t.out.Send(&o)
		})
		t.metrics.Changelog.Add(n)
		if err != nil {
			return fmt.Errorf("task %s: changelog of store %s: %w", t.id, s.Name, err)
		}
	}
	return nil
}

func (t *Task) offsets() Commit {
	c := Commit{Offsets: map[TopicPartition]OffsetAndMetadata{}}
	var times map[string]int64
	if len(t.c.times) > 0 {
		times = make(map[string]int64, len(t.c.times)+1)
		t.timesVersion++
		times[versionOfTimes] = t.timesVersion
		for name, at := range t.c.times {
			if *at >= 0 {
				times[name] = *at
			}
		}
	}
	for _, q := range t.queues {
		q.prepared, q.preparedTime = q.next, q.time
		if q.next >= 0 && (q.next != q.committed || t.fired) {
			m := Metadata{PartitionTime: q.time, Times: times}
			c.Offsets[q.tp] = OffsetAndMetadata{Next: q.next, LeaderEpoch: q.epoch, Metadata: m.Encode()}
		}
	}
	t.fired = false
	return c
}

// Committed says that the offsets of the last Prepare, and all that was sent,
// are committed. changelog has, by store, the offset behind the last changelog
// record that was sent.
func (t *Task) Committed(changelog map[string]int64) error {
	t.c.undone = false
	for _, q := range t.queues {
		q.committed, q.committedTime = q.prepared, q.preparedTime
	}
	for name, at := range t.c.times {
		t.committedTimes[name] = *at
	}
	if t.stores == nil {
		return nil
	}
	if err := t.stores.Commit(changelog); err != nil {
		return fmt.Errorf("task %s: commit stores: %w", t.id, err)
	}
	return nil
}

// Rollback forgets everything since the last commit, buffered input included:
// the caller reads again from the committed offsets.
func (t *Task) Rollback() {
	t.c.taken++
	if t.stores != nil {
		t.stores.Rollback()
	}
	t.time = -1
	for _, q := range t.queues {
		q.drop()
		q.next, q.time, q.epoch = q.committed, q.committedTime, -1
		t.time = max(t.time, q.time)
	}
	for name, p := range t.c.times {
		*p = -1
		if at, ok := t.committedTimes[name]; ok {
			*p = at
		}
	}
	t.c.streamTime, t.c.record, t.c.commit, t.fired = t.time, nil, false, false
	t.busy()
	t.c.rewind()
	t.c.undone = false
	t.c.changes = t.c.changes[:0] // the stores are rolled back as a whole
	t.c.done()
}
