package sessions_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"doorstep/sessions"
)

// TestSession_any_history plays random transitions on a clock that also steps back,
// and checks the invariants of doc.go after each.
func TestSession_any_history(t *testing.T) {
	t.Parallel()
	verbs := []string{"start", "stop", "arrive", "verify", "miss"}
	step := rapid.Int64Range(-int64(time.Minute), int64(11*time.Minute))
	rapid.Check(t, func(rt *rapid.T) {
		s, clock := booked(), noon
		var told []sessions.Event
		for range rapid.IntRange(1, 40).Draw(rt, "length") {
			clock = clock.Add(time.Duration(step.Draw(rt, "step")))
			before := s
			events, err := play(&s, rapid.SampledFrom(verbs).Draw(rt, "verb"), clock)
			holdRefusal(rt, before, s, events, err)
			holdSession(rt, s)
			told = append(told, events...)
		}
		holdEvents(rt, s, told)
	})
}

func play(s *sessions.Session, verb string, now time.Time) ([]sessions.Event, error) {
	switch verb {
	case "start":
		return s.Start(sessions.Car, now)
	case "stop":
		return s.Stop(sessions.EndCancelled, now)
	case "arrive":
		return s.Arrive(now)
	case "verify":
		return nil, s.Verify(s.OTP, now)
	default:
		return nil, s.Verify("none", now)
	}
}

// holdRefusal checks that a refusal changes only the count of wrong codes, and that
// by one.
func holdRefusal(t *rapid.T, before, after sessions.Session, events []sessions.Event, err error) {
	if err == nil {
		return
	}
	require.Empty(t, events)
	switch after.OTPAttempts - before.OTPAttempts {
	case 0:
	case 1:
		code := sessions.CodeOf(err)
		require.Contains(t, []sessions.Code{sessions.OTPWrong, sessions.OTPLocked}, code)
		before.OTPAttempts++
		before.Codes.Wrong++
	default:
		t.Fatalf("attempts went from %d to %d", before.OTPAttempts, after.OTPAttempts)
	}
	require.Equal(t, before, after)
}

func holdSession(t *rapid.T, s sessions.Session) {
	pending := s.Status == sessions.PendingVerification
	require.Equal(t, pending, s.OTP != "", "a code exactly while one is waited for")
	require.Equal(t, pending, !s.OTPExpiresAt.IsZero())
	require.LessOrEqual(t, s.OTPAttempts, 5)
	require.Equal(t, s.JourneyEndedAt.IsZero(), s.JourneyEndReason == "")
	if s.JourneyActive() {
		require.Equal(t, sessions.Scheduled, s.Status, "a journey runs to a scheduled session only")
	}
	if !s.JourneyEndedAt.IsZero() {
		require.True(t, s.JourneyEndedAt.After(s.JourneyStartedAt))
	}
	require.Equal(t, s.Status == sessions.InProgress, !s.StartedAt.IsZero())
	for _, instant := range []time.Time{s.JourneyStartedAt, s.JourneyEndedAt, s.ArrivedAt, s.OTPExpiresAt, s.StartedAt} {
		require.Equal(t, instant.UTC().Truncate(time.Millisecond), instant)
	}
}

// holdEvents checks that starts and ends alternate, that each instant is after the
// one before whatever the clock did, that each end names its own start, and that no
// id comes twice.
func holdEvents(t *rapid.T, s sessions.Session, told []sessions.Event) {
	ids, last := map[sessions.ID]bool{}, time.Time{}
	told = slices.DeleteFunc(slices.Clone(told), func(e sessions.Event) bool { return e.Type == sessions.CodeIssued })
	for i, e := range told {
		require.False(t, ids[e.ID])
		ids[e.ID] = true
		require.True(t, e.At.After(last), "event %d", i)
		if i%2 == 0 {
			require.Equal(t, sessions.JourneyStarted, e.Type)
			require.Equal(t, e.At, e.JourneyStartedAt)
			require.Empty(t, e.Reason)
		} else {
			require.Equal(t, sessions.JourneyEnded, e.Type)
			require.Equal(t, last, e.JourneyStartedAt)
			require.NotEmpty(t, e.Reason)
		}
		last = e.At
	}
	require.Equal(t, s.JourneyActive(), len(told)%2 == 1, "what is told is what is")
}
