package sessions_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

func TestSession_Cancel(t *testing.T) {
	t.Parallel()
	admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
	student := sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}
	for station, ends := range map[string][2]bool{ // by the student, by an admin
		"scheduled": {true, true}, "travelling": {true, true}, "stopped": {true, true}, "arrived": {false, true},
		"locked": {false, true}, "teaching": {}, "completed": {}, "cancelled": {}, "foreign": {},
	} {
		for i, by := range []sessions.Caller{student, admin} {
			s := at[station]()
			before := s
			events, err := s.Cancel(by, "ill", noon.Add(time.Hour))
			if !ends[i] {
				require.Equal(t, sessions.NotCancellable, sessions.CodeOf(err), station)
				require.Equal(t, before, s)
				continue
			}
			require.NoError(t, err, station)
			require.Equal(t, []any{sessions.Cancelled, by.ID, "ill", "", false}, []any{s.Status, s.ClosedBy, s.CloseReason, s.OTP, s.JourneyActive()})
			require.Equal(t, sessions.Ended, s.Phase())
			last := events[len(events)-1]
			require.Equal(t, sessions.Event{
				ID: last.ID, Type: sessions.SessionCancelled, SessionID: s.ID, TrainerID: s.TrainerID, StudentID: s.StudentID,
				At: s.ClosedAt, JourneyStartedAt: s.JourneyStartedAt, Status: sessions.Cancelled, Note: "ill", By: by.Role, ByID: by.ID,
			}, last)
			require.Len(t, events, map[bool]int{true: 2, false: 1}[before.JourneyActive()], station)
			closed := s
			events, err = s.Cancel(by, "again", noon.Add(2*time.Hour))
			require.NoError(t, err)
			require.Empty(t, events)
			require.Equal(t, closed, s, "a repeat changes nothing")
			_, err = s.Cancel(sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}, "", noon)
			require.Equal(t, sessions.NotCancellable, sessions.CodeOf(err), "another caller's is no repeat")
		}
	}
}

func TestSession_MarkNoShow(t *testing.T) {
	t.Parallel()
	s := arrived()
	by := sessions.Caller{ID: s.TrainerID, Role: sessions.Trainer}
	events, err := s.MarkNoShow(by, noon)
	require.NoError(t, err)
	require.Equal(t, []any{sessions.NoShow, noon, "", sessions.Ended}, []any{s.Status, s.ClosedAt, s.OTP, s.Phase()})
	require.Equal(t, []any{sessions.SessionCancelled, sessions.NoShow, sessions.Trainer}, []any{events[0].Type, events[0].Status, events[0].By})
	again, err := s.MarkNoShow(by, noon.Add(time.Hour))
	require.NoError(t, err)
	require.Empty(t, again)
	for _, station := range []string{"scheduled", "travelling", "teaching", "cancelled"} {
		s := at[station]()
		_, err := s.MarkNoShow(by, noon)
		require.Equal(t, sessions.NotPendingVerification, sessions.CodeOf(err), station)
	}
}

// What a session's events say survives the wire, also without a journey.
func TestEvent_of_a_session(t *testing.T) {
	t.Parallel()
	s := booked()
	events, err := s.Cancel(sessions.Caller{ID: s.StudentID, Role: sessions.Student}, "ill", noon)
	require.NoError(t, err)
	renewed := arrived()
	codes, err := renewed.ResendOTP(noon)
	require.NoError(t, err)
	for _, e := range append(events, codes...) {
		parsed, err := sessions.ParseEvent(e.Type, e.Detail())
		require.NoError(t, err)
		require.Equal(t, e, parsed)
		require.Equal(t, e.JourneyStartedAt.IsZero(), !strings.Contains(string(e.Detail()), "startTime"))
	}
	_, err = sessions.ParseEvent(sessions.JourneyStarted, []byte(`{"eventId":"`+string(s.ID)+`","schemaVersion":1,"trainerId":"`+
		string(s.TrainerID)+`","sessionId":"`+string(s.ID)+`"}`))
	require.ErrorContains(t, err, "startTime", "a journey's event needs it")
}
