package batch

import (
	"encoding/binary"
)

// ControlType is the kind of a control record, as its key says.
type ControlType int16

// Control record types of Kafka's log format.
const (
	ControlAbort          ControlType = 0
	ControlCommit         ControlType = 1
	ControlLeaderChange   ControlType = 2
	ControlSnapshotHeader ControlType = 3
	ControlSnapshotFooter ControlType = 4
	ControlKRaftVersion   ControlType = 5
	ControlKRaftVoters    ControlType = 6
)

// Marker is the end of a transaction in one partition.
type Marker struct {
	Producer
	Commit           bool
	CoordinatorEpoch int32
	Timestamp        int64 // milliseconds
}

// BuildMarker makes the control batch for a marker.
func BuildMarker(m Marker, leaderEpoch int32) Batch {
	t := ControlAbort
	if m.Commit {
		t = ControlCommit
	}
	key := binary.BigEndian.AppendUint16(make([]byte, 0, 4), 0) // version
	key = binary.BigEndian.AppendUint16(key, uint16(t))
	value := binary.BigEndian.AppendUint16(make([]byte, 0, 6), 0) // version
	value = binary.BigEndian.AppendUint32(value, uint32(m.CoordinatorEpoch))
	b := NewBuilder(Options{
		Producer: &m.Producer, BaseSequence: NoSequence, Transactional: true, Control: true, LeaderEpoch: leaderEpoch,
	})
	b.Add(Record{Key: key, Value: value, Timestamp: m.Timestamp})
	batch, err := b.Build()
	if err != nil {
		panic("batch: a marker of ten bytes does not build: " + err.Error())
	}
	return batch
}

// ControlType reads the type of a control batch from its first record's key. ok is
// false when a compacted batch has no record left.
func (b Batch) ControlType() (t ControlType, ok bool, err error) {
	v, ok, err := b.controlRecord()
	if !ok || err != nil {
		return 0, false, err
	}
	return controlType(v)
}

func controlType(v *View) (ControlType, bool, error) {
	if len(v.Key) < 4 {
		return 0, false, corrupt("control record key of %d bytes", len(v.Key))
	}
	return ControlType(binary.BigEndian.Uint16(v.Key[2:])), true, nil
}

// Marker reads a transaction marker. ok is false for control batches of other types.
func (b Batch) Marker() (m Marker, ok bool, err error) {
	v, ok, err := b.controlRecord()
	if !ok || err != nil {
		return Marker{}, false, err
	}
	t, _, err := controlType(v)
	if err != nil || (t != ControlAbort && t != ControlCommit) {
		return Marker{}, false, err
	}
	if len(v.Value) < 6 {
		return Marker{}, false, corrupt("transaction marker value of %d bytes", len(v.Value))
	}
	return Marker{
		Producer:         Producer{ID: b.ProducerID(), Epoch: b.ProducerEpoch()},
		Commit:           t == ControlCommit,
		CoordinatorEpoch: int32(binary.BigEndian.Uint32(v.Value[2:])),
		Timestamp:        v.Timestamp,
	}, true, nil
}

func (b Batch) controlRecord() (*View, bool, error) {
	if !b.Control() {
		return nil, false, nil
	}
	it, err := b.Records(nil)
	if err != nil {
		return nil, false, err
	}
	if !it.Next() {
		return nil, false, it.Err()
	}
	v := it.cur
	return &v, true, nil
}
