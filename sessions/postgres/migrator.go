package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"doorstep/internal/pause"
)

const (
	// guardLock is the advisory lock of a migrator for all of its run. stepLock is that of
	// one transaction; version 0.1.0 has only this one, and waits for it in a statement. An
	// index cannot be built CONCURRENTLY while another session is within a statement, so
	// no session may wait like that for a lock that is held while an index is built.
	stepLock  = 0x646f6f7273746570 // the letters "doorstep" read as a number
	guardLock = stepLock + 1
	guardPoll = 200 * time.Millisecond

	// A transaction first waits up to patientWait for locks behind which no reader and no
	// writer has to wait; another DDL statement and a vacuum have them, and an autovacuum
	// gives way to them. All others wait behind one that waits for an exclusive lock, so
	// it does so only for briefWait.
	patientWait = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '10s'"
	briefWait   = "SET LOCAL lock_timeout = '100ms'"

	// lockTries and lockPause: with pauses that double up to lockPauseMax, some three minutes.
	lockTries    = 25
	lockPause    = 250 * time.Millisecond
	lockPauseMax = 10 * time.Second

	// noteAfter is how long a step may take without a note; noteEvery is between two.
	noteAfter = 2 * time.Second
	noteEvery = 10 * time.Second
)

// migrator is one call of Migrate.
type migrator struct {
	opts  Options
	known []migration
	told  func(Progress)
	tries int           // for a lock
	pause time.Duration // after the first of them

	telling *sync.Mutex
	work    *pgx.Conn // runs the steps
	fresh   bool      // there is no table tutoring_sessions that others may use
}

func (m migrator) migrate(ctx context.Context) error {
	m.telling = &sync.Mutex{}
	work, direct, err := m.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = work.Close(context.WithoutCancel(ctx)) }()
	m.work = work
	version, err := m.version(ctx)
	if err != nil {
		return err
	}
	if version < len(m.known) {
		if !direct {
			m.tell(Progress{Note: "a pooler stands between: where the role has a statement_timeout, building an index may need a direct connection"})
		}
		if err := m.guarded(ctx); err != nil {
			return err
		}
	}
	return m.tellNoShow(ctx)
}

// connect connects, and reports whether to PostgreSQL itself. Through a pooler a setting of
// the session would stay in a connection that others use next: then none is made, and only
// transactions have settings. A cancelled call is also cancelled in the server, which
// would go on building an index for nobody.
func (m migrator) connect(ctx context.Context) (conn *pgx.Conn, direct bool, err error) {
	pool, err := pgxpool.ParseConfig(m.opts.URL) // which knows pool_max_conns; to pgx it is a start-up parameter
	if err != nil {
		return nil, false, badURL(err)
	}
	config := pool.ConnConfig
	if err := trust(config, m.opts.CA); err != nil {
		return nil, false, err
	}
	followWriter(config, m.opts.URL)
	if err := m.opts.oneHost(config); err != nil {
		return nil, false, err
	}
	if err := m.opts.renew(ctx, config); err != nil {
		return nil, false, unavailable("sign in to migrate", err)
	}
	// For a pooler, which may know no prepared statements; and because in a transaction the
	// portal of the extended protocol keeps its snapshot after the statement.
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: 5 * time.Second}
	}
	if conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		return nil, false, unavailable("connect to migrate", err)
	}
	var pid uint32
	err = conn.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid)
	if direct = pid == conn.PgConn().PID(); err == nil && direct { // a pooler makes up the other one
		_, err = conn.Exec(ctx, `SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0`)
	}
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, false, unavailable("connect to migrate", err)
	}
	return conn, direct, nil
}

// version is the schema's. The table of migrations may not be there yet.
func (m migrator) version(ctx context.Context) (version int, err error) {
	var there bool
	err = m.work.QueryRow(ctx, `SELECT to_regclass('doorstep_migrations') IS NOT NULL`).Scan(&there)
	if err == nil && there {
		err = m.work.QueryRow(ctx, schemaVersionNow).Scan(&version)
	}
	if err != nil {
		return 0, unavailable("read schema version", err)
	}
	if version > len(m.known) {
		return 0, fmt.Errorf("%w: it is at %d, this binary knows %d", ErrNewerSchema, version, len(m.known))
	}
	return version, nil
}

// guarded applies what is missing, while a transaction of another connection holds the
// lock: it ends with its connection, whatever happens to this process, and also works
// behind a pooler. Between statements it has no snapshot, so building an index does not wait
// for it.
func (m migrator) guarded(ctx context.Context) error {
	conn, _, err := m.connect(ctx)
	if err != nil {
		return err
	}
	defer func() {
		_, _ = conn.Exec(ctx, `ROLLBACK`) // a pooler would drop the connection
		_ = conn.Close(context.WithoutCancel(ctx))
	}()
	if err := m.guard(ctx, conn); err != nil {
		return err
	}
	err = m.work.QueryRow(ctx, `SELECT to_regclass(quote_ident(current_schema()) || '.tutoring_sessions') IS NULL`).Scan(&m.fresh)
	if err != nil {
		return unavailable("look for tutoring_sessions", err)
	}
	for {
		version, err := m.version(ctx)
		if err != nil || version == len(m.known) {
			return err
		}
		next, began := m.known[version], time.Now()
		if err := m.apply(ctx, next); err != nil {
			return fmt.Errorf("migration %s: %w", next.name, withHint(err))
		}
		m.tell(Progress{Version: next.version, Name: next.name, Took: time.Since(began)})
	}
}

