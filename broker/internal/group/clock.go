package group

// ClockMoved makes every shard look at the clock again; see coordinator.Loop.ClockMoved.
func (s *Service) ClockMoved() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, l := range s.shards {
		if l != nil {
			l.ClockMoved()
		}
	}
}
