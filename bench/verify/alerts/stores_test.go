package alerts

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions/postgres"
)

// ofStores are the faults of the live store and of PostgreSQL.
func ofStores() []fault {
	return []fault{
		{
			name: "live store killed", alerts: []string{"DoorstepUpdatesNotStored", "DoorstepLiveStoreBreakerOpen"},
			window: 2 * time.Minute, open: liveStoreKilled,
		},
		{name: "live store slow", alerts: []string{"DoorstepLiveStoreSlow"}, open: liveStoreSlow},
		{
			name: "database killed", alerts: []string{"DoorstepDatabaseUnavailable", "DoorstepErrorsBurn"},
			window: 5 * time.Minute, open: databaseKilled,
		},
		{
			name: "table locked", alerts: []string{"DoorstepDatabasePoolExhausted", "DoorstepDatabaseUnavailable", "DoorstepErrorsBurn"},
			window: 5 * time.Minute, open: tableLocked,
		},
		{name: "clock of the database's machine off", alerts: []string{"DoorstepClockOff"}, open: clockOff},
		{name: "trigger refuses the end", alerts: []string{"DoorstepJourneysStuck"}, open: journeyStuck},
	}
}

func liveStoreKilled(t *testing.T, s *stage) (cause, mend func()) {
	live := valkeytest.Private(t, valkeyserver.Valkey)
	g := s.gateway(t, "VALKEY_URL="+live.URL(), "DATABASE_URL="+database(t))
	journeys := started(t, g.URL(), 10)
	stop := make(chan struct{})
	var phones sync.WaitGroup
	t.Cleanup(func() { close(stop); phones.Wait() })
	cause = func() {
		require.NoError(t, live.Kill())
		for _, j := range journeys {
			phones.Go(func() { // more often than real ones, for there are few
				for {
					j.Update(t.Context(), g.URL(), j.Street())
					select {
					case <-stop:
						return
					case <-time.After(200 * time.Millisecond):
					}
				}
			})
		}
	}
	return cause, func() { require.NoError(t, live.Restart(t.Context())) }
}

func liveStoreSlow(t *testing.T, s *stage) (cause, mend func()) {
	live := valkeytest.Private(t, valkeyserver.Valkey)
	g := s.gateway(t, "VALKEY_URL="+live.URL(), "DATABASE_URL="+database(t))
	slow := started(t, g.URL(), 1)[0]
	cause = func() {
		_, err := live.Do(t.Context(), "CLIENT", "PAUSE", "200", "ALL")
		require.NoError(t, err)
		require.NoError(t, slow.Update(t.Context(), g.URL(), slow.Street()).Err) // 202 where the machine adds 50 ms
	}
	return cause, func() { // 1 of 200 is less than one in a hundred
		for _, j := range started(t, g.URL(), 200) {
			j.Update(t.Context(), g.URL(), j.Street())
		}
	}
}

func databaseKilled(t *testing.T, s *stage) (cause, mend func()) {
	server := postgrestest.Private(t)
	url := server.New(t)
	require.NoError(t, postgres.Migrate(t.Context(), url, nil))
	g := s.gateway(t, "VALKEY_URL="+valkeytest.Valkey(t), "DATABASE_URL="+url)
	started(t, g.URL(), 1)
	cause = func() {
		require.NoError(t, server.Kill())
		for range 40 {
			book(t, g.URL())
		}
	}
	return cause, func() { require.NoError(t, server.Restart(t.Context())) }
}

// book tries to book a session.
func book(t *testing.T, base string) rig.Answer {
	t.Helper()
	j, err := rig.NewJourney(home, nil)
	require.NoError(t, err)
	return j.Book(t.Context(), base, newAdmin(t))
}

// tableLocked has a transaction that holds the sessions and goes on: what a forgotten psql
// does.
func tableLocked(t *testing.T, s *stage) (cause, mend func()) {
	url := database(t)
	g := s.gateway(t, "VALKEY_URL="+valkeytest.Valkey(t), "DATABASE_URL="+url, "DATABASE_MAX_CONNS=2")
	var calls sync.WaitGroup
	t.Cleanup(calls.Wait)
	cause = func() {
		forgotten, err := pgx.Connect(t.Context(), url)
		require.NoError(t, err)
		t.Cleanup(func() { _ = forgotten.Close(t.Context()) })
		_, err = forgotten.Exec(t.Context(), "SET application_name = 'forgotten'; BEGIN; LOCK tutoring_sessions")
		require.NoError(t, err)
		for range 300 {
			calls.Go(func() { book(t, g.URL()) })
		}
	}
	return cause, func() {
		execute(t, url, `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'forgotten'`)
		is(t, 503, book(t, g.URL())) // it has no statement under way that this could end
		execute(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'forgotten'`)
		calls.Wait()
		require.Eventually(t, func() bool { return book(t, g.URL()).Status == http.StatusCreated }, patience, often) // its breaker is open for a second
	}
}

// clockOff gives the database a clock that is five seconds ahead: functions are looked for
// in the schema that is named first.
func clockOff(t *testing.T, s *stage) (cause, mend func()) {
	url := database(t)
	execute(t, url, `CREATE SCHEMA off`)
	ahead := func(seconds string) {
		execute(t, url, `CREATE OR REPLACE FUNCTION off.clock_timestamp() RETURNS timestamptz LANGUAGE sql
			AS $$ SELECT pg_catalog.clock_timestamp() + interval '`+seconds+` s' $$`)
	}
	ahead("5")
	s.gateway(t, "VALKEY_URL="+valkeytest.Valkey(t), "DATABASE_URL="+url+"&search_path=off,pg_catalog,public")
	return nil, func() { ahead("0") }
}

// journeyStuck has a journey past its hour, and a trigger of the operator's own that lets
// nobody end it.
func journeyStuck(t *testing.T, s *stage) (cause, mend func()) {
	url := database(t)
	store := "VALKEY_URL=" + valkeytest.Valkey(t)
	before := newProcess(t, false, []string{store, "DATABASE_URL=" + url})
	started(t, before.URL(), 1)
	require.NoError(t, before.Kill())
	execute(t, url, `UPDATE tutoring_sessions SET journey_started_at = now() - interval '2 hours'`)
	execute(t, url, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;
		CREATE TRIGGER refuse BEFORE UPDATE ON tutoring_sessions FOR EACH ROW EXECUTE FUNCTION refuse()`)
	g := s.gateway(t, store, "DATABASE_URL="+url)
	return nil, func() {
		assert.Contains(t, g.Log(), "journey cannot be timed out")
		execute(t, url, `DROP TRIGGER refuse ON tutoring_sessions`)
	}
}
