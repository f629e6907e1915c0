package scripts

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

// A gateway meets a journey that another release has opened.
func TestStore_layouts(t *testing.T) {
	t.Parallel()
	valkeytest.Each(t, func(t *testing.T, url string) {
		t.Parallel()
		s, raw := connected(t, Options{URL: url, Live: sessions.LiveOptions{RateInterval: time.Millisecond}}), rawClient(t, url)
		for name, c := range map[string]struct {
			layout   string
			known    bool
			verdict  sessions.Verdict
			reopened bool
			fails    bool
		}{
			"ours":    {layout: "1", known: true, verdict: sessions.VerdictStored},
			"next":    {layout: "2", known: true, verdict: sessions.VerdictStored},
			"too_old": {layout: "0", verdict: sessions.VerdictUnknown, reopened: true},
			"none":    {layout: "", verdict: sessions.VerdictUnknown, reopened: true},
			"too_new": {layout: "3", fails: true},
		} {
			t.Run(name, func(t *testing.T) {
				j := journeyNow()
				requireTakesFix(t, s, j)
				key, started := journeyKey(j.Ref), j.StartedAt.UnixMilli()
				require.NoError(t, do(t, raw, "HSET", key, "to", inLayout(c.layout, started)).Error())
				time.Sleep(2 * time.Millisecond) // the rate, and a fix later than the last

				snap, err := s.Latest(t.Context(), j.Ref)
				require.Equal(t, c.known, snap.Known)
				receipt, err2 := s.Update(t.Context(), j.Ref, fixAt(home))
				if c.fails {
					require.ErrorIs(t, err, sessions.ErrUnavailable)
					require.ErrorIs(t, err2, sessions.ErrUnavailable)
				} else {
					require.NoError(t, err)
					require.NoError(t, err2)
					require.Equal(t, c.verdict, receipt.Verdict)
				}

				opened, err := s.Open(t.Context(), j)
				require.NoError(t, err)
				require.True(t, opened, "a journey that is not opened would be ended")
				want := c.layout
				if c.reopened {
					want = ms(hashLayout)
				}
				to, err := do(t, raw, "HGET", key, "to").ToString()
				require.NoError(t, err)
				require.Equal(t, inLayout(want, started), to)

				require.NoError(t, s.End(t.Context(), j))
				snap, err = s.Latest(t.Context(), j.Ref)
				require.NoError(t, err)
				require.True(t, snap.Known && !snap.Active && snap.Location == nil, "whatever the layout, an end removes the coordinates")
			})
		}
	})
}
