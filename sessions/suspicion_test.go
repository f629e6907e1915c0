package sessions_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// TestService_Report: a journey whose phone jumps and says it is mocked is
// reported once for each, however often it does so, and off the update's path.
func TestService_Report(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []sessions.Event
		repo := memory.NewRepository(func(e sessions.Event) { told = append(told, e) })
		live := memory.NewLive(sessions.LiveOptions{}, time.Now)
		service := sessions.NewService(repo, live, sessions.ServiceOptions{})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = service.Report(ctx) }()

		admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
		trainer := sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}
		s, _, err := service.Create(ctx, admin, sessions.Booking{
			TrainerID: trainer.ID, StudentID: sessions.NewID(), Home: geo.MustPoint(52, 5),
		})
		require.NoError(t, err)
		_, err = service.Start(ctx, trainer, s.ID, "")
		require.NoError(t, err)
		for i, lat := range []float64{52.1, 52.1001, 52.3, 52.1003, 52.3} {
			time.Sleep(5 * time.Second)
			_, err := service.Update(ctx, trainer, s.ID, sessions.Fix{Point: geo.MustPoint(lat, 5), AccuracyM: 5, Mock: i > 0})
			require.NoError(t, err)
		}
		synctest.Wait()
		stop()
		<-done
		var verdicts []string
		for _, e := range told {
			if e.Type == sessions.LocationSuspicious {
				verdicts = append(verdicts, e.Verdict)
				require.Equal(t, sessions.SuspicionID(s.ID, e.JourneyStartedAt, e.Verdict), e.ID)
				require.Equal(t, 1, e.Count)
			}
		}
		require.ElementsMatch(t, []string{"mock", "refused_jump"}, verdicts)
	})
}
