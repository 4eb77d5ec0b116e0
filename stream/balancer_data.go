package stream

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/moldau-stream/moldau/internal/task"
)

// User data of our assignment protocol, big-endian. Both messages start with the version they were written
// in and the oldest version whose readers understand them; a reader takes the fields that it knows and
// ignores the rest, so that a rolling upgrade works in both directions.
//
//	subscription:  version(1) oldest(1) process id(16) workers(2) generation(4) n(4) { sub-topology(4) partition(4) }* n(4) { size(4) pattern }*
//	assignment:    version(1) oldest(1) made for(8) n(4) { sub-topology(4) partition(4) }*
const (
	userDataVersion = 1
	userDataOldest  = 1

	// maxTasks bounds what a member can claim.
	maxTasks = 1 << 18
)

// memberData is what a member says about itself when it joins.
type memberData struct {
	ProcessID  uuid.UUID
	Workers    uint16
	Generation int32     // of the last assignment; a claim of a newer generation wins
	Tasks      []task.ID // that it has, or has the state of
	Patterns   []string  // of its sources
}

func appendMemberData(b []byte, d memberData) []byte {
	b = append(b, userDataVersion, userDataOldest)
	b = append(b, d.ProcessID[:]...)
	b = binary.BigEndian.AppendUint16(b, d.Workers)
	b = binary.BigEndian.AppendUint32(b, uint32(d.Generation))
	b = appendTasks(b, d.Tasks)
	if len(d.Patterns) > 0 {
		b = binary.BigEndian.AppendUint32(b, uint32(len(d.Patterns)))
		for _, p := range d.Patterns {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
		}
	}
	return b
}

// parsePatterns reads the patterns of a subscription, which is none where there are none, or something of another version.
func parsePatterns(b []byte) []string {
	var patterns []string
	if len(b) < 4 {
		return nil
	}
	n := binary.BigEndian.Uint32(b)
	for b = b[4:]; n > 0; n-- {
		if len(b) < 4 || uint64(binary.BigEndian.Uint32(b)) > uint64(len(b)-4) {
			return nil
		}
		size := binary.BigEndian.Uint32(b)
		patterns = append(patterns, string(b[4:4+size]))
		b = b[4+size:]
	}
	return patterns
}

func parseMemberData(b []byte) (memberData, error) {
	var d memberData
	b, err := userDataHeader(b)
	if err != nil {
		return d, err
	}
	if len(b) < 16+2+4 {
		return d, fmt.Errorf("user data of the %s protocol is cut off: %d bytes after the version", protocolName, len(b))
	}
	copy(d.ProcessID[:], b)
	d.Workers = binary.BigEndian.Uint16(b[16:])
	d.Generation = int32(binary.BigEndian.Uint32(b[18:]))
	d.Tasks, b, err = parseTasks(b[22:])
	d.Patterns = parsePatterns(b)
	return d, err
}

// appendAssignmentData writes the tasks of a member, and the fingerprint of what was divided.
func appendAssignmentData(b []byte, made uint64, ids []task.ID) []byte {
	b = append(b, userDataVersion, userDataOldest)
	return appendTasks(binary.BigEndian.AppendUint64(b, made), ids)
}

func parseAssignmentData(b []byte) (made uint64, ids []task.ID, err error) {
	if b, err = userDataHeader(b); err != nil {
		return 0, nil, err
	}
	if len(b) < 8 {
		return 0, nil, fmt.Errorf("user data of the %s protocol is cut off: %d bytes after the version", protocolName, len(b))
	}
	ids, _, err = parseTasks(b[8:])
	return binary.BigEndian.Uint64(b), ids, err
}

func userDataHeader(b []byte) ([]byte, error) {
	if len(b) < 2 {
		return nil, fmt.Errorf("user data of the %s protocol is missing (%d bytes); do all members of the group run this library?", protocolName, len(b))
	}
	if b[0] < userDataOldest {
		return nil, fmt.Errorf("user data of the %s protocol has version %d, this binary reads from %d", protocolName, b[0], userDataOldest)
	}
	if b[1] > userDataVersion {
		return nil, fmt.Errorf("user data of the %s protocol has version %d and needs a reader of version %d, this binary reads up to %d; upgrade it", protocolName, b[0], b[1], userDataVersion)
	}
	return b[2:], nil
}

// appendTasks writes ids sorted: the same set always has the same bytes.
func appendTasks(b []byte, ids []task.ID) []byte {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, task.ID.Compare)
	b = binary.BigEndian.AppendUint32(b, uint32(len(ids)))
	for _, id := range ids {
		b = binary.BigEndian.AppendUint32(b, uint32(id.Subtopology))
		b = binary.BigEndian.AppendUint32(b, uint32(id.Partition))
	}
	return b
}

func parseTasks(b []byte) (ids []task.ID, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, fmt.Errorf("user data of the %s protocol is cut off before its tasks", protocolName)
	}
	n := binary.BigEndian.Uint32(b)
	b = b[4:]
	if n > maxTasks || int64(n)*8 > int64(len(b)) {
		return nil, nil, fmt.Errorf("user data of the %s protocol claims %d tasks in %d bytes", protocolName, n, len(b))
	}
	ids = make([]task.ID, n)
	for i := range ids {
		s, p := int32(binary.BigEndian.Uint32(b)), int32(binary.BigEndian.Uint32(b[4:]))
		if s < 0 || p < 0 {
			return nil, nil, fmt.Errorf("user data of the %s protocol names task %d_%d", protocolName, s, p)
		}
		ids[i] = task.ID{Subtopology: s, Partition: p}
		b = b[8:]
	}
	return ids, b, nil
}
