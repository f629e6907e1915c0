package sessions

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"doorstep/internal/pause"
)

// Kept is a kind of rows that a Retention deletes once they are old.
type Kept string

// The kinds, and since when a row is of it.
const (
	DoneEvents       Kept = "done_events"        // since they were published
	DoneDeliveries   Kept = "done_deliveries"    // since the consumer was done
	DeadEvents       Kept = "dead_events"        // since they were given up
	DeadDeliveries   Kept = "dead_deliveries"    // since they were given up
	HandledEvents    Kept = "handled_events"     // since the consumer was done
	JourneyRecords   Kept = "journey_records"    // since the journey started
	AuditEntries     Kept = "audit_entries"      // since they were written or happened
	UnusedPushTokens Kept = "unused_push_tokens" //nolint:gosec // no credential. Since they were registered or reached by a push
	UnusedDevices    Kept = "unused_devices"     // since they were made or last reported
	OldShareLinks    Kept = "old_share_links"    // since they were made
)

// AllKept are the kinds.
func AllKept() []Kept {
	return []Kept{DoneEvents, DoneDeliveries, DeadEvents, DeadDeliveries, HandledEvents, JourneyRecords, AuditEntries, UnusedPushTokens, UnusedDevices, OldShareLinks}
}

// Table is the name of the kind's table, for metrics and logs.
func (k Kept) Table() string {
	switch k {
	case DoneEvents, DeadEvents:
		return "outbox"
	case DoneDeliveries, DeadDeliveries:
		return "outbox_deliveries"
	case HandledEvents:
		return "consumed_events"
	case JourneyRecords:
		return "journey_analytics"
	case AuditEntries:
		return "session_audit"
	case UnusedPushTokens:
		return "push_tokens"
	case UnusedDevices:
		return "devices"
	case OldShareLinks:
		return "share_links"
	}
	return ""
}

// OldRows is the part of a store of record that deletes. Safe for concurrent use.
type OldRows interface {
	// DeleteOld deletes up to limit rows of a kind that have been of it for longer than
	// age, by the store's clock, and returns how many. While another process deletes, it
	// deletes nothing and reports false. It waits for no row that is locked.
	DeleteOld(ctx context.Context, kind Kept, age time.Duration, limit int) (n int, mine bool, err error)
}

// Retention deletes old rows. One runs in every gateway; they take turns.
type Retention struct {
	rows OldRows
	opts RetentionOptions
}

// RetentionOptions are the settings of a Retention.
type RetentionOptions struct {
	// Keep is how long rows of a kind are kept. Absent or 0: for ever.
	Keep    map[Kept]time.Duration
	Log     *slog.Logger     // nil: discarded
	Metrics RetentionMetrics // nil: none
}

// RetentionMetrics counts deleted rows by table, and sweeps by their result.
type RetentionMetrics interface {
	RowsDeleted(table string, n int)
	RetentionSwept(err error)
}

const (
	// retentionEvery is the mean time between two sweeps of one gateway. Half of it is
	// jitter to both sides.
	retentionEvery = 5 * time.Minute
	// retentionBatch is how many rows one statement deletes, and retentionPause the least
	// pause after it: 10,000 rows a second at most, 2.5 times what a relay publishes. The
	// pause is at least as long as the statement took, so a slow database gets fewer.
	retentionBatch = 1000
	retentionPause = 100 * time.Millisecond
	// retentionTurn is how many batches of one kind are deleted before those of the next.
	retentionTurn = 100
)

// NewRetention makes a Retention. Run does the work.
func NewRetention(rows OldRows, opts RetentionOptions) *Retention {
	opts.Log = cmp.Or(opts.Log, slog.New(slog.DiscardHandler))
	if opts.Metrics == nil {
		opts.Metrics = noRetentionMetrics{}
	}
	return &Retention{rows, opts}
}

// Run sweeps until ctx ends. A failed sweep is logged, and the next one comes at its usual
// time.
func (r *Retention) Run(ctx context.Context) error {
	for {
		if err := pause.For(ctx, retentionEvery/2+rand.N(retentionEvery)); err != nil { //nolint:gosec // jitter
			return err
		}
		err := r.Sweep(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.opts.Metrics.RetentionSwept(err)
		if err != nil {
			r.opts.Log.WarnContext(ctx, "old rows not deleted", slog.Any("error", err))
		}
	}
}

// Sweep deletes what is old, or leaves it to another process that is at it. Errors: those
// of the store.
func (r *Retention) Sweep(ctx context.Context) error {
	deleted := map[string]int{}
	defer func() {
		for table, n := range deleted {
			r.opts.Log.InfoContext(ctx, "old rows deleted", slog.String("table", table), slog.Int("rows", n))
		}
	}()
	for again := true; again; {
		again = false
		for _, kind := range AllKept() {
			n, more, err := r.turn(ctx, kind)
			if n > 0 {
				deleted[kind.Table()] += n
			}
			if err != nil {
				return err
			}
			again = again || more
		}
	}
	return nil
}

// turn deletes some of one kind, and reports whether there may be more.
func (r *Retention) turn(ctx context.Context, kind Kept) (deleted int, more bool, err error) {
	age := r.opts.Keep[kind]
	if age <= 0 {
		return 0, false, nil
	}
	for range retentionTurn {
		began := time.Now()
		n, mine, err := r.rows.DeleteOld(ctx, kind, age, retentionBatch)
		if err != nil || !mine {
			return deleted, false, err
		}
		deleted += n
		r.opts.Metrics.RowsDeleted(kind.Table(), n)
		if n < retentionBatch {
			return deleted, false, nil
		}
		if err := pause.For(ctx, max(retentionPause, time.Since(began))); err != nil {
			return deleted, false, err
		}
	}
	return deleted, true, nil
}

type noRetentionMetrics struct{}

func (noRetentionMetrics) RowsDeleted(string, int) {}
func (noRetentionMetrics) RetentionSwept(error)    {}
