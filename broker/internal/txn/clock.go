package txn

// ClockMoved makes every shard look at the clock again; see coordinator.Loop.ClockMoved.
func (s *Service) ClockMoved() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, sh := range s.shards {
		sh.loop.ClockMoved()
	}
}
