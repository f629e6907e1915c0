package postgres_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions/postgres"
)

// schema is all columns, constraints but for their names, and valid indexes.
func schema(t testing.TB, sql *pgx.Conn) []string {
	t.Helper()
	rows, err := sql.Query(t.Context(), `SELECT line FROM (
		SELECT format('%s.%s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)) AS line
			FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
			WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
		UNION ALL SELECT format('%s %s %s', conrelid::regclass, pg_get_constraintdef(oid), convalidated)
			FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'p', 'u')
		UNION ALL SELECT format('%s %s', pg_get_indexdef(indexrelid), indisvalid)
			FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE c.relnamespace = 'public'::regnamespace) x ORDER BY line`)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.NotEmpty(t, lines)
	return lines
}

// operators is a database with an operator's table of n rows.
func operators(t testing.TB, n int) (url string, sql *pgx.Conn) {
	t.Helper()
	url = postgrestest.New(t)
	sql = connect(t, url)
	_, err := sql.Exec(t.Context(), operatorsTable)
	require.NoError(t, err)
	operatorsRows(t, sql, n)
	return url, sql
}

// notes migrates and returns what it said on its way.
func notes(t testing.TB, url string) (said []string) {
	t.Helper()
	require.NoError(t, postgres.Migrate(t.Context(), url, func(p postgres.Progress) {
		if p.Note != "" {
			said = append(said, p.Note)
		}
	}))
	return said
}

// All ways lead to one schema: in one transaction on an empty database, step by step
// beside a table, and from a database that version 0.1.0 has made or extended.
func TestMigrate_one_schema(t *testing.T) {
	t.Parallel()
	for name, ddl := range map[string]string{"empty": "", "existing": operatorsTable} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var schemas [2][]string
			for i := range schemas {
				url := postgrestest.New(t)
				sql := connect(t, url)
				_, err := sql.Exec(t.Context(), ddl)
				require.NoError(t, err)
				want := everyMigration(t)
				if i == 1 {
					require.NoError(t, released(t.Context(), sql))
					want = want[4:]
				}
				require.Equal(t, want, migrated(t, url))
				schemas[i] = schema(t, sql)
			}
			require.Equal(t, schemas[0], schemas[1])
		})
	}
}

// A migrator that is ended at any point leaves what the next one can go on from.
func TestMigrate_interrupted(t *testing.T) {
	t.Parallel()
	whole, sql := operators(t, 100)
	require.Equal(t, everyMigration(t), migrated(t, whole))
	want := schema(t, sql)
	url, sql := operators(t, 100)
	for i := range 40 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*4*time.Millisecond)
		_ = postgres.Migrate(ctx, url, nil)
		cancel()
	}
	migrated(t, url)
	require.Equal(t, want, schema(t, sql))
}

// An index that was left half built is of no use to queries, and a burden to writes.
func TestMigrate_builds_an_invalid_index_again(t *testing.T) {
	t.Parallel()
	url, sql := operators(t, 100)
	writer := connect(t, url) // an index waits for transactions that have written
	_, err := writer.Exec(t.Context(), `BEGIN; UPDATE tutoring_sessions SET student_otp = NULL`)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error)
	go func() { ended <- postgres.MigrateTimes(ctx, url, 1000, nil) }()
	invalid := func() int {
		return value[int](t, sql, `SELECT count(*) FROM pg_index WHERE NOT indisvalid AND indrelid = 'tutoring_sessions'::regclass`)
	}
	// The columns need a moment without the writer; then it comes back.
	_, err = writer.Exec(t.Context(), `COMMIT`)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := writer.Exec(t.Context(), `BEGIN; UPDATE tutoring_sessions SET student_otp = NULL WHERE id = md5('1')::uuid`)
		require.NoError(t, err)
		time.Sleep(20 * time.Millisecond)
		if invalid() > 0 {
			return true
		}
		_, err = writer.Exec(t.Context(), `COMMIT`)
		require.NoError(t, err)
		return false
	}, 30*time.Second, time.Millisecond)
	cancel()
	require.Error(t, <-ended)
	require.Eventually(t, func() bool {
		return value[int](t, sql, `SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database()`) == 0
	}, 10*time.Second, 10*time.Millisecond, "the server builds on for nobody")
	require.Equal(t, 1, invalid())
	_, err = writer.Exec(t.Context(), `COMMIT`)
	require.NoError(t, err)
	migrated(t, url)
	require.Zero(t, invalid())
	require.Equal(t, 3, value[int](t, sql, `SELECT count(*) FROM pg_index WHERE indisvalid AND indexrelid IN (
		'tutoring_sessions_one_running_journey'::regclass, 'tutoring_sessions_of_student'::regclass, 'tutoring_sessions_running_since'::regclass)`))
}

