package postgres

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sony/gobreaker/v2"
)

// guardedPool is the pool behind a breaker: while the database is away, or so
// slow that no connection is to be had, calls fail at once instead of after
// CallTimeout each, and nothing piles up before a door that is shut. It has
// only those of the pool's methods that are used, so that none goes past it.
type guardedPool struct {
	inner   *pgxpool.Pool
	breaker *gobreaker.TwoStepCircuitBreaker[any]
}

// guard puts a breaker before a pool: a rolling ten seconds; half of at least
// twenty calls failed opens it, a second later (what callers are told to wait)
// three probes in a row close it.
func guard(pool *pgxpool.Pool, onBreaker func(state string)) *guardedPool {
	return &guardedPool{pool, gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Name: "database", MaxRequests: 3, Timeout: retryAfter, Interval: 10 * time.Second, BucketPeriod: time.Second,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.Requests >= 20 && c.TotalFailures*2 >= c.Requests },
		IsSuccessful: answered,
		IsExcluded:   func(err error) bool { return errors.Is(err, context.Canceled) }, // the caller left
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if onBreaker != nil {
				onBreaker(to.String())
			}
		},
	})}
}

// answered reports whether a call says that the database is well. An error that
// the server itself gives is an answer, be it a row that is locked or a table
// that is missing; but not one that says that it cannot serve (class 57: it
// shuts down, starts, or had to end a statement that took too long; class 53:
// it has no room; class 08: its own word for a connection gone). A row that
// cannot be read was answered, too.
func answered(err error) bool {
	var (
		said       *pgconn.PgError
		unreadable pgx.ScanArgError
	)
	switch {
	case err == nil, errors.Is(err, pgx.ErrNoRows), errors.As(err, &unreadable):
		return true
	case !errors.As(err, &said):
		return false
	}
	return !strings.HasPrefix(said.Code, "57") && !strings.HasPrefix(said.Code, "53") && !strings.HasPrefix(said.Code, "08")
}

// errBroken is how a call on one connection ended badly, where only the
// connection can still tell.
var errBroken = errors.New("the connection was lost")

// Exec is pgxpool's.
func (p *guardedPool) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	done, err := p.breaker.Allow()
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := p.inner.Exec(ctx, sql, args...)
	done(err)
	return tag, err
}

// Ping is pgxpool's.
func (p *guardedPool) Ping(ctx context.Context) error {
	done, err := p.breaker.Allow()
	if err != nil {
		return err
	}
	err = p.inner.Ping(ctx)
	done(err)
	return err
}

// QueryRow is pgxpool's, but for this: the query is sent when the row is
// scanned, which it must be.
func (p *guardedPool) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return guardedRow(func(into []any) error {
		done, err := p.breaker.Allow()
		if err != nil {
			return err
		}
		err = p.inner.QueryRow(ctx, sql, args...).Scan(into...)
		done(err)
		return err
	})
}

type guardedRow func(into []any) error

func (r guardedRow) Scan(into ...any) error { return r(into) }

// Query is pgxpool's. The rows must be closed, as pgx's collectors do.
func (p *guardedPool) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	done, err := p.breaker.Allow()
	if err != nil {
		return nil, err
	}
	rows, err := p.inner.Query(ctx, sql, args...)
	if err != nil {
		done(err)
		return nil, err
	}
	return &guardedRows{rows, done}, nil
}

// guardedRows tells at its end how the query went: a server that stalls does so
// while the rows are read.
type guardedRows struct {
	pgx.Rows
	done func(error)
}

// Close is pgx's. It may be repeated.
func (r *guardedRows) Close() {
	r.Rows.Close()
	if r.done != nil {
		r.done(r.Err())
		r.done = nil
	}
}

// Acquire is pgxpool's. release must be called: it gives the connection back,
// and what became of it meanwhile is how the call went; pgx closes one whose
// server did not answer in time.
func (p *guardedPool) Acquire(ctx context.Context) (conn *pgxpool.Conn, release func(), err error) {
	done, err := p.breaker.Allow()
	if err != nil {
		return nil, nil, err
	}
	if conn, err = p.inner.Acquire(ctx); err != nil {
		done(err)
		return nil, nil, err
	}
	return conn, func() {
		if conn.Conn().IsClosed() {
			err = errBroken
		}
		conn.Release()
		done(err)
	}, nil
}
