package task

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Metadata is what Kafka Streams keeps in the metadata of a committed offset:
// the time of the partition and, by name, the time of operators.
type Metadata struct {
	PartitionTime int64 // -1: not known
	Times         map[string]int64
}

// versionOfTimes is the name under which metadata has a number that grows with each commit: of the partitions of a task, each
// carries the times of the last commit that moved it, and those of the last one of all count.
const versionOfTimes = ""

// metadataMagic is the version of the format: 1 had no times.
const metadataMagic = 2

// Encode is base64 of: magic 2, partition time (8 bytes, big-endian) and, if
// there are times, their number (4 bytes) and for each the length of its name
// (4 bytes), the name and the time (8 bytes). Names are in order, so that equal
// metadata is equal text.
func (m Metadata) Encode() string {
	b := []byte{metadataMagic}
	b = binary.BigEndian.AppendUint64(b, uint64(m.PartitionTime))
	if len(m.Times) > 0 {
		b = binary.BigEndian.AppendUint32(b, uint32(len(m.Times)))
		for _, name := range slices.Sorted(maps.Keys(m.Times)) {
			b = binary.BigEndian.AppendUint32(b, uint32(len(name)))
			b = append(b, name...)
			b = binary.BigEndian.AppendUint64(b, uint64(m.Times[name]))
		}
	}
	return base64.StdEncoding.EncodeToString(b)
}

var errShortMetadata = errors.New("offset metadata is shorter than it says")

// DecodeMetadata is the reverse of Encode. It reads versions 1 and 2; no
// metadata at all stands for an unknown time.
func DecodeMetadata(s string) (Metadata, error) {
	m := Metadata{PartitionTime: -1}
	if s == "" {
		return m, nil
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return m, fmt.Errorf("offset metadata: %w", err)
	}
	if len(b) == 0 {
		return m, errShortMetadata
	}
	if b[0] != 1 && b[0] != metadataMagic {
		return m, fmt.Errorf("offset metadata of version %d: this program knows 1 and %d", b[0], metadataMagic)
	}
	if len(b) < 9 {
		return m, errShortMetadata
	}
	t := int64(binary.BigEndian.Uint64(b[1:]))
	if b[0] == 1 || len(b) == 9 {
		m.PartitionTime = t
		return m, nil
	}
	times, err := decodeTimes(b[9:])
	if err != nil {
		return m, err
	}
	return Metadata{t, times}, nil
}

func decodeTimes(b []byte) (map[string]int64, error) {
	if len(b) < 4 {
		return nil, errShortMetadata
	}
	n := binary.BigEndian.Uint32(b)
	b = b[4:]
	if uint64(n)*12 > uint64(len(b)) {
		return nil, errShortMetadata
	}
	times := make(map[string]int64, n)
	for range n {
		if len(b) < 4 {
			return nil, errShortMetadata
		}
		l := uint64(binary.BigEndian.Uint32(b))
		if uint64(len(b)) < 4+l+8 {
			return nil, errShortMetadata
		}
		times[string(b[4:4+l])] = int64(binary.BigEndian.Uint64(b[4+l:]))
		b = b[4+l+8:]
	}
	return times, nil
}
