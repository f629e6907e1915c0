package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"
	"github.com/stretchr/testify/require"

	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

// states is what a breaker has told.
type states struct {
	mu  sync.Mutex
	all []string
}

func (s *states) add(state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, state)
}

func (s *states) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.all...)
}

// Every way to the database counts, opens, is refused at once, and heals.
func TestBreaker(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(context.Context, *postgres.Repository) error{
		"row": func(ctx context.Context, r *postgres.Repository) error { _, err := r.Session(ctx, known); return err },
		"rows": func(ctx context.Context, r *postgres.Repository) error {
			_, err := r.List(ctx, sessions.SessionQuery{StudentID: known, Limit: 200})
			return err
		},
		"exec": func(ctx context.Context, r *postgres.Repository) error { return r.DeletePushToken(ctx, known, "x") },
		"change": func(ctx context.Context, r *postgres.Repository) error {
			_, err := r.Change(ctx, known, nil)
			return err
		},
		"ping": func(ctx context.Context, r *postgres.Repository) error { return r.Ping(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var told states
			b, server := private(t, postgres.Options{CallTimeout: 5 * time.Second, OnBreaker: told.add})
			well := func() bool {
				code := sessions.CodeOf(call(t.Context(), b.Repository))
				return code == "" || code == sessions.SessionNotFound
			}
			require.NoError(t, server.Stop())
			for range 18 { // the look at the schema was one, too
				require.False(t, well())
			}
			require.Empty(t, told.seen(), "19 are too few to tell")
			require.False(t, well())
			require.Equal(t, []string{"open"}, told.seen())
			err := call(t.Context(), b.Repository)
			requireUnavailable(t, err)
			require.ErrorIs(t, err, gobreaker.ErrOpenState)

			require.NoError(t, server.Restart(t.Context()))
			require.Eventually(t, func() bool {
				well()
				seen := told.seen()
				return seen[len(seen)-1] == "closed"
			}, 20*time.Second, 20*time.Millisecond)
			require.True(t, well())
		})
	}
}

var known = sessions.NewID()

// A refusal is an answer, a row that is locked too, and a caller that left says
// nothing.
func TestBreaker_does_not_count(t *testing.T) {
	t.Parallel()
	var told states
	b := setup(t)
	repo := open(t, postgres.Options{URL: b.url, MaxConns: 4, LockTimeout: time.Millisecond, OnBreaker: told.add})
	s := create(t, repo)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	tx, err := b.sql.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT FROM tutoring_sessions WHERE id = $1 FOR UPDATE`, string(s.ID))
	require.NoError(t, err)
	refusal := errors.New("no")
	for range 40 {
		_, err := repo.Session(t.Context(), sessions.NewID())
		require.Equal(t, sessions.SessionNotFound, sessions.CodeOf(err))
		_, err = repo.Session(gone, s.ID)
		require.ErrorIs(t, err, context.Canceled)
		_, err = repo.Change(t.Context(), s.ID, start)
		requireUnavailable(t, err) // locked
	}
	require.NoError(t, tx.Rollback(t.Context()))
	for range 40 {
		_, err = repo.Change(t.Context(), s.ID, func(*sessions.Session) ([]sessions.Event, error) { return nil, refusal })
		require.ErrorIs(t, err, refusal)
	}
	require.Empty(t, told.seen())
}
