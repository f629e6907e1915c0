package postgres_test

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/scripts"
	"doorstep/sessions"
)

// shared is a service on PostgreSQL and Valkey whose table another service of the
// operator writes, too.
type shared struct {
	*sessions.Service
	*sessions.Reconciler
	bundle
	live      *scripts.Store
	valkey    *valkeyserver.Server
	corrected map[string]int
}

func (h *shared) Reconciled(int, error) {}
func (h *shared) Corrected(why string)  { h.corrected[why]++ }

func openShared(t *testing.T) *shared {
	t.Helper()
	b := setup(t)
	h := &shared{bundle: b, corrected: map[string]int{}}
	h.valkey = valkeytest.Private(t, valkeyserver.Valkey)
	live, err := scripts.New(scripts.Options{URL: h.valkey.URL()})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- live.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ran })
	require.Eventually(t, live.Ready, 10*time.Second, 10*time.Millisecond)
	h.live = live
	h.Service, h.Reconciler = h.gateway()
	return h
}

// gateway is one more on the same stores.
func (h *shared) gateway() (*sessions.Service, *sessions.Reconciler) {
	s := sessions.NewService(h.Repository, h.live, sessions.ServiceOptions{})
	return s, sessions.NewReconciler(s, nil, h)
}

// journey is a running one with a location, which the gateway serves.
func (h *shared) journey(t *testing.T) sessions.Session {
	t.Helper()
	s := h.booked(t)
	s, err := h.Start(t.Context(), trainerOf(s), s.ID, "")
	require.NoError(t, err)
	require.Equal(t, sessions.VerdictStored, h.fix(t, s).Verdict)
	return s
}

func trainerOf(s sessions.Session) sessions.Caller {
	return sessions.Caller{ID: s.TrainerID, Role: sessions.Trainer}
}

func studentOf(s sessions.Session) sessions.Caller {
	return sessions.Caller{ID: s.StudentID, Role: sessions.Student}
}

func (h *shared) fix(t *testing.T, s sessions.Session) sessions.Receipt {
	t.Helper()
	r, err := h.Update(t.Context(), trainerOf(s), s.ID, sessions.Fix{Point: geo.MustPoint(12.9, 77.5)})
	require.NoError(t, err)
	return r
}

// looks is what a caller sees of a session.
func (h *shared) looks(t *testing.T, c sessions.Caller, id sessions.ID) (sessions.View, error) {
	t.Helper()
	ref, err := h.Ref(t.Context(), c, id)
	if err != nil {
		return sessions.View{}, err
	}
	return h.View(t.Context(), ref)
}

func (h *shared) sql(t *testing.T, query string, args ...any) {
	t.Helper()
	h.exec(t, query, args...)
}

// pass is what a gateway does within 15 s.
func (h *shared) pass(t *testing.T) {
	t.Helper()
	require.NoError(t, h.Pass(t.Context()))
}

// once requires that all that was corrected is this, and that another gateway that
// serves the session, too, corrects nothing.
func (h *shared) once(t *testing.T, s sessions.Session, want map[string]int) {
	t.Helper()
	require.Equal(t, want, h.corrected)
	other, reconciler := h.gateway()
	_, _ = other.Ref(t.Context(), sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}, s.ID)
	require.NoError(t, reconciler.Pass(t.Context()))
	require.Equal(t, want, h.corrected)
}

// told is the session's history: of each entry what, by whom, and what was found.
func (h *shared) told(t *testing.T, s sessions.Session) (list []string) {
	t.Helper()
	entries, err := h.Repository.History(t.Context(), s.ID, sessions.HistoryPlace{}, 100)
	require.NoError(t, err)
	for _, e := range entries {
		list = append(list, strings.TrimSpace(fmt.Sprint(e.Kind, " ", cmp.Or(e.By.Role, "system"), " ", e.Detail.Found)))
	}
	return list
}

// outrun is a repository whose answers are older than what follows.
type outrun struct {
	sessions.Repository
	row sessions.Session
}

func (r outrun) Sessions(context.Context, []sessions.ID) (map[sessions.ID]sessions.Session, error) {
	return map[sessions.ID]sessions.Session{r.row.ID: r.row}, nil
}

