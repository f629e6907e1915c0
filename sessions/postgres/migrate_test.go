package postgres_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	t.Run("tells_progress_and_repeats", func(t *testing.T) {
		t.Parallel()
		url := postgrestest.New(t)
		require.Equal(t, everyMigration(t), migrated(t, url))
		require.Empty(t, migrated(t, url), "nothing is left to do")
	})
	t.Run("several_at_once", func(t *testing.T) {
		t.Parallel()
		url := postgrestest.New(t)
		var (
			wg      sync.WaitGroup
			mu      sync.Mutex
			applied int
		)
		for range 8 {
			wg.Go(func() {
				err := postgres.Migrate(t.Context(), url, func(postgres.Progress) {
					mu.Lock()
					defer mu.Unlock()
					applied++
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, len(everyMigration(t)), applied)
	})
	t.Run("newer_database", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.exec(t, `INSERT INTO doorstep_migrations (version, name) VALUES (9999, '9999_from_the_future')`)
		err := postgres.Migrate(t.Context(), b.url, nil)
		require.ErrorIs(t, err, postgres.ErrNewerSchema)
		require.ErrorContains(t, err, fmt.Sprintf("it is at 9999, this binary knows %d", len(everyMigration(t))))
		require.NoError(t, b.CheckSchema(t.Context()), "but the binary before serves on: a roll-back needs it")
	})
	t.Run("fails_whole", func(t *testing.T) {
		t.Parallel()
		url := postgrestest.New(t)
		sql := connect(t, url)
		_, err := sql.Exec(t.Context(), `CREATE TABLE outbox (theirs int)`)
		require.NoError(t, err)
		require.ErrorContains(t, postgres.Migrate(t.Context(), url, nil), `migration 0001_sessions_and_outbox: ERROR: relation "outbox" already exists`)
		require.Zero(t, value[int](t, sql, `SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'outbox'`))
		_, err = sql.Exec(t.Context(), `DROP TABLE outbox`)
		require.NoError(t, err)
		require.Equal(t, everyMigration(t), migrated(t, url))
	})
	t.Run("no_server", func(t *testing.T) {
		t.Parallel()
		err := postgres.Migrate(t.Context(), "postgres://nobody@127.0.0.1:1/none?connect_timeout=1", nil)
		require.Equal(t, sessions.DatabaseUnavailable, sessions.CodeOf(err))
	})
}

func TestRepository_CheckSchema(t *testing.T) {
	t.Parallel()
	t.Run("empty_database", func(t *testing.T) {
		t.Parallel()
		_, err := postgres.Open(t.Context(), postgres.Options{URL: postgrestest.New(t)})
		require.ErrorIs(t, err, postgres.ErrOldSchema)
		require.ErrorContains(t, err, "run `gateway migrate`")
	})
	t.Run("a_migration_is_missing", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.exec(t, `DELETE FROM doorstep_migrations`)
		require.ErrorIs(t, b.CheckSchema(t.Context()), postgres.ErrOldSchema)
	})
	t.Run("as_it_should_be", func(t *testing.T) {
		t.Parallel()
		require.NoError(t, setup(t).CheckSchema(t.Context()))
	})
}

// Versions are counted on to have no gap.
func TestMigrations_are_numbered_without_a_gap(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir("migrations")
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	for i, entry := range entries {
		require.True(t, strings.HasPrefix(entry.Name(), fmt.Sprintf("%04d_", i+1)), entry.Name())
		require.True(t, strings.HasSuffix(entry.Name(), ".sql"), entry.Name())
	}
}

// everyMigration is what an empty database has applied to it, as migrated
// tells it.
func everyMigration(t testing.TB) (all []string) {
	t.Helper()
	entries, err := os.ReadDir("migrations")
	require.NoError(t, err)
	for i, entry := range entries {
		all = append(all, fmt.Sprint(i+1, " ", strings.TrimSuffix(entry.Name(), ".sql")))
	}
	return all
}

func migrated(t testing.TB, url string) (applied []string) {
	t.Helper()
	require.NoError(t, postgres.Migrate(t.Context(), url, func(p postgres.Progress) {
		require.Positive(t, p.Took)
		applied = append(applied, fmt.Sprint(p.Version, " ", p.Name))
	}))
	return applied
}
