package scripts

import (
	"context"

	"github.com/valkey-io/valkey-go"

	"doorstep/sessions"
)

// End keeps the contract of sessions.Live: end.lua.
func (s *Store) End(ctx context.Context, j sessions.Journey) error {
	started := unixMS(j.StartedAt)
	if started == "" {
		started = "0"
	}
	args := []string{liveChannel(j.Ref), s.clock(), started, milliseconds(s.opts.Live.LocationTTL)}
	_, err := s.call(ctx, "end", func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		return s.end.Exec(ctx, c, []string{journeyKey(j.Ref)}, args)
	})
	return err
}
