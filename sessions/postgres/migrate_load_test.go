package postgres_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions/postgres"
)

// loadRows are enough for a scan to take many times as long as a statement of the load.
const loadRows = 500_000

const operatorsTable = `CREATE TABLE tutoring_sessions (id uuid PRIMARY KEY, trainer_id uuid, student_id uuid NOT NULL,
	status varchar(20) NOT NULL, student_home_location jsonb, trainer_start_location jsonb, student_otp varchar(6))`

func operatorsRows(t testing.TB, sql *pgx.Conn, n int) {
	t.Helper()
	_, err := sql.Exec(t.Context(), `INSERT INTO tutoring_sessions (id, trainer_id, student_id, status, student_home_location)
		SELECT md5(i::text)::uuid, md5('t' || i / 100)::uuid, md5('s' || i / 20)::uuid, 'completed', '{"latitude": 12.97, "longitude": 77.59}'
		FROM generate_series(1, $1) i`, n)
	require.NoError(t, err)
}

// load reads and writes an operator's table until it is stopped.
type load struct {
	stop    func()
	longest atomic.Int64 // ns that one statement took
	count   atomic.Int64
}

func startLoad(t testing.TB, url string) *load {
	t.Helper()
	l := &load{}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, statement := range []string{
		`SELECT count(*) FROM tutoring_sessions WHERE id = md5($1::int::text)::uuid`,
		`UPDATE tutoring_sessions SET student_otp = '1234' WHERE id = md5($1::int::text)::uuid`,
		`INSERT INTO tutoring_sessions (id, trainer_id, student_id, status) VALUES (gen_random_uuid(), md5($1::int::text)::uuid, gen_random_uuid(), 'scheduled')`,
	} {
		conn := connect(t, url)
		running.Go(func() {
			for i := 1; ctx.Err() == nil; i++ {
				began := time.Now()
				_, err := conn.Exec(context.WithoutCancel(ctx), statement, i%loadRows)
				if took := int64(time.Since(began)); took > l.longest.Load() {
					l.longest.Store(took) // a value that another statement overwrites is a shorter one, or nearly
				}
				if !assert.NoError(t, err) {
					return
				}
				l.count.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	l.stop = func() { cancel(); running.Wait() }
	return l
}

// watchLocks returns how long the table was locked exclusively without a break, at most.
func watchLocks(t testing.TB, url string) (stop func() time.Duration) {
	t.Helper()
	conn := connect(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	var (
		watching sync.WaitGroup
		longest  time.Duration
	)
	watching.Go(func() {
		var since time.Time
		for ctx.Err() == nil {
			asked := time.Now()
			var locked bool
			err := conn.QueryRow(context.WithoutCancel(ctx), `SELECT EXISTS (SELECT FROM pg_locks
				WHERE relation = 'tutoring_sessions'::regclass AND mode = 'AccessExclusiveLock' AND granted)`).Scan(&locked)
			if !assert.NoError(t, err) {
				return
			}
			switch {
			case !locked:
				since = time.Time{}
			case since.IsZero():
				since = asked
			default:
				longest = max(longest, asked.Sub(since))
			}
			time.Sleep(2 * time.Millisecond)
		}
	})
	return func() time.Duration { cancel(); watching.Wait(); return longest }
}

// released brings a schema to that of version 0.1.0, by its own files and in its way.
func released(ctx context.Context, sql *pgx.Conn) error {
	files, err := filepath.Glob("testdata/released/*.sql")
	if err != nil || len(files) != 4 {
		return errors.Join(err, errors.New("four files are expected"))
	}
	for i, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		err = pgx.BeginFunc(ctx, sql, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS doorstep_migrations (
				version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz(3) NOT NULL DEFAULT now()); `+string(text))
			if err == nil {
				_, err = tx.Exec(ctx, `INSERT INTO doorstep_migrations (version, name) VALUES ($1, $2)`, i+1, filepath.Base(file))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Nobody who reads or writes a large table has to wait while it is migrated. All is
// compared with what this machine does at the moment: with the longest statement of the
// same load without a migration, and with one scan of the table. The released migrations,
// which locked the table, fail both.
func TestMigrate_holds_up_nobody(t *testing.T) {
	// Not parallel: it needs the machine.
	for name, test := range map[string]struct {
		migrate func(t *testing.T, url string) error
		holds   bool
	}{
		"step_by_step": {func(t *testing.T, url string) error { return postgres.Migrate(t.Context(), url, nil) }, false},
		"as_released":  {func(t *testing.T, url string) error { return released(t.Context(), connect(t, url)) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			for try := 1; ; try++ {
				held, locked := holdsUp(t, test.migrate)
				if held == test.holds && locked == test.holds {
					return
				}
				// What else the machine does may hold up a statement, but not each time.
				require.Less(t, try, 3, "held up: %v; locked while the table is read: %v", held, locked)
			}
		})
	}
}

// holdsUp migrates a large table under load. It reports whether a statement of the load
// took much longer than without a migration, and whether the table was locked exclusively
// for longer than one scan of it.
func holdsUp(t *testing.T, migrate func(t *testing.T, url string) error) (held, read bool) {
	t.Helper()
	url := postgrestest.New(t)
	sql := connect(t, url)
	_, err := sql.Exec(t.Context(), operatorsTable)
	require.NoError(t, err)
	operatorsRows(t, sql, loadRows)

	migrating, locks := startLoad(t, url), watchLocks(t, url)
	began := time.Now()
	require.NoError(t, migrate(t, url))
	took, locked := time.Since(began), locks()
	migrating.stop()
	idle := startLoad(t, url)
	time.Sleep(took)
	idle.stop()
	began = time.Now()
	require.Positive(t, value[int](t, sql, `SELECT count(*) FROM tutoring_sessions WHERE student_otp IS DISTINCT FROM trainer_id::text`))
	scan := time.Since(began)

	longest, usual := time.Duration(migrating.longest.Load()), time.Duration(idle.longest.Load())
	t.Logf("took %s; longest statement %s, without a migration %s; exclusive lock %s, a scan %s; %d statements, %d without",
		took, longest, usual, locked, scan, migrating.count.Load(), idle.count.Load())
	limit := max(200*time.Millisecond, 8*usual)
	return longest > limit, locked > scan
}
