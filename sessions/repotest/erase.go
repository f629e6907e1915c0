package repotest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// past is a session of these parties, with a review and the record of its journey.
func (f Fixture) past(t *testing.T, trainer, student sessions.ID) sessions.Session {
	t.Helper()
	s := booking()
	s.TrainerID, s.StudentID = trainer, student
	f.create(t, s)
	started, err := f.start(t, s.ID, now)
	require.NoError(t, err)
	_, _, err = f.Repo.RecordJourney(t.Context(), f.Events(t, s.ID)[0])
	require.NoError(t, err)
	_, err = f.stop(t, started.ID, now.Add(time.Minute))
	require.NoError(t, err)
	done, err := f.Repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
		s.Status, s.JourneyEndedBy = sessions.Completed, s.TrainerID
		return nil, nil
	})
	require.NoError(t, err)
	_, err = f.review(t, done, 4)
	require.NoError(t, err)
	return done
}

func (f Fixture) data(t *testing.T, user sessions.ID) sessions.UserData {
	t.Helper()
	data, err := f.Repo.UserData(t.Context(), user)
	require.NoError(t, err)
	return data
}

var userDataTests = map[string]func(*testing.T, Fixture){
	"nothing": func(t *testing.T, f Fixture) {
		data := f.data(t, sessions.NewID())
		require.Empty(t, data.Sessions)
		require.Empty(t, data.Journeys)
		require.Zero(t, data.Rating)
	},
	"all": func(t *testing.T, f Fixture) {
		trainer, student := sessions.NewID(), sessions.NewID()
		s := f.past(t, trainer, student)
		f.past(t, sessions.NewID(), sessions.NewID()) // somebody else's
		f.put(t, device(student, fresh(), now))
		f.putDevice(t, phone(trainer, now))
		data := f.data(t, student)
		require.Equal(t, []sessions.Session{s}, data.Sessions)
		require.Equal(t, []sessions.Review{reviewOf(s, 4)}, data.Reviews)
		require.Len(t, data.Journeys, 1)
		require.Len(t, data.PushTokens, 1)
		require.Empty(t, data.Devices)
		require.Len(t, f.data(t, trainer).Devices, 1)
		require.Equal(t, sessions.Rating{Sum: 4, Count: 1}, f.data(t, trainer).Rating)
	},
	"erase_a_student": func(t *testing.T, f Fixture) { erased(t, f, sessions.Student) },
	"erase_a_trainer": func(t *testing.T, f Fixture) { erased(t, f, sessions.Trainer) },
	"not_while_a_journey_runs": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		s, err := f.start(t, s.ID, now)
		require.NoError(t, err)
		_, err = f.Repo.EraseUser(t.Context(), erasure(s.StudentID))
		requireCode(t, sessions.JourneyRunning, err)
		require.Equal(t, s, f.read(t, s.ID), "nothing was done")
	},
}

func erasure(user sessions.ID) sessions.Erasure {
	return sessions.Erasure{UserID: user, Alias: sessions.NewID(), By: sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}, At: now.Add(time.Hour)}
}

func erased(t *testing.T, f Fixture, role sessions.Role) {
	trainer, student := sessions.NewID(), sessions.NewID()
	user, other := student, trainer
	if role == sessions.Trainer {
		user, other = trainer, student
	}
	past := f.past(t, trainer, student)
	future := booking()
	future.TrainerID, future.StudentID = trainer, student
	f.create(t, future)
	f.put(t, device(user, fresh(), now))
	f.put(t, device(other, fresh(), now))
	f.putDevice(t, phone(trainer, now))
	e := erasure(user)
	pending, err := f.Repo.EraseUser(t.Context(), e)
	require.NoError(t, err)
	require.Equal(t, sessions.Cancelled, f.read(t, future.ID).Status, "it does not take place")
	events := f.Events(t, future.ID)
	require.Equal(t, []any{sessions.SessionCancelled, trainer, student}, []any{events[0].Type, events[0].TrainerID, events[0].StudentID},
		"who is told must be known")
	require.Empty(t, f.devices(t, user))
	require.Len(t, f.devices(t, other), 1)
	if pending > 0 {
		f.Deliver(t)
		pending, err = f.Repo.EraseUser(t.Context(), e)
		require.NoError(t, err)
	}
	require.Zero(t, pending)
	gone := f.data(t, user)
	require.Empty(t, gone.Sessions)
	require.Empty(t, gone.Reviews)
	require.Empty(t, gone.PushTokens)
	require.Empty(t, gone.Devices)
	require.Len(t, f.phones(t, trainer), map[sessions.Role]int{sessions.Student: 1}[role])
	require.Zero(t, gone.Rating)
	left := f.data(t, e.Alias)
	require.Len(t, left.Sessions, 2)
	for _, s := range left.Sessions {
		require.Equal(t, role == sessions.Student, !s.Home.Valid())
		require.NotEqual(t, user, s.JourneyEndedBy)
		require.Empty(t, s.OTP+s.CloseReason)
	}
	require.Empty(t, left.Reviews[0].Comment)
	require.Equal(t, 4, left.Reviews[0].Stars, "the rating stays")
	require.Len(t, left.Journeys, 1)
	if role == sessions.Trainer {
		require.Equal(t, sessions.Rating{Sum: 4, Count: 1}, left.Rating)
	}
	require.Equal(t, past.ID, left.Reviews[0].SessionID)
	pending, err = f.Repo.EraseUser(t.Context(), e)
	require.NoError(t, err)
	require.Zero(t, pending, "a repeat finds nothing")
}