// A transaction that stays open keeps the migration waiting, and nobody behind it.
func TestMigrate_waits_for_a_long_transaction(t *testing.T) {
	t.Parallel()
	t.Run("and_goes_on", func(t *testing.T) {
		t.Parallel()
		url, sql := operators(t, 100)
		reader := connect(t, url)
		_, err := reader.Exec(t.Context(), `SET application_name = 'nightly report'; BEGIN; SELECT count(*) FROM tutoring_sessions`)
		require.NoError(t, err)
		said, ended := make(chan string, 1000), make(chan error)
		go func() {
			ended <- postgres.MigrateTimes(t.Context(), url, 1000, func(p postgres.Progress) { said <- p.Note })
		}()
		note := <-said
		require.Contains(t, note, "add the columns: try 1 of 1000 got no lock, held by pid ")
		require.Contains(t, note, "nightly report, idle in transaction, transaction began")
		require.Equal(t, 100, value[int](t, sql, `SELECT count(*) FROM tutoring_sessions`), "a second reader passes")
		_, err = reader.Exec(t.Context(), `COMMIT`)
		require.NoError(t, err)
		require.NoError(t, <-ended)
	})
	t.Run("and_gives_up", func(t *testing.T) {
		t.Parallel()
		url, _ := operators(t, 100)
		reader := connect(t, url)
		_, err := reader.Exec(t.Context(), `BEGIN; SELECT count(*) FROM tutoring_sessions`)
		require.NoError(t, err)
		err = postgres.MigrateTimes(t.Context(), url, 2, nil)
		require.ErrorContains(t, err, "migration 0001_sessions_and_outbox: add the columns: no lock after 2 tries, held by pid ")
		_, err = reader.Exec(t.Context(), `COMMIT`)
		require.NoError(t, err)
		require.Equal(t, everyMigration(t), migrated(t, url))
	})
}

// An autovacuum of a large table may take hours, and gives way to nobody who waits for
// less than deadlock_timeout.
func TestMigrate_has_an_autovacuum_give_way(t *testing.T) {
	t.Parallel()
	server := postgrestest.Private(t, "autovacuum_naptime=1s")
	url := server.New(t)
	sql := connect(t, url)
	_, err := sql.Exec(t.Context(), operatorsTable)
	require.NoError(t, err)
	_, err = sql.Exec(t.Context(), `ALTER TABLE tutoring_sessions SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1,
		autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)`)
	require.NoError(t, err)
	operatorsRows(t, sql, 20_000)
	_, err = sql.Exec(t.Context(), `UPDATE tutoring_sessions SET student_otp = '1234'`)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return value[bool](t, sql, `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid AND a.backend_type = 'autovacuum worker'
			WHERE l.relation = 'tutoring_sessions'::regclass AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted)`)
	}, 60*time.Second, 10*time.Millisecond)
	require.NoError(t, postgres.MigrateTimes(t.Context(), url, 3, nil))
}

// Two migrators beside a table: an index of the one must not wait for the other.
func TestMigrate_twice_at_once_beside_a_table(t *testing.T) {
	t.Parallel()
	url, sql := operators(t, 1000)
	var (
		all     sync.WaitGroup
		mu      sync.Mutex
		applied int
	)
	for range 4 {
		all.Go(func() {
			assert.NoError(t, postgres.Migrate(t.Context(), url, func(p postgres.Progress) {
				mu.Lock()
				defer mu.Unlock()
				if p.Note == "" {
					applied++
				}
			}))
		})
	}
	all.Wait()
	require.Equal(t, len(everyMigration(t)), applied)
	require.Zero(t, value[int](t, sql, `SELECT count(*) FROM pg_index WHERE NOT indisvalid`))
}

