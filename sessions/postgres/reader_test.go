package postgres_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions"
	"doorstep/sessions/memory"
	"doorstep/sessions/postgres"
)

// nearby is a bundle whose server has a standby, and a Reader on the two that signs in to
// the standby as a role with no more rights than to read.
type nearby struct {
	bundle
	reader           *postgres.Reader
	primary, standby *postgrestest.Server
	outcomes         *states
	signedIn         *atomic.Value // user and address of the last password that was asked for
}

func withStandby(t *testing.T, settings ...string) nearby {
	t.Helper()
	b, primary := private(t, postgres.Options{}, settings...)
	b.sql = connect(t, b.url)
	for _, sql := range []string{"CREATE ROLE app LOGIN", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO app"} {
		b.exec(t, sql)
	}
	standby, err := primary.Standby(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, standby.Close()) })
	b.exec(t, "ALTER SYSTEM RESET synchronous_standby_names") // no commit waits for a reader
	b.exec(t, "SELECT pg_reload_conf()")
	n := nearby{bundle: b, primary: primary, standby: standby, signedIn: &atomic.Value{}}
	n.reader, n.outcomes = n.open(t, postgres.Options{
		URL: strings.Replace(standby.DSN(), "postgres@", "app@", 1),
		Password: func(_ context.Context, address, user string) (string, error) {
			n.signedIn.Store(user + " at " + address)
			return "unused", nil
		},
	})
	run(t, n.reader)
	return n
}

func run(t *testing.T, reader *postgres.Reader) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- reader.Run(ctx) }()
	t.Cleanup(func() { cancel(); assert.ErrorIs(t, <-ran, context.Canceled) })
}

// open makes a Reader that knows nothing of the primary's log until it runs.
func (n nearby) open(t *testing.T, opts postgres.Options) (*postgres.Reader, *states) {
	t.Helper()
	told := &states{}
	reader, err := postgres.NewReader(n.Repository, opts, told.add)
	require.NoError(t, err)
	t.Cleanup(reader.Close)
	return reader, told
}

// last is the outcome of the last read.
func last(told *states) string {
	seen := told.seen()
	if len(seen) == 0 {
		return ""
	}
	return seen[len(seen)-1]
}

// becomes waits until reads have this outcome. Each of them is answered, whatever it is.
func (n nearby) becomes(t *testing.T, outcome string) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := n.reader.Rating(t.Context(), known)
		return assert.NoError(t, err) && last(n.outcomes) == outcome
	}, 30*time.Second, 10*time.Millisecond, outcome)
}

