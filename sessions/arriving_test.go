package sessions_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// counting is a repository that counts its look-ups, and can be away.
type counting struct {
	*memory.Repository
	away    atomic.Bool
	locked  atomic.Pointer[sessions.ID] // the session whose row another transaction holds
	lookups atomic.Int64
	records atomic.Int64
}

var errAway = sessions.Fault(sessions.DatabaseUnavailable, "away", errors.New("set by the test"))

func (c *counting) Session(ctx context.Context, id sessions.ID) (sessions.Session, error) {
	c.lookups.Add(1)
	if c.away.Load() {
		return sessions.Session{}, errAway
	}
	return c.Repository.Session(ctx, id)
}

func (c *counting) Record(ctx context.Context, e sessions.Event) (bool, error) {
	if e.Type == sessions.JourneyArriving {
		c.records.Add(1)
	}
	if id := c.locked.Load(); id != nil && *id == e.SessionID {
		time.Sleep(time.Second) // the time-out for a lock
		return false, errAway
	}
	if c.away.Load() {
		return false, errAway
	}
	return c.Repository.Record(ctx, e)
}

// approach is a session, two gateways on the same stores, and what was recorded.
type approach struct {
	repo     *counting
	gateways [2]*sessions.Service
	trainer  sessions.Caller
	session  sessions.Session
	told     []sessions.Event
}

const homeLat, farLat = 52.0, 52.005 // 560 m

// approaching runs a test in virtual time, with Report of both gateways.
func approaching(t *testing.T, test func(t *testing.T, a *approach)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &approach{trainer: sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}}
		a.repo = &counting{Repository: memory.NewRepository(func(e sessions.Event) { a.told = append(a.told, e) })}
		live := memory.NewLive(sessions.LiveOptions{}, time.Now)
		ctx, stop := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer stop()
		for i := range a.gateways {
			a.gateways[i] = sessions.NewService(a.repo, live, sessions.ServiceOptions{})
			go func() { _ = a.gateways[i].Report(ctx) }()
		}
		var err error
		a.session, _, err = a.gateways[0].Create(ctx, sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}, sessions.Booking{
			TrainerID: a.trainer.ID, StudentID: sessions.NewID(), Home: geo.MustPoint(homeLat, 5),
		})
		require.NoError(t, err)
		test(t, a)
	})
}

func (a *approach) start(t *testing.T) {
	t.Helper()
	_, err := a.gateways[0].Start(t.Context(), a.trainer, a.session.ID, "")
	require.NoError(t, err)
}

func (a *approach) stop(t *testing.T) {
	t.Helper()
	_, err := a.gateways[0].Stop(t.Context(), a.trainer, a.session.ID)
	require.NoError(t, err)
}

// at sends n fixes from a latitude, 30 s apart, to the gateways in turn.
func (a *approach) at(t *testing.T, lat float64, n int) (last sessions.Receipt) {
	t.Helper()
	for i := range n {
		time.Sleep(30 * time.Second)
		r, err := a.gateways[i%2].Update(t.Context(), a.trainer, a.session.ID, sessions.Fix{Point: geo.MustPoint(lat, 5), AccuracyM: 5})
		require.NoError(t, err)
		last = r
	}
	synctest.Wait()
	return last
}

// types is what was recorded, but for the suspicion that the phone does not move.
func (a *approach) types() (types []sessions.EventType) {
	for _, e := range a.told {
		if e.Type != sessions.LocationSuspicious {
			types = append(types, e.Type)
		}
	}
	return types
}

func TestService_arriving_once_a_journey(t *testing.T) {
	approaching(t, func(t *testing.T, a *approach) {
		var want []sessions.EventType
		for range 2 { // the session's second journey has an event of its own
			a.start(t)
			require.False(t, a.at(t, farLat, 3).Arriving)
			want = append(want, sessions.JourneyStarted)
			require.Equal(t, want, a.types(), "not before it is near")
			require.True(t, a.at(t, homeLat, 20).Arriving)
			want = append(want, sessions.JourneyArriving)
			require.Equal(t, want, a.types())
			s, err := a.repo.Repository.Session(t.Context(), a.session.ID)
			require.NoError(t, err)
			e := a.told[slices.IndexFunc(a.told, func(e sessions.Event) bool {
				return e.Type == sessions.JourneyArriving && e.JourneyStartedAt.Equal(s.JourneyStartedAt)
			})]
			require.Equal(t, sessions.Event{
				ID:   sessions.ArrivingID(sessions.JourneyKey{SessionID: s.ID, StartedAt: s.JourneyStartedAt}),
				Type: sessions.JourneyArriving, SessionID: s.ID, TrainerID: s.TrainerID, StudentID: s.StudentID,
				At: e.At, JourneyStartedAt: s.JourneyStartedAt,
			}, e)
			back, err := sessions.ParseEvent(e.Type, e.Detail())
			require.NoError(t, err)
			require.Equal(t, e.At.UnixMilli(), back.At.UnixMilli())
			a.stop(t)
			want = append(want, sessions.JourneyEnded)
		}
		require.Equal(t, want, a.types())
	})
}

