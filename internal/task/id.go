package task

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// String is "<sub-topology>_<partition>".
func (id ID) String() string {
	return strconv.Itoa(int(id.Subtopology)) + "_" + strconv.Itoa(int(id.Partition))
}

// Compare orders ids by sub-topology, then partition.
func (id ID) Compare(other ID) int {
	return cmp.Or(cmp.Compare(id.Subtopology, other.Subtopology), cmp.Compare(id.Partition, other.Partition))
}

// ParseID is the reverse of String.
func ParseID(s string) (ID, error) {
	sub, part, ok := strings.Cut(s, "_")
	if ok {
		a, err1 := strconv.ParseInt(sub, 10, 32)
		b, err2 := strconv.ParseInt(part, 10, 32)
		if err1 == nil && err2 == nil && a >= 0 && b >= 0 {
			return ID{int32(a), int32(b)}, nil
		}
	}
	return ID{}, fmt.Errorf("task id %q: want <sub-topology>_<partition>", s)
}
