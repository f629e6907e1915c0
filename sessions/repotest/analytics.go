package repotest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

func (f Fixture) record(t testing.TB, key sessions.JourneyKey) sessions.JourneyRecord {
	t.Helper()
	r, known, err := f.Repo.JourneyRecord(t.Context(), key)
	require.NoError(t, err)
	require.True(t, known)
	return r
}

// told is the events of one journey of a new session.
func (f Fixture) told(t testing.TB) (s sessions.Session, started, ended sessions.Event) {
	t.Helper()
	s = f.started(t)
	s, err := f.stop(t, s.ID, now.Add(20*time.Minute))
	require.NoError(t, err)
	events := f.Events(t, s.ID)
	require.Len(t, events, 2)
	return s, events[0], events[1]
}

func (f Fixture) note(t testing.TB, e sessions.Event) (sessions.JourneyRecord, bool) {
	t.Helper()
	r, first, err := f.Repo.RecordJourney(t.Context(), e)
	require.NoError(t, err)
	return r, first
}

func keyOf(s sessions.Session) sessions.JourneyKey {
	return sessions.JourneyKey{SessionID: s.ID, StartedAt: s.JourneyStartedAt}
}

func countsOf(n int64) sessions.Counts {
	c := sessions.Counts{
		Accepted: n, Refused: 2 * n, Stale: 3 * n, Vague: 4 * n, TooSoon: 5 * n, Flagged: 6 * n,
		DistanceM: sessions.RoundM(float64(n) * 0.1), LastSeen: now.Add(time.Duration(n) * time.Second),
	}
	for i := range c.FixToEye {
		c.FixToEye[i] = n * int64(i)
	}
	return c
}

func fixesOf(s sessions.Session, n int64) sessions.JourneyCounts {
	return sessions.JourneyCounts{Ref: s.Journey().Ref, Counts: countsOf(n)}
}

