package repotest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// suspicion is an event that changes no session.
func suspicion(s sessions.Session, verdict string) sessions.Event {
	return sessions.Event{
		ID: sessions.SuspicionID(s.ID, s.JourneyStartedAt, verdict), Type: sessions.LocationSuspicious,
		SessionID: s.ID, TrainerID: s.TrainerID, StudentID: s.StudentID, At: now,
		JourneyStartedAt: s.JourneyStartedAt, Verdict: verdict, Count: 1,
	}
}

// arriving is the event that a journey has at most once.
func arriving(s sessions.Session) sessions.Event {
	return sessions.Event{
		ID:   sessions.ArrivingID(sessions.JourneyKey{SessionID: s.ID, StartedAt: s.JourneyStartedAt}),
		Type: sessions.JourneyArriving, SessionID: s.ID, TrainerID: s.TrainerID, StudentID: s.StudentID,
		At: now.Add(time.Minute), JourneyStartedAt: s.JourneyStartedAt,
	}
}

var recordTests = map[string]func(*testing.T, Fixture){
	"once_an_id": func(t *testing.T, f Fixture) {
		s := f.started(t)
		e := suspicion(s, "mock")
		for i := range 3 {
			first, err := f.Repo.Record(t.Context(), e)
			require.NoError(t, err)
			require.Equal(t, i == 0, first)
		}
		other, err := f.Repo.Record(t.Context(), suspicion(s, "silent"))
		require.NoError(t, err)
		require.True(t, other)
		require.Equal(t, []sessions.Event{e, suspicion(s, "silent")}, f.Events(t, s.ID)[1:])
		require.Equal(t, s, f.read(t, s.ID), "it changes nothing")
	},
	"in_order_with_the_session's_others": func(t *testing.T, f Fixture) {
		s := f.started(t)
		_, err := f.Repo.Record(t.Context(), suspicion(s, "mock"))
		require.NoError(t, err)
		_, err = f.stop(t, s.ID, now.Add(time.Minute))
		require.NoError(t, err)
		events := f.Events(t, s.ID)
		require.Len(t, events, 3)
		require.Equal(t, sessions.LocationSuspicious, events[1].Type)
	},
	"arriving_once_and_while_its_journey_runs": func(t *testing.T, f Fixture) {
		first := f.started(t)
		for i := range 3 {
			stored, err := f.Repo.Record(t.Context(), arriving(first))
			require.NoError(t, err)
			require.Equal(t, i == 0, stored)
		}
		_, err := f.stop(t, first.ID, now.Add(time.Minute))
		require.NoError(t, err)
		second, err := f.start(t, first.ID, now.Add(2*time.Minute))
		require.NoError(t, err)
		late := arriving(first)
		late.ID = sessions.NewID() // or it would be a repeat
		stored, err := f.Repo.Record(t.Context(), late)
		require.NoError(t, err)
		require.False(t, stored, "another journey of the session runs")
		stored, err = f.Repo.Record(t.Context(), arriving(second))
		require.NoError(t, err)
		require.True(t, stored)
		require.Equal(t, []sessions.EventType{
			sessions.JourneyStarted, sessions.JourneyArriving, sessions.JourneyEnded, sessions.JourneyStarted, sessions.JourneyArriving,
		}, typesOf(f.Events(t, first.ID)))
		require.Equal(t, arriving(second), f.Events(t, first.ID)[4])
	},
	"arriving_not_before_a_start_nor_after_an_end": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		stored, err := f.Repo.Record(t.Context(), arriving(s))
		require.NoError(t, err)
		require.False(t, stored)
		s = f.started(t)
		_, err = f.stop(t, s.ID, now.Add(time.Minute))
		require.NoError(t, err)
		stored, err = f.Repo.Record(t.Context(), arriving(s))
		require.NoError(t, err)
		require.False(t, stored)
		require.Equal(t, []sessions.EventType{sessions.JourneyStarted, sessions.JourneyEnded}, typesOf(f.Events(t, s.ID)))
	},
	"arriving_races_the_end": func(t *testing.T, f Fixture) {
		s := f.started(t)
		atOnce(func(n int) {
			if n == 2 {
				if _, err := f.stop(t, s.ID, now.Add(time.Minute)); err != nil {
					t.Error(err)
				}
				return
			}
			if _, err := f.Repo.Record(t.Context(), arriving(s)); err != nil {
				t.Error(err)
			}
		})
		types := typesOf(f.Events(t, s.ID))
		require.Equal(t, sessions.JourneyEnded, types[len(types)-1], "nothing comes after the end")
		require.LessOrEqual(t, len(types), 3)
	},
	"unknown_session": func(t *testing.T, f Fixture) {
		_, err := f.Repo.Record(t.Context(), suspicion(booking(), "mock"))
		requireCode(t, sessions.SessionNotFound, err)
	},
	"race": func(t *testing.T, f Fixture) {
		s := f.started(t)
		var firsts counter
		atOnce(func(int) {
			first, err := f.Repo.Record(t.Context(), suspicion(s, "silent"))
			if err != nil {
				t.Error(err)
			}
			if first {
				firsts.add("first")
			}
		})
		require.Equal(t, map[string]int{"first": 1}, firsts.counts)
		require.Len(t, f.Events(t, s.ID), 2)
	},
}

func typesOf(events []sessions.Event) (types []sessions.EventType) {
	for _, e := range events {
		types = append(types, e.Type)
	}
	return types
}

// started is a new session with a journey that has just started.
func (f Fixture) started(t testing.TB) sessions.Session {
	t.Helper()
	return f.startedAt(t, now)
}

func (f Fixture) startedAt(t testing.TB, at time.Time) sessions.Session {
	t.Helper()
	s, err := f.start(t, f.create(t, booking()).ID, at)
	require.NoError(t, err)
	return s
}

// long is an instant before any journey of the suite's other tests, so that Running
// lists the test's own journeys only.
var long = now.AddDate(-10, 0, 0)

var runningTests = map[string]func(*testing.T, Fixture){
	"the_longest_running_first": func(t *testing.T, f Fixture) {
		at := long
		third, first, second := f.startedAt(t, at.Add(2*time.Millisecond)), f.startedAt(t, at), f.startedAt(t, at.Add(time.Millisecond))
		stopped := f.startedAt(t, at)
		_, err := f.stop(t, stopped.ID, now)
		require.NoError(t, err)
		f.create(t, booking())
		f.startedAt(t, at.Add(time.Hour))

		list, err := f.Repo.Running(t.Context(), at.Add(time.Minute), sessions.JourneyKey{}, 10)
		require.NoError(t, err)
		require.Equal(t, []sessions.Session{first, second, third}, list)
		list, err = f.Repo.Running(t.Context(), at.Add(time.Minute), sessions.JourneyKey{}, 2)
		require.NoError(t, err)
		require.Equal(t, []sessions.Session{first, second}, list)
		list, err = f.Repo.Running(t.Context(), at.Add(time.Minute), keyOf(first), 1)
		require.NoError(t, err)
		require.Equal(t, []sessions.Session{second}, list, "behind the first")
		list, err = f.Repo.Running(t.Context(), at, sessions.JourneyKey{}, 10)
		require.NoError(t, err)
		require.Equal(t, []sessions.Session{first}, list, "the instant itself counts")
		list, err = f.Repo.Running(t.Context(), at.Add(-time.Millisecond), sessions.JourneyKey{}, 10)
		require.NoError(t, err)
		require.Empty(t, list)
	},
}
