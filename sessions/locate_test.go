package sessions_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
)

// awayOnce is a live store that misses one Open.
type awayOnce struct {
	sessions.Live
	away bool
}

func (l *awayOnce) Open(ctx context.Context, j sessions.Journey) (bool, error) {
	if l.away {
		l.away = false
		return false, sessions.ErrUnavailable
	}
	return l.Live.Open(ctx, j)
}

// TestService_Update/started_again_while_the_live_store_was_away: the mark of
// the old journey's end does not stand in the new one's way.
func TestService_Update_started_again_while_the_live_store_was_away(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)
	clock := func() time.Time { return now }
	live := &awayOnce{Live: sessions.NewMemory(sessions.LiveOptions{}, clock)}
	service := sessions.NewService(sessions.NewMemoryRepository(nil), live, sessions.ServiceOptions{Now: clock})
	ctx := t.Context()
	admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
	trainer := sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}
	s, _, err := service.Create(ctx, admin, sessions.Booking{TrainerID: trainer.ID, StudentID: sessions.NewID(), Home: geo.MustPoint(52, 5)})
	require.NoError(t, err)
	fix := sessions.Fix{Point: geo.MustPoint(52.01, 5), AccuracyM: 5}

	_, err = service.Start(ctx, trainer, s.ID, "")
	require.NoError(t, err)
	_, err = service.Stop(ctx, trainer, s.ID)
	require.NoError(t, err)
	_, err = service.Update(ctx, trainer, s.ID, fix)
	require.Equal(t, sessions.NoActiveJourney, sessions.CodeOf(err))

	now = now.Add(time.Second)
	live.away = true
	_, err = service.Start(ctx, trainer, s.ID, "")
	require.NoError(t, err)
	receipt, err := service.Update(ctx, trainer, s.ID, fix)
	require.NoError(t, err)
	require.Equal(t, sessions.VerdictStored, receipt.Verdict)
}
