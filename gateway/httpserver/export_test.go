package httpserver

import "time"

// Draining is closed when Drain or Close begins.
func (s *Server) Draining() <-chan struct{} { return s.listener.draining }

// SetDrainGrace replaces the constant. Call it before Run.
func (s *Server) SetDrainGrace(d time.Duration) { s.listener.drainGrace = d }

// MaxHeaderBytes is the limit.
const MaxHeaderBytes = maxHeaderBytes

// The limits of large requests, and how many are under way.
const (
	UsualRequest = usualRequest
	MaxLarge     = maxLarge
)

// MaxStreams is how many large streamed bodies are read at once.
const MaxStreams = maxStreams

// Streams is how many are.
func (s *Server) Streams() int64 { return s.listener.streams.Load() }

// Large is how many large requests are under way.
func (s *Server) Large() int64 { return s.listener.large.Load() }