var analyticsTests = map[string]func(*testing.T, Fixture){
	"noted_once": func(t *testing.T, f Fixture) {
		s, started, ended := f.told(t)
		want := sessions.JourneyRecord{JourneyKey: keyOf(s), TrainerID: s.TrainerID, StudentID: s.StudentID}
		for i := range 2 {
			r, first := f.note(t, started)
			require.Equal(t, want, r)
			require.Equal(t, i == 0, first)
		}
		want.EndedAt, want.Reason = s.JourneyEndedAt, sessions.EndCancelled
		for i := range 2 {
			r, first := f.note(t, ended)
			require.Equal(t, want, r)
			require.Equal(t, i == 0, first)
		}
		require.Equal(t, want, f.record(t, keyOf(s)))
		require.Equal(t, 20*time.Minute, want.Duration())
		_, first := f.note(t, suspicion(s, "mock"))
		require.False(t, first)
	},
	"the_end_first": func(t *testing.T, f Fixture) {
		s, started, ended := f.told(t)
		whole, first := f.note(t, ended)
		require.True(t, first)
		late, first := f.note(t, started)
		require.False(t, first, "what it says is known")
		require.Equal(t, whole, late)
		require.Equal(t, whole, f.record(t, keyOf(s)))
	},
	"counts_add_up": func(t *testing.T, f Fixture) {
		s, started, ended := f.told(t)
		nobody := sessions.JourneyCounts{Ref: sessions.Ref{TrainerID: sessions.NewID(), SessionID: s.ID}, Counts: countsOf(1000)}
		require.NoError(t, f.Repo.AddCounts(t.Context(), []sessions.JourneyCounts{fixesOf(s, 1), nobody, fixesOf(booking(), 1)}))
		f.note(t, started)
		f.note(t, ended)
		require.NoError(t, f.Repo.AddCounts(t.Context(), []sessions.JourneyCounts{fixesOf(s, 2)}))
		require.NoError(t, f.Repo.AddCounts(t.Context(), nil))
		want := countsOf(3)
		want.LastSeen = now.Add(2 * time.Second)
		r := f.record(t, keyOf(s))
		require.Equal(t, want, r.Counts)
		require.Equal(t, s.JourneyEndedAt, r.EndedAt)
		require.NoError(t, f.Repo.AddCounts(t.Context(), []sessions.JourneyCounts{{Ref: s.Journey().Ref}}))
		require.Equal(t, want, f.record(t, keyOf(s)).Counts, "nothing adds nothing")
	},
	"counted_for_the_latest_journey": func(t *testing.T, f Fixture) {
		s, _, _ := f.told(t)
		idle := f.create(t, booking())
		again, err := f.start(t, s.ID, now.Add(time.Hour))
		require.NoError(t, err)
		require.NoError(t, f.Repo.AddCounts(t.Context(), []sessions.JourneyCounts{fixesOf(s, 1), fixesOf(idle, 1)}))
		_, known, err := f.Repo.JourneyRecord(t.Context(), keyOf(s))
		require.NoError(t, err)
		require.False(t, known)
		require.EqualValues(t, 1, f.record(t, keyOf(again)).Accepted)
	},
	"last_seen": func(t *testing.T, f Fixture) {
		spoke, silent := f.started(t), f.started(t)
		f.note(t, f.Events(t, silent.ID)[0])
		require.NoError(t, f.Repo.AddCounts(t.Context(), []sessions.JourneyCounts{fixesOf(spoke, 7)}))
		other := keyOf(spoke)
		other.StartedAt = now.Add(-time.Hour)
		lastSeen, err := f.Repo.LastSeen(t.Context(), []sessions.JourneyKey{keyOf(spoke), keyOf(silent), other})
		require.NoError(t, err)
		require.Equal(t, map[sessions.JourneyKey]time.Time{keyOf(spoke): now.Add(7 * time.Second)}, lastSeen)
		lastSeen, err = f.Repo.LastSeen(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, lastSeen)
	},
	"last_fix_until_the_end": func(t *testing.T, f Fixture) {
		s, _, ended := f.told(t)
		first := sessions.LastFix{At: now, DistanceM: 1234.5, Trusted: true, Outside: true}
		newer := sessions.LastFix{
			At: now.Add(5 * time.Second), DistanceM: 12.3, Arriving: true,
			Clock: sessions.PhoneClock{OffsetMS: -360_000, ToldMS: -359_000, SinceMS: now.UnixMilli()},
		}
		for _, last := range []sessions.LastFix{first, newer, {}, first} {
			require.NoError(t, f.Repo.AddCounts(t.Context(), []sessions.JourneyCounts{{Ref: s.Journey().Ref, Counts: sessions.Counts{Last: last}}}))
		}
		require.Equal(t, newer, f.record(t, keyOf(s)).Last)
		f.note(t, ended)
		require.NoError(t, f.Repo.AddCounts(t.Context(), []sessions.JourneyCounts{{Ref: s.Journey().Ref, Counts: sessions.Counts{Last: newer}}}))
		require.Zero(t, f.record(t, keyOf(s)).Last)
	},
	"race": func(t *testing.T, f Fixture) {
		s, _, ended := f.told(t)
		other := f.started(t)
		var firsts counter
		atOnce(func(i int) {
			list := []sessions.JourneyCounts{fixesOf(s, 1), fixesOf(other, 1)}
			if i%2 == 0 {
				list[0], list[1] = list[1], list[0]
			}
			if err := f.Repo.AddCounts(t.Context(), list); err != nil {
				t.Error(err)
			}
			_, first, err := f.Repo.RecordJourney(t.Context(), ended)
			if err != nil {
				t.Error(err)
			}
			if first {
				firsts.add("first")
			}
		})
		require.Equal(t, map[string]int{"first": 1}, firsts.counts)
		for _, s := range []sessions.Session{s, other} {
			require.EqualValues(t, racers, f.record(t, keyOf(s)).Accepted)
		}
	},
}
