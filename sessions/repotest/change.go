package repotest

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
)

var changeTests = map[string]func(*testing.T, Fixture){
	"unknown": func(t *testing.T, f Fixture) {
		s, err := f.Repo.Change(t.Context(), sessions.NewID(), func(*sessions.Session) ([]sessions.Event, error) {
			t.Error("f was called without a session")
			return nil, nil
		})
		requireCode(t, sessions.SessionNotFound, err)
		require.Zero(t, s)
	},
	"called_once_with_the_session": func(t *testing.T, f Fixture) {
		s := booking()
		f.create(t, s)
		calls := 0
		_, err := f.Repo.Change(t.Context(), s.ID, func(given *sessions.Session) ([]sessions.Event, error) {
			calls++
			require.Equal(t, s, *given)
			return nil, nil
		})
		require.NoError(t, err)
		require.Equal(t, 1, calls)
	},
	"stored_with_its_events": storedWithEvents,
	"every_field":            everyField,
	"events_of_one_change_in_order": func(t *testing.T, f Fixture) {
		s := booking()
		f.create(t, s)
		var raised []sessions.Event
		_, err := f.Repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			for range 4 {
				started, _ := s.Start("", now)
				stopped, _ := s.Stop(sessions.EndCancelled, now)
				raised = append(append(raised, started...), stopped...)
			}
			return raised, nil
		})
		require.NoError(t, err)
		require.Len(t, raised, 8)
		require.Equal(t, raised, f.Events(t, s.ID))
	},
	"events_alone": func(t *testing.T, f Fixture) {
		s := booking()
		f.create(t, s)
		var raised []sessions.Event
		stored, err := f.Repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			copied := *s
			raised, _ = copied.Start("", now)
			return raised, nil
		})
		require.NoError(t, err)
		require.Equal(t, s, stored)
		require.Equal(t, raised, f.Events(t, s.ID))
	},
	"no_show": func(t *testing.T, f Fixture) {
		s := booking()
		f.create(t, s)
		_, err := f.start(t, s.ID, now)
		require.NoError(t, err)
		_, err = f.arrive(t, s.ID, now)
		require.NoError(t, err)
		by := sessions.Caller{ID: s.TrainerID, Role: sessions.Trainer}
		stored, err := f.Repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) { return s.MarkNoShow(by, now) })
		require.NoError(t, err)
		require.Equal(t, sessions.NoShow, stored.Status)
		require.Equal(t, stored, f.read(t, s.ID))
	},
	"nothing_changed": func(t *testing.T, f Fixture) {
		s := booking()
		f.create(t, s)
		stored, err := f.Repo.Change(t.Context(), s.ID, func(*sessions.Session) ([]sessions.Event, error) { return nil, nil })
		require.NoError(t, err)
		require.Equal(t, s, stored)
		require.Empty(t, f.Events(t, s.ID))
	},
	"rebooked":                rebooked,
	"f_fails":                 fFails,
	"f_panics":                fPanics,
	"booking_is_not_f's":      bookingStays,
	"cut_to_milliseconds":     changeCut,
	"from_booking_to_lesson":  wholeWay,
	"restarted_after_a_stop":  restarted,
	"wrong_otp_is_kept_count": wrongOTPs,
}

func storedWithEvents(t *testing.T, f Fixture) {
	s := booking()
	f.create(t, s)
	var raised []sessions.Event
	stored, err := f.Repo.Change(t.Context(), s.ID, func(s *sessions.Session) (_ []sessions.Event, err error) {
		raised, err = s.Start(sessions.Walk, now)
		return raised, err
	})
	require.NoError(t, err)
	require.True(t, stored.JourneyActive())
	require.Equal(t, now, stored.JourneyStartedAt)
	require.Equal(t, sessions.Walk, stored.JourneyMode)
	require.Equal(t, stored, f.read(t, s.ID))
	require.Equal(t, raised, f.Events(t, s.ID))
}

// everyField writes each field that a transition may write, and clears it again.
func everyField(t *testing.T, f Fixture) {
	s := booking()
	f.create(t, s)
	full := s
	full.Status, full.JourneyMode = sessions.PendingVerification, sessions.Car
	full.JourneyStartedAt, full.JourneyEndedAt = now, now.Add(time.Second)
	full.JourneyEndedBy = sessions.NewID()
	full.JourneyEndReason, full.ArrivedAt = sessions.EndTimeout, now.Add(2*time.Second)
	full.OTP, full.OTPExpiresAt, full.OTPAttempts = "0042", now.Add(3*time.Second), 4
	full.Codes = sessions.CodeLog{Issued: 1, Wrong: 2, Resent: 3, ResentAt: now.Add(6 * time.Second), Proof: "0f"}
	full.ClosedAt, full.ClosedBy, full.CloseReason = now.Add(7*time.Second), sessions.NewID(), "ill"
	full.StartsSince, full.Starts, full.Region = now.Add(-time.Second), 3, "eu"
	full.StartedAt, full.CompletedAt = now.Add(4*time.Second), now.Add(5*time.Second)
	for _, want := range []sessions.Session{full, s} {
		stored, err := f.Repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			*s = want
			return nil, nil
		})
		require.NoError(t, err)
		require.Equal(t, want, stored)
		require.Equal(t, want, f.read(t, s.ID))
	}
}

