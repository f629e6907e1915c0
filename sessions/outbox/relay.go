package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Metrics is what a relay reports. relay is its name: "bus", or a consumer's.
type Metrics interface {
	// EventPublished counts a row that was taken, and how long after it happened.
	EventPublished(relay string, after time.Duration)
	// EventFailed counts an attempt: "rejected", "down" or "store".
	EventFailed(relay, why string)
	// EventBuried counts a new dead letter.
	EventBuried(relay string)
	// OutboxState is the size of the outbox; lag is the age of the oldest row
	// that waits, 0 for none.
	OutboxState(relay string, waiting, dead int, lag time.Duration)
}

// RelayOptions are a relay's settings. Zero means default.
type RelayOptions struct {
	// Name is told to logs and metrics. "bus".
	Name string
	// Batch is how many rows are claimed at once. 10: PutEvents takes no more.
	Batch int
	// InFlight bounds the batches on their way. 8: at 20 ms a call that is
	// 8 × 10 / 0.02 = 4,000 events a second.
	InFlight int
	// PublishTimeout bounds one call to the publisher. 10 s.
	PublishTimeout time.Duration
	// Lease is how long a claim holds; it must be longer than a publish and
	// its mark take. PublishTimeout + 20 s.
	Lease time.Duration
	// PollMin and PollMax bound the pause between two looks without a nudge,
	// which is evenly spread in between. 250 ms, 750 ms.
	PollMin, PollMax time.Duration
	// MaxAttempts is how often a row may be rejected before it is buried. 10.
	MaxAttempts int
	// RetryBase and RetryCap are of the back-off with full jitter between a
	// row's attempts: rand(0, min(cap, base × 2^n)). 1 s, 5 min: ten attempts
	// take some 8 minutes.
	RetryBase, RetryCap time.Duration
	// DownBase and DownCap are the same of the whole relay, while the bus or
	// the store is down. 250 ms, 15 s: what comes back is found within that.
	DownBase, DownCap time.Duration
	// Drain bounds how long what is in flight may take at the stop. 5 s.
	Drain time.Duration
	// Retain is how long published rows are kept. 7 days.
	Retain time.Duration
	// SweepEvery and LagEvery are of the housekeeping. 1 min, 15 s.
	SweepEvery, LagEvery time.Duration

	Now     func() time.Time // the wall clock
	Log     *slog.Logger     // discarded by default
	Metrics Metrics          // nil: none
}

