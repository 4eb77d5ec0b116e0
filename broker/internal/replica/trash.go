package replica

import (
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"
)

// trash is the files of deleted segments, which stay for the topic's file.delete.delay.ms. They have their names of deleted files,
// so that a start removes what is left of them.
type trash struct {
	mu    sync.Mutex
	files []trashed
	added chan struct{} // has room for one
}

type trashed struct {
	names []string
	due   time.Time
}

// discard removes files after a delay.
func (m *Manager) discard(names []string, after time.Duration) {
	t := trashed{names: names, due: m.now().Add(after)}
	if after <= 0 {
		m.removeFiles(t)
		return
	}
	m.trash.mu.Lock()
	m.trash.files = append(m.trash.files, t)
	m.trash.mu.Unlock()
	select {
	case m.trash.added <- struct{}{}:
	default:
	}
}

// emptyTrash removes what is due and returns how long the rest has; none says that there is no rest.
func (m *Manager) emptyTrash() (next time.Duration, none bool) {
	now := m.now()
	var due []trashed
	m.trash.mu.Lock()
	m.trash.files = slices.DeleteFunc(m.trash.files, func(t trashed) bool {
		if now.Before(t.due) {
			if left := t.due.Sub(now); next == 0 || left < next {
				next = left
			}
			return false
		}
		due = append(due, t)
		return true
	})
	none = len(m.trash.files) == 0
	m.trash.mu.Unlock()
	for _, t := range due {
		m.removeFiles(t)
	}
	return next, none
}

func (m *Manager) removeFiles(t trashed) {
	for _, n := range t.names {
		// A segment has not all of the files; and the whole directory may have gone with its topic.
		if err := m.fs.Remove(n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.logger.Warn("removing a deleted segment; the next start tries again", "file", n, "error", err)
		}
	}
}
