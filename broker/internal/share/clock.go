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

// ClockMoved ends the locks whose time has come by a clock that went forward by itself.
func (m *Manager) ClockMoved() {
	m.mu.Lock()
	var all []*leader
	for _, l := range m.leaders {
		all = append(all, l)
	}
	m.mu.Unlock()
	for _, l := range all {
		if m.enter() {
			l.expire()
			m.leave()
		}
	}
}
