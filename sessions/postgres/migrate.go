package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrOldSchema is a database that this binary cannot serve from yet. ErrNewerSchema is one
// that a newer binary has migrated; this binary serves from it.
var (
	ErrOldSchema   = errors.New("the database's schema is older than this binary")
	ErrNewerSchema = errors.New("the database's schema is newer than this binary")
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is one file: 0001_some_words.sql. The statements of a released file are never
// changed. A file only adds to the schema, or does the same by other means, so that the
// binary before it still serves: a rolling update and a roll-back need that.
type migration struct {
	version int
	name    string
	sql     string
}

// Progress is one migration that was applied.
type Progress struct {
	Version int
	Name    string
	Took    time.Duration
}

const (
	// migrationLock is the advisory lock by which one migrator waits for another: the
	// letters "doorstep" read as a number.
	migrationLock = 0x646f6f7273746570
	// migrationLockTimeout bounds the wait for the tables. While a DDL statement waits
	// for a long transaction, all later statements on the table wait for it.
	migrationLockTimeout = "SET LOCAL lock_timeout = '10s'"
	migrationTable       = `CREATE TABLE IF NOT EXISTS doorstep_migrations (
		version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz(3) NOT NULL DEFAULT now())`
	schemaVersionNow = `SELECT coalesce(max(version), 0) FROM doorstep_migrations`
)

// Migrate brings the schema up to this binary's and calls progress, which may be nil,
// for each file that it applied. Each file is one transaction with its row in
// doorstep_migrations. Several migrators may run at once, and one that was killed may run
// again. Errors: ErrNewerSchema, when the schema is newer and nothing was done;
// DatabaseUnavailable.
func Migrate(ctx context.Context, url string, progress func(Progress)) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return unavailable("connect to migrate", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return migrate(ctx, conn, migrations(), progress)
}

func migrate(ctx context.Context, conn *pgx.Conn, known []migration, progress func(Progress)) error {
	for {
		applied, err := migrateOne(ctx, conn, known)
		if err != nil || applied == nil {
			return err
		}
		if progress != nil {
			progress(*applied)
		}
	}
}

// migrateOne applies the first file that is missing; nil when none is. The lock is the
// transaction's: it ends with it, whatever happens to this process, and also works behind
// a PgBouncer.
func migrateOne(ctx context.Context, conn *pgx.Conn, known []migration) (*Progress, error) {
	began := time.Now()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin migration: %w", err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	var version int
	if err := lockAndRead(ctx, tx, &version); err != nil {
		return nil, err
	}
	if version > len(known) {
		return nil, fmt.Errorf("%w: it is at %d, this binary knows %d", ErrNewerSchema, version, len(known))
	}
	if version == len(known) {
		return nil, nil //nolint:nilnil // nothing to apply and nothing wrong
	}
	next := known[version]
	if err := apply(ctx, tx, next); err != nil {
		return nil, err
	}
	return &Progress{Version: next.version, Name: next.name, Took: time.Since(began)}, nil
}

func lockAndRead(ctx context.Context, tx pgx.Tx, version *int) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
		return fmt.Errorf("wait for other migrators: %w", err)
	}
	if _, err := tx.Exec(ctx, migrationLockTimeout); err != nil {
		return fmt.Errorf("set lock time-out: %w", err)
	}
	if _, err := tx.Exec(ctx, migrationTable); err != nil {
		return fmt.Errorf("make doorstep_migrations: %w", err)
	}
	if err := tx.QueryRow(ctx, schemaVersionNow).Scan(version); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	return nil
}

func apply(ctx context.Context, tx pgx.Tx, m migration) error {
	if _, err := tx.Exec(ctx, strings.ReplaceAll(m.sql, " CONCURRENTLY", "")); err != nil {
		return fmt.Errorf("migration %s: %w", m.name, withHint(err))
	}
	if _, err := tx.Exec(ctx, `INSERT INTO doorstep_migrations (version, name) VALUES ($1, $2)`, m.version, m.name); err != nil {
		return fmt.Errorf("record migration %s: %w", m.name, err)
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit migration %s: %w", m.name, err)
	}
	return nil
}

// withHint adds the server's hint, which pgx leaves out of its message.
func withHint(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Hint != "" {
		return fmt.Errorf("%w. %s", err, pg.Hint)
	}
	return err
}

// CheckSchema is ErrOldSchema, with what to do about it, while a migration of this binary
// is missing. A newer schema is no error: see migration.
func (r *Repository) CheckSchema(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	var version int
	err := r.pool.QueryRow(ctx, schemaVersionNow).Scan(&version)
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && pg.Code == undefinedTable:
		version = 0
	case err != nil:
		return unavailable("check schema", err)
	}
	if wanted := len(migrations()); version < wanted {
		return fmt.Errorf("%w: it is at %d, %d is needed; run `gateway migrate`", ErrOldSchema, version, wanted)
	}
	return nil
}

// migrations are the embedded files in order. A test checks that their versions have no
// gap, so a version is also the number of files up to it.
func migrations() []migration {
	entries, err := migrationFiles.ReadDir("migrations")
	if err != nil {
		panic("postgres: embedded migrations: " + err.Error())
	}
	known := make([]migration, 0, len(entries))
	for _, entry := range entries { // ReadDir sorts by name
		sql, err := migrationFiles.ReadFile(path.Join("migrations", entry.Name()))
		if err != nil {
			panic("postgres: embedded migrations: " + err.Error())
		}
		number, _, _ := strings.Cut(entry.Name(), "_")
		version, err := strconv.Atoi(number)
		if err != nil {
			panic("postgres: migration without a number: " + entry.Name())
		}
		known = append(known, migration{version: version, name: strings.TrimSuffix(entry.Name(), ".sql"), sql: string(sql)})
	}
	return known
}
