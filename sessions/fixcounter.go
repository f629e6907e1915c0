package sessions

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// FixCounter counts what becomes of fixes, for each journey, in this process, and
// notices the moments of it that its history tells (Moment). It
// writes both to the repository in batches, so an update waits for no write. A
// nil FixCounter counts nothing. Safe for concurrent use.
//
// A process that dies loses what it has not written, at most half a minute's
// counts. Counts are added twice when the answer to a commit is lost. They are for
// statistics, not for bills.
type FixCounter struct {
	repo Analytics
	opts FixCounterOptions

	// The journeys are split into shards, and a flush writes one shard. All at once
	// would keep the database, and everything on its machine, busy for seconds each
	// half minute.
	shards  [shards]counterShard
	counted atomic.Int64 // journeys in all shards
	noted   atomic.Int64 // moments in all shards
	limit   int          // how many there may be
	etas    etaErrors

	ending chan Ref // journeys whose counts are to be written soon
}

type counterShard struct {
	mu       sync.Mutex
	journeys map[Ref]*counting
	told     map[Ref]telling
}

// counting is what has been counted and noticed of one journey since the last flush.
type counting struct {
	Counts
	moments moments
}

// FixCounterOptions are the settings of a FixCounter. Zero means default.
type FixCounterOptions struct {
	// Now is the clock of the service whose fixes are counted. time.Now.
	Now func() time.Time
	// RateInterval is that of LiveOptions: a journey is silent 15 s after a fix was due.
	// 5 s.
	RateInterval time.Duration
	Steer        bool // that of ServiceOptions: a fix may be due later
	Log          *slog.Logger
	Metrics      FixCounterMetrics
}

// FixCounterMetrics observes what the counter does.
type FixCounterMetrics interface {
	// FixSeen is one fix that a student was shown: how long ago it was taken, by
	// which clock ("phone", "store"), and how long ago it was stored.
	FixSeen(clock string, sinceTaken, sinceStored time.Duration)
	// ETAOff is one ETA error: the time at which the trainer reached the fence,
	// minus the time that the student was shown. Negative: earlier than shown.
	ETAOff(by time.Duration)
	// CountsWritten is one write of counts; journeys is how many journeys it
	// covers.
	CountsWritten(journeys int, err error)
	// CountDropped is one fix that was not counted.
	CountDropped()
}

const (
	// flushEvery is the time between two flushes of a journey's counts.
	flushEvery = 30 * time.Second
	// flushRows is how many journeys one call writes: 500 rows take some 15 ms.
	flushRows = 500
	// lastFlush is the time-out of the flush at the end.
	lastFlush = 3 * time.Second
	// countLimit is how many journeys are counted at once; further ones are not.
	// 100,000 take about 50 MB.
	countLimit = 100_000
)

// NewFixCounter makes a counter that writes to repo. Run does the work.
func NewFixCounter(repo Analytics, opts FixCounterOptions) *FixCounter {
	opts.Log = cmp.Or(opts.Log, slog.New(slog.DiscardHandler))
	opts.RateInterval = cmp.Or(opts.RateInterval, usualInterval)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Metrics == nil {
		opts.Metrics = noFixCounterMetrics{}
	}
	t := &FixCounter{
		repo: repo, opts: opts, limit: countLimit, ending: make(chan Ref, flushRows),
		etas: etaErrors{limit: countLimit, expected: map[Ref]time.Time{}},
	}
	for i := range t.shards {
		t.shards[i].journeys, t.shards[i].told = map[Ref]*counting{}, map[Ref]telling{}
	}
	return t
}

// Run flushes until ctx ends, and then once more.
func (t *FixCounter) Run(ctx context.Context) error {
	step := flushEvery / time.Duration(len(t.shards))
	turn, next := 0, time.Now().Add(step) // the next shard, and its time
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			var due []JourneyCounts
			for now := time.Now(); !next.After(now); next = next.Add(step) { // several shards where a flush took longer than a step
				due = append(due, t.take(turn, t.opts.Now())...)
				turn = (turn + 1) % len(t.shards)
			}
			if err := t.flush(ctx, due); err != nil { // logged; the counts are kept and written later
				next = next.Add(flushEvery) // a database that is away is not asked, and not logged, twice a second
			}
		case ref := <-t.ending:
			_ = t.flush(ctx, t.takeEnding(ref)) // as above
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
			defer cancel()
			_ = t.Flush(last) // counts that are lost because the database is away do not make the stop fail
			return ctx.Err()
		}
	}
}