func (r outrun) EndedSince(context.Context, time.Time, sessions.ID, int) ([]sessions.Session, error) {
	return []sessions.Session{r.row}, nil
}

// A journey that starts while the reconciler works on an older answer goes on.
func TestReconciler_a_start_meanwhile(t *testing.T) {
	t.Parallel()
	h := openShared(t)
	s := h.journey(t)
	stopped, err := h.Stop(t.Context(), trainerOf(s), s.ID)
	require.NoError(t, err)
	for _, answer := range []sessions.Session{stopped, s} {
		_, err = h.Start(t.Context(), trainerOf(s), s.ID, "")
		require.NoError(t, err)
		h.Service = sessions.NewService(outrun{h.Repository, answer}, h.live, sessions.ServiceOptions{})
		h.Reconciler = sessions.NewReconciler(h.Service, nil, h)
		require.Equal(t, sessions.VerdictStored, h.fix(t, s).Verdict)
		h.pass(t)
		view, err := h.looks(t, studentOf(s), s.ID)
		require.NoError(t, err)
		require.NotNil(t, view.Location)
		require.Empty(t, h.corrected)
		_, err = h.Stop(t.Context(), trainerOf(s), s.ID)
		require.NoError(t, err)
	}
}

func TestReconciler(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T, *shared, sessions.Session){
		"cancelled_by_sql": func(t *testing.T, h *shared, s sessions.Session) {
			h.sql(t, `UPDATE tutoring_sessions SET status = 'cancelled' WHERE id = $1`, string(s.ID))
			h.pass(t)
			view, err := h.looks(t, studentOf(s), s.ID)
			require.NoError(t, err)
			require.Nil(t, view.Location)
			require.Equal(t, sessions.Ended, view.Phase())
			_, err = h.Update(t.Context(), trainerOf(s), s.ID, sessions.Fix{Point: geo.MustPoint(12.9, 77.5)})
			require.Equal(t, sessions.NoActiveJourney, sessions.CodeOf(err))
			ended := events(t, h.url, s.ID)[1]
			require.Equal(t, []any{sessions.JourneyEnded, sessions.EndCancelled}, []any{ended.Type, ended.Reason})
			h.once(t, s, map[string]int{"cancelled": 1})
			require.Equal(t, []string{"booked system", "journey_started trainer", "journey_ended system cancelled"}, h.told(t, s))
		},
		"another_trainer_by_sql": func(t *testing.T, h *shared, s sessions.Session) {
			next := s
			next.TrainerID = sessions.NewID()
			h.sql(t, `UPDATE tutoring_sessions SET trainer_id = $2 WHERE id = $1`, string(s.ID), string(next.TrainerID))
			h.pass(t)
			_, err := h.Update(t.Context(), trainerOf(s), s.ID, sessions.Fix{Point: geo.MustPoint(12.9, 77.5)})
			require.Equal(t, sessions.Forbidden, sessions.CodeOf(err))
			kept, err := h.valkey.Do(t.Context(), "HGETALL", "location:trainer:{"+string(s.TrainerID)+"}:session:"+string(s.ID))
			require.NoError(t, err)
			require.NotContains(t, kept, "12.9", "no coordinate outlives the end")
			told := events(t, h.url, s.ID)
			require.Len(t, told, 2)
			require.Equal(t, s.TrainerID, told[1].TrainerID, "whose journey it was")
			h.once(t, s, map[string]int{"reassigned": 1, "parties": 1})
			require.ElementsMatch(t, []string{
				"booked system", "journey_started trainer", "database_disagreed system parties", "journey_ended system reassigned",
			}, h.told(t, s))

			_, err = h.Start(t.Context(), trainerOf(next), s.ID, "")
			require.NoError(t, err)
			require.Equal(t, sessions.VerdictStored, h.fix(t, next).Verdict)
			h.pass(t)
			view, err := h.looks(t, studentOf(s), s.ID)
			require.NoError(t, err)
			require.NotNil(t, view.Location, "of the new trainer")
			require.Len(t, events(t, h.url, s.ID), 3, "the new journey goes on")
		},
		"another_student_by_sql": func(t *testing.T, h *shared, s sessions.Session) {
			next := s
			next.StudentID = sessions.NewID()
			h.sql(t, `UPDATE tutoring_sessions SET student_id = $2 WHERE id = $1`, string(s.ID), string(next.StudentID))
			_, err := h.looks(t, studentOf(next), s.ID)
			require.NoError(t, err, "let in at once")
			h.pass(t)
			_, err = h.looks(t, studentOf(s), s.ID)
			require.Equal(t, sessions.Forbidden, sessions.CodeOf(err))
			require.Equal(t, sessions.Forbidden, sessions.CodeOf(h.Party(studentOf(s), s.ID)), "nor one who waits")
			require.NoError(t, h.Party(studentOf(next), s.ID))
		},
		"another_student_by_a_call": func(t *testing.T, h *shared, s sessions.Session) {
			other, _ := h.gateway()
			next := sessions.NewID()
			_, err := other.Rebook(t.Context(), sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}, s.ID, sessions.Rebooking{StudentID: &next})
			require.NoError(t, err)
			h.pass(t)
			h.once(t, s, map[string]int{"parties": 1})
			require.Equal(t, []string{"booked system", "journey_started trainer", "rebooked admin"}, h.told(t, s), "nobody has written the table")
		},
		"a_hash_comes_back_after_its_end": func(t *testing.T, h *shared, s sessions.Session) {
			key := "location:trainer:{" + string(s.TrainerID) + "}:session:" + string(s.ID)
			before, err := h.valkey.Do(t.Context(), "HGETALL", key)
			require.NoError(t, err)
			require.Contains(t, before, "12.9")
			_, err = h.valkey.Do(t.Context(), "COPY", key, "{"+string(s.TrainerID)+"}")
			require.NoError(t, err)
			_, err = h.Stop(t.Context(), trainerOf(s), s.ID)
			require.NoError(t, err)
			back := func() {
				_, err := h.valkey.Do(t.Context(), "COPY", "{"+string(s.TrainerID)+"}", key, "REPLACE")
				require.NoError(t, err)
			}
			back()
			h.pass(t) // it is served: ended at the first question
			view, err := h.looks(t, studentOf(s), s.ID)
			require.NoError(t, err)
			require.Nil(t, view.Location)
			require.False(t, view.Active)
			h.once(t, s, map[string]int{"ended": 1})

			back()
			_, other := h.gateway()
			require.NoError(t, other.Pass(t.Context())) // it serves nothing: found among what ended within the hour
			require.Equal(t, 2, h.corrected["ended"])
		},
		"another_home_by_sql": func(t *testing.T, h *shared, s sessions.Session) {
			h.pass(t)
			h.sql(t, `UPDATE tutoring_sessions SET student_home_location = '{"latitude": 12.9, "longitude": 77.5}' WHERE id = $1`, string(s.ID))
			require.Empty(t, h.corrected)
			_, reconciler := h.Service, h.Reconciler
			h.Service, h.Reconciler = h.gateway() // the first question of another gateway, as after 15 s
			_, err := h.looks(t, studentOf(s), s.ID)
			require.NoError(t, err)
			h.pass(t)
			view, err := h.looks(t, studentOf(s), s.ID)
			require.NoError(t, err)
			require.Zero(t, view.DistanceM)
			h.once(t, s, map[string]int{"home": 1})
			require.NoError(t, reconciler.Pass(t.Context()))
			require.Contains(t, h.told(t, s), "database_disagreed system home")
		},
		"a_row_is_deleted": func(t *testing.T, h *shared, s sessions.Session) {
			h.sql(t, `DELETE FROM tutoring_sessions WHERE id = $1`, string(s.ID))
			h.pass(t)
			view, err := h.looks(t, studentOf(s), s.ID)
			require.NoError(t, err, "its parties are remembered for a while")
			require.False(t, view.Active)
			require.Nil(t, view.Location)
			h.once(t, s, map[string]int{"deleted": 1})
		},
		"nothing_has_changed": func(t *testing.T, h *shared, s sessions.Session) {
			h.pass(t)
			view, err := h.looks(t, studentOf(s), s.ID)
			require.NoError(t, err)
			require.NotNil(t, view.Location)
			h.once(t, s, map[string]int{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := openShared(t)
			s := h.journey(t)
			_, err := h.looks(t, studentOf(s), s.ID)
			require.NoError(t, err)
			test(t, h, s)
		})
	}
}
