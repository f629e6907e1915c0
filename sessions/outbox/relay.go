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
	"sync/atomic"
	"time"
)

// Metrics is what a relay reports. relay is a destination's name: Bus, or a
// consumer's.
type Metrics interface {
	// EventPublished counts a row that was delivered, and how long after the event.
	EventPublished(relay string, after time.Duration)
	// EventFailed counts an attempt: "rejected", "down" or, for Bus, "store".
	EventFailed(relay, why string)
	// EventBuried counts a new dead letter.
	EventBuried(relay string)
	// OutboxState is the backlog; lag is the age of the oldest row that waits, and
	// newer that of the oldest event that waits for a newer binary, 0 for none.
	OutboxState(relay string, waiting, dead int, lag, newer time.Duration)
}

// RelayOptions are a relay's settings. Zero means default.
type RelayOptions struct {
	// InFlight bounds the batches of one destination that are being delivered. 8:
	// at 20 ms a call that is 8 × 10 / 0.02 = 4,000 events a second.
	InFlight int
	// RetryBase and RetryCap are of the back-off with full jitter between a row's
	// attempts: rand(0, min(cap, base × 2^n)). 1 s, 5 min: ten attempts take some
	// 8 minutes, twenty some 45.
	RetryBase, RetryCap time.Duration
	// DownBase and DownCap are the same of a whole destination, or of the store,
	// while it is away. 250 ms, 15 s: its return is noticed within that.
	DownBase, DownCap time.Duration
	// Drain bounds how long batches in flight may take at the stop. 5 s.
	Drain time.Duration

	Log     *slog.Logger // nil: discarded
	Metrics Metrics      // nil: none
}

const (
	// batch is how many rows are claimed at once for a destination: PutEvents takes
	// no more than ten.
	batch = 10
	// pollMin and pollMax bound the pause between two looks without a nudge, which is
	// uniform in between. A gateway's own events are nudged and its own retries are
	// timed; the pause is for what a gateway that died has left. With it an idle gateway
	// sends 0.81 statements a second: 0.57 looks, 0.07 for the backlog, 0.02 of the
	// retention, 0.15 of the journeys' sweeper.
	pollMin, pollMax = time.Second, 2500 * time.Millisecond
	// writeTimeout bounds one attempt to write what became of a batch. It is made
	// also while the relay is being stopped.
	writeTimeout = 2 * time.Second
	// measureEvery is the time between two measurements of the backlog.
	measureEvery = 15 * time.Second
)

func (o RelayOptions) withDefaults() RelayOptions {
	o.InFlight = cmp.Or(o.InFlight, 8)
	o.RetryBase = cmp.Or(o.RetryBase, time.Second)
	o.RetryCap = cmp.Or(o.RetryCap, 5*time.Minute)
	o.DownBase = cmp.Or(o.DownBase, 250*time.Millisecond)
	o.DownCap = cmp.Or(o.DownCap, 15*time.Second)
	o.Drain = cmp.Or(o.Drain, 5*time.Second)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Metrics == nil {
		o.Metrics = noMetrics{}
	}
	return o
}

// Relay carries rows from a Store to its destinations. Any number of relays may run
// on one store, in one process or in many.
type Relay struct {
	store  Store
	lanes  []*lane
	fanOut []string // empty: events go to the bus
	opts   RelayOptions
	nudge  chan struct{}
	db     outage

	mu  sync.Mutex
	due time.Time // when a row that this relay gave back is due; zero: none
}

// lane is one destination and its state. inFlight counts its batches.
//
// A destination may be away for some events only: it takes all types but one, or a part of
// what a handler needs is away. If each look began with the oldest row, ten of those would
// hold up all others. So while the destination is away a look goes on after the last full
// batch that was released whole, up to the newest row and then from the oldest again. Every
// second look takes what is newer than all that was claimed before, so that new events do not
// wait until the others have had their turn. The released rows stay due: a destination that
// is back gets them at once, the oldest first.
type lane struct {
	Destination
	away     outage
	inFlight atomic.Int32
	passed   atomic.Int64 // seq of the last row of that batch; 0: none
	// Of the goroutine that looks:
	newest int64 // seq of the newest row that was claimed
	newer  bool  // the last look was for newer ones
}

