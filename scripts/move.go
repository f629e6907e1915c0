package scripts

import (
	"context"
	"fmt"

	"github.com/valkey-io/valkey-go"

	"doorstep/geo"
	"doorstep/sessions"
)

// Move implements sessions.Live by move.lua.
func (s *Store) Move(ctx context.Context, j sessions.Journey) (bool, error) {
	fence, err := geo.Cover(j.Home, s.opts.Live.RadiusM)
	if err != nil {
		return false, fmt.Errorf("move: %w", err)
	}
	args := []string{liveChannel(j.Ref), s.clock(), identity(j), place(j.Home), fence.String()}
	res, err := s.call(ctx, "move", journeyKey(j.Ref), func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		return s.move.Exec(ctx, c, []string{journeyKey(j.Ref)}, args)
	})
	if err != nil {
		return false, err
	}
	code, err := res.ToInt64()
	if err != nil {
		return false, unreadable("move", err)
	}
	return code != 0, nil // it runs
}

// place writes a point as "lat lng".
func place(p geo.Point) string { return string(p.AppendLng(append(p.AppendLat(nil), ' '))) }
