package sessions_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
)

// at is a session in each state.
var at = map[string]func() sessions.Session{
	"scheduled": booked,
	"travelling": func() sessions.Session {
		s := booked()
		mustEvents(s.Start("", noon))
		return s
	},
	"stopped": func() sessions.Session {
		s := booked()
		mustEvents(s.Start("", noon))
		mustEvents(s.Stop(sessions.EndCancelled, noon.Add(time.Minute)))
		return s
	},
	"arrived": arrived,
	"expired": func() sessions.Session {
		s := arrived()
		s.OTPExpiresAt = noon
		return s
	},
	"locked": func() sessions.Session {
		s := arrived()
		s.OTPAttempts = 5
		return s
	},
	"teaching": func() sessions.Session {
		s := arrived()
		must(s.Verify(s.OTP, noon))
		return s
	},
	"completed": func() sessions.Session { return with(sessions.Completed) },
	"cancelled": func() sessions.Session { return with(sessions.Cancelled) },
	"foreign":   func() sessions.Session { return with("no_show") },
	// The operator's own system may have left it pending, with the code elsewhere.
	"codeless": func() sessions.Session {
		s := arrived()
		s.OTP = ""
		return s
	},
}

func booked() sessions.Session {
	return sessions.Session{
		ID: sessions.NewID(), TrainerID: sessions.NewID(), StudentID: sessions.NewID(),
		Status: sessions.Scheduled, Mode: sessions.Bike, Home: geo.MustPoint(52, 5),
	}
}

func arrived() sessions.Session {
	s := booked()
	mustEvents(s.Start("", noon.Add(-20*time.Minute)))
	mustEvents(s.Arrive(noon.Add(-time.Minute)))
	return s
}

func with(status sessions.Status) sessions.Session {
	s := booked()
	s.Status = status
	return s
}

// transitions are the transitions by name, at noon.
var transitions = map[string]func(*sessions.Session) ([]sessions.Event, error){
	"start":  func(s *sessions.Session) ([]sessions.Event, error) { return s.Start("", noon) },
	"stop":   func(s *sessions.Session) ([]sessions.Event, error) { return s.Stop(sessions.EndTimeout, noon) },
	"arrive": func(s *sessions.Session) ([]sessions.Event, error) { return s.Arrive(noon) },
	"verify": func(s *sessions.Session) ([]sessions.Event, error) { return nil, s.Verify(s.OTP, noon) },
	"miss":   func(s *sessions.Session) ([]sessions.Event, error) { return nil, s.Verify("x", noon) },
}

// Every transition in every state: "" means done, a code means refused with it.
func TestSession_transitions(t *testing.T) {
	t.Parallel()
	const (
		done     = sessions.Code("")
		none     = sessions.NoActiveJourney
		not      = sessions.NotScheduled
		unasked  = sessions.NotPendingVerification
		expired  = sessions.OTPExpired
		locked   = sessions.OTPLocked
		wrong    = sessions.OTPWrong
		already  = sessions.JourneyAlreadyStarted
		verbs    = 5
		stations = 11
	)
	table := map[string]map[string]sessions.Code{
		//             start           stop            arrive          verify             miss
		"scheduled":  {"start": done, "stop": none, "arrive": none, "verify": unasked, "miss": unasked},
		"travelling": {"start": already, "stop": done, "arrive": done, "verify": unasked, "miss": unasked},
		"stopped":    {"start": done, "stop": none, "arrive": none, "verify": unasked, "miss": unasked},
		"arrived":    {"start": not, "stop": none, "arrive": done, "verify": done, "miss": wrong},
		"expired":    {"start": not, "stop": none, "arrive": done, "verify": expired, "miss": expired},
		"locked":     {"start": not, "stop": none, "arrive": done, "verify": locked, "miss": locked},
		"codeless":   {"start": not, "stop": none, "arrive": done, "verify": expired, "miss": expired},
		"teaching":   {"start": not, "stop": none, "arrive": none, "verify": unasked, "miss": unasked},
		"completed":  {"start": not, "stop": none, "arrive": none, "verify": unasked, "miss": unasked},
		"cancelled":  {"start": not, "stop": none, "arrive": none, "verify": unasked, "miss": unasked},
		"foreign":    {"start": not, "stop": none, "arrive": none, "verify": unasked, "miss": unasked},
	}
	require.Len(t, table, stations)
	require.Len(t, at, stations)
	for station, codes := range table {
		require.Len(t, codes, verbs)
		for verb, code := range codes {
			t.Run(station+"/"+verb, func(t *testing.T) {
				t.Parallel()
				before := at[station]()
				s := before
				events, err := transitions[verb](&s)
				require.Equal(t, code, sessions.CodeOf(err), "%v", err)
				if err == nil {
					return
				}
				require.Empty(t, events)
				before.OTPAttempts, before.Codes.Wrong = s.OTPAttempts, s.Codes.Wrong // a miss is counted: see Verify's own tests
				require.Equal(t, before, s, "a refusal changes nothing")
			})
		}
	}
}

