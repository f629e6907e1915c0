package sessions_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// A process 61 minutes ahead goes by the server's clock, to half of a round trip.
func TestClock(t *testing.T) {
	t.Parallel()
	server := time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)
	own := server.Add(61 * time.Minute)
	c := sessions.NewClock(func() time.Time { return own })
	ask := func(trip, off time.Duration) error {
		return c.Sync(t.Context(), func(context.Context) (time.Time, error) {
			own = own.Add(trip)
			return own.Add(-61*time.Minute - trip/2 + off), nil
		})
	}
	require.Equal(t, own, c.Now(), "its own, before it has asked")
	require.Error(t, c.Sync(t.Context(), func(context.Context) (time.Time, error) { return time.Time{}, errors.New("away") }))
	select {
	case <-c.Known():
		t.Fatal("known without an answer")
	default:
	}
	require.NoError(t, ask(10*time.Millisecond, 3*time.Millisecond))
	<-c.Known()
	require.InDelta(t, 0, c.Now().Sub(own.Add(-61*time.Minute)), float64(5*time.Millisecond))
	known := c.Offset()
	require.NoError(t, ask(10*time.Millisecond, -2*time.Millisecond))
	require.Equal(t, known, c.Offset(), "the difference may be the network's")
	require.NoError(t, ask(10*time.Millisecond, time.Second))
	require.InDelta(t, -61*time.Minute+time.Second, c.Offset(), float64(5*time.Millisecond), "the server's clock was set")
	known = c.Offset()
	require.Error(t, c.Sync(t.Context(), func(context.Context) (time.Time, error) { return time.Time{}, errors.New("away") }))
	require.Equal(t, known, c.Offset())
}
