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

// migration is one file: 0001_some_words.sql, and the steps in it, which lines "-- step: some
// words" begin. The result of a released file is never changed. A file only adds to the
// schema, or does the same by other means, so that the binary before it still serves: a
// rolling update and a roll-back need that.
type migration struct {
	version int
	name    string
	steps   []step
}

// step is one transaction, or one statement with CONCURRENTLY, which cannot be in one. It
// may be repeated, except for the last of a file: that one is a transaction, and also
// records the file.
type step struct {
	words string // what it does; empty in a file without such lines
	sql   string
}

// Progress is one migration that was applied, or news of one that goes on.
type Progress struct {
	Version int
	Name    string
	Took    time.Duration
	// Note is not empty while the migration goes on: what takes long, or waits, and why.
	// Of a note that concerns no migration, Version is 0 and Name is empty.
	Note string
}

const (
	stepMark       = "\n-- step: "
	migrationTable = `CREATE TABLE IF NOT EXISTS doorstep_migrations (
		version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz(3) NOT NULL DEFAULT now())`
	schemaVersionNow = `SELECT coalesce(max(version), 0) FROM doorstep_migrations`
)

// Migrate brings the schema up to this binary's and calls progress, which may be nil, for
// each file that it applied, and with notes. A database without a table tutoring_sessions
// gets each file as one transaction. Beside an existing table each step of a file is on its
// own, so that nobody has to wait for a lock while rows are read (docs/adr/0013). Several
// migrators may run at once, and one that was ended at any point may run again. Errors:
// ErrNewerSchema, when the schema is newer and nothing was done; DatabaseUnavailable.
func Migrate(ctx context.Context, url string, progress func(Progress)) error {
	return Options{URL: url}.Migrate(ctx, progress)
}

// Migrate is like the function Migrate, with the options URL, URLFile, Password, Secret and CA.
func (o Options) Migrate(ctx context.Context, progress func(Progress)) error {
	if progress == nil {
		progress = func(Progress) {}
	}
	return migrator{opts: o, known: migrations(), told: progress, tries: lockTries, pause: lockPause}.migrate(ctx)
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
		known = append(known, migration{version: version, name: strings.TrimSuffix(entry.Name(), ".sql"), steps: steps(string(sql))})
	}
	return known
}

func steps(sql string) (list []step) {
	_, first, found := strings.Cut(sql, stepMark)
	if !found {
		return []step{{sql: sql}}
	}
	for part := range strings.SplitSeq(first, stepMark) {
		words, sql, _ := strings.Cut(part, "\n")
		list = append(list, step{words: words, sql: sql})
	}
	return list
}
