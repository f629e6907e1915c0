package scripts

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/scripts/valkeyconn"
	"doorstep/sessions"
)

func TestScriptTime(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		info string
		ran  int64
		took time.Duration
	}{
		"none_yet":   {"# Commandstats\r\ncmdstat_ping:calls=3,usec=4,usec_per_call=1.33\r\n", 0, 0},
		"some":       {"cmdstat_eval:calls=9,usec=9\r\ncmdstat_evalsha:calls=12,usec=345,usec_per_call=28.75,rejected_calls=0\r\n", 12, 345 * time.Microsecond},
		"unheard_of": {"cmdstat_evalsha:often\r\n", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ran, took := scriptTime(row.info)
			require.Equal(t, row.ran, ran)
			require.Equal(t, row.took, took)
		})
	}
}

func TestStore_ScriptTime(t *testing.T) {
	t.Parallel()
	spawnEach(t, func(t *testing.T, server *valkeyserver.Server) {
		s := connected(t, Options{URL: server.URL()})
		before, _, err := s.ScriptTime(t.Context())
		require.NoError(t, err)
		for range 3 {
			_, err := s.Update(t.Context(), newRef(), sessions.Fix{Point: geo.MustPoint(52, 5)})
			require.NoError(t, err)
		}
		ran, took, err := s.ScriptTime(t.Context())
		require.NoError(t, err)
		require.Equal(t, before+3, ran)
		require.Positive(t, took)
		require.NoError(t, do(t, rawClient(t, server.URL()), "ACL", "SETUSER", "default", "-info").Error())
		_, _, err = s.ScriptTime(t.Context())
		require.ErrorContains(t, err, "NOPERM")
	})
}

func TestStore_ScriptTime_not_connected(t *testing.T) {
	t.Parallel()
	s, err := New(Options{URL: "unix:///nowhere"})
	require.NoError(t, err)
	_, _, err = s.ScriptTime(t.Context())
	require.ErrorIs(t, err, valkeyconn.ErrNotConnected)
}

func TestResultOf(t *testing.T) {
	t.Parallel()
	var got []string
	for _, err := range []error{
		nil, context.DeadlineExceeded, errors.New("LOADING"), valkeyconn.ErrCallerLeft, valkeyconn.ErrBehind,
		valkeyconn.ErrNoWrites, valkeyconn.ErrTooManyCalls, valkeyconn.ErrBreakerOpen, valkeyconn.ErrNotConnected,
	} {
		got = append(got, resultOf(err))
	}
	require.Equal(t, Results(), got)
}