// Flush writes all counts. Those that cannot be written are kept.
func (t *FixCounter) Flush(ctx context.Context) error {
	var all []JourneyCounts
	for i := range t.shards {
		all = append(all, t.take(i, time.Time{})...)
	}
	return t.flush(ctx, all)
}

func (t *FixCounter) flush(ctx context.Context, list []JourneyCounts) error {
	for from := 0; from < len(list); from += flushRows {
		batch := list[from:min(from+flushRows, len(list))]
		err := t.repo.AddCounts(ctx, batch)
		t.opts.Metrics.CountsWritten(len(batch), err)
		if err != nil {
			t.opts.Log.WarnContext(ctx, "journey counts not written", slog.Int("journeys", len(list)-from), slog.Any("error", err))
			t.giveBack(list[from:])
			return err
		}
	}
	return nil
}

// count adds one fix to the counts of its journey, by its verdict.
// VerdictUnknown and VerdictEnded are not counted, because there is no
// journey to count for.
func (t *FixCounter) count(ref Ref, r Receipt, now time.Time) {
	c := Counts{LastSeen: ms(now)}
	switch r.Verdict {
	case VerdictStored:
		c.Accepted, c.DistanceM, c.Last = 1, r.MovedM, r.Last()
	case VerdictJump, VerdictSpeed, VerdictCeiling:
		c.Refused = 1
	case VerdictStale, VerdictBeforeStart:
		c.Stale = 1
	case VerdictVague, VerdictNoPosition:
		c.Vague = 1
	case VerdictTooSoon, VerdictIgnoredTooSoon:
		c.TooSoon = 1
	case VerdictUnknown, VerdictEnded:
		return
	}
	if r.Flags != 0 {
		c.Flagged = 1
	}
	noted := int(r.Verdict)
	if r.Verdict == VerdictStored {
		noted = 0
	}
	t.addNoted(ref, c, noted, &r, now)
}

// last is the last accepted fix that is not written yet.
func (t *FixCounter) last(ref Ref) LastFix {
	if t == nil {
		return LastFix{}
	}
	s := t.shard(ref)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.journeys[ref]; c != nil {
		return c.Last
	}
	return LastFix{}
}

// phoneSeen notes that a phone has sent a fix while no live store could judge it.
// Without it every phone would look silent while the live store is away.
func (t *FixCounter) phoneSeen(ref Ref, now time.Time) {
	t.addNoted(ref, Counts{LastSeen: ms(now)}, notedUnavailable, nil, now)
}

// sanePhone is how far a phone's clock may be from the store's for a measurement to
// use it. A fix beyond that has a flag for its clock (geo.FlagClock).
const sanePhone = time.Minute

// shown notes that a student was shown a location.
func (t *FixCounter) shown(v View, now time.Time) {
	if t == nil {
		return
	}
	at := v.Location
	after, taken, clock := now.Sub(at.At), at.At, "store"
	if !at.RecordedAt.IsZero() && !at.RecordedAt.Equal(at.At) && at.At.Sub(at.RecordedAt).Abs() < sanePhone {
		taken, clock = at.RecordedAt, "phone"
	}
	t.opts.Metrics.FixSeen(clock, max(0, now.Sub(taken)), max(0, after))
	if late, arrived := t.etas.shown(v, now); arrived {
		t.opts.Metrics.ETAOff(late)
	}
	var c Counts
	c.FixToEye.Count(after)
	t.add(v.Ref, c)
}

// ended asks for a journey's counts to be written soon, so that its record is
// complete when its end is published. It writes that journey only: of ten thousand
// running journeys one ends every tenth of a second.
func (t *FixCounter) ended(ref Ref) {
	if t == nil {
		return
	}
	select {
	case t.ending <- ref:
	default: // the next flush of its shard writes them
	}
}

// takeEnding removes and returns the counts of a journey that has ended, and of all
// that have ended since.
func (t *FixCounter) takeEnding(ref Ref) []JourneyCounts {
	ended := map[Ref]JourneyCounts{} // a session's journey may have started and ended again
	for {
		if c := t.takeOne(ref); c != nil {
			sum := ended[ref]
			ended[ref] = JourneyCounts{ref, sum.Add(c.Counts), append(sum.Moments, c.moments.take(time.Time{}, &t.noted)...)}
		}
		select {
		case ref = <-t.ending:
		default:
			return slices.Collect(maps.Values(ended))
		}
	}
}

