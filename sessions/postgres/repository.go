package postgres

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"doorstep/sessions"
)

// Repository is the sessions.Repository on PostgreSQL. Safe for concurrent use, in any
// number of gateways.
type Repository struct {
	pool        *guardedPool
	callTimeout time.Duration
	addressed   []string // Options.Deliveries
}

var _ sessions.Repository = (*Repository)(nil)

// New makes a Repository that connects at its first call. The error names the option that
// is wrong.
func New(opts Options) (*Repository, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	pool, err := opts.pool()
	if err != nil {
		return nil, err
	}
	return &Repository{pool: guard(pool, opts.OnBreaker), callTimeout: opts.CallTimeout, addressed: opts.Deliveries}, nil
}

// Open is New for a process that cannot work without its database: it also connects, and
// refuses a schema that is older than this binary. Errors: ErrOldSchema,
// DatabaseUnavailable, and New's.
func Open(ctx context.Context, opts Options) (*Repository, error) {
	r, err := New(opts)
	if err != nil {
		return nil, err
	}
	if err := r.CheckSchema(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Ping reports whether the database answers: one round trip.
func (r *Repository) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	if err := r.pool.Ping(ctx); err != nil {
		return unavailable("ping", err)
	}
	return nil
}

// Close ends the pool and waits for the running calls, each of which is bounded by
// CallTimeout, EraseUser by eraseTimeout. It may be repeated.
func (r *Repository) Close() { r.pool.inner.Close() }

// Create implements sessions.Repository. One round trip; two when the id is known.
func (r *Repository) Create(ctx context.Context, s sessions.Session) (sessions.Session, bool, error) {
	conn, ctx, done, err := r.acquire(ctx)
	if err != nil {
		return sessions.Session{}, false, unavailable("create session", err)
	}
	defer done()
	return insert(ctx, conn, s)
}

// querier is a connection, or a transaction on one.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func insert(ctx context.Context, conn querier, s sessions.Session) (sessions.Session, bool, error) {
	args := insertArgs(s)
	maps.Copy(args, auditArgs(sessions.AuditOf(sessions.Session{}, s, nil, sessions.ActorOf(ctx))[0]))
	created, err := scan(conn.QueryRow(ctx, insertSession, args))
	if err == nil {
		return created, true, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return sessions.Session{}, false, writeFault("create session", err)
	}
	old, err := scan(conn.QueryRow(ctx, selectSession, string(s.ID)))
	if err != nil {
		return sessions.Session{}, false, unavailable("read booked session", err)
	}
	if s.ScheduledAt = millisecond(s.ScheduledAt); !sessions.BookedAgain(old, s) {
		return sessions.Session{}, false, sessions.Refuse(sessions.SessionConflict, "a session with this id is booked otherwise")
	}
	return old, false, nil
}

// Session implements sessions.Repository. One round trip.
func (r *Repository) Session(ctx context.Context, id sessions.ID) (sessions.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	s, err := scan(r.pool.QueryRow(ctx, selectSession, string(id)))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return sessions.Session{}, notFound()
	case err != nil:
		return sessions.Session{}, unavailable("read session", err)
	}
	return s, nil
}

// Change implements sessions.Repository. f runs at most once, with the row locked: it must
// be quick and must not call the Repository. What was booked (SameBooking, CreatedAt)
// belongs to the operator's services and is not written back, so a home keeps the other
// fields that they store in it.
func (r *Repository) Change(
	ctx context.Context, id sessions.ID, f func(*sessions.Session) ([]sessions.Event, error),
) (sessions.Session, error) {
	return r.change(ctx, id, f, false)
}

// Rebook implements sessions.Repository, as Change.
func (r *Repository) Rebook(
	ctx context.Context, id sessions.ID, f func(*sessions.Session) ([]sessions.Event, error),
) (sessions.Session, error) {
	return r.change(ctx, id, f, true)
}

func (r *Repository) change(
	ctx context.Context, id sessions.ID, f func(*sessions.Session) ([]sessions.Event, error), booking bool,
) (sessions.Session, error) {
	conn, ctx, done, err := r.acquire(ctx)
	if err != nil {
		return sessions.Session{}, unavailable("change session", err)
	}
	defer done()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return sessions.Session{}, unavailable("begin", err)
	}
	defer func() { _ = tx.Rollback(ctx) }() // does nothing after a commit; also for a panic in f
	return r.changeIn(ctx, tx, id, f, booking)
}

