package sessions_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

const locationEvery = 15 * time.Second

// watched is a journey over two gateways on one live store, each with its events.
type watched struct {
	now      time.Time
	gateways [2]*sessions.Service
	told     [2][]sessions.LocationEvent
	trainer  sessions.Caller
	id       sessions.ID
	lat      float64
}

func watch(t *testing.T) *watched {
	t.Helper()
	w := &watched{now: noon, lat: 52.1, trainer: sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}}
	clock := func() time.Time { return w.now }
	repo, live := memory.NewRepository(nil), memory.NewLive(sessions.LiveOptions{}, clock)
	for i := range w.gateways {
		w.gateways[i] = sessions.NewService(repo, live, sessions.ServiceOptions{
			Now: clock, LocationEvery: locationEvery, OnLocation: func(e sessions.LocationEvent) { w.told[i] = append(w.told[i], e) },
		})
	}
	s, _, err := w.gateways[0].Create(t.Context(), sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}, sessions.Booking{
		TrainerID: w.trainer.ID, StudentID: sessions.NewID(), Home: geo.MustPoint(52, 5),
	})
	require.NoError(t, err)
	w.id = s.ID
	_, err = w.gateways[0].Start(t.Context(), w.trainer, s.ID, "")
	require.NoError(t, err)
	return w
}

// fix is the next one of a drive at 40 km/h.
func (w *watched) fix() sessions.Fix {
	w.lat -= 0.0005
	return sessions.Fix{Point: geo.MustPoint(w.lat, 5), AccuracyM: 5}
}

func (w *watched) send(t *testing.T, gateway int, f sessions.Fix) sessions.Receipt {
	t.Helper()
	r, err := w.gateways[gateway].Update(t.Context(), w.trainer, w.id, f)
	require.NoError(t, err)
	return r
}

func TestService_location_events(t *testing.T) {
	t.Parallel()
	t.Run("the_stored_fix_by_the_stores_clock", func(t *testing.T) {
		t.Parallel()
		w := watch(t)
		f := w.fix()
		r := w.send(t, 0, f)
		require.Equal(t, []sessions.LocationEvent{{
			ID: w.told[0][0].ID, TrainerID: w.trainer.ID, SessionID: w.id, Point: f.Point, At: r.At,
		}}, w.told[0])
		require.JSONEq(t, fmt.Sprintf(`{"eventId": %q, "schemaVersion": 1, "trainerId": %q, "sessionId": %q,
			"latitude": 52.0995, "longitude": 5, "timestamp": "2026-03-14T12:00:00.000Z"}`, w.told[0][0].ID, w.trainer.ID, w.id),
			string(w.told[0][0].Detail()))
	})
	t.Run("a_batch_is_its_newest_fix", func(t *testing.T) {
		t.Parallel()
		w := watch(t)
		w.now = w.now.Add(time.Minute)
		var fixes []sessions.Fix
		for i := range 10 {
			f := w.fix()
			f.RecordedAt, f.SentAt = w.now.Add(time.Duration(i-9)*5*time.Second), w.now
			fixes = append(fixes, f)
		}
		_, err := w.gateways[0].UpdateBatch(t.Context(), w.trainer, w.id, fixes, func(sessions.Receipt) {})
		require.NoError(t, err)
		require.Len(t, w.told[0], 1)
		require.Equal(t, fixes[9].Point, w.told[0][0].Point)
	})
	t.Run("nothing_of_what_is_not_stored_or_not_the_present", func(t *testing.T) {
		t.Parallel()
		w := watch(t)
		w.now = w.now.Add(time.Minute)
		late := w.fix()
		late.RecordedAt, late.SentAt = w.now.Add(-locationEvery-time.Second), w.now
		require.Equal(t, sessions.VerdictStored, w.send(t, 0, late).Verdict)
		w.now = w.now.Add(5 * time.Second)
		vague := w.fix()
		vague.AccuracyM = 5000
		require.Equal(t, sessions.VerdictVague, w.send(t, 0, vague).Verdict)
		w.now = w.now.Add(5 * time.Second)
		_, err := w.gateways[0].Update(t.Context(), sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}, w.id, w.fix())
		require.Error(t, err)
		require.Empty(t, w.told[0])
		require.Equal(t, sessions.VerdictStored, w.send(t, 0, w.fix()).Verdict)
		require.Len(t, w.told[0], 1)
	})
	t.Run("a_repeat_over_the_other_gateway_adds_none", func(t *testing.T) {
		t.Parallel()
		w := watch(t)
		f := w.fix()
		f.RecordedAt, f.SentAt = w.now, w.now
		w.send(t, 0, f) // its answer is lost
		w.now = w.now.Add(6 * time.Second)
		w.send(t, 1, f)
		require.Len(t, w.told[0], 1)
		require.Empty(t, w.told[1])
	})
}

// Whichever gateways a phone's fixes go to: each gateway keeps the interval, and of all
// events there is one id for each stretch of that length.
func TestService_location_events_rate(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		draw := rand.New(rand.NewPCG(seed, 1))
		w := watch(t)
		for range 200 {
			w.now = w.now.Add(4*time.Second + time.Duration(draw.Int64N(int64(4*time.Second))))
			w.send(t, draw.IntN(2), w.fix())
		}
		ids := map[sessions.ID]int64{}
		for _, told := range w.told {
			for i, e := range told {
				stretch := e.At.Unix() / 15
				known, had := ids[e.ID]
				require.True(t, !had || known == stretch)
				ids[e.ID] = stretch
				if i > 0 {
					require.GreaterOrEqual(t, e.At.Sub(told[i-1].At), locationEvery, "seed %d", seed)
				}
			}
		}
		stretches := map[int64]bool{}
		for _, stretch := range ids {
			require.False(t, stretches[stretch], "two ids in one stretch")
			stretches[stretch] = true
		}
		took := w.now.Sub(noon)
		require.Greater(t, len(ids), int(took/locationEvery)/2, "it does not starve either")
	}
}