// asked are the last statements of the Reader's connections to the standby.
func (n nearby) asked(t *testing.T) []string {
	t.Helper()
	rows, err := connect(t, n.standby.DSN()).Query(t.Context(), "SELECT query FROM pg_stat_activity WHERE usename = 'app'")
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

// An admin's lists, histories and ratings go to the standby. What decides, lets in, shows a
// place, or is read after one's own write does not, and no write does.
func TestReader_only_what_may_be_late(t *testing.T) {
	t.Parallel()
	n, ctx := withStandby(t), t.Context()
	live := memory.NewLive(sessions.LiveOptions{}, time.Now)
	service := sessions.NewService(n.Repository, live, sessions.ServiceOptions{LateReads: n.reader, Outcomes: n.reader})
	admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
	s, _, err := service.Create(ctx, admin, sessions.Booking{TrainerID: sessions.NewID(), StudentID: sessions.NewID(), Home: geo.MustPoint(12.9, 77.5)})
	require.NoError(t, err)
	for name, call := range map[string]func() error{
		"Start":    func() error { _, err := service.Start(ctx, trainerOf(s), s.ID, ""); return err },
		"Session":  func() error { _, err := service.Session(ctx, studentOf(s), s.ID); return err },
		"Ref":      func() error { _, err := service.Ref(ctx, studentOf(s), s.ID); return err },
		"Journeys": func() error { _, err := service.Journeys(ctx, admin, "", sessions.Cursor{}, 5); return err },
		"UserData": func() error { _, err := service.UserData(ctx, admin, s.StudentID); return err },
		"of the trainer": func() error {
			_, err := service.Own(ctx, trainerOf(s), sessions.Trainer, sessions.SessionQuery{Limit: 5})
			return err
		},
		"of the student": func() error {
			_, err := service.Own(ctx, studentOf(s), sessions.Student, sessions.SessionQuery{Limit: 5})
			return err
		},
	} {
		require.NoError(t, call(), name)
	}
	require.Empty(t, n.outcomes.seen())
	require.Empty(t, n.asked(t), "the standby has no connection yet")

	n.becomes(t, postgres.ReadAnswered)
	require.Eventually(t, func() bool { // the start has been replayed
		h, err := service.History(ctx, admin, s.ID, sessions.HistoryPlace{}, 10)
		return err == nil && len(h.Entries) == 2 && len(h.Journeys) == 1 && len(h.Outcomes) == 1 && last(n.outcomes) == postgres.ReadAnswered
	}, 20*time.Second, 10*time.Millisecond)
	before := len(n.outcomes.seen())
	list, err := service.List(ctx, admin, sessions.SessionQuery{TrainerID: s.TrainerID, Limit: 5})
	require.NoError(t, err)
	require.Len(t, list, 1)
	_, err = service.Rating(ctx, s.TrainerID)
	require.NoError(t, err)
	require.Len(t, n.outcomes.seen(), before+2)
	asked := n.asked(t)
	require.NotEmpty(t, asked)
	for _, sql := range asked {
		require.Regexp(t, "^SELECT ", sql)
	}
	require.Regexp(t, "^app at ", n.signedIn.Load(), "as to the primary, but at its own address")
}

// A standby that is paused, or has lost its primary, answers nothing that is older than a
// second. What it does not know yet is answered by the primary.
func TestReader_behind(t *testing.T) {
	t.Parallel()
	n, ctx := withStandby(t, "bgwriter_delay=10s"), t.Context() // it writes into the log of an idle primary
	service := sessions.NewService(n.Repository, memory.NewLive(sessions.LiveOptions{}, time.Now), sessions.ServiceOptions{LateReads: n.reader, Outcomes: n.reader})
	standby := connect(t, n.standby.DSN())
	exec := func(sql string) {
		_, err := standby.Exec(ctx, sql)
		require.NoError(t, err)
	}
	n.becomes(t, postgres.ReadAnswered)
	exec("SELECT pg_wal_replay_pause()")
	s := n.booked(t)
	admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
	h, err := service.History(ctx, admin, s.ID, sessions.HistoryPlace{}, 10)
	require.NoError(t, err)
	require.Len(t, h.Entries, 1, "it was booked just now")
	_, err = service.History(ctx, admin, known, sessions.HistoryPlace{}, 10)
	require.Equal(t, sessions.SessionNotFound, sessions.CodeOf(err))
	n.becomes(t, postgres.ReadBehind)
	list, err := n.reader.List(ctx, sessions.SessionQuery{TrainerID: s.TrainerID, Limit: 5})
	require.NoError(t, err)
	require.Equal(t, []sessions.Session{s}, list)

	exec("SELECT pg_wal_replay_resume()")
	n.becomes(t, postgres.ReadAnswered)
	exec("ALTER SYSTEM SET primary_conninfo = ''")
	exec("SELECT pg_reload_conf()")
	require.Eventually(t, func() bool {
		_, err := n.reader.Rating(ctx, known)
		return assert.NoError(t, err) && last(n.outcomes) == postgres.ReadBehind &&
			value[string](t, standby, "SELECT pg_last_wal_replay_lsn()::text") == value[string](t, n.sql, "SELECT pg_current_wal_flush_lsn()::text")
	}, 20*time.Second, 10*time.Millisecond, "it follows nobody, though it has all that was written")
}

func TestReader_away(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		leave, back func(*postgrestest.Server, context.Context) error
	}{
		"killed": {func(s *postgrestest.Server, _ context.Context) error { return s.Kill() }, (*postgrestest.Server).Restart},
		"silent": {func(s *postgrestest.Server, _ context.Context) error { return s.Pause() }, func(s *postgrestest.Server, _ context.Context) error { return s.Resume() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := withStandby(t)
			n.becomes(t, postgres.ReadAnswered)
			require.NoError(t, row.leave(n.standby, t.Context()))
			n.becomes(t, postgres.ReadBroken) // no read waits for it any more
			require.Contains(t, n.outcomes.seen(), postgres.ReadFailed)
			require.NoError(t, row.back(n.standby, t.Context()))
			n.becomes(t, postgres.ReadAnswered)
		})
	}
}