// changeIn is Change or Rebook within its transaction. A change of nothing writes nothing.
func (r *Repository) changeIn(
	ctx context.Context, tx pgx.Tx, id sessions.ID, f func(*sessions.Session) ([]sessions.Event, error), booking bool,
) (sessions.Session, error) {
	before, err := scan(tx.QueryRow(ctx, lockSession, string(id)))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return sessions.Session{}, notFound()
	case err != nil:
		return sessions.Session{}, unavailable("lock session", err)
	}
	after := before
	events, err := f(&after)
	if err != nil || (after == before && len(events) == 0) {
		return before, err
	}
	batch := &pgx.Batch{}
	if booking {
		rest := after
		rest.Home = before.Home
		if !sessions.SameBooking(rest, before) {
			batch.Queue(updateBooking, bookingArgs(id, after))
		}
		if after.HomeMovedAt != before.HomeMovedAt {
			batch.Queue(updateHomeMoved, string(id), instant(after.HomeMovedAt))
		}
		if after.Home != before.Home {
			batch.Queue(updateHome, string(id), homeJSON(after.Home))
		}
	}
	told := after
	if !booking {
		told = sessions.AsBooked(after, before)
	}
	stored, err := r.write(ctx, tx, batch, before, told, events)
	if err != nil {
		return before, err
	}
	// After an error here the change may have been committed; the package comment says
	// why it is safe to try again.
	if err := tx.Commit(ctx); err != nil {
		return before, unavailable("commit", err)
	}
	return stored, nil
}

// write sends what queue adds in one round trip, after what is in the batch, and reads the
// row back as stored.
func (r *Repository) write(
	ctx context.Context, tx pgx.Tx, batch *pgx.Batch, before, s sessions.Session, events []sessions.Event,
) (stored sessions.Session, err error) {
	r.queue(ctx, batch, &stored, before, s, events)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		if refused := noStatus(err, s.Status); refused != nil {
			return sessions.Session{}, refused
		}
		return sessions.Session{}, writeFault("store session and events", err)
	}
	return stored, nil
}

// queue adds the row, its events and the entries of its history to a batch. Every change of
// a session is written by it.
func (r *Repository) queue(ctx context.Context, batch *pgx.Batch, stored *sessions.Session, before, s sessions.Session, events []sessions.Event) {
	batch.Queue(updateSession, updateArgs(before.ID, s)).QueryRow(func(row pgx.Row) (err error) {
		*stored, err = scan(row)
		return err
	})
	changeLinks(batch, before, s, events)
	for _, e := range events {
		batch.Queue(insertEvent, r.eventArgs(e)...)
	}
	for _, entry := range sessions.AuditOf(before, s, events, sessions.ActorOf(ctx)) {
		batch.Queue(insertAudit, auditArgs(entry))
	}
}

const (
	selectRunning = `SELECT ` + columns + ` FROM tutoring_sessions
		WHERE journey_started_at IS NOT NULL AND journey_ended_at IS NULL AND journey_started_at <= $1
			AND (journey_started_at, id) > ($2, $3)
		ORDER BY journey_started_at, id LIMIT $4`
	selectSessions = `SELECT ` + columns + ` FROM tutoring_sessions WHERE id = ANY($1)`
	selectEnded    = `SELECT ` + columns + ` FROM tutoring_sessions
		WHERE journey_ended_at IS NOT NULL AND (journey_ended_at, id) > ($1, $2)
		ORDER BY journey_ended_at, id LIMIT $3`
	selectRunningOf = `SELECT ` + columns + ` FROM tutoring_sessions
		WHERE journey_started_at IS NOT NULL AND journey_ended_at IS NULL AND trainer_id = $1 LIMIT 1`
	selectNow  = `SELECT clock_timestamp()`
	renewLease = `INSERT INTO region_leases (region, renewed_at) VALUES ($1, clock_timestamp())
		ON CONFLICT (region) DO UPDATE SET renewed_at = greatest(region_leases.renewed_at, excluded.renewed_at)`
)

