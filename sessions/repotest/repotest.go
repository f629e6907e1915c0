// Package repotest is the contract suite of sessions.Repository. Run has a test for
// each clause of its comments, races included. Histories plays random histories on the
// repository and on memory.Repository, which must agree.
//
//	func TestRepository(t *testing.T)           { repotest.Run(t, open) }
//	func TestRepository_Histories(t *testing.T) { repotest.Histories(t, open) }
package repotest

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// Fixture is a repository under test, and a way to read what it wrote for the
// relay. The suite uses fresh ids throughout, so the repository may hold other
// sessions, and may be the same one every time.
type Fixture struct {
	Repo sessions.Repository
	// Events lists the events stored for one session, in the order in which
	// they are to be published.
	Events func(t testing.TB, id sessions.ID) []sessions.Event
	// Deliver marks all events as delivered. Nil where they are not kept.
	Deliver func(t testing.TB)
}

// Memory is the fixture of a new memory.Repository.
func Memory(testing.TB) Fixture {
	var (
		mu     sync.Mutex
		events = map[sessions.ID][]sessions.Event{}
	)
	repo := memory.NewRepository(func(e sessions.Event) {
		mu.Lock()
		defer mu.Unlock()
		events[e.SessionID] = append(events[e.SessionID], e)
	})
	return Fixture{Repo: repo, Events: func(_ testing.TB, id sessions.ID) []sessions.Event {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(events[id])
	}}
}

// Run runs the contract suite. Each test opens its own fixture and runs in parallel
// with the others; use -race.
func Run(t *testing.T, open func(t testing.TB) Fixture) {
	t.Helper()
	for _, group := range []struct {
		name  string
		tests map[string]func(*testing.T, Fixture)
	}{
		{"Create", createTests},
		{"CreateOnce", createOnceTests},
		{"Session", sessionTests},
		{"OfStudent", ofStudentTests},
		{"List", listTests},
		{"Change", changeTests},
		{"TrainerBusy", busyTests},
		{"Race", raceTests},
		{"Record", recordTests},
		{"Running", runningTests},
		{"Review", reviewTests},
		{"UserData", userDataTests},
		{"PushTokens", pushTokenTests},
		{"Devices", deviceTests},
		{"ShareLinks", shareLinkTests},
		{"Analytics", analyticsTests},
		{"Audit", auditTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for name, test := range group.tests {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(t, open(t))
				})
			}
		})
	}
}

// now is the suite's clock: no test here depends on the real one.
var now = time.Date(2026, 3, 14, 9, 26, 53, 589e6, time.UTC)

// home is Cubbon Park, Bengaluru.
var home = geo.MustPoint(12.9763472, 77.5929284)

// booking is a fresh session of a fresh trainer and a fresh student.
func booking() sessions.Session {
	return sessions.Session{
		ID: sessions.NewID(), TrainerID: sessions.NewID(), StudentID: sessions.NewID(),
		Status: sessions.Scheduled, ScheduledAt: now.Add(time.Hour), Home: home, Mode: sessions.Bike,
		CreatedAt: now.Add(-time.Hour),
	}
}

// bookingOf is a fresh session of that trainer's.
func bookingOf(trainer sessions.ID) sessions.Session {
	s := booking()
	s.TrainerID = trainer
	return s
}

// create stores s, which must be new.
func (f Fixture) create(t testing.TB, s sessions.Session) sessions.Session {
	t.Helper()
	stored, created, err := f.Repo.Create(t.Context(), s)
	require.NoError(t, err)
	require.True(t, created)
	return stored
}

// read is the session as stored.
func (f Fixture) read(t testing.TB, id sessions.ID) sessions.Session {
	t.Helper()
	s, err := f.Repo.Session(t.Context(), id)
	require.NoError(t, err)
	return s
}

// start and stop are the transitions, through the repository.
func (f Fixture) start(t testing.TB, id sessions.ID, at time.Time) (sessions.Session, error) {
	return f.Repo.Change(t.Context(), id, func(s *sessions.Session) ([]sessions.Event, error) {
		return s.Start("", at)
	})
}

func (f Fixture) stop(t testing.TB, id sessions.ID, at time.Time) (sessions.Session, error) {
	return f.Repo.Change(t.Context(), id, func(s *sessions.Session) ([]sessions.Event, error) {
		return s.Stop(sessions.EndCancelled, at)
	})
}

func (f Fixture) arrive(t testing.TB, id sessions.ID, at time.Time) (sessions.Session, error) {
	return f.Repo.Change(t.Context(), id, func(s *sessions.Session) ([]sessions.Event, error) {
		return s.Arrive(at)
	})
}

// verify stores the session whatever the answer, as the service does.
func (f Fixture) verify(t testing.TB, id sessions.ID, otp string, at time.Time) (s sessions.Session, refused error) {
	s, err := f.Repo.Change(t.Context(), id, func(s *sessions.Session) ([]sessions.Event, error) {
		refused = s.Verify(otp, at)
		return nil, nil
	})
	if err != nil {
		return s, err
	}
	return s, refused
}

func requireCode(t testing.TB, want sessions.Code, err error) {
	t.Helper()
	require.Equal(t, want, sessions.CodeOf(err), "%v", err)
}