func TestMigrate_no_show(t *testing.T) {
	t.Parallel()
	const table = `CREATE TABLE tutoring_sessions (id uuid PRIMARY KEY, trainer_id uuid, student_id uuid NOT NULL, status `
	for name, test := range map[string]struct{ ddl, rule string }{
		"no_table": {"", ""},
		"text":     {table + `text NOT NULL)`, ""},
		"enum": {`CREATE TYPE lesson_status AS ENUM ('scheduled', 'pending_verification', 'in_progress', 'completed');` +
			table + `lesson_status NOT NULL)`, "type lesson_status"},
		"enum_with_it": {`CREATE TYPE lesson_status AS ENUM ('scheduled', 'pending_verification', 'in_progress', 'completed', 'no_show');` +
			table + `lesson_status NOT NULL)`, ""},
		"check": {table + `text CONSTRAINT few CHECK (status IN ('scheduled', 'pending_verification', 'in_progress', 'completed')))`, "constraint few"},
		"check_of_the_same_name": {
			table + `text CHECK (status IN ('scheduled', 'pending_verification', 'in_progress', 'completed')))`,
			"constraint tutoring_sessions_status_check",
		},
		"check_with_it": {table + `text CHECK (status <> 'lost'))`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := postgrestest.New(t)
			sql := connect(t, url)
			_, err := sql.Exec(t.Context(), test.ddl)
			require.NoError(t, err)
			for range 2 { // each time
				said := notes(t, url)
				if test.rule == "" {
					require.Empty(t, said)
					continue
				}
				require.Len(t, said, 1)
				require.Contains(t, said[0], "status of tutoring_sessions cannot be no_show: your own "+test.rule+" does not allow it")
			}
			_, err = sql.Exec(t.Context(), `INSERT INTO tutoring_sessions (id, trainer_id, student_id, status)
				VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'no_show')`)
			require.Equal(t, test.rule == "", err == nil, "their rule is as it was")
			_, err = sql.Exec(t.Context(), `INSERT INTO tutoring_sessions (id, trainer_id, student_id, status)
				VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'lost')`)
			require.Equal(t, test.ddl == table+`text NOT NULL)`, err == nil, "and so is ours")
		})
	}
}

// Behind a pooler a setting of a session would stay for the session's next user.
func TestMigrate_leaves_no_setting_in_a_pooler(t *testing.T) {
	t.Parallel()
	server, sql := operators(t, 100)
	pooled, sent := pooler(t, server)
	require.Contains(t, strings.Join(notes(t, pooled), "\n"), "a pooler stands between")
	require.NotEmpty(t, schema(t, sql))
	text := sent()
	require.Contains(t, text, "SET LOCAL lock_timeout")
	require.NotContains(t, strings.ReplaceAll(text, "SET LOCAL ", ""), "SET statement_timeout")
	require.NotContains(t, strings.ReplaceAll(text, "SET LOCAL ", ""), "SET lock_timeout = 0")
	require.NotContains(t, text, "pg_advisory_lock")
}

// pooler stands before a server as a pooler does: the number of the server's process that
// it tells is not the true one. sent is what its clients have sent.
func pooler(t testing.TB, server string) (pooled string, sent func() string) {
	t.Helper()
	u, err := url.Parse(server)
	require.NoError(t, err)
	query := u.Query()
	socket := filepath.Join(query.Get("host"), ".s.PGSQL.5432")
	dir, err := os.MkdirTemp("", "pg") //nolint:usetesting // t.TempDir's names are too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	query.Set("host", dir)
	u.RawQuery = query.Encode()
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	require.NoError(t, err)
	var (
		mu     sync.Mutex
		record bytes.Buffer
		all    sync.WaitGroup
	)
	t.Cleanup(func() { _ = listener.Close(); all.Wait() })
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			backend, err := net.Dial("unix", socket)
			if !assert.NoError(t, err) {
				return
			}
			all.Go(func() { _ = falsify(client, backend); _ = client.Close() })
			all.Go(func() {
				chunk := make([]byte, 64<<10)
				for {
					n, err := client.Read(chunk)
					mu.Lock()
					record.Write(chunk[:n])
					mu.Unlock()
					if _, failed := backend.Write(chunk[:n]); err != nil || failed != nil {
						_ = backend.Close()
						return
					}
				}
			})
		}
	})
	return u.String(), func() string { mu.Lock(); defer mu.Unlock(); return record.String() }
}

// falsify copies messages, and changes the process number in BackendKeyData.
func falsify(to io.Writer, from io.Reader) error {
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(from, head); err != nil {
			return err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(from, body); err != nil {
			return err
		}
		if head[0] == 'K' {
			body[0] ^= 0x40
		}
		if _, err := to.Write(slices.Concat(head, body)); err != nil {
			return err
		}
	}
}

// The last step of a file records it, so it is a transaction; what may be repeated says so.
func TestMigrations_have_steps(t *testing.T) {
	t.Parallel()
	for _, entry := range everyMigration(t) {
		_, name, _ := strings.Cut(entry, " ")
		text, err := os.ReadFile(filepath.Join("migrations", name+".sql"))
		require.NoError(t, err)
		steps := strings.Split(string(text), "\n-- step: ")
		require.NotContains(t, steps[len(steps)-1], "CONCURRENTLY", name)
		for _, step := range steps[1:] {
			if strings.Contains(step, "CONCURRENTLY") {
				require.Equal(t, 1, strings.Count(step, ";"), "one statement: %s", step)
				require.Contains(t, step, "INDEX CONCURRENTLY IF NOT EXISTS ")
			}
		}
	}
}