// Record implements sessions.Repository. It locks the session before it draws the event's
// seq, as a transition does; the order of the events depends on that.
func (r *Repository) Record(ctx context.Context, e sessions.Event) (first bool, err error) {
	conn, ctx, done, err := r.acquire(ctx)
	if err != nil {
		return false, unavailable("record event", err)
	}
	defer done()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return false, unavailable("begin", err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	session, err := scan(tx.QueryRow(ctx, lockSession, string(e.SessionID)))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, notFound()
	case err != nil:
		return false, unavailable("lock session", err)
	case !e.RecordedFor(session):
		return false, nil
	}
	args := auditArgs(sessions.AuditEvent(e, sessions.ActorOf(ctx)))
	for i, arg := range r.eventArgs(e) {
		args["event_"+strconv.Itoa(i+1)] = arg
	}
	err = tx.QueryRow(ctx, recordEvent, args).Scan(&first)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, unavailable("record event", err)
	}
	if err := tx.Commit(ctx); err != nil {
		return false, unavailable("commit event", err)
	}
	return true, nil
}

// Running implements sessions.Repository. One round trip, from an index that holds running
// journeys only, in their order.
func (r *Repository) Running(ctx context.Context, startedBy time.Time, after sessions.JourneyKey, limit int) ([]sessions.Session, error) {
	return r.list(ctx, "list running journeys", selectRunning, startedBy, after.StartedAt, cmp.Or(after.SessionID, noSession), limit)
}

// EndedSince implements sessions.Repository. One round trip, from an index that has
// the order.
func (r *Repository) EndedSince(ctx context.Context, at time.Time, after sessions.ID, limit int) ([]sessions.Session, error) {
	return r.list(ctx, "list ended journeys", selectEnded, at, cmp.Or(after, noSession), limit)
}

// Sessions implements sessions.Repository. One round trip.
func (r *Repository) Sessions(ctx context.Context, ids []sessions.ID) (map[sessions.ID]sessions.Session, error) {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = string(id)
	}
	list, err := r.list(ctx, "read sessions", selectSessions, texts)
	if err != nil {
		return nil, err
	}
	found := make(map[sessions.ID]sessions.Session, len(list))
	for _, s := range list {
		found[s.ID] = s
	}
	return found, nil
}

// list reads the rows of a query. what is what an error says of it.
func (r *Repository) list(ctx context.Context, what, query string, args ...any) ([]sessions.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	rows, err := r.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, unavailable(what, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (sessions.Session, error) { return scan(row) })
	if err != nil {
		return nil, unavailable(what, err)
	}
	return list, nil
}

// RunningOf implements sessions.Repository. One round trip.
func (r *Repository) RunningOf(ctx context.Context, trainerID sessions.ID) (sessions.Session, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	s, err := scan(r.pool.QueryRow(ctx, selectRunningOf, string(trainerID)))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return sessions.Session{}, false, nil
	case err != nil:
		return sessions.Session{}, false, unavailable("read running journey", err)
	}
	return s, true, nil
}

// noSession comes before every id.
const noSession sessions.ID = "00000000-0000-0000-0000-000000000000"

// Now is the database server's clock. One round trip.
func (r *Repository) Now(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	var now time.Time
	if err := r.pool.QueryRow(ctx, selectNow).Scan(&now); err != nil {
		return time.Time{}, unavailable("read the clock", err)
	}
	return now, nil
}

// RenewLease implements sessions.Leases. One round trip.
func (r *Repository) RenewLease(ctx context.Context, region string) error {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	if _, err := r.pool.Exec(ctx, renewLease, region); err != nil {
		return unavailable("renew the region's lease", err)
	}
	return nil
}

// acquire waits for a connection as long as the caller does. From then on only the call's
// own time-out counts. done gives the connection back.
func (r *Repository) acquire(ctx context.Context) (*pgxpool.Conn, context.Context, func(), error) {
	deadline := time.Now().Add(r.callTimeout)
	waiting, cancel := context.WithDeadline(ctx, deadline)
	conn, release, err := r.pool.Acquire(waiting)
	cancel()
	if err != nil {
		return nil, nil, nil, err
	}
	call, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	return conn, call, func() { release(); cancel() }, nil
}