// after is the seq after which the next look begins.
func (l *lane) after() int64 {
	passed, down := l.passed.Load(), l.away.down()
	l.newer = down && passed > 0 && !l.newer
	switch {
	case l.newer:
		return l.newest
	case down:
		return passed
	}
	return 0
}

// pass has the next looks go on after a batch. It never goes back: batches in flight end in
// any order, and those that are claimed between two outages begin with the oldest row.
func (l *lane) pass(last int64) { l.passed.Store(max(last, l.passed.Load())) }

// free reports whether rows may be claimed. While the destination is away one batch
// at a time finds out whether it is back.
func (l *lane) free(limit int) bool {
	n := l.inFlight.Load()
	return l.away.left() <= 0 && int(n) < limit && (n == 0 || !l.away.down())
}

// NewRelay makes a relay; it starts nothing. With Bus among the destinations every
// event goes to the bus, and the consumers only get what a gateway without a bus
// had addressed to them. Otherwise every event goes to every consumer that is not
// Recorded. So a switch between the two leaves no row behind. The error names the field that is wrong.
func NewRelay(store Store, to []Destination, opts RelayOptions) (*Relay, error) {
	r := &Relay{store: store, opts: opts.withDefaults(), nudge: make(chan struct{}, 1)}
	if r.opts.InFlight < 1 {
		return nil, fmt.Errorf("outbox: InFlight %d is less than 1", opts.InFlight)
	}
	bus := false
	for _, d := range to {
		d = d.withDefaults()
		if err := d.validate(); err != nil {
			return nil, err
		}
		bus = bus || d.Name == Bus
		r.lanes = append(r.lanes, &lane{Destination: d})
	}
	if !bus {
		for _, l := range r.lanes {
			if !l.Recorded {
				r.fanOut = append(r.fanOut, l.Name)
			}
		}
	}
	return r, nil
}

// Nudge is a hint that there may be rows, given after a commit. It never blocks.
func (r *Relay) Nudge() {
	select {
	case r.nudge <- struct{}{}:
	default: // one is already waiting
	}
}

// Run relays until ctx ends, then lets batches in flight end within Drain and gives
// the rest back. Its error is ctx's.
func (r *Relay) Run(ctx context.Context) error {
	// Batches in flight outlive ctx, by Drain at most.
	flight, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var work sync.WaitGroup
	work.Go(func() { r.measureOften(ctx) })
	for ctx.Err() == nil {
		if more := r.look(ctx, flight, &work); !more {
			r.pause(ctx)
		}
	}
	timer := time.AfterFunc(r.opts.Drain, cut)
	work.Wait()
	timer.Stop()
	return ctx.Err()
}

// look claims rows for all destinations that are free and starts their delivery. It
// reports whether there may be more at once.
func (r *Relay) look(ctx, flight context.Context, work *sync.WaitGroup) (more bool) {
	look := Look{FanOut: r.fanOut, Limit: batch}
	var asked []*lane
	for _, l := range r.lanes {
		if l.free(r.opts.InFlight) {
			asked, look.Asks = append(asked, l), append(look.Asks, Ask{l.Name, l.Lease, l.Older, l.after()})
		}
	}
	if len(look.Asks)+len(look.FanOut) == 0 {
		return false
	}
	began := time.Now()
	claimed, err := r.store.Claim(ctx, look)
	r.storeAnswered(ctx, err)
	if err != nil {
		for _, l := range asked { // the oldest rows are the cheapest to find
			l.passed.Store(0)
		}
		return false
	}
	more = claimed.FannedOut > 0
	for i, l := range asked {
		rows := rowsTo(claimed.Rows, l.Name)
		if len(rows) < batch && !l.newer { // there are no more
			l.passed.Store(0)
		}
		if len(rows) == 0 {
			more = more || look.Asks[i].After > 0
			continue
		}
		more = more || len(rows) == batch
		newer, last := l.newer, rows[len(rows)-1].Seq
		l.newest = max(l.newest, last)
		l.inFlight.Add(1)
		work.Go(func() {
			released := r.carry(flight, l, rows, began.Add(l.Lease))
			if released == batch && !newer {
				l.pass(last)
			}
			l.inFlight.Add(-1)
			r.Nudge() // the next rows of these sessions may be claimed now
		})
	}
	return more
}