// rebooked writes each field of a booking, with an event and a transition, in one
// change.
func rebooked(t *testing.T, f Fixture) {
	s := booking()
	f.create(t, s)
	want, err := f.start(t, s.ID, now)
	require.NoError(t, err)
	want.TrainerID, want.StudentID = sessions.NewID(), sessions.NewID()
	want.ScheduledAt, want.Home, want.Mode = now.Add(time.Minute), geo.MustPoint(1, 1), sessions.Walk
	want.HomeMovedAt, want.JourneyEndedAt, want.JourneyEndReason = now, now.Add(time.Second), sessions.EndCancelled
	stored, err := f.Repo.Rebook(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
		events, stopErr := s.Stop(sessions.EndCancelled, now.Add(time.Second))
		*s = want
		s.ID, s.CreatedAt = sessions.NewID(), now // which no one changes
		return events, stopErr
	})
	require.NoError(t, err)
	require.Equal(t, want, stored)
	require.Equal(t, want, f.read(t, s.ID))
	require.Len(t, f.Events(t, s.ID), 2)

	_, err = f.Repo.Rebook(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
		s.Home = geo.MustPoint(2, 2)
		return nil, sessions.Refuse(sessions.NotChangeable, "no")
	})
	requireCode(t, sessions.NotChangeable, err)
	require.Equal(t, want, f.read(t, s.ID))
	_, err = f.Repo.Rebook(t.Context(), sessions.NewID(), nil)
	requireCode(t, sessions.SessionNotFound, err)
}

func fFails(t *testing.T, f Fixture) {
	s := booking()
	f.create(t, s)
	before, err := f.start(t, s.ID, now)
	require.NoError(t, err)
	refused := errors.New("no")
	stood, err := f.Repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
		events, stopErr := s.Stop(sessions.EndCancelled, now)
		require.NoError(t, stopErr)
		return events, refused
	})
	require.Same(t, refused, err, "the very same error")
	require.Equal(t, before, stood, "with the session as it stood")
	require.Equal(t, before, f.read(t, s.ID))
	require.Len(t, f.Events(t, s.ID), 1)
}

func fPanics(t *testing.T, f Fixture) {
	s := booking()
	f.create(t, s)
	require.Panics(t, func() {
		_, _ = f.Repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			s.Status = sessions.Cancelled
			panic("a bug in f")
		})
	})
	require.Equal(t, s, f.read(t, s.ID))
	_, err := f.start(t, s.ID, now)
	require.NoError(t, err, "the session is not left locked")
}

func bookingStays(t *testing.T, f Fixture) {
	s := booking()
	f.create(t, s)
	stored, err := f.Repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
		s.ID, s.TrainerID, s.StudentID = sessions.NewID(), sessions.NewID(), sessions.NewID()
		s.ScheduledAt, s.CreatedAt = now.Add(time.Minute), now.Add(time.Minute)
		s.Home, s.Mode, s.HomeMovedAt = geo.MustPoint(1, 1), sessions.Walk, now
		s.Status = sessions.Cancelled
		return nil, nil
	})
	s.Status = sessions.Cancelled
	require.NoError(t, err)
	require.Equal(t, s, stored)
	require.Equal(t, s, f.read(t, s.ID))
}

func changeCut(t *testing.T, f Fixture) {
	s := booking()
	f.create(t, s)
	stored, err := f.Repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
		s.CompletedAt = now.Add(999_999 * time.Nanosecond)
		return nil, nil
	})
	require.NoError(t, err)
	require.Equal(t, now, stored.CompletedAt, "cut, and not rounded into the future")
	require.Equal(t, stored, f.read(t, s.ID))
}

