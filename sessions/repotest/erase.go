package repotest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
	"doorstep/sessions/memory"
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
	// Neither is a party of the sessions any more, or ever was.
	"erase_a_former_trainer_and_an_admin": func(t *testing.T, f Fixture) {
		trainer := sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}
		admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
		before := f.handedOver(t, trainer, admin)
		for _, user := range []sessions.ID{trainer.ID, admin.ID} {
			require.True(t, f.shows(t, before, user))
			e := erasure(user)
			f.erase(t, e)
			require.False(t, f.shows(t, before, user), "the id is left: %s", user)
			require.True(t, f.shows(t, before, e.Alias))
		}
		for _, s := range before {
			after := f.read(t, s.ID)
			s.JourneyEndedBy, s.ClosedBy = after.JourneyEndedBy, after.ClosedBy
			require.Equal(t, s, after, "it is somebody else's")
		}
	},
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

func (f Fixture) erase(t *testing.T, e sessions.Erasure) {
	t.Helper()
	pending, err := f.Repo.EraseUser(t.Context(), e)
	require.NoError(t, err)
	f.finish(t, e, pending)
}

// finish repeats an erasure that events wait for, once they are delivered.
func (f Fixture) finish(t *testing.T, e sessions.Erasure, pending int) {
	t.Helper()
	if pending > 0 {
		f.Deliver(t)
		var err error
		pending, err = f.Repo.EraseUser(t.Context(), e)
		require.NoError(t, err)
	}
	require.Zero(t, pending)
}

// handedOver are two sessions that the admin has given to another trainer: one after this trainer
// has stopped the journey, which the admin then cancels; and one while the journey runs.
func (f Fixture) handedOver(t *testing.T, trainer, admin sessions.Caller) (list []sessions.Session) {
	t.Helper()
	at := now
	clock := func() time.Time { at = at.Add(time.Minute); return at }
	service := sessions.NewService(f.Repo, memory.NewLive(sessions.LiveOptions{}, clock), sessions.ServiceOptions{Now: clock})
	for _, stopped := range []bool{true, false} {
		s, _, err := service.Create(t.Context(), admin, sessions.Booking{
			TrainerID: trainer.ID, StudentID: sessions.NewID(), ScheduledAt: now, Home: home, Key: fresh(),
		})
		require.NoError(t, err)
		_, err = service.Start(t.Context(), trainer, s.ID, "")
		require.NoError(t, err)
		if stopped {
			_, err = service.Stop(t.Context(), trainer, s.ID)
			require.NoError(t, err)
		}
		_, err = service.Rebook(t.Context(), admin, s.ID, sessions.Rebooking{TrainerID: new(sessions.NewID())})
		require.NoError(t, err)
		if stopped {
			_, err = service.Cancel(t.Context(), admin, s.ID, "ill")
			require.NoError(t, err)
		}
		for _, e := range f.Events(t, s.ID) {
			_, _, err := f.Repo.RecordJourney(t.Context(), e)
			require.NoError(t, err)
		}
		list = append(list, f.read(t, s.ID))
	}
	require.Equal(t, []sessions.ID{trainer.ID, admin.ID, admin.ID}, []sessions.ID{list[0].JourneyEndedBy, list[0].ClosedBy, list[1].JourneyEndedBy})
	return list
}

// shows reports whether the id is in anything that the repository tells of these sessions.
func (f Fixture) shows(t *testing.T, list []sessions.Session, id sessions.ID) bool {
	t.Helper()
	return slices.ContainsFunc(list, func(s sessions.Session) bool {
		journeys, err := f.Repo.JourneysOf(t.Context(), s.ID, 10)
		require.NoError(t, err)
		return strings.Contains(fmt.Sprintf("%+v %+v %+v", f.read(t, s.ID), f.history(t, s.ID), journeys), string(id))
	})
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
	f.finish(t, e, pending)
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
