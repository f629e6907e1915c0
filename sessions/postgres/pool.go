package postgres

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sony/gobreaker/v2"
)

// guardedPool is the pool behind a breaker: while the database is away, or so slow that
// no connection is free, calls fail at once instead of after CallTimeout each, and do not
// pile up. It has only the pool's methods that are used, so that none goes round the
// breaker.
type guardedPool struct {
	inner   *pgxpool.Pool
	breaker *gobreaker.TwoStepCircuitBreaker[any]
	// mustReplay is up to where a standby must have replayed the log to answer a read: see
	// Reader. Nil: it is the primary's pool.
	mustReplay func() (lsn string, err error)
}

// guard puts a breaker before a pool. It opens when half of at least twenty calls within
// a rolling ten seconds have failed. A second later, which is what callers are told to
// wait, three successful probes in a row close it.
func guard(pool *pgxpool.Pool, onBreaker func(state string)) *guardedPool {
	return &guardedPool{inner: pool, breaker: gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
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

// answered reports whether a call shows that the database works. An error that the server
// itself gives is an answer, such as a locked row or a missing table; but not one that
// says that it cannot serve (class 57: it shuts down, starts, or ended a statement that
// took too long; class 53: it has no room; class 08: a lost connection; class 25: it is a
// standby now; class 28: it knows no such user or password). A row that cannot be read was
// answered, too.
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
	return !slices.Contains([]string{"57", "53", "08", readOnly, "28"}, said.Code[:min(2, len(said.Code))])
}

// errBroken is the failure of a call on one connection of which only the connection's
// state is known.
var errBroken = errors.New("the connection was lost")

// Exec is like pgxpool's.
func (p *guardedPool) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	done, err := p.breaker.Allow()
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := p.inner.Exec(ctx, sql, args...)
	done(err)
	return tag, err
}

// Ping is like pgxpool's.
func (p *guardedPool) Ping(ctx context.Context) error {
	done, err := p.breaker.Allow()
	if err != nil {
		return err
	}
	err = p.inner.Ping(ctx)
	done(err)
	return err
}

// QueryRow is like pgxpool's, but the query is only sent when the row is scanned. It must
// be scanned.
func (p *guardedPool) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return guardedRow(func(into []any) error {
		done, err := p.breaker.Allow()
		if err != nil {
			return err
		}
		err = p.queryRow(ctx, sql, args, into)
		done(err)
		return err
	})
}

type guardedRow func(into []any) error

func (r guardedRow) Scan(into ...any) error { return r(into) }

// Query is like pgxpool's. The rows must be closed, as pgx's collectors do.
func (p *guardedPool) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	done, err := p.breaker.Allow()
	if err != nil {
		return nil, err
	}
	rows, err := p.query(ctx, sql, args)
	if err != nil {
		done(err)
		return nil, err
	}
	return &guardedRows{rows, done}, nil
}

// guardedRows reports to the breaker when it is closed: a server may stall while the rows
// are read.
type guardedRows struct {
	pgx.Rows
	done func(error)
}

// Close is like pgx's. It may be repeated.
func (r *guardedRows) Close() {
	r.Rows.Close()
	if r.done != nil {
		r.done(r.Err())
		r.done = nil
	}
}

// Acquire is like pgxpool's. release must be called: it gives the connection back and
// tells the breaker whether the connection is still good. pgx closes one whose server did
// not answer in time.
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

// PoolState is the connections at one moment, and counts since the start.
type PoolState struct {
	InUse, Idle, Max int
	Acquired         int64         // how often a connection was got
	Waited           int64         // how often none of them was free at first
	Left             int64         // how often the caller gave up waiting
	WaitedFor        time.Duration // the sum of the waits
}

// Pool reads the state of the pool. It makes no call to the server.
func (r *Repository) Pool() PoolState {
	s := r.pool.inner.Stat()
	return PoolState{
		InUse: int(s.AcquiredConns()), Idle: int(s.IdleConns()), Max: int(s.MaxConns()),
		Acquired: s.AcquireCount(), Waited: s.EmptyAcquireCount(), Left: s.CanceledAcquireCount(),
		WaitedFor: s.EmptyAcquireWaitTime(),
	}
}