// takeOne removes and returns a journey's counts; nil where it has none.
func (t *FixCounter) takeOne(ref Ref) *counting {
	s := t.shard(ref)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.journeys[ref]
	if c != nil {
		delete(s.journeys, ref)
		t.counted.Add(-1)
	}
	return c
}

func (t *FixCounter) shard(ref Ref) *counterShard {
	return &t.shards[shardOf(ref.SessionID)]
}

// shards is how many parts a table of journeys has, each with a lock of its own. It divides 256.
const shards = 64

// shardOf spreads ids over the shards. It uses the last two hex
// digits, which are random in every generated UUID, whatever its version.
func shardOf(id ID) int {
	sum := 0
	for _, c := range []byte(id[max(0, len(id)-2):]) {
		sum = sum<<4 + int(c&15+c>>6*9)
	}
	return sum % shards
}

func (t *FixCounter) add(ref Ref, c Counts) { t.addNoted(ref, c, 0, nil, time.Time{}) }

// addNoted adds counts, and notices one of those that are counted a minute, unless noted
// is 0, and a fix, unless that is nil. A nil FixCounter notices nothing.
func (t *FixCounter) addNoted(ref Ref, c Counts, noted int, fix *Receipt, now time.Time) {
	if t == nil {
		return
	}
	s := t.shard(ref)
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := s.at(ref, &t.counted, int64(t.limit))
	if sum == nil {
		t.opts.Metrics.CountDropped()
		return
	}
	sum.Counts = sum.Add(c)
	switch {
	case noted > 0:
		sum.moments.note(noted, now, &t.noted)
	case fix != nil:
		sum.moments.stored(*fix, s.dueAfter(ref, *fix, t.opts)+silenceAfter, &t.noted)
	}
	if fix != nil && t.opts.Steer {
		s.tell(ref, *fix, t.opts.RateInterval)
	}
}

// at is what is counted of a journey; nil where there is no room for one more.
func (s *counterShard) at(ref Ref, counted *atomic.Int64, limit int64) *counting {
	sum := s.journeys[ref]
	if sum == nil {
		if counted.Add(1) > limit {
			counted.Add(-1)
			return nil
		}
		sum = &counting{}
		s.journeys[ref] = sum
	}
	return sum
}

// take removes and returns the counts of a shard. A minute that is not over at now stays
// (moments.take).
func (t *FixCounter) take(i int, now time.Time) []JourneyCounts {
	s := &t.shards[i]
	s.mu.Lock()
	defer s.mu.Unlock()
	list, open := make([]JourneyCounts, 0, len(s.journeys)), map[Ref]*counting{}
	for ref, c := range s.journeys {
		one := JourneyCounts{ref, c.Counts, c.moments.take(now, &t.noted)}
		if c.moments.open {
			open[ref] = &counting{moments: c.moments}
		}
		list = append(list, one)
	}
	t.counted.Add(int64(len(open) - len(s.journeys)))
	s.journeys = open
	s.forget(t.opts)
	return list
}

func (t *FixCounter) giveBack(list []JourneyCounts) {
	for _, one := range list {
		t.add(one.Ref, one.Counts)
		s := t.shard(one.Ref)
		s.mu.Lock()
		if sum := s.journeys[one.Ref]; sum != nil && len(one.Moments) > 0 {
			sum.moments.add(&t.noted, one.Moments...)
		}
		s.mu.Unlock()
	}
}

// Seen notes that a long poll of c was answered with a new location. It counts for
// students only: not for the trainer, nor for an admin who is a student elsewhere.
func (s *Service) Seen(c Caller, v View) {
	if !v.Told && c.Has(Student) && !c.Has(Admin) && c.ID != v.TrainerID && v.Active && v.Location != nil {
		s.opts.Counter.shown(v, s.opts.Now())
	}
}

type noFixCounterMetrics struct{}

func (noFixCounterMetrics) FixSeen(string, time.Duration, time.Duration) {}
func (noFixCounterMetrics) ETAOff(time.Duration)                         {}
func (noFixCounterMetrics) CountsWritten(int, error)                     {}
func (noFixCounterMetrics) CountDropped()                                {}
