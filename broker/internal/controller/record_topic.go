package controller

import "encoding/binary"

// NoLeaderChange in PartitionChangeRecord.Leader leaves leader and leader epoch as they are.
const NoLeaderChange int32 = -2

// TopicRecord makes a topic. Its configurations and partitions follow in the same batch.
type TopicRecord struct {
	Name    string
	TopicID TopicID
}

// PartitionRecord makes one partition, or replaces what is known of it.
type PartitionRecord struct {
	PartitionID                         int32
	TopicID                             TopicID
	Replicas, ISR                       []int32
	Removing, Adding                    []int32
	Leader, LeaderEpoch, PartitionEpoch int32
	// Recovering: the leader came from an unclean election and is not done with it.
	Recovering bool
	// Directories are the ids of the log directories of Replicas, in their order; nil in a record of version 0.
	Directories []TopicID
	// ELR and LastKnownELR are the eligible leader replicas of KIP-966.
	ELR, LastKnownELR []int32
}

// PartitionChangeRecord changes one partition. A Leader other than NoLeaderChange is an election: the leader epoch grows even
// if the leader stays the same. Nil slices change nothing.
type PartitionChangeRecord struct {
	PartitionID       int32
	TopicID           TopicID
	ISR               []int32
	Leader            int32
	Replicas          []int32
	Removing, Adding  []int32
	Recovering        *bool
	ELR, LastKnownELR []int32
	Directories       []TopicID
}

// RemoveTopicRecord deletes a topic with its partitions and configuration.
type RemoveTopicRecord struct{ TopicID TopicID }

func (*TopicRecord) key() uint64           { return keyTopic }
func (*PartitionRecord) key() uint64       { return keyPartition }
func (*PartitionChangeRecord) key() uint64 { return keyPartitionChange }
func (*RemoveTopicRecord) key() uint64     { return keyRemoveTopic }

func (*TopicRecord) version() uint64       { return 0 }
func (*RemoveTopicRecord) version() uint64 { return 0 }

// version is 2, of metadata.version 4.0 and later, unless the record was read in version 0, which knows no directories.
func (r *PartitionRecord) version() uint64 {
	if r.Directories == nil {
		return 0
	}
	return 2
}

// version is the lowest that has the fields in use.
func (r *PartitionChangeRecord) version() uint64 {
	switch {
	case r.ELR != nil || r.LastKnownELR != nil:
		return 2
	case r.Directories != nil:
		return 1
	}
	return 0
}

func (r *TopicRecord) appendBody(dst []byte) []byte {
	dst = appendString(dst, r.Name)
	dst = append(dst, r.TopicID[:]...)
	return append(dst, 0)
}

func (r *RemoveTopicRecord) appendBody(dst []byte) []byte {
	return append(append(dst, r.TopicID[:]...), 0)
}

func (r *PartitionRecord) appendBody(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.PartitionID))
	dst = append(dst, r.TopicID[:]...)
	dst = appendNodes(dst, r.Replicas)
	dst = appendNodes(dst, r.ISR)
	dst = appendNodes(dst, r.Removing)
	dst = appendNodes(dst, r.Adding)
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.Leader))
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.LeaderEpoch))
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.PartitionEpoch))
	if r.version() >= 1 {
		dst = appendIDs(dst, r.Directories)
	}
	var t tagged
	if r.Recovering {
		t.add(0, []byte{1})
	}
	if r.version() >= 2 && len(r.ELR) > 0 {
		t.add(1, appendNodes(nil, r.ELR))
	}
	if r.version() >= 2 && len(r.LastKnownELR) > 0 {
		t.add(2, appendNodes(nil, r.LastKnownELR))
	}
	return t.appendTo(dst)
}

func decodePartition(d *decoder, version uint64) Record {
	p := &PartitionRecord{
		PartitionID: d.int32(), TopicID: d.id(), Replicas: d.nodes(), ISR: d.nodes(), Removing: d.someNodes(), Adding: d.someNodes(),
		Leader: d.int32(), LeaderEpoch: d.int32(), PartitionEpoch: d.int32(),
	}
	if version >= 1 {
		if p.Directories = d.ids(); p.Directories == nil {
			d.bad = true
		}
	}
	d.tags(func(tag uint64, v *decoder) {
		switch tag {
		case 0:
			p.Recovering = v.bool()
		case 1:
			p.ELR = v.someNodes()
		case 2:
			p.LastKnownELR = v.someNodes()
		}
	})
	return p
}

func (r *PartitionChangeRecord) appendBody(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.PartitionID))
	dst = append(dst, r.TopicID[:]...)
	var t tagged
	nodes := func(tag uint64, a []int32) {
		if a != nil {
			t.add(tag, appendNodes(nil, a))
		}
	}
	nodes(0, r.ISR)
	if r.Leader != NoLeaderChange {
		t.add(1, binary.BigEndian.AppendUint32(nil, uint32(r.Leader)))
	}
	nodes(2, r.Replicas)
	nodes(3, r.Removing)
	nodes(4, r.Adding)
	if r.Recovering != nil {
		t.add(5, appendBool(nil, *r.Recovering))
	}
	nodes(6, r.ELR)
	nodes(7, r.LastKnownELR)
	if r.Directories != nil {
		t.add(8, appendIDs(nil, r.Directories))
	}
	return t.appendTo(dst)
}

func decodePartitionChange(d *decoder) Record {
	p := &PartitionChangeRecord{PartitionID: d.int32(), TopicID: d.id(), Leader: NoLeaderChange}
	d.tags(func(tag uint64, v *decoder) {
		switch tag {
		case 0:
			p.ISR = v.nodes()
		case 1:
			p.Leader = v.int32()
		case 2:
			p.Replicas = v.nodes()
		case 3:
			p.Removing = v.nodes()
		case 4:
			p.Adding = v.nodes()
		case 5:
			if n := int8(v.byte()); n >= 0 {
				recovering := n != 0
				p.Recovering = &recovering
			}
		case 6:
			p.ELR = v.nodes()
		case 7:
			p.LastKnownELR = v.nodes()
		case 8:
			p.Directories = v.ids()
		}
	})
	return p
}
