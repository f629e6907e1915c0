package api

// Draining is closed when Drain or Close begins.
func (s *Server) Draining() <-chan struct{} { return s.guard.draining }
