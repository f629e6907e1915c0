package httpserver

import "time"

// Draining is closed when Drain or Close begins.
func (s *Server) Draining() <-chan struct{} { return s.listener.draining }

// SetDrainGrace replaces the constant. Call it before Run.
func (s *Server) SetDrainGrace(d time.Duration) { s.listener.drainGrace = d }

// MaxHeaderBytes is the limit.
const MaxHeaderBytes = maxHeaderBytes