func wholeWay(t *testing.T, f Fixture) {
	s := booking()
	f.create(t, s)
	_, err := f.start(t, s.ID, now)
	require.NoError(t, err)
	arrived, err := f.arrive(t, s.ID, now.Add(20*time.Minute))
	require.NoError(t, err)
	require.Len(t, arrived.OTP, 4)
	again, err := f.arrive(t, s.ID, now.Add(21*time.Minute))
	require.NoError(t, err)
	require.Equal(t, arrived, again, "a repeated arrival gives the same code")
	lesson, refused := f.verify(t, s.ID, arrived.OTP, now.Add(22*time.Minute))
	require.NoError(t, refused)
	require.Equal(t, sessions.InProgress, lesson.Status)
	require.Empty(t, f.read(t, s.ID).OTP)

	events := f.Events(t, s.ID)
	require.Len(t, events, 2)
	require.Equal(t, sessions.Event{
		ID: events[1].ID, Type: sessions.JourneyEnded, SessionID: s.ID, TrainerID: s.TrainerID, StudentID: s.StudentID,
		At: now.Add(20 * time.Minute), Reason: sessions.EndArrived, JourneyStartedAt: now,
	}, events[1])
}

func restarted(t *testing.T, f Fixture) {
	s := booking()
	f.create(t, s)
	var types []sessions.EventType
	for i := range 3 {
		at := now.Add(time.Duration(i) * time.Minute)
		_, err := f.start(t, s.ID, at)
		require.NoError(t, err)
		_, err = f.stop(t, s.ID, at.Add(time.Second))
		require.NoError(t, err)
		types = append(types, sessions.JourneyStarted, sessions.JourneyEnded)
	}
	events := f.Events(t, s.ID)
	require.Len(t, events, len(types))
	for i, e := range events {
		require.Equal(t, types[i], e.Type)
		require.Equal(t, now.Add(time.Duration(i/2)*time.Minute), e.JourneyStartedAt)
	}
}

func wrongOTPs(t *testing.T, f Fixture) {
	s := booking()
	f.create(t, s)
	_, err := f.start(t, s.ID, now)
	require.NoError(t, err)
	arrived, err := f.arrive(t, s.ID, now)
	require.NoError(t, err)
	for try := 1; try <= 5; try++ {
		stored, refused := f.verify(t, s.ID, wrong(arrived.OTP), now)
		require.Error(t, refused)
		require.Equal(t, try, stored.OTPAttempts)
	}
	_, refused := f.verify(t, s.ID, arrived.OTP, now)
	requireCode(t, sessions.OTPLocked, refused)
}

// wrong is a code that is not otp.
func wrong(otp string) string {
	if otp == "" {
		return "0000"
	}
	return string('0'+(otp[0]-'0'+1)%10) + otp[1:]
}

var busyTests = map[string]func(*testing.T, Fixture){
	"two_sessions_of_one_trainer": func(t *testing.T, f Fixture) {
		first := f.create(t, booking())
		second := f.create(t, bookingOf(first.TrainerID))
		_, err := f.start(t, first.ID, now)
		require.NoError(t, err)
		stood, err := f.start(t, second.ID, now)
		requireCode(t, sessions.TrainerBusy, err)
		require.Equal(t, second, stood)
		require.Equal(t, second, f.read(t, second.ID))
		require.Empty(t, f.Events(t, second.ID), "no event of a start that was refused")
	},
	"the_running_one_is_named": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		f.create(t, bookingOf(s.TrainerID))
		_, ok, err := f.Repo.RunningOf(t.Context(), s.TrainerID)
		require.NoError(t, err)
		require.False(t, ok)
		s, err = f.start(t, s.ID, now)
		require.NoError(t, err)
		running, ok, err := f.Repo.RunningOf(t.Context(), s.TrainerID)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, s, running)
	},
	"free_after_a_stop": func(t *testing.T, f Fixture) {
		first := f.create(t, booking())
		second := f.create(t, bookingOf(first.TrainerID))
		_, err := f.start(t, first.ID, now)
		require.NoError(t, err)
		_, err = f.stop(t, first.ID, now)
		require.NoError(t, err)
		_, err = f.start(t, second.ID, now)
		require.NoError(t, err)
	},
	"another_trainer_is_free": func(t *testing.T, f Fixture) {
		for range 2 {
			_, err := f.start(t, f.create(t, booking()).ID, now)
			require.NoError(t, err)
		}
	},
	"the_running_one_goes_on": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		f.create(t, bookingOf(s.TrainerID))
		_, err := f.start(t, s.ID, now)
		require.NoError(t, err)
		_, err = f.start(t, s.ID, now)
		requireCode(t, sessions.JourneyAlreadyStarted, err)
		_, err = f.Repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			s.JourneyMode = sessions.Walk // and it runs on: it is not its own rival
			return nil, nil
		})
		require.NoError(t, err)
		_, err = f.arrive(t, s.ID, now)
		require.NoError(t, err)
	},
}