// An update asks the repository for nothing, and 20 arriving ones make a gateway
// look a few times and record once.
func TestService_arriving_is_cheap(t *testing.T) {
	approaching(t, func(t *testing.T, a *approach) {
		a.start(t)
		a.at(t, farLat, 3)
		a.repo.lookups.Store(0)
		a.at(t, homeLat, 20) // ten minutes
		require.LessOrEqual(t, a.repo.lookups.Load(), int64(2*6), "one in two minutes and gateway")
		require.LessOrEqual(t, a.repo.records.Load(), int64(2), "one a gateway")
	})
}

func TestService_arriving_while_the_database_is_away(t *testing.T) {
	approaching(t, func(t *testing.T, a *approach) {
		a.start(t)
		a.at(t, farLat, 3)
		a.repo.away.Store(true)
		require.True(t, a.at(t, homeLat, 6).Arriving, "no update notices")
		require.Equal(t, []sessions.EventType{sessions.JourneyStarted}, a.types())
		a.repo.away.Store(false)
		a.at(t, homeLat, 1)
		require.Equal(t, []sessions.EventType{sessions.JourneyStarted, sessions.JourneyArriving}, a.types(), "the next update offers it")
	})
}

// What waited while the database was away is no news of the journey that has begun meanwhile.
func TestService_arriving_not_for_the_next_journey(t *testing.T) {
	approaching(t, func(t *testing.T, a *approach) {
		a.start(t)
		a.at(t, farLat, 3)
		a.repo.away.Store(true)
		a.at(t, homeLat, 12) // its suspicion is tried again, and the rest waits behind it
		a.stop(t)
		time.Sleep(time.Second)
		a.start(t)
		a.repo.away.Store(false)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		require.Equal(t, []sessions.EventType{sessions.JourneyStarted, sessions.JourneyEnded, sessions.JourneyStarted}, a.types())
	})
}

// A row that another transaction holds for minutes holds up no other session's news, and its own comes when it is let go.
func TestService_Report_with_a_locked_row(t *testing.T) {
	approaching(t, func(t *testing.T, a *approach) {
		other, _, err := a.gateways[0].Create(t.Context(), sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}, sessions.Booking{
			TrainerID: sessions.NewID(), StudentID: sessions.NewID(), Home: geo.MustPoint(homeLat, 5),
		})
		require.NoError(t, err)
		driver := sessions.Caller{ID: other.TrainerID, Role: sessions.Trainer}
		_, err = a.gateways[0].Start(t.Context(), driver, other.ID, "")
		require.NoError(t, err)
		a.start(t)
		a.at(t, farLat, 2)
		a.repo.locked.Store(&other.ID)
		for range 2 {
			time.Sleep(5 * time.Second)
			_, err = a.gateways[0].Update(t.Context(), driver, other.ID, sessions.Fix{Point: geo.MustPoint(farLat, 5), AccuracyM: 5, Mock: true})
			require.NoError(t, err)
		}
		a.at(t, homeLat, 1) // to the same gateway
		time.Sleep(15 * time.Second)
		synctest.Wait()
		require.Contains(t, a.types(), sessions.JourneyArriving)

		reported := func(e sessions.Event) bool { return e.SessionID == other.ID && e.Type == sessions.LocationSuspicious }
		require.False(t, slices.ContainsFunc(a.told, reported))
		a.repo.locked.Store(nil)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		require.True(t, slices.ContainsFunc(a.told, reported))
	})
}

// What is reported after the end is not recorded.
func TestService_arriving_not_after_the_end(t *testing.T) {
	approaching(t, func(t *testing.T, a *approach) {
		live := memory.NewLive(sessions.LiveOptions{}, time.Now)
		slow := sessions.NewService(a.repo, live, sessions.ServiceOptions{}) // its Report runs late
		_, err := slow.Start(t.Context(), a.trainer, a.session.ID, "")
		require.NoError(t, err)
		for range 3 {
			time.Sleep(5 * time.Second)
			_, err := slow.Update(t.Context(), a.trainer, a.session.ID, sessions.Fix{Point: geo.MustPoint(homeLat, 5), AccuracyM: 5})
			require.NoError(t, err)
		}
		_, err = slow.Stop(t.Context(), a.trainer, a.session.ID)
		require.NoError(t, err)
		ended, stop := context.WithCancel(t.Context())
		stop()
		require.NoError(t, slow.Report(ended))
		require.Equal(t, []sessions.EventType{sessions.JourneyStarted, sessions.JourneyEnded}, a.types())
		require.Equal(t, int64(0), a.repo.records.Load())
	})
}

// A session's next journey that begins at the door is not taken for the one before.
func TestService_arriving_again_at_the_door(t *testing.T) {
	approaching(t, func(t *testing.T, a *approach) {
		a.start(t)
		a.at(t, homeLat, 4)
		a.stop(t)
		a.start(t)
		a.at(t, homeLat, 3) // the third goes to the gateway that was told of the end
		journey := []sessions.EventType{sessions.JourneyStarted, sessions.JourneyArriving}
		require.Equal(t, slices.Concat(journey, []sessions.EventType{sessions.JourneyEnded}, journey), a.types())

		a.stop(t)
		a.start(t)
		a.gateways[0] = a.gateways[1] // whose memory is of the journey before
		a.at(t, homeLat, 4)
		require.Len(t, a.types(), 8, "two minutes later")
	})
}