// Whatever the URL leads to, and however little is known of the primary, reads are answered
// while the primary is there.
func TestReader_of_no_use(t *testing.T) {
	t.Parallel()
	n := withStandby(t)
	n.becomes(t, postgres.ReadAnswered)
	for name, row := range map[string]struct {
		url, outcome string
		run          bool
	}{
		"the primary":             {n.primary.DSN(), postgres.ReadBehind, true},
		"a standby, and no Run":   {n.standby.DSN(), postgres.ReadBehind, false},
		"without the schema":      {strings.Replace(n.standby.DSN(), "/postgres?", "/template1?", 1), postgres.ReadFailed, true},
		"nobody":                  {"postgres://app@127.0.0.1:1/x", postgres.ReadFailed, true},
		"a user it does not know": {strings.Replace(n.standby.DSN(), "postgres@", "nobody@", 1), postgres.ReadFailed, true},
	} {
		reader, told := n.open(t, postgres.Options{URL: row.url})
		if row.run {
			run(t, reader)
		}
		require.Eventually(t, func() bool {
			_, err := reader.Rating(t.Context(), known)
			return assert.NoError(t, err, name) && last(told) == row.outcome
		}, 20*time.Second, 10*time.Millisecond, name)
		require.NotContains(t, told.seen(), postgres.ReadAnswered, name)
	}
	left, cancel := context.WithCancel(t.Context())
	cancel()
	before := len(n.outcomes.seen())
	_, err := n.reader.Rating(left, known)
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, n.outcomes.seen(), before, "a caller that has left says nothing")

	require.NoError(t, n.primary.Stop())
	require.Eventually(t, func() bool {
		_, err := n.reader.Rating(t.Context(), known)
		return sessions.CodeOf(err) == sessions.DatabaseUnavailable && last(n.outcomes) == postgres.ReadBehind
	}, 20*time.Second, 10*time.Millisecond, "how old its rows are nobody can say")
}

// What the environment says of the primary's servers does not keep the reader from a standby.
func TestReader_takes_a_server_that_does_not_write(t *testing.T) {
	server := withSchema(t)
	demote(t, server)
	t.Setenv("PGTARGETSESSIONATTRS", "read-write")
	_, err := postgres.Open(t.Context(), postgres.Options{URL: server.DSN()})
	requireUnavailable(t, err)
	n := nearby{bundle: bundle{}}
	reader, _ := n.open(t, postgres.Options{URL: server.DSN()})
	require.NoError(t, reader.Ping(t.Context()))
	reader, _ = n.open(t, postgres.Options{URL: server.DSN() + "&target_session_attrs=read-write"})
	require.Error(t, reader.Ping(t.Context()), "its own URL counts")
}

func TestReader_tells_no_password(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://app:pl4nted@h:port/x", "postgres://app:pl4nted%zz@h/x", "host=h password='pl4nted"} {
		_, err := postgres.NewReader(nil, postgres.Options{URL: url}, nil)
		require.ErrorContains(t, err, "parse URL")
		require.NotContains(t, err.Error(), "pl4nted")
	}
	reader, _ := nearby{}.open(t, postgres.Options{URL: "postgres://app:pl4nted@127.0.0.1:1/x"})
	err := reader.Ping(t.Context())
	require.Error(t, err)
	require.NotContains(t, err.Error(), "pl4nted")
}
