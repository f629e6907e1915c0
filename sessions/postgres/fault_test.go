package postgres_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

// callTimeout is short here, so that a test of silence is; slack is what a
// loaded machine may add before a bound counts as broken.
const (
	callTimeout = 600 * time.Millisecond
	slack       = 8 * time.Second
)

// private is a bundle on a server of its own.
func private(t *testing.T, opts postgres.Options, settings ...string) (bundle, *postgrestest.Server) {
	t.Helper()
	server := postgrestest.Private(t, settings...)
	require.NoError(t, postgres.Migrate(t.Context(), server.DSN(), nil))
	opts.URL = server.DSN()
	return bundle{Repository: open(t, opts), url: server.DSN()}, server
}

func TestFault_silent_server(t *testing.T) {
	t.Parallel()
	b, server := private(t, postgres.Options{CallTimeout: callTimeout, MaxConns: 4})
	s := b.booked(t)
	require.NoError(t, server.Pause())
	for name, call := range map[string]func() error{
		"Session": func() error { _, err := b.Session(t.Context(), s.ID); return err },
		"List": func() error {
			_, err := b.List(t.Context(), sessions.SessionQuery{StudentID: s.StudentID, Limit: 200})
			return err
		},
		"Create":      func() error { _, _, err := b.Create(t.Context(), booking()); return err },
		"Change":      func() error { _, err := b.Change(t.Context(), s.ID, start); return err },
		"Ping":        func() error { return b.Ping(t.Context()) },
		"CheckSchema": func() error { return b.CheckSchema(t.Context()) },
	} {
		began := time.Now()
		requireUnavailable(t, call())
		require.Less(t, time.Since(began), callTimeout+slack, name)
	}
	t.Run("crowd", func(t *testing.T) {
		began := time.Now()
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				if _, err := b.Change(t.Context(), s.ID, start); sessions.CodeOf(err) != sessions.DatabaseUnavailable {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Less(t, time.Since(began), callTimeout+slack, "waiting in a row would take 50 times as long")
	})
	require.NoError(t, server.Resume())
	began := time.Now()
	b.heals(t, s.ID)
	t.Logf("healed %s after the server went on", time.Since(began).Round(time.Millisecond))
	require.Equal(t, s, must(b.Session(t.Context(), s.ID)), "what was refused has not happened late")
}

// heals waits for the first answer; nobody restarts the gateway for it.
func (b bundle) heals(t *testing.T, id sessions.ID) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := b.Session(t.Context(), id)
		return err == nil
	}, 20*time.Second, 20*time.Millisecond)
}

func TestFault_server_killed_in_a_change(t *testing.T) {
	t.Parallel()
	b, server := private(t, postgres.Options{CallTimeout: 5 * time.Second})
	s := b.booked(t)
	stood, err := b.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
		require.NoError(t, server.Kill())
		return start(s)
	})
	requireUnavailable(t, err)
	require.Equal(t, s, stood)
	_, err = b.Session(t.Context(), s.ID)
	requireUnavailable(t, err)
	require.NoError(t, server.Restart(t.Context()))
	b.heals(t, s.ID)
	require.Equal(t, s, must(b.Session(t.Context(), s.ID)), "nothing half done")
	require.Empty(t, events(t, b.url, s.ID))
	_, err = b.Change(t.Context(), s.ID, start)
	require.NoError(t, err)
}

// A restart costs at most one refusal a connection: those that were used
// within the last second are not looked at before they are used again.
func TestFault_server_restarted(t *testing.T) {
	t.Parallel()
	const conns = 4
	b, server := private(t, postgres.Options{MaxConns: conns})
	s := b.booked(t)
	fill(t, b, s.ID, conns)
	require.NoError(t, server.Restart(t.Context()))
	refused := 0
	for range conns * 3 {
		if _, err := b.Session(t.Context(), s.ID); err != nil {
			requireUnavailable(t, err)
			refused++
		}
	}
	require.LessOrEqual(t, refused, conns)
	require.NoError(t, b.Ping(t.Context()))
}

