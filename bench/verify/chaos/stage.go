package main

import (
	"context"

	"doorstep/bench/rig"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeyserver"
)

// stage is what one scenario has started. All of it is gone when it closes.
type stage struct {
	program   *rig.Program
	commons   *commons
	short     bool
	ends      rig.Ends
	lastWords string // the gateway's log, of a scenario that did not hold
}

// onEnd has f run when the scenario is over, last first.
func (s *stage) onEnd(f func() error) { s.ends.Add(f) }

func (s *stage) close() error { return s.ends.Close() }

// valkey starts a live store that listens on TCP, too, for a proxy to stand
// before it.
func (s *stage) valkey(ctx context.Context, args ...string) (*valkeyserver.Server, error) {
	server, err := valkeyserver.Start(ctx, valkeyserver.Options{TCP: true, Args: args})
	if err == nil {
		s.onEnd(server.Stop)
	}
	return server, err
}

// postgres starts a database and brings its schema up.
func (s *stage) postgres(ctx context.Context, settings ...string) (*postgrestest.Server, error) {
	server, err := postgrestest.Start(ctx, settings...)
	if err != nil {
		return nil, err
	}
	s.onEnd(server.Close)
	return server, s.program.Run(ctx, []string{"DATABASE_URL=" + server.DSN()}, "migrate")
}

// gateway starts a gateway on those stores.
func (s *stage) gateway(ctx context.Context, settings ...string) (*rig.Gateway, error) {
	g, err := s.program.Start(ctx, settings...)
	if err == nil {
		s.onEnd(g.Kill)
	}
	return g, err
}

// pick is the short form's size, or the long one's.
func pick[T any](s *stage, short, long T) T {
	if s.short {
		return short
	}
	return long
}
