package scripts

import (
	"context"

	"github.com/valkey-io/valkey-go"

	"doorstep/sessions"
)

// End implements sessions.Live by end.lua.
func (s *Store) End(ctx context.Context, j sessions.Journey) error {
	args := []string{liveChannel(j.Ref), s.clock(), identity(j), milliseconds(s.opts.Live.LocationTTL), string(j.Phase)}
	_, err := s.call(ctx, "end", journeyKey(j.Ref), func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		return s.end.Exec(ctx, c, []string{journeyKey(j.Ref)}, args)
	})
	return err
}

// identity is a journey's start in Unix ms, 0 for one that never started.
func identity(j sessions.Journey) string {
	if j.StartedAt.IsZero() {
		return "0"
	}
	return integer(j.StartedAt.UnixMilli())
}
