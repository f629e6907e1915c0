package postgres

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/sony/gobreaker/v2"

	"doorstep/internal/pause"
	"doorstep/sessions"
)

// Reader is sessions.LateReads, and the outbox's Outcomes, on a hot standby of the
// Repository's database. Where the standby does not answer, or is more than a second behind,
// the Repository does. Safe for concurrent use.
//
// How late the standby is, its own functions cannot tell: what it has received and
// replayed may be all that there is, or all that came before the network between the two
// was cut. So Run asks the primary every quarter of a second where its log ends, and a
// read asks the standby, in its own round trip and on its own connection, whether it has
// replayed the log up to the oldest such end that was asked for within the last second. No
// clock but this process's monotonic one counts, and what is read is not older than that
// question.
type Reader struct {
	primary, standby *Repository
	onRead           func(outcome string)

	mu   sync.Mutex
	ends []logEnd // of the last second, oldest first
}

var (
	_ sessions.LateReads = (*Reader)(nil)
	_ sessions.Outcomes  = (*Reader)(nil)
)

// logEnd is where the primary's log ended. All that was committed before it was asked for
// is in front of it.
type logEnd struct {
	lsn   string
	asked time.Time
}

const (
	// maxLate is how old what is read may be. The primary is asked askEvery: where a round trip
	// takes 150 ms there are always two answers to questions of the last second, and the older
	// one leaves the standby half a second.
	maxLate  = time.Second
	askEvery = maxLate / 4
	// readerOpen is how long the breaker stays open. One read in that time finds out whether
	// the standby is back, and may take CallTimeout.
	readerOpen = 5 * time.Second
)

// What becomes of a read: all but ReadAnswered go to the primary.
const (
	ReadAnswered = "answered"
	ReadBehind   = "behind" // over a second, or no standby that follows the primary, or the primary was not asked
	ReadFailed   = "failed" // not reached, too slow, or without the schema
	ReadBroken   = "breaker_open"
)

// ReadOutcomes are the outcomes of a read.
func ReadOutcomes() []string { return []string{ReadAnswered, ReadBehind, ReadFailed, ReadBroken} }

// NewReader makes a Reader for a Repository. It connects at its first read. By default the
// time-outs of a call, a connection and a statement are 1 s, 500 ms and 700 ms, because the
// primary is asked after them; OnBreaker and Deliveries do not count. onRead is given the
// outcome of each read.
func NewReader(primary *Repository, opts Options, onRead func(outcome string)) (*Reader, error) {
	opts.CallTimeout = cmp.Or(opts.CallTimeout, time.Second)
	opts.ConnectTimeout = cmp.Or(opts.ConnectTimeout, 500*time.Millisecond)
	opts.StatementTimeout = cmp.Or(opts.StatementTimeout, 700*time.Millisecond)
	opts.anyServer = true
	standby, err := New(opts)
	if err != nil {
		return nil, err
	}
	r := &Reader{primary: primary, standby: standby, onRead: onRead}
	standby.pool.mustReplay = r.mustReplay
	// Reads are rare, so three in a row are enough.
	standby.pool.breaker = gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Name: "database reader", MaxRequests: 1, Timeout: readerOpen,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 3 },
		IsSuccessful: func(err error) bool { return errors.Is(err, errBehind) || answered(err) },
		IsExcluded:   func(err error) bool { return errors.Is(err, context.Canceled) || errors.Is(err, errNoEnd) },
	})
	return r, nil
}

// Run asks the primary where its log ends, until ctx ends. Without it every read goes to
// the primary.
func (r *Reader) Run(ctx context.Context) error {
	for {
		asked := time.Now() // before the question is sent: the answer may be older than its arrival
		if lsn, err := r.primary.logEnd(ctx); err == nil {
			r.mu.Lock()
			r.ends = append(young(r.ends), logEnd{lsn, asked})
			r.mu.Unlock()
		}
		if err := pause.For(ctx, askEvery); err != nil {
			return err
		}
	}
}

func young(ends []logEnd) []logEnd {
	return slices.DeleteFunc(ends, func(e logEnd) bool { return time.Since(e.asked) > maxLate })
}

// mustReplay is up to where the standby must have replayed the log for a read of now.
func (r *Reader) mustReplay() (lsn string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ends = young(r.ends); len(r.ends) == 0 {
		return "", errNoEnd
	}
	return r.ends[0].lsn, nil
}

// Ping reports whether the standby answers, however late it is: one round trip.
func (r *Reader) Ping(ctx context.Context) error { return r.standby.Ping(ctx) }

// Close ends the standby's pool, and not the primary's. It may be repeated.
func (r *Reader) Close() { r.standby.Close() }

// Session implements sessions.LateReads. A session that the standby does not know yet is
// SessionNotFound.
func (r *Reader) Session(ctx context.Context, id sessions.ID) (sessions.Session, error) {
	return read(ctx, r, func(from *Repository) (sessions.Session, error) { return from.Session(ctx, id) })
}

// List implements sessions.LateReads.
func (r *Reader) List(ctx context.Context, q sessions.SessionQuery) ([]sessions.Session, error) {
	return read(ctx, r, func(from *Repository) ([]sessions.Session, error) { return from.List(ctx, q) })
}