func TestSession_Start(t *testing.T) {
	t.Parallel()
	t.Run("books_the_journey", func(t *testing.T) {
		t.Parallel()
		s := booked()
		late := noon.Add(1_999_999 * time.Nanosecond).In(time.FixedZone("IST", 19800))
		events, err := s.Start(sessions.Walk, late)
		require.NoError(t, err)
		require.Equal(t, noon.Add(time.Millisecond), s.JourneyStartedAt, "UTC, to the millisecond")
		require.Equal(t, sessions.Walk, s.JourneyMode)
		require.Equal(t, sessions.Bike, s.Mode, "what was booked stays")
		require.True(t, s.JourneyActive())
		require.Equal(t, []sessions.Event{{
			ID: events[0].ID, Type: sessions.JourneyStarted, SessionID: s.ID, TrainerID: s.TrainerID, StudentID: s.StudentID,
			At: s.JourneyStartedAt, JourneyStartedAt: s.JourneyStartedAt,
		}}, events)
		_, ok := sessions.ParseID(string(events[0].ID))
		require.True(t, ok)
	})
	t.Run("in_the_booked_mode", func(t *testing.T) {
		t.Parallel()
		s := at["travelling"]()
		require.Equal(t, sessions.Bike, s.JourneyMode)
	})
	t.Run("again_after_a_stop_forgets_the_last_end", func(t *testing.T) {
		t.Parallel()
		s := at["stopped"]()
		last := s.JourneyEndedAt
		mustEvents(s.Start(sessions.Car, noon.Add(time.Hour)))
		require.True(t, s.JourneyActive())
		require.Empty(t, s.JourneyEndReason)
		require.True(t, s.JourneyStartedAt.After(last))
	})
	t.Run("ten_times_an_hour", func(t *testing.T) {
		t.Parallel()
		s, now := booked(), noon
		for range 10 {
			mustEvents(s.Start("", now))
			mustEvents(s.Stop(sessions.EndCancelled, now))
			now = now.Add(time.Minute)
		}
		before := s
		_, err := s.Start("", now)
		var refusal *sessions.Error
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, []any{sessions.RateLimited, 50 * time.Minute}, []any{refusal.Code, refusal.RetryAfter})
		require.Equal(t, before, s)
		mustEvents(s.Start("", noon.Add(time.Hour)))
	})
	t.Run("on_a_clock_that_is_behind", func(t *testing.T) {
		t.Parallel()
		s := at["stopped"]()
		last := s.JourneyEndedAt
		mustEvents(s.Start("", noon.Add(-time.Hour)))
		require.Equal(t, last.Add(time.Millisecond), s.JourneyStartedAt)
	})
	t.Run("already_started_shows_the_running_one", func(t *testing.T) {
		t.Parallel()
		s := at["travelling"]()
		_, err := s.Start("", noon.Add(time.Minute))
		var refusal *sessions.Error
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, s, *refusal.Journey)
		s.Status = sessions.Cancelled
		require.Equal(t, sessions.Scheduled, refusal.Journey.Status, "a copy")
	})
}

func TestSession_Stop(t *testing.T) {
	t.Parallel()
	for _, reason := range []sessions.EndReason{sessions.EndCancelled, sessions.EndTimeout} {
		t.Run(string(reason), func(t *testing.T) {
			t.Parallel()
			s := at["travelling"]()
			events, err := s.Stop(reason, noon.Add(time.Minute))
			require.NoError(t, err)
			require.False(t, s.JourneyActive())
			require.Equal(t, sessions.Scheduled, s.Status)
			require.Equal(t, reason, s.JourneyEndReason)
			require.Len(t, events, 1)
			require.Equal(t, sessions.JourneyEnded, events[0].Type)
			require.Equal(t, reason, events[0].Reason)
			require.Equal(t, s.JourneyEndedAt, events[0].At)
			require.Equal(t, noon, events[0].JourneyStartedAt)
		})
	}
	t.Run("in_the_millisecond_of_the_start", func(t *testing.T) {
		t.Parallel()
		s := at["travelling"]()
		mustEvents(s.Stop(sessions.EndCancelled, noon))
		require.Equal(t, noon.Add(time.Millisecond), s.JourneyEndedAt)
	})
}