func rowsTo(rows []Row, name string) (to []Row) {
	for _, row := range rows {
		if row.To == name {
			to = append(to, row)
		}
	}
	return to
}

// pause waits for the next look: for a nudge, until something is due that this relay
// knows of, or for the poll. While the store is away a nudge changes nothing.
func (r *Relay) pause(ctx context.Context) {
	if wait := r.db.left(); wait > 0 {
		sleep(ctx, wait, nil)
		return
	}
	wait := pollMin + rand.N(pollMax-pollMin+1) //nolint:gosec // jitter needs no secrecy
	for _, l := range r.lanes {
		if left := l.away.left(); left > 0 {
			wait = min(wait, left)
		}
	}
	r.mu.Lock()
	if left := time.Until(r.due); left > 0 {
		wait = min(wait, left)
	}
	r.mu.Unlock()
	sleep(ctx, wait, r.nudge)
}

// dueIn has the relay look again after wait.
func (r *Relay) dueIn(wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at := time.Now().Add(wait); time.Until(r.due) <= 0 || at.Before(r.due) {
		r.due = at
	}
}

// carry publishes rows and writes what became of each. It returns how many were released.
// All of it ends before the claim does: a publish that began later could overtake another
// relay's.
func (r *Relay) carry(ctx context.Context, l *lane, rows []Row, until time.Time) (released int) {
	ctx, cancel := context.WithDeadline(ctx, until.Add(-l.Lease/10))
	defer cancel()
	rows = slices.DeleteFunc(rows, func(row Row) bool {
		if row.Unreadable != nil {
			r.refused(ctx, l, row, Permanent(row.Unreadable))
		}
		return row.Unreadable != nil
	})
	if len(rows) == 0 {
		return 0
	}
	publishing, stop := context.WithTimeout(ctx, l.Timeout)
	errs := l.To.Publish(publishing, rows)
	stop()
	if len(errs) != len(rows) { // a bug of the publisher; nothing is known
		errs = slices.Repeat([]error{Down(errors.New("the publisher returned errors for other rows"))}, len(rows))
	}
	return r.settle(ctx, l, rows, errs)
}

// settle writes what became of a batch, and returns how many rows it released. What cannot
// be written is decided by the claim's end: then the rows are published once more.
func (r *Relay) settle(ctx context.Context, l *lane, rows []Row, errs []error) int {
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
	r.mark(ctx, l, taken)
	r.destinationAnswered(ctx, l, len(released) < len(rows), len(released), cause)
	// A store that does not answer is asked for nothing more than the marks: the
	// claims run out.
	giveBack, stop := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer stop()
	if len(released) > 0 {
		wait := time.Duration(0) // the whole destination waits, and the rows are due when it is tried again
		if len(released) < len(rows) {
			wait = jitter(r.opts.RetryBase, r.opts.RetryCap, 1)
		}
		r.storeAnswered(ctx, r.store.Release(giveBack, l.Name, released, wait))
		r.dueIn(wait)
	}
	for i, row := range rows {
		if err := errs[i]; err != nil && classOf(err) != down {
			r.refused(giveBack, l, row, err)
		}
	}
	return len(released)
}

// mark tries for as long as the claim holds, and once even while the relay is being
// stopped: each mark that is lost is a repeat.
func (r *Relay) mark(ctx context.Context, l *lane, rows []Row) {
	if len(rows) == 0 {
		return
	}
	seqs := make([]int64, len(rows))
	for i, row := range rows {
		seqs[i] = row.Seq
	}
	for n := 1; ; n++ {
		try, stop := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
		err := r.store.Done(try, l.Name, seqs)
		stop()
		r.storeAnswered(ctx, err)
		if err == nil {
			break
		}
		if sleep(ctx, jitter(r.opts.DownBase, r.opts.DownCap, n), nil); ctx.Err() != nil {
			r.opts.Log.WarnContext(ctx, "delivered events not marked, they will be repeated",
				slog.String("relay", l.Name), slog.Int("events", len(rows)), slog.Any("error", err))
			return
		}
	}
	for _, row := range rows {
		r.opts.Metrics.EventPublished(l.Name, max(0, time.Since(row.Event.At)))
	}
}

