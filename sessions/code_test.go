package sessions_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// Whoever guesses, arrives again for each code and waits as long as it takes, has
// fifteen tries in all.
func TestSession_tries_are_bounded(t *testing.T) {
	t.Parallel()
	s, now, tries := arrived(), noon, 0
	for range 100 {
		switch err := s.Verify("x", now); sessions.CodeOf(err) {
		case sessions.OTPWrong:
			tries++
		case sessions.OTPLocked:
			if sessions.CodeOf(s.Verify("x", now)) == sessions.OTPLocked && s.OTPAttempts == 5 {
				now = s.OTPExpiresAt
			}
		case sessions.OTPExpired:
			_, _ = s.Arrive(now)
		}
	}
	require.Equal(t, 15, s.Codes.Wrong)
	require.Equal(t, 12, tries, "and the three that locked a code")
	require.Equal(t, sessions.CodeLocked, s.CodeState(now))
	_, err := s.Arrive(now)
	require.Equal(t, sessions.OTPLocked, sessions.CodeOf(err), "no code more")
	require.Equal(t, sessions.PendingVerification, s.Status)

	require.NoError(t, s.UnlockOTP())
	mustEvents(s.Arrive(now))
	require.NoError(t, s.Verify(s.OTP, now), "an admin lets them on")
}

// The tries that are left are those of the session where they are fewer.
func TestSession_Verify_counts_the_sessions_tries(t *testing.T) {
	t.Parallel()
	s := arrived()
	s.Codes.Wrong = 12
	var refusal *sessions.Error
	require.ErrorAs(t, s.Verify("x", noon), &refusal)
	require.Equal(t, 2, refusal.AttemptsLeft)
	require.Equal(t, sessions.OTPWrong, sessions.CodeOf(s.Verify("x", noon)))
	err := s.Verify("x", noon)
	require.ErrorIs(t, err, sessions.ErrCodeLocks)
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, 10*time.Minute, refusal.RetryAfter)
	require.NotErrorIs(t, s.Verify("x", noon), sessions.ErrCodeLocks, "it was locked before")
}

func TestSession_codes_are_bounded(t *testing.T) {
	t.Parallel()
	s, now := arrived(), noon
	for codes := 2; codes <= 5; codes++ {
		now = s.OTPExpiresAt
		require.Equal(t, sessions.CodeExpired, s.CodeState(now))
		events, err := s.Arrive(now)
		require.NoError(t, err)
		require.Equal(t, s.OTPExpiresAt, events[0].ExpiresAt)
		require.Equal(t, codes, s.Codes.Issued)
	}
	require.Equal(t, sessions.CodeActive, s.CodeState(now), "the fifth is as good as any")
	_, err := s.Arrive(s.OTPExpiresAt)
	require.Equal(t, sessions.OTPLocked, sessions.CodeOf(err))

	s = arrived()
	s.OTP = "" // another service took it away
	_, err = s.Arrive(noon.Add(-time.Second))
	var refusal *sessions.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, []any{sessions.RateLimited, time.Second}, []any{refusal.Code, refusal.RetryAfter}, "one a minute")
}

func TestSession_CodeState(t *testing.T) {
	t.Parallel()
	for station, want := range map[string]sessions.CodeState{
		"scheduled": "", "travelling": "", "arrived": sessions.CodeActive, "expired": sessions.CodeExpired,
		"locked": sessions.CodeLocked, "teaching": "", "cancelled": "",
	} {
		require.Equal(t, want, at[station]().CodeState(noon), station)
	}
}

func TestSession_ResendOTP(t *testing.T) {
	t.Parallel()
	s, now := arrived(), noon
	for range 5 {
		events, err := s.ResendOTP(now)
		require.NoError(t, err)
		require.Equal(t, []any{sessions.CodeIssued, now, s.OTPExpiresAt}, []any{events[0].Type, events[0].At, events[0].ExpiresAt})
		before := s
		_, err = s.ResendOTP(now.Add(time.Minute - time.Millisecond))
		var refusal *sessions.Error
		require.ErrorAs(t, err, &refusal)
		if s.Codes.Resent < 5 {
			require.Equal(t, []any{sessions.RateLimited, time.Millisecond}, []any{refusal.Code, refusal.RetryAfter})
		}
		require.Equal(t, before, s)
		now = now.Add(time.Minute)
	}
	_, err := s.ResendOTP(now)
	require.Equal(t, sessions.RateLimited, sessions.CodeOf(err), "five in all")
	require.NoError(t, s.UnlockOTP())
	mustEvents(s.ResendOTP(now))

	for station, code := range map[string]sessions.Code{
		"scheduled": sessions.NotPendingVerification, "teaching": sessions.NotPendingVerification,
		"expired": sessions.OTPExpired, "codeless": sessions.OTPExpired, "locked": sessions.OTPLocked,
	} {
		s := at[station]()
		_, err := s.ResendOTP(noon)
		require.Equal(t, code, sessions.CodeOf(err), station)
	}
}

func TestSession_UnlockOTP(t *testing.T) {
	t.Parallel()
	s := at["locked"]()
	s.Codes.Wrong = 15
	require.NoError(t, s.UnlockOTP())
	require.Equal(t, sessions.CodeActive, s.CodeState(noon))
	require.NoError(t, s.Verify(s.OTP, noon))
	for _, station := range []string{"scheduled", "travelling", "teaching", "completed"} {
		s := at[station]()
		require.Equal(t, sessions.NotPendingVerification, sessions.CodeOf(s.UnlockOTP()), station)
	}
}

func TestSession_StopRepeated(t *testing.T) {
	t.Parallel()
	me, other := sessions.NewID(), sessions.NewID()
	s := at["stopped"]()
	require.False(t, s.StopRepeated("", noon), "nobody stopped it")
	s.JourneyEndedBy = me
	ended := s.JourneyEndedAt
	require.True(t, s.StopRepeated(me, ended.Add(10*time.Minute-time.Millisecond)))
	require.False(t, s.StopRepeated(me, ended.Add(10*time.Minute)))
	require.False(t, s.StopRepeated(other, ended))
	mustEvents(s.Start("", noon.Add(2*time.Minute)))
	require.False(t, s.StopRepeated(me, ended), "it has started again")
	mustEvents(s.Stop(sessions.EndTimeout, noon.Add(3*time.Minute)))
	require.False(t, s.StopRepeated(me, ended), "and timed out")
}

func TestSession_Verify_repeated(t *testing.T) {
	t.Parallel()
	s := arrived()
	otp := s.OTP
	require.NoError(t, s.Verify(otp, noon))
	before := s
	require.NoError(t, s.Verify(otp, noon.Add(10*time.Minute-time.Millisecond)))
	require.Equal(t, before, s)
	require.Len(t, s.Codes.Proof, 64)
	require.Equal(t, sessions.NotPendingVerification, sessions.CodeOf(s.Verify("x", noon)))
	require.Equal(t, sessions.NotPendingVerification, sessions.CodeOf(s.Verify(otp, noon.Add(10*time.Minute))))
	require.NoError(t, s.Complete(noon.Add(time.Minute)))
	require.Empty(t, s.Codes.Proof)
	require.Equal(t, sessions.NotPendingVerification, sessions.CodeOf(s.Verify(otp, noon)))
}