func TestSession_Arrive(t *testing.T) {
	t.Parallel()
	t.Run("ends_the_journey_and_makes_a_code", func(t *testing.T) {
		t.Parallel()
		s := at["travelling"]()
		events, err := s.Arrive(noon.Add(time.Minute))
		require.NoError(t, err)
		require.Equal(t, sessions.PendingVerification, s.Status)
		require.Regexp(t, `^\d{4}$`, s.OTP)
		require.Equal(t, noon.Add(11*time.Minute), s.OTPExpiresAt)
		require.Equal(t, noon.Add(time.Minute), s.ArrivedAt)
		require.Equal(t, s.ArrivedAt, s.JourneyEndedAt)
		require.Len(t, events, 1)
		require.Equal(t, sessions.EndArrived, events[0].Reason)
	})
	t.Run("again_changes_nothing_until_the_code_expires", func(t *testing.T) {
		t.Parallel()
		s := arrived()
		before := s
		events, err := s.Arrive(s.OTPExpiresAt.Add(-time.Nanosecond))
		require.NoError(t, err)
		require.Empty(t, events)
		require.Equal(t, before, s)
	})
	t.Run("after_the_code_expired_makes_another", func(t *testing.T) {
		t.Parallel()
		s := arrived()
		s.OTPAttempts = 5
		before := s
		events, err := s.Arrive(s.OTPExpiresAt)
		require.NoError(t, err)
		require.Equal(t, []sessions.Event{{
			ID: events[0].ID, Type: sessions.CodeIssued, SessionID: s.ID, TrainerID: s.TrainerID, StudentID: s.StudentID,
			At: before.OTPExpiresAt, JourneyStartedAt: s.JourneyStartedAt, ExpiresAt: s.OTPExpiresAt,
		}}, events, "the journey has ended once already")
		require.Zero(t, s.OTPAttempts)
		require.Equal(t, before.OTPExpiresAt.Add(10*time.Minute), s.OTPExpiresAt)
		require.Equal(t, before.ArrivedAt, s.ArrivedAt)
		require.NoError(t, s.Verify(s.OTP, before.OTPExpiresAt))
	})
}

func TestSession_Verify(t *testing.T) {
	t.Parallel()
	t.Run("starts_the_lesson_and_forgets_the_code", func(t *testing.T) {
		t.Parallel()
		s := arrived()
		require.NoError(t, s.Verify(s.OTP, noon.Add(1500*time.Microsecond)))
		require.Equal(t, sessions.InProgress, s.Status)
		require.Equal(t, noon.Add(time.Millisecond), s.StartedAt)
		require.Empty(t, s.OTP)
		require.True(t, s.OTPExpiresAt.IsZero())
		require.Zero(t, s.OTPAttempts)
	})
	t.Run("counts_down_and_locks", func(t *testing.T) {
		t.Parallel()
		s := arrived()
		for left := 4; left >= 0; left-- {
			err := s.Verify("x", noon)
			var refusal *sessions.Error
			require.ErrorAs(t, err, &refusal)
			if left > 0 {
				require.Equal(t, sessions.OTPWrong, refusal.Code)
				require.Equal(t, left, refusal.AttemptsLeft)
				continue
			}
			require.Equal(t, sessions.OTPLocked, refusal.Code)
			require.Equal(t, 9*time.Minute, refusal.RetryAfter, "until the code expires and a new one may be had")
		}
		require.Equal(t, sessions.OTPLocked, sessions.CodeOf(s.Verify(s.OTP, noon)), "the right one is too late")
		require.Equal(t, 5, s.OTPAttempts, "and what is locked is counted no further")
	})
	t.Run("at_the_last_moment", func(t *testing.T) {
		t.Parallel()
		s, late := arrived(), arrived()
		require.NoError(t, s.Verify(s.OTP, s.OTPExpiresAt.Add(-time.Nanosecond)))
		require.Equal(t, sessions.OTPExpired, sessions.CodeOf(late.Verify(late.OTP, late.OTPExpiresAt)))
	})
	t.Run("never_with_the_empty_code", func(t *testing.T) {
		t.Parallel()
		s := at["codeless"]()
		require.Equal(t, sessions.OTPExpired, sessions.CodeOf(s.Verify("", noon)))
		mustEvents(s.Arrive(noon))
		require.NoError(t, s.Verify(s.OTP, noon), "arriving again makes one")
	})
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func mustEvents(_ []sessions.Event, err error) { must(err) }