func (o RelayOptions) withDefaults() RelayOptions {
	o.Name = cmp.Or(o.Name, "bus")
	o.Batch = cmp.Or(o.Batch, 10)
	o.InFlight = cmp.Or(o.InFlight, 8)
	o.PublishTimeout = cmp.Or(o.PublishTimeout, 10*time.Second)
	o.Lease = cmp.Or(o.Lease, o.PublishTimeout+20*time.Second)
	o.PollMin = cmp.Or(o.PollMin, 250*time.Millisecond)
	o.PollMax = cmp.Or(o.PollMax, 750*time.Millisecond)
	o.MaxAttempts = cmp.Or(o.MaxAttempts, 10)
	o.RetryBase = cmp.Or(o.RetryBase, time.Second)
	o.RetryCap = cmp.Or(o.RetryCap, 5*time.Minute)
	o.DownBase = cmp.Or(o.DownBase, 250*time.Millisecond)
	o.DownCap = cmp.Or(o.DownCap, 15*time.Second)
	o.Drain = cmp.Or(o.Drain, 5*time.Second)
	o.Retain = cmp.Or(o.Retain, 7*24*time.Hour)
	o.SweepEvery = cmp.Or(o.SweepEvery, time.Minute)
	o.LagEvery = cmp.Or(o.LagEvery, 15*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Metrics == nil {
		o.Metrics = noMetrics{}
	}
	return o
}

func (o RelayOptions) validate() error {
	switch {
	case o.Batch < 1 || o.Batch > 10:
		return fmt.Errorf("outbox: Batch %d is not in [1, 10]", o.Batch)
	case o.InFlight < 1:
		return fmt.Errorf("outbox: InFlight %d is less than 1", o.InFlight)
	case o.PollMin <= 0 || o.PollMax < o.PollMin:
		return fmt.Errorf("outbox: PollMin %s and PollMax %s are no range", o.PollMin, o.PollMax)
	case o.Lease <= o.PublishTimeout:
		return fmt.Errorf("outbox: Lease %s must be longer than PublishTimeout %s", o.Lease, o.PublishTimeout)
	case o.MaxAttempts < 1:
		return fmt.Errorf("outbox: MaxAttempts %d is less than 1", o.MaxAttempts)
	}
	return nil
}

// Relay carries rows from a Store to a Publisher. Any number of them may run
// on one store, in one process or in many.
type Relay struct {
	store Store
	to    Publisher
	opts  RelayOptions
	nudge chan struct{}
	bus   outage
	db    outage
}

// NewRelay makes a relay; it starts nothing. The error names the option that
// cannot be.
func NewRelay(store Store, to Publisher, opts RelayOptions) (*Relay, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	return &Relay{store: store, to: to, opts: opts, nudge: make(chan struct{}, 1)}, nil
}

// Nudge says that there may be rows: a hint after a commit. It never blocks.
func (r *Relay) Nudge() {
	select {
	case r.nudge <- struct{}{}:
	default: // one that waits says it all
	}
}

// Run relays until ctx ends, then lets what is in flight end within Drain and
// gives the rest back. Its error is ctx's.
func (r *Relay) Run(ctx context.Context) error {
	// What is in flight outlives ctx, by Drain at most.
	flight, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var work sync.WaitGroup
	work.Go(func() { r.keepHouse(ctx) })
	slots := make(chan struct{}, r.opts.InFlight)
	for ctx.Err() == nil {
		r.turn(ctx, flight, slots, &work)
	}
	timer := time.AfterFunc(r.opts.Drain, cut)
	work.Wait()
	timer.Stop()
	return ctx.Err()
}

// turn is one look into the store and the pause after it, if there is one to
// make.
func (r *Relay) turn(ctx, flight context.Context, slots chan struct{}, work *sync.WaitGroup) {
	if wait := max(r.bus.left(r.opts.Now()), r.db.left(r.opts.Now())); wait > 0 {
		r.sleep(ctx, wait, nil)
		return
	}
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	// While the bus is down one batch at a time finds out whether it is back.
	probing := r.bus.down()
	began := time.Now()
	rows, err := r.store.Claim(ctx, r.opts.Batch, r.opts.Lease)
	if err != nil || len(rows) == 0 {
		<-slots
		r.storeAnswered(ctx, err)
		if err == nil {
			r.sleep(ctx, r.poll(), r.nudge)
		}
		return
	}
	r.storeAnswered(ctx, nil)
	done := make(chan struct{})
	work.Go(func() {
		defer close(done)
		defer func() { <-slots }()
		r.carry(flight, rows, began.Add(r.opts.Lease))
		r.Nudge() // the next of these sessions may be claimed now
	})
	switch {
	case probing:
		select {
		case <-done:
		case <-ctx.Done():
		}
	case len(rows) < r.opts.Batch:
		r.sleep(ctx, r.poll(), r.nudge)
	}
}

// writeTimeout bounds writing down what became of a batch: it happens also when
// the relay is being stopped.
const writeTimeout = 2 * time.Second

// carry publishes rows and writes down what became of each. All of it ends
// before the claim does: a publish that began later could overtake another
// relay's.
func (r *Relay) carry(ctx context.Context, rows []Row, until time.Time) {
	ctx, cancel := context.WithDeadline(ctx, until.Add(-r.opts.Lease/10))
	defer cancel()
	rows = slices.DeleteFunc(rows, func(row Row) bool {
		if row.Unreadable != nil {
			r.refused(ctx, row, Permanent(row.Unreadable))
		}
		return row.Unreadable != nil
	})
	if len(rows) == 0 {
		return
	}
	publishing, stop := context.WithTimeout(ctx, r.opts.PublishTimeout)
	errs := r.to.Publish(publishing, rows)
	stop()
	if len(errs) != len(rows) { // a bug of the publisher's; nothing is known
		errs = slices.Repeat([]error{Down(errors.New("the publisher answered for other rows"))}, len(rows))
	}
	r.settle(ctx, rows, errs)
}

// settle writes down what became of a batch. What cannot be written is said
// again by the claim's end: then the rows are published once more.
func (r *Relay) settle(ctx context.Context, rows []Row, errs []error) {
	var taken []Row
	var released []int64
	var cause error
	for i, row := range rows {
		switch {
		case errs[i] == nil:
			taken = append(taken, row)
		case classOf(errs[i]) == down:
			released, cause = append(released, row.Seq), errs[i]
		}
	}
	r.mark(ctx, taken)
	r.busAnswered(ctx, len(released) < len(rows), len(released), cause)
	// A store that does not answer is asked for nothing more than the marks:
	// the claims run out.
	giveBack, stop := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer stop()
	if len(released) > 0 {
		wait := time.Duration(0) // the whole relay waits, so that the rows are due when it looks again
		if len(released) < len(rows) {
			wait = r.backoff(1)
		}
		r.storeAnswered(ctx, r.store.Release(giveBack, released, wait))
	}
	for i, row := range rows {
		if err := errs[i]; err != nil && classOf(err) != down {
			r.refused(giveBack, row, err)
		}
	}
}

// mark tries for as long as the claim holds, and once even when the relay is
// being stopped: each mark that is lost is a repeat on the bus.
func (r *Relay) mark(ctx context.Context, rows []Row) {
	if len(rows) == 0 {
		return
	}
	for n := 1; ; n++ {
		try, stop := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
		err := r.store.Published(try, seqsOf(rows))
		stop()
		r.storeAnswered(ctx, err)
		if err == nil {
			break
		}
		if r.sleep(ctx, jitter(r.opts.DownBase, r.opts.DownCap, n), nil); ctx.Err() != nil {
			r.opts.Log.WarnContext(ctx, "published events not marked; they will be repeated",
				slog.String("relay", r.opts.Name), slog.Int("events", len(rows)), slog.Any("error", err))
			return
		}
	}
	for _, row := range rows {
		r.opts.Metrics.EventPublished(r.opts.Name, max(0, r.opts.Now().Sub(row.Event.At)))
	}
}

func seqsOf(rows []Row) []int64 {
	seqs := make([]int64, len(rows))
	for i, row := range rows {
		seqs[i] = row.Seq
	}
	return seqs
}

func (r *Relay) refused(ctx context.Context, row Row, cause error) {
	reason := Reason(cause)
	attrs := []any{
		slog.String("relay", r.opts.Name), slog.Int64("seq", row.Seq), slog.String("event_type", string(row.Event.Type)),
		slog.String("session_id", string(row.Event.SessionID)), slog.Int("attempts", row.Attempts), slog.String("reason", reason),
	}
	r.opts.Metrics.EventFailed(r.opts.Name, "rejected")
	if classOf(cause) == permanent || row.Attempts >= r.opts.MaxAttempts {
		err := r.store.Bury(ctx, row.Seq, reason)
		r.storeAnswered(ctx, err)
		if err == nil {
			r.opts.Metrics.EventBuried(r.opts.Name)
			r.opts.Log.ErrorContext(ctx, "event buried", attrs...)
		}
		return
	}
	r.opts.Log.WarnContext(ctx, "event not taken", attrs...)
	r.storeAnswered(ctx, r.store.Retry(ctx, row.Seq, r.backoff(row.Attempts), reason))
}

// busAnswered moves the relay in and out of an outage. Any row that got an
// answer of its own ends it.
func (r *Relay) busAnswered(ctx context.Context, answered bool, failed int, cause error) {
	for range failed {
		r.opts.Metrics.EventFailed(r.opts.Name, "down")
	}
	if answered {
		if since, was := r.bus.end(); was {
			r.opts.Log.InfoContext(ctx, "bus is back", slog.String("relay", r.opts.Name),
				slog.Duration("after", r.opts.Now().Sub(since)))
		}
		return
	}
	if ctx.Err() == nil && r.bus.fail(r.opts) {
		r.opts.Log.WarnContext(ctx, "bus is down", slog.String("relay", r.opts.Name), slog.Any("error", cause))
	}
}

func (r *Relay) storeAnswered(ctx context.Context, err error) {
	switch {
	case err == nil:
		if _, was := r.db.end(); was {
			r.opts.Log.InfoContext(ctx, "outbox is back", slog.String("relay", r.opts.Name))
		}
	case ctx.Err() != nil: // the stop's doing
	default:
		r.opts.Metrics.EventFailed(r.opts.Name, "store")
		if r.db.fail(r.opts) {
			r.opts.Log.WarnContext(ctx, "outbox cannot be reached", slog.String("relay", r.opts.Name), slog.Any("error", err))
		}
	}
}

// keepHouse sweeps what was published long ago and measures what waits.
func (r *Relay) keepHouse(ctx context.Context) {
	sweep, lag := time.NewTicker(r.opts.SweepEvery), time.NewTicker(r.opts.LagEvery)
	defer sweep.Stop()
	defer lag.Stop()
	r.measure(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-lag.C:
			r.measure(ctx)
		case <-sweep.C:
			r.sweep(ctx)
		}
	}
}

