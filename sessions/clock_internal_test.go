package sessions

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A machine whose clock is set, forwards or back, does not change what time it is for the
// journeys, whether or not the server can be asked.
func TestClock_own_clock_is_set(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{2 * time.Hour, -2 * time.Hour, 61 * time.Minute, -time.Second} {
		server := time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)
		own, elapsed := server.Add(-step), time.Duration(0)
		c := NewClock(func() time.Time { return own })
		c.elapsed = func() time.Duration { return elapsed }
		require.NoError(t, c.Sync(t.Context(), func(context.Context) (time.Time, error) { return server, nil }))
		require.Equal(t, step, c.Offset())

		own, elapsed = own.Add(step+time.Minute), elapsed+time.Minute
		require.True(t, server.Add(time.Minute).Equal(c.Now()), "%s", c.Now())
		require.Zero(t, c.Offset(), "it is right now")
	}
}