// History implements sessions.LateReads.
func (r *Reader) History(ctx context.Context, id sessions.ID, after sessions.HistoryPlace, limit int) ([]sessions.AuditEntry, error) {
	return read(ctx, r, func(from *Repository) ([]sessions.AuditEntry, error) { return from.History(ctx, id, after, limit) })
}

// JourneysOf implements sessions.LateReads.
func (r *Reader) JourneysOf(ctx context.Context, id sessions.ID, limit int) ([]sessions.JourneyRecord, error) {
	return read(ctx, r, func(from *Repository) ([]sessions.JourneyRecord, error) { return from.JourneysOf(ctx, id, limit) })
}

// Rating implements sessions.LateReads.
func (r *Reader) Rating(ctx context.Context, trainerID sessions.ID) (sessions.Rating, error) {
	return read(ctx, r, func(from *Repository) (sessions.Rating, error) { return from.Rating(ctx, trainerID) })
}

// Outcomes implements sessions.Outcomes.
func (r *Reader) Outcomes(ctx context.Context, events []sessions.ID) ([]sessions.EventOutcome, error) {
	return read(ctx, r, func(from *Repository) ([]sessions.EventOutcome, error) { return from.Outbox().Outcomes(ctx, events) })
}

func read[T any](ctx context.Context, r *Reader, from func(*Repository) (T, error)) (T, error) {
	found, err := from(r.standby)
	if ctx.Err() != nil { // the caller has left
		return found, err
	}
	outcome := readOutcome(err)
	r.onRead(outcome)
	if outcome == ReadAnswered {
		return found, err
	}
	return from(r.primary)
}

func readOutcome(err error) string {
	switch {
	case !sessions.Unavailable(err): // a refusal is an answer
		return ReadAnswered
	case errors.Is(err, errBehind), errors.Is(err, errNoEnd):
		return ReadBehind
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		return ReadBroken
	}
	return ReadFailed
}

var (
	errBehind = errors.New("the standby is behind the primary")
	errNoEnd  = errors.New("where the primary's log ends is not known")
)

const (
	// Only what is flushed is sent to standbys. A commit that was answered is flushed.
	selectLogEnd = `SELECT pg_current_wal_flush_lsn()::text`
	// A standby without a receiver follows nobody: after a failover it may have replayed more of
	// the old primary's log than the new one has yet. Every role sees that the view has a row.
	selectReplayed = `SELECT pg_is_in_recovery() AND EXISTS (SELECT FROM pg_stat_wal_receiver) AND pg_last_wal_replay_lsn() >= $1::text::pg_lsn`
)

// logEnd is where the log of a primary ends. One round trip.
func (r *Repository) logEnd(ctx context.Context) (lsn string, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	err = r.pool.QueryRow(ctx, selectLogEnd).Scan(&lsn)
	return lsn, err
}

// query sends a read; in a standby's pool after the question whether the standby may answer
// it, in the same round trip. What is read is not older than the answer to that question: a
// standby only goes forward. Errors: errBehind, errNoEnd.
func (p *guardedPool) query(ctx context.Context, sql string, args []any) (pgx.Rows, error) {
	if p.mustReplay == nil {
		return p.inner.Query(ctx, sql, args...)
	}
	lsn, err := p.mustReplay()
	if err != nil {
		return nil, err
	}
	batch := &pgx.Batch{}
	batch.Queue(selectReplayed, lsn)
	batch.Queue(sql, args...)
	results := p.inner.SendBatch(ctx, batch)
	var rows pgx.Rows
	var replayed bool
	if err = results.QueryRow().Scan(&replayed); err == nil && !replayed {
		err = errBehind
	}
	if err == nil {
		rows, err = results.Query()
	}
	if err != nil {
		_ = results.Close() // it gives the connection back
		return nil, err
	}
	return &batchRows{rows, results}, nil
}

// batchRows are the rows of a batch's last statement.
type batchRows struct {
	pgx.Rows
	batch pgx.BatchResults // nil: closed
}

// Close gives the connection back. It may be repeated.
func (r *batchRows) Close() {
	r.Rows.Close()
	if r.batch != nil {
		_ = r.batch.Close() // what went wrong is in Err
		r.batch = nil
	}
}

// queryRow is query for at most one row.
func (p *guardedPool) queryRow(ctx context.Context, sql string, args, into []any) error {
	if p.mustReplay == nil {
		return p.inner.QueryRow(ctx, sql, args...).Scan(into...)
	}
	rows, err := p.query(ctx, sql, args)
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		return cmp.Or(rows.Err(), pgx.ErrNoRows)
	}
	err = rows.Scan(into...)
	rows.Close()
	return cmp.Or(err, rows.Err())
}

// takeAny makes a pool take each server that its URL leads to, unless the URL says
// otherwise: PGTARGETSESSIONATTRS is meant for the primary.
func takeAny(config *pgx.ConnConfig, address string) {
	if !says(address, "target_session_attrs") {
		config.ValidateConnect = nil
	}
}
