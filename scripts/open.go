package scripts

import (
	"context"
	"fmt"
	"strconv"

	"github.com/valkey-io/valkey-go"

	"doorstep/geo"
	"doorstep/sessions"
)

// Open implements sessions.Live by open.lua.
func (s *Store) Open(ctx context.Context, j sessions.Journey) (bool, error) {
	fence, err := geo.Cover(j.Home, s.opts.Live.RadiusM)
	if err != nil {
		return false, fmt.Errorf("open: %w", err)
	}
	restored := "0"
	if j.Restored {
		restored = "1"
	}
	args := []string{
		liveChannel(j.Ref), s.clock(), identity(j), destination(j.Mode, j.Home), fence.String(),
		milliseconds(s.opts.Live.JourneyTTL), restored, lastFix(j.Last), milliseconds(s.opts.Live.LocationTTL),
	}
	res, err := s.call(ctx, "open", journeyKey(j.Ref), func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		return s.open.Exec(ctx, c, []string{journeyKey(j.Ref)}, args)
	})
	if err != nil {
		return false, err
	}
	code, err := res.ToInt64()
	if err != nil {
		return false, unreadable("open", err)
	}
	return code != 0, nil // opened now, or active already
}

// lastFix writes the argument last of open.lua.
func lastFix(l sessions.LastFix) string {
	if l.At.IsZero() {
		return unsaid
	}
	b := append(appendUnixMS(nil, l.At), ' ')
	b = append(b, decimetres(l.DistanceM)...)
	for _, said := range []bool{l.Trusted, l.Outside, l.Arriving} {
		if said {
			b = append(b, " 1"...)
		} else {
			b = append(b, " 0"...)
		}
	}
	for _, ms := range []int64{l.Clock.OffsetMS, l.Clock.ToldMS, l.Clock.SinceMS} {
		b = strconv.AppendInt(append(b, ' '), ms, 10)
	}
	return string(b)
}

// destination writes the argument `to` of open.lua, "mode lat lng".
func destination(mode sessions.Mode, home geo.Point) string {
	return string(home.AppendLng(append(home.AppendLat(append([]byte(mode), ' ')), ' ')))
}
