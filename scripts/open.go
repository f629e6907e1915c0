package scripts

import (
	"context"
	"fmt"

	"github.com/valkey-io/valkey-go"

	"doorstep/sessions"
)

// Open keeps the contract of sessions.Live: open.lua.
func (s *Store) Open(ctx context.Context, j sessions.Journey) (bool, error) {
	args := []string{
		liveChannel(j.Ref), s.clock(), unixMS(j.StartedAt),
		string(j.Home.AppendLat(nil)), string(j.Home.AppendLng(nil)), string(j.Mode),
		milliseconds(s.opts.Live.JourneyTTL),
	}
	res, err := s.call(ctx, "open", func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		return s.open.Exec(ctx, c, []string{journeyKey(j.Ref)}, args)
	})
	if err != nil {
		return false, err
	}
	code, err := res.ToInt64()
	if err != nil {
		return false, fmt.Errorf("open reply: %w", err)
	}
	return code != 0, nil
}
