package sessions_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/internal/pause"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// leases is a repository that can be away, or slow, or not answer.
type leases struct {
	away, deaf atomic.Bool
	slow       time.Duration
	sent       atomic.Int64
}

func (l *leases) RenewLease(ctx context.Context, _ string) error {
	l.sent.Add(1)
	if l.deaf.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	if err := pause.For(ctx, l.slow); err != nil {
		return err
	}
	if l.away.Load() {
		return errors.New("away")
	}
	return nil
}

func leased(t *testing.T, repo *leases, run func(*sessions.Lease)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		lease := sessions.NewLease(repo, sessions.LeaseOptions{Region: "eu"})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		_ = lease.Renew(ctx)
		go func() { done <- lease.Run(ctx) }()
		synctest.Wait()
		run(lease)
		stop()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

func TestLease_Run(t *testing.T) {
	t.Parallel()
	t.Run("every_30_s", func(t *testing.T) {
		t.Parallel()
		repo := &leases{}
		leased(t, repo, func(l *sessions.Lease) {
			time.Sleep(10*time.Minute + time.Second)
			require.True(t, l.Held())
			require.EqualValues(t, 21, repo.sent.Load())
			require.Equal(t, time.Second, l.Age())
		})
	})
	t.Run("ends_120_s_after_the_last_was_sent", func(t *testing.T) {
		t.Parallel()
		repo := &leases{slow: time.Second}
		leased(t, repo, func(l *sessions.Lease) {
			repo.away.Store(true) // its answer came 1 s after it was sent
			time.Sleep(119*time.Second - time.Millisecond)
			require.True(t, l.Held())
			time.Sleep(time.Millisecond)
			synctest.Wait()
			require.False(t, l.Held())
			require.Greater(t, repo.sent.Load(), int64(20), "it tries again and again")
			repo.away.Store(false)
			time.Sleep(4 * time.Second)
			require.True(t, l.Held())
		})
	})
	t.Run("ends_in_time_while_no_answer_comes", func(t *testing.T) {
		t.Parallel()
		repo := &leases{}
		leased(t, repo, func(l *sessions.Lease) {
			repo.deaf.Store(true)
			time.Sleep(2*time.Minute - time.Millisecond)
			require.True(t, l.Held())
			time.Sleep(time.Millisecond)
			synctest.Wait()
			require.False(t, l.Held())
		})
	})
	t.Run("not_held_before_the_first", func(t *testing.T) {
		t.Parallel()
		repo := &leases{}
		repo.away.Store(true)
		leased(t, repo, func(l *sessions.Lease) {
			require.False(t, l.Held())
			repo.away.Store(false)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			require.True(t, l.Held())
		})
	})
}

func TestLease_none(t *testing.T) {
	t.Parallel()
	var none *sessions.Lease
	require.True(t, none.Held())
}

// brokenRepo is a repository that is away for reads of sessions, too.
type brokenRepo struct {
	*memory.Repository
	away bool
}

func (r *brokenRepo) Session(ctx context.Context, id sessions.ID) (sessions.Session, error) {
	if r.away {
		return sessions.Session{}, sessions.Fault(sessions.DatabaseUnavailable, "away", errors.New("away"))
	}
	return r.Repository.Session(ctx, id)
}

func (r *brokenRepo) RenewLease(context.Context, string) error {
	if r.away {
		return errors.New("away")
	}
	return nil
}

// A region without a lease stores no fix and shows no location, though its live store has
// both; it goes on where it was.
func TestService_without_a_lease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		repo := &brokenRepo{Repository: memory.NewRepository(nil)}
		lease := sessions.NewLease(repo, sessions.LeaseOptions{Region: "eu", For: time.Minute})
		require.NoError(t, lease.Renew(t.Context()))
		s := sessions.NewService(repo, memory.NewLive(sessions.LiveOptions{}, time.Now), sessions.ServiceOptions{Region: "eu", Regions: []string{"eu"}, Lease: lease})
		admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
		booked, _, err := s.Create(t.Context(), admin, sessions.Booking{TrainerID: sessions.NewID(), StudentID: sessions.NewID(), Home: geo.MustPoint(52, 5)})
		require.NoError(t, err)
		trainer := sessions.Caller{ID: booked.TrainerID, Role: sessions.Trainer}
		_, err = s.Start(t.Context(), trainer, booked.ID, "")
		require.NoError(t, err)
		update := func() error {
			_, err := s.Update(t.Context(), trainer, booked.ID, sessions.Fix{Point: geo.MustPoint(52.5, 5), AccuracyM: 5})
			return err
		}
		ref, err := s.Ref(t.Context(), trainer, booked.ID)
		require.NoError(t, err)
		require.NoError(t, update())

		repo.away = true
		time.Sleep(time.Minute)
		require.Error(t, lease.Renew(t.Context()))
		require.ErrorIs(t, update(), sessions.ErrUnavailable)
		view, err := s.View(t.Context(), ref)
		require.NoError(t, err)
		require.True(t, view.Degraded)
		require.True(t, view.Active)
		require.Nil(t, view.Location)
		require.Zero(t, view.Version)
		view, err = s.Read(t.Context(), ref)
		require.NoError(t, err)
		require.True(t, view.Degraded)

		repo.away = false
		require.NoError(t, lease.Renew(t.Context()))
		view, err = s.View(t.Context(), ref)
		require.NoError(t, err)
		require.NotNil(t, view.Location)
		require.NoError(t, update())
	})
}
