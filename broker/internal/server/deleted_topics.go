package server

import (
	"slices"
	"sync"
)

// deletedTopicsKept bounds deletedTopics.
const deletedTopicsKept = 1000

// deletedTopics are the names of the topics that were deleted last and that nobody has asked for since. Who deletes a topic often
// looks whether it is gone, by a Metadata request that would make it anew: the first to ask hears that there is none, as from
// Apache Kafka.
type deletedTopics struct {
	mu    sync.Mutex
	names []string // each once, the oldest first
}

func (d *deletedTopics) add(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.Contains(d.names, name) {
		return
	}
	if len(d.names) == deletedTopicsKept {
		d.names = slices.Delete(d.names, 0, 1)
	}
	d.names = append(d.names, name)
}

// take tells whether the name is one of them, and forgets it.
func (d *deletedTopics) take(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.Index(d.names, name)
	if i < 0 {
		return false
	}
	d.names = slices.Delete(d.names, i, i+1)
	return true
}
