package server

// ClockMoved makes everything that waits for a time look at the clock again.
func (s *Server) ClockMoved() {
	s.groups.ClockMoved()
	s.txns.ClockMoved()
	s.shareStates.ClockMoved()
	s.shares.ClockMoved()
}