// fill makes n connections by using them at the same time.
func fill(t *testing.T, b bundle, id sessions.ID, n int) {
	t.Helper()
	ids := []sessions.ID{id}
	for len(ids) < n {
		ids = append(ids, b.booked(t).ID)
	}
	var all, done sync.WaitGroup
	all.Add(n)
	for _, id := range ids {
		done.Go(func() {
			_, err := b.Change(t.Context(), id, func(*sessions.Session) ([]sessions.Event, error) {
				all.Done()
				all.Wait()
				return nil, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
}

func TestFault_connection_ended_in_a_change(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := b.booked(t)
	_, err := b.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
		b.exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND state = 'idle in transaction'`)
		return start(s)
	})
	requireUnavailable(t, err)
	require.Empty(t, events(t, b.url, s.ID))
	_, err = b.Change(t.Context(), s.ID, start)
	require.NoError(t, err, "on a fresh connection, and the row is free")
}

func TestFault_server_out_of_connections(t *testing.T) {
	t.Parallel()
	b, _ := private(t, postgres.Options{CallTimeout: callTimeout, MaxConns: 1}, "max_connections=5")
	s := b.booked(t)
	other, err := postgres.New(postgres.Options{URL: b.url, CallTimeout: callTimeout})
	require.NoError(t, err)
	defer other.Close()
	for range 4 { // one is the pool's
		connect(t, b.url)
	}
	_, err = other.Session(t.Context(), s.ID)
	requireUnavailable(t, err)
	require.ErrorContains(t, err, "SQLSTATE 53300")
	require.NoError(t, b.Ping(t.Context()), "who has a connection keeps it")
	b.Close()
	require.Eventually(t, func() bool { return other.Ping(t.Context()) == nil }, 10*time.Second, 10*time.Millisecond)
}

func TestFault_pool_exhausted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	repo := open(t, postgres.Options{URL: b.url, MaxConns: 1, CallTimeout: callTimeout})
	s := b.booked(t)
	_, err := repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
		_, err := repo.Session(t.Context(), s.ID)
		requireUnavailable(t, err)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		return nil, nil
	})
	_ = err // the outer call has had its time, too
	require.NoError(t, repo.Ping(t.Context()))
}

// The answer to a COMMIT is lost on the way. What the package comment says
// then: the caller hears of a fault, and trying again does no harm.
func TestFault_answer_to_the_commit_lost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	wire := newProxy(t, b.url)
	repo := open(t, postgres.Options{URL: wire.url, CallTimeout: 5 * time.Second})
	s := b.booked(t)
	wire.cutAfter("commit")
	stood, err := repo.Change(t.Context(), s.ID, start)
	requireUnavailable(t, err)
	require.Equal(t, s, stood)
	require.Eventually(t, func() bool { return must(b.Session(t.Context(), s.ID)).JourneyActive() },
		10*time.Second, 10*time.Millisecond, "it was committed")

	var refusal *sessions.Error
	_, err = repo.Change(t.Context(), s.ID, start)
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, sessions.JourneyAlreadyStarted, refusal.Code)
	require.Equal(t, noon, refusal.Journey.JourneyStartedAt)
	require.Len(t, events(t, b.url, s.ID), 1, "told once")

	wire.cutAfter("commit")
	_, err = repo.Change(t.Context(), s.ID, arrive)
	requireUnavailable(t, err)
	again, err := repo.Change(t.Context(), s.ID, arrive)
	require.NoError(t, err)
	require.Equal(t, must(b.Session(t.Context(), s.ID)).OTP, again.OTP)
	require.Len(t, events(t, b.url, s.ID), 2)
}

// The server's host has left the network without a word, and another took its
// place. Nothing tells the pool that its connections are dead but their
// silence, and nobody restarts the gateway.
func TestFault_host_gone(t *testing.T) {
	t.Parallel()
	t.Run("while_connecting", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		wire := newProxy(t, b.url)
		s := b.booked(t)
		wire.leave()
		repo, err := postgres.New(postgres.Options{
			URL: wire.url, MaxConns: 1, CallTimeout: callTimeout, ConnectTimeout: callTimeout,
		})
		require.NoError(t, err)
		t.Cleanup(repo.Close)
		_, err = repo.Session(t.Context(), s.ID)
		requireUnavailable(t, err)
		wire.back()
		bundle{Repository: repo}.heals(t, s.ID)
	})
	t.Run("with_connections_that_idle", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		wire := newProxy(t, b.url)
		repo := open(t, postgres.Options{URL: wire.url, MaxConns: 8})
		t.Cleanup(wire.drop) // else Close waits 15 s for each silent one to say goodbye
		s := b.booked(t)
		fill(t, bundle{Repository: repo, url: b.url}, s.ID, 3)
		wire.leave()
		wire.back()
		<-time.After(1100 * time.Millisecond) // pgx looks only at what has idled for a second
		_, err := repo.Session(t.Context(), s.ID)
		require.NoError(t, err, "each silent one costs a ping, and the call still has time for a fresh one")
	})
}

func TestRepository_Close_silent_server(t *testing.T) {
	t.Parallel()
	b, server := private(t, postgres.Options{CallTimeout: callTimeout, MaxConns: 4})
	fill(t, b, b.booked(t).ID, 4)
	require.NoError(t, server.Pause())
	began := time.Now()
	b.Close()
	t.Logf("closed in %s", time.Since(began).Round(time.Millisecond))
	require.Less(t, time.Since(began), 20*time.Second)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
