package sessions_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// silentRepo is a repository that cannot be asked about sessions while it is away.
type silentRepo struct {
	*memory.Repository
	away bool
}

func (r *silentRepo) Sessions(ctx context.Context, ids []sessions.ID) (map[sessions.ID]sessions.Session, error) {
	if r.away {
		return nil, errAway
	}
	return r.Repository.Sessions(ctx, ids)
}

// While the database is away its last answer holds for 300 s. Then nobody sees a place,
// until it has answered again.
func TestReconciler_database_away(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		repo := &silentRepo{Repository: memory.NewRepository(nil)}
		s := sessions.NewService(repo, memory.NewLive(sessions.LiveOptions{}, time.Now), sessions.ServiceOptions{})
		reconciler := sessions.NewReconciler(s, nil, nil)
		trainer, student := sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}, sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}
		session, _, err := s.Create(t.Context(), sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin},
			sessions.Booking{TrainerID: trainer.ID, StudentID: student.ID, Home: geo.MustPoint(52, 5)})
		require.NoError(t, err)
		_, err = s.Start(t.Context(), trainer, session.ID, "")
		require.NoError(t, err)
		// shown lets 15 s go by, with a fix and a question, and then reads as the student.
		shown := func() bool {
			time.Sleep(15 * time.Second)
			_, err := s.Update(t.Context(), trainer, session.ID, sessions.Fix{Point: geo.MustPoint(52.01, 5)})
			require.NoError(t, err, "not on this path")
			require.Equal(t, repo.away, reconciler.Pass(t.Context()) != nil)
			ref, err := s.Ref(t.Context(), student, session.ID)
			require.NoError(t, err)
			view, err := s.View(t.Context(), ref)
			require.NoError(t, err)
			require.Equal(t, view.Degraded, view.Location == nil)
			return view.Location != nil
		}
		require.True(t, shown())
		repo.away = true
		for at := 15; at < 300; at += 15 {
			require.True(t, shown(), "after %d s", at)
		}
		require.False(t, shown(), "after 300 s")
		require.False(t, shown())
		repo.away = false
		require.True(t, shown())
	})
}

type correctedCount int

func (*correctedCount) Reconciled(int, error) {}
func (n *correctedCount) Corrected(string)    { *n++ }

// Another student by SQL shuts the old one out of a gateway that has never met the
// session, although only the phone has been heard since; and it is corrected once.
func TestReconciler_parties_where_only_updates_come(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		repo, live := memory.NewRepository(nil), memory.NewLive(sessions.LiveOptions{}, time.Now)
		s, other := sessions.NewService(repo, live, sessions.ServiceOptions{}), sessions.NewService(repo, live, sessions.ServiceOptions{})
		var corrected correctedCount
		reconciler := sessions.NewReconciler(s, nil, &corrected)
		trainer, student := sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}, sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}
		session, _, err := s.Create(t.Context(), sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin},
			sessions.Booking{TrainerID: trainer.ID, StudentID: student.ID, Home: geo.MustPoint(52, 5)})
		require.NoError(t, err)
		_, err = s.Start(t.Context(), trainer, session.ID, "")
		require.NoError(t, err)
		pass := func() {
			time.Sleep(15 * time.Second)
			_, err := s.Update(t.Context(), trainer, session.ID, sessions.Fix{Point: geo.MustPoint(52.01, 5)})
			require.NoError(t, err)
			require.NoError(t, reconciler.Pass(t.Context()))
		}
		pass()
		_, err = repo.Rebook(t.Context(), session.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			s.StudentID = sessions.NewID()
			return nil, nil
		})
		require.NoError(t, err)
		pass()
		_, err = other.Ref(t.Context(), student, session.ID)
		require.Equal(t, sessions.Forbidden, sessions.CodeOf(err))
		for range 3 {
			pass()
		}
		require.EqualValues(t, 1, corrected)
	})
}
