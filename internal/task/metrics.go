package task

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Reason says why a record was dropped.
type Reason uint8

// The reasons. Each dropped record counts once, under one of them.
const (
	NullKey        Reason = iota // an operator needs the key
	NullValue                    // an operator needs the value
	SkippedDecode                // the policy said so
	SkippedProcess               // the policy said so
	SkippedProduce               // the policy said so
	DeadLetterSent               // it is in the dead-letter topic
	Expired                      // a window that it belongs to is closed (counts once for each), or it is older than a table keeps versions
	Stale                        // it changes a version of a table that is not the latest, where only the latest counts
	NullForeignKey               // a foreign-key join has nothing to look for
	Outdated                     // an answer within a foreign-key join to a value that has changed since
	NoPartition                  // the function that chooses partitions of a sink chose none
	reasons
)

// Reasons lists all of them.
func Reasons() []Reason {
	all := make([]Reason, reasons)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

func (r Reason) String() string {
	switch r {
	case NullKey:
		return "null-key"
	case NullValue:
		return "null-value"
	case SkippedDecode:
		return "decode"
	case SkippedProcess:
		return "process"
	case SkippedProduce:
		return "produce"
	case DeadLetterSent:
		return "dead-letter"
	case Expired:
		return "expired"
	case Stale:
		return "stale"
	case NullForeignKey:
		return "null-foreign-key"
	case Outdated:
		return "outdated"
	case NoPartition:
		return "no-partition"
	}
	return "unknown"
}

// Metrics counts what a task does. The task writes it; anybody may read. The
// zero value is ready to use.
type Metrics struct {
	Processed  atomic.Int64 // input records, skipped ones included
	Sent       atomic.Int64 // output records without changelogs
	Emitted    atomic.Int64 // changes of tables that were emitted at commits
	Changelog  atomic.Int64 // changelog records
	Errors     atomic.Int64 // failed attempts, whatever the policy answered
	StreamTime atomic.Int64 // largest timestamp that was processed, in milliseconds
	dropped    [reasons]atomic.Int64

	mu         sync.Mutex
	droppedFor map[string]int64 // by reasons of the program's own
}

// maxOwn bounds how many reasons of its own a program can count by; the others are one.
const maxOwn = 100

func (m *Metrics) publish(droppedFor map[string]int64) {
	if len(droppedFor) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.droppedFor == nil {
		m.droppedFor = map[string]int64{}
	}
	for why, n := range droppedFor {
		if _, known := m.droppedFor[why]; !known && len(m.droppedFor) >= maxOwn {
			why = "other"
		}
		m.droppedFor[why] += n
	}
}

// DroppedFor are the numbers of records dropped for reasons of the program's own.
func (m *Metrics) DroppedFor() map[string]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.droppedFor)
}

// Sample sums values up until somebody takes them, in milliseconds.
type Sample struct {
	N        int64
	Sum      float64 // wrong timestamps can be huge: it must not overflow
	Min, Max int64   // of no meaning while N is 0
}

func (s *Sample) add(v int64) {
	if s.N == 0 {
		s.Min, s.Max = v, v
	}
	s.N++
	s.Sum += float64(v)
	s.Min, s.Max = min(s.Min, v), max(s.Max, v)
}

func (s *Sample) merge(o Sample) {
	switch {
	case o.N == 0:
	case s.N == 0:
		*s = o
	default:
		s.N += o.N
		s.Sum += o.Sum
		s.Min, s.Max = min(s.Min, o.Min), max(s.Max, o.Max)
	}
}

func (s *Sample) take() Sample {
	t := *s
	*s = Sample{}
	return t
}

// Dropped is the number of records dropped for a reason.
func (m *Metrics) Dropped(r Reason) int64 { return m.dropped[r].Load() }