// refused buries a row that cannot be delivered, and puts any other off.
func (r *Relay) refused(ctx context.Context, l *lane, row Row, cause error) {
	reason := Reason(cause)
	attrs := []any{
		slog.String("relay", l.Name), slog.Int64("seq", row.Seq), slog.String("event_type", string(row.Event.Type)),
		slog.String("session_id", string(row.Event.SessionID)), slog.Int("attempts", row.Attempts), slog.String("reason", reason),
	}
	r.opts.Metrics.EventFailed(l.Name, "rejected")
	if classOf(cause) == permanent || row.Attempts >= l.MaxAttempts {
		err := r.store.Bury(ctx, l.Name, row.Seq, reason)
		r.storeAnswered(ctx, err)
		if err == nil {
			r.opts.Metrics.EventBuried(l.Name)
			r.opts.Log.ErrorContext(ctx, "event buried", attrs...)
		}
		return
	}
	r.opts.Log.WarnContext(ctx, "event not delivered", attrs...)
	wait := jitter(r.opts.RetryBase, r.opts.RetryCap, row.Attempts)
	r.storeAnswered(ctx, r.store.Retry(ctx, l.Name, row.Seq, wait, reason))
	r.dueIn(wait)
}

// destinationAnswered begins or ends an outage of a destination. Any row that the
// destination has answered ends it.
func (r *Relay) destinationAnswered(ctx context.Context, l *lane, answered bool, failed int, cause error) {
	for range failed {
		r.opts.Metrics.EventFailed(l.Name, "down")
	}
	if answered {
		if since, was := l.away.end(); was {
			r.opts.Log.InfoContext(ctx, "events are delivered again", slog.String("relay", l.Name), slog.Duration("after", time.Since(since)))
		}
		return
	}
	if ctx.Err() == nil && l.away.fail(r.opts.DownBase, r.opts.DownCap) {
		r.opts.Log.WarnContext(ctx, "events cannot be delivered", slog.String("relay", l.Name), slog.Any("error", cause))
	}
}

// storeAnswered begins or ends an outage of the store.
func (r *Relay) storeAnswered(ctx context.Context, err error) {
	switch {
	case err == nil:
		if _, was := r.db.end(); was {
			r.opts.Log.InfoContext(ctx, "outbox is reachable again")
		}
	case ctx.Err() != nil: // because of the stop
	default:
		r.opts.Metrics.EventFailed(Bus, "store")
		if r.db.fail(r.opts.DownBase, r.opts.DownCap) {
			r.opts.Log.WarnContext(ctx, "outbox cannot be reached", slog.Any("error", err))
		}
	}
}

// measureOften measures the backlog until ctx ends.
func (r *Relay) measureOften(ctx context.Context) {
	for {
		r.measure(ctx)
		sleep(ctx, measureEvery, nil)
		if ctx.Err() != nil {
			return
		}
	}
}

// measure reports the backlog of every destination, and of the outbox itself as Bus.
func (r *Relay) measure(ctx context.Context) {
	var consumers []string
	for _, l := range r.lanes {
		if l.Name != Bus {
			consumers = append(consumers, l.Name)
		}
	}
	list, err := r.store.Backlog(ctx, consumers)
	if err != nil {
		return // the claims report it
	}
	for _, b := range list {
		r.opts.Metrics.OutboxState(b.To, b.Waiting, b.Dead, age(b.Oldest), age(b.NewerSince))
	}
}

// age is zero for the zero instant.
func age(of time.Time) time.Duration {
	if of.IsZero() {
		return 0
	}
	return max(0, time.Since(of))
}

// sleep ends early with ctx and, unless it is nil, at a nudge.
func sleep(ctx context.Context, d time.Duration, nudge <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-nudge:
	}
}

type noMetrics struct{}

func (noMetrics) EventPublished(string, time.Duration)                       {}
func (noMetrics) EventFailed(string, string)                                 {}
func (noMetrics) EventBuried(string)                                         {}
func (noMetrics) OutboxState(string, int, int, time.Duration, time.Duration) {}
