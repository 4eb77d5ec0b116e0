package share

// ClockMoved makes every shard look at the clock again; see coordinator.Loop.ClockMoved.
func (s *States) ClockMoved() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, l := range s.shards {
		if l != nil {
			l.ClockMoved()
		}
	}
}

// ClockMoved ends the locks whose time is over by a clock that went forward by itself.
func (m *Manager) ClockMoved() {
	m.mu.Lock()
	leaders := make([]*leader, 0, len(m.leaders))
	for _, l := range m.leaders {
		leaders = append(leaders, l)
	}
	m.mu.Unlock()
	for _, l := range leaders {
		l.expire()
	}
}