// sweepLimit bounds one DELETE; ten in a row bound one sweep to a rate of
// 10,000 rows a minute and gateway.
const sweepLimit = 1000

func (r *Relay) sweep(ctx context.Context) {
	for range 10 {
		n, err := r.store.Sweep(ctx, r.opts.Retain, sweepLimit)
		if err != nil && ctx.Err() == nil {
			r.opts.Log.WarnContext(ctx, "outbox not swept", slog.String("relay", r.opts.Name), slog.Any("error", err))
		}
		if err != nil || n < sweepLimit {
			return
		}
	}
}

func (r *Relay) measure(ctx context.Context) {
	waiting, oldest, dead, err := r.store.Lag(ctx)
	if err != nil {
		return // the claims say it already
	}
	var lag time.Duration
	if !oldest.IsZero() {
		lag = max(0, r.opts.Now().Sub(oldest))
	}
	r.opts.Metrics.OutboxState(r.opts.Name, waiting, dead, lag)
}

// sleep ends early with ctx and, unless it is nil, at a nudge.
func (r *Relay) sleep(ctx context.Context, d time.Duration, nudge <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-nudge:
	}
}

func (r *Relay) poll() time.Duration {
	return r.opts.PollMin + rand.N(r.opts.PollMax-r.opts.PollMin+1) //nolint:gosec // jitter needs no secrecy
}

func (r *Relay) backoff(attempt int) time.Duration {
	return jitter(r.opts.RetryBase, r.opts.RetryCap, attempt)
}

type noMetrics struct{}

func (noMetrics) EventPublished(string, time.Duration)        {}
func (noMetrics) EventFailed(string, string)                  {}
func (noMetrics) EventBuried(string)                          {}
func (noMetrics) OutboxState(string, int, int, time.Duration) {}