// guard takes the lock, in a transaction that it leaves open.
func (m migrator) guard(ctx context.Context, conn *pgx.Conn) error {
	for tries := 0; ; tries++ {
		if _, err := conn.Exec(ctx, `BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = 0`); err != nil {
			return unavailable("wait for other migrators", err)
		}
		var mine bool
		if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, int64(guardLock)).Scan(&mine); err != nil {
			return unavailable("wait for other migrators", err)
		}
		if mine {
			return nil
		}
		if _, err := conn.Exec(ctx, `ROLLBACK`); err != nil {
			return unavailable("wait for other migrators", err)
		}
		if tries == int(noteAfter/guardPoll) {
			m.tell(Progress{Note: "another migrate is running; waiting for it"})
		}
		if err := pause.For(ctx, guardPoll); err != nil {
			return err
		}
	}
}

// apply applies one file.
func (m migrator) apply(ctx context.Context, next migration) error {
	if m.fresh {
		// Nobody has to wait, so it may as well be one transaction, which is faster and
		// leaves nothing behind when it fails.
		var all strings.Builder
		for _, s := range next.steps {
			all.WriteString(strings.ReplaceAll(s.sql, " CONCURRENTLY", ""))
		}
		return m.transact(ctx, next, step{sql: all.String()}, true)
	}
	for i, s := range next.steps {
		err := m.watched(ctx, next, s, func() error {
			return m.patiently(ctx, next, s, func() error {
				if concurrent.MatchString(s.sql) {
					return m.build(ctx, s)
				}
				return m.transact(ctx, next, s, i == len(next.steps)-1)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

var (
	concurrent = regexp.MustCompile(`INDEX CONCURRENTLY IF NOT EXISTS (\w+)\s+ON (\w+)`)
	altered    = regexp.MustCompile(`ALTER TABLE (\w+)`)
)

// shareUpdateExclusive takes the strongest lock that holds up no reader and no writer.
const shareUpdateExclusive = `DO $$ BEGIN IF to_regclass('%[1]s') IS NOT NULL THEN LOCK TABLE %[1]s IN SHARE UPDATE EXCLUSIVE MODE; END IF; END $$`

// transact runs a step as a transaction and, when it is the last one, records the file in
// it. A migrator of version 0.1.0 may have recorded the file meanwhile: then nothing is done.
func (m migrator) transact(ctx context.Context, next migration, s step, last bool) error {
	tx, err := m.work.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, patientWait); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(stepLock)); err != nil {
		return err
	}
	if version, err := m.version(ctx); err != nil || version >= next.version {
		return err
	}
	for _, table := range altered.FindAllStringSubmatch(s.sql, -1) {
		if _, err := tx.Exec(ctx, fmt.Sprintf(shareUpdateExclusive, table[1])); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, briefWait+"; "+s.sql); err != nil {
		return err
	}
	if last {
		if _, err := tx.Exec(ctx, migrationTable); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO doorstep_migrations (version, name) VALUES ($1, $2)`, next.version, next.name); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

// build builds an index. What a run that was interrupted has left is not valid: no query
// uses it, but every write keeps it up; so it is dropped first. Behind the table's lock,
// because a server may still be building for a migrator that is gone.
func (m migrator) build(ctx context.Context, s step) error {
	names := concurrent.FindStringSubmatch(s.sql)
	index, table := names[1], names[2]
	tx, err := m.work.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, patientWait+"; "+fmt.Sprintf(shareUpdateExclusive, table)); err != nil {
		return err
	}
	var left bool
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid)`, index).Scan(&left)
	if err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	if left {
		if _, err := m.work.Exec(ctx, `DROP INDEX CONCURRENTLY IF EXISTS `+index); err != nil {
			return err
		}
	}
	_, err = m.work.Exec(ctx, s.sql)
	return err
}

// patiently tries again while others hold the lock that do needs.
func (m migrator) patiently(ctx context.Context, next migration, s step, do func() error) error {
	wait := m.pause
	for try := 1; ; try++ {
		err := do()
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != lockNotAvailable && pg.Code != deadlockDetected {
			return err
		}
		holders := m.holders(ctx, s)
		if try == m.tries {
			return fmt.Errorf("%s: no lock after %d tries%s; end these transactions, or come back later, and migrate again: %w", s.words, try, holders, err)
		}
		m.tell(Progress{Version: next.version, Name: next.name, Note: fmt.Sprintf("%s: try %d of %d got no lock%s", s.words, try, m.tries, holders)})
		if err := pause.For(ctx, wait/2+rand.N(wait/2+1)); err != nil { //nolint:gosec // jitter needs no secrecy
			return err
		}
		wait = min(2*wait, lockPauseMax)
	}
}

// holders are the sessions of others that hold locks on the step's tables.
func (m migrator) holders(ctx context.Context, s step) string {
	var (
		list   *string
		tables []string
	)
	for _, table := range altered.FindAllStringSubmatch(s.sql, -1) {
		tables = append(tables, table[1])
	}
	for _, names := range concurrent.FindAllStringSubmatch(s.sql, -1) {
		tables = append(tables, names[2])
	}
	err := m.work.QueryRow(ctx, `SELECT string_agg(format('pid %s (%s, %s, transaction began %s ago)', pid, application_name, state, date_trunc('second', now() - xact_start)), ', ')
		FROM (SELECT DISTINCT a.pid, a.application_name, a.state, a.xact_start FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid AND l.granted
			WHERE l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
				AND l.relation IN (SELECT to_regclass(name) FROM unnest($1::text[]) name) AND a.pid <> pg_backend_pid() ORDER BY a.xact_start LIMIT 5) x`, tables).Scan(&list)
	if err != nil || list == nil {
		return ""
	}
	return ", held by " + *list
}

// watched runs a step and tells of it while it takes long.
func (m migrator) watched(ctx context.Context, next migration, s step, do func() error) error {
	ctx, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		began := time.Now()
		for err := pause.For(ctx, noteAfter); err == nil; err = pause.For(ctx, noteEvery) {
			m.tell(Progress{Version: next.version, Name: next.name, Note: fmt.Sprintf("%s: %s so far%s",
				s.words, time.Since(began).Round(time.Second), m.building(ctx))})
		}
	})
	err := do()
	stop()
	watching.Wait()
	return err
}

// building is how far the server is with an index, on a connection of its own: a statement
// of the guard could be waited for until its transaction ends.
func (m migrator) building(ctx context.Context) string {
	conn, _, err := m.connect(ctx)
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var text string
	err = conn.QueryRow(ctx, `SELECT format(', %s, block %s of %s%s', phase, blocks_done, blocks_total,
			CASE WHEN current_locker_pid <> 0 THEN format(', waits for the transaction of pid %s', current_locker_pid) END)
		FROM pg_stat_progress_create_index WHERE datname = current_database() LIMIT 1`).Scan(&text)
	if err != nil {
		return ""
	}
	return text
}

func (m migrator) tell(p Progress) {
	m.telling.Lock()
	defer m.telling.Unlock()
	m.told(p)
}

// statusRules are the type of status, and the CHECKs of status alone.
const statusRules = `SELECT format_type(a.atttypid, a.atttypmod),
	ARRAY(SELECT 'constraint ' || conname FROM pg_constraint c WHERE c.conrelid = a.attrelid AND c.contype = 'c' AND c.conkey = ARRAY[a.attnum] ORDER BY conname),
	ARRAY(SELECT pg_get_expr(conbin, conrelid) FROM pg_constraint c WHERE c.conrelid = a.attrelid AND c.contype = 'c' AND c.conkey = ARRAY[a.attnum] ORDER BY conname)
	FROM pg_attribute a WHERE a.attrelid = 'tutoring_sessions'::regclass AND a.attname = 'status'`

// tellNoShow says where a status cannot be no_show: an enum may have no such label, or a
// CHECK may refuse it. It changes nothing, because types and rules of the operator's are
// theirs. Each rule is asked by evaluating it.
func (m migrator) tellNoShow(ctx context.Context) error {
	var (
		typ           string
		names, checks []string
	)
	if err := m.work.QueryRow(ctx, statusRules).Scan(&typ, &names, &checks); err != nil {
		return unavailable("look at status", err)
	}
	names, checks = append([]string{"type " + typ}, names...), append([]string{"true"}, checks...)
	for i, check := range checks {
		allowed, err := m.allowed(ctx, fmt.Sprintf(`SELECT (%s)::boolean FROM (SELECT 'no_show'::%s AS status) t`, check, typ))
		if err != nil {
			return unavailable("look at status", err)
		}
		if !allowed {
			m.tell(Progress{Note: "status of tutoring_sessions cannot be no_show: your own " + names[i] +
				" does not allow it, and stays as it is; calls that need it answer 409 NOT_SUPPORTED"})
			return nil
		}
	}
	return nil
}

// allowed asks as a CHECK does: null is allowed. What the server refuses to evaluate is not.
func (m migrator) allowed(ctx context.Context, question string) (bool, error) {
	var answer *bool
	err := m.work.QueryRow(ctx, question).Scan(&answer)
	if _, refused := errors.AsType[*pgconn.PgError](err); refused {
		return false, nil
	}
	return answer == nil || *answer, err
}
