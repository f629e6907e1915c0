package sessions

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// FixCounter counts what becomes of fixes, journey by journey, in this process, and
// brings the counts to the repository in batches: so nothing is written on an
// update's way. A nil FixCounter counts nothing. Safe for concurrent use.
//
// A count is lost with the process that had not said it yet, at most half
// a minute's worth; and counted twice when the answer to a commit is lost. It is
// there to look back by, not to bill by.
type FixCounter struct {
	repo Analytics
	opts FixCounterOptions

	// The journeys are shared out so that a flush is of a part of them: all at
	// once they would keep the database, and whoever shares its machine, busy for
	// seconds each half minute.
	shards   [64]counterShard
	counted  atomic.Int64 // journeys in all of them
	promised promises

	ending chan Ref // journeys whose counts are wanted soon
}

type counterShard struct {
	mu       sync.Mutex
	journeys map[Ref]*Counts
}

// FixCounterOptions are the settings of a FixCounter. Zero means default.
type FixCounterOptions struct {
	Every time.Duration // 30 s between two flushes of a journey's counts
	// Limit is how many journeys are counted at once; those over it are not.
	// 100,000: about 40 MB.
	Limit   int
	Log     *slog.Logger
	Metrics FixCounterMetrics
}

// FixCounterMetrics is told of what the tally does.
type FixCounterMetrics interface {
	// FixSeen is one fix that a student has seen: how long before it was taken,
	// by which clock ("phone", "store"), and how long before it was stored.
	FixSeen(clock string, sinceTaken, sinceStored time.Duration)
	// ETAOff is by how much later than a student was shown the trainer reached
	// the fence; negative for sooner.
	ETAOff(by time.Duration)
	// CountsWritten is one flush of so many journeys.
	CountsWritten(journeys int, err error)
	// CountDropped is one fix that was not counted.
	CountDropped()
}

// flushRows is how many journeys go in one call: 500 rows take some 15 ms.
const flushRows = 500

// lastFlush bounds the flush at the end.
const lastFlush = 3 * time.Second

// NewFixCounter makes one. Run does the work.
func NewFixCounter(repo Analytics, opts FixCounterOptions) *FixCounter {
	opts.Every = cmp.Or(opts.Every, 30*time.Second)
	opts.Limit = cmp.Or(opts.Limit, 100_000)
	opts.Log = cmp.Or(opts.Log, slog.New(slog.DiscardHandler))
	if opts.Metrics == nil {
		opts.Metrics = noFixCounterMetrics{}
	}
	t := &FixCounter{
		repo: repo, opts: opts, ending: make(chan Ref, flushRows),
		promised: promises{limit: opts.Limit, due: map[Ref]time.Time{}},
	}
	for i := range t.shards {
		t.shards[i].journeys = map[Ref]*Counts{}
	}
	return t
}

// Run flushes until ctx ends, and then once more.
func (t *FixCounter) Run(ctx context.Context) error {
	step := t.opts.Every / time.Duration(len(t.shards))
	turn, next := 0, time.Now().Add(step) // whose it is, and when
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			var due []JourneyCounts
			for now := time.Now(); !next.After(now); next = next.Add(step) { // several where a flush has taken longer
				due = append(due, t.take(turn)...)
				turn = (turn + 1) % len(t.shards)
			}
			if err := t.flush(ctx, due); err != nil { // told of; what could not be written is tried again
				next = next.Add(t.opts.Every) // a database that is away is not asked, nor told of, twice a second
			}
		case ref := <-t.ending:
			_ = t.flush(ctx, t.takeEnding(ref)) // the same
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
			defer cancel()
			_ = t.Flush(last) // lost with a database that is away: no reason to call the stop a failure
			return ctx.Err()
		}
	}
}

// Flush writes what has been counted. What cannot be written is kept.
func (t *FixCounter) Flush(ctx context.Context) error {
	var all []JourneyCounts
	for i := range t.shards {
		all = append(all, t.take(i)...)
	}
	return t.flush(ctx, all)
}

func (t *FixCounter) flush(ctx context.Context, list []JourneyCounts) error {
	for from := 0; from < len(list); from += flushRows {
		batch := list[from:min(from+flushRows, len(list))]
		err := t.repo.AddCounts(ctx, batch)
		t.opts.Metrics.CountsWritten(len(batch), err)
		if err != nil {
			t.opts.Log.WarnContext(ctx, "journey tallies not written", slog.Int("journeys", len(list)-from), slog.Any("error", err))
			t.giveBack(list[from:])
			return err
		}
	}
	return nil
}

// count notes what became of a fix.
func (t *FixCounter) count(ref Ref, r Receipt, now time.Time) {
	c := Counts{LastSeen: ms(now)}
	switch r.Verdict {
	case VerdictStored:
		c.Accepted, c.DistanceM = 1, r.MovedM
	case VerdictJump, VerdictSpeed, VerdictCeiling:
		c.Refused = 1
	case VerdictStale:
		c.Stale = 1
	case VerdictVague:
		c.Vague = 1
	case VerdictTooSoon:
		c.TooSoon = 1
	case VerdictUnknown, VerdictEnded:
		return
	}
	if r.Flags != 0 {
		c.Flagged = 1
	}
	t.add(ref, c)
}

// heard notes that a phone has spoken, though nobody could say what became of
// it: a live store that is down must not make every phone look silent.
func (t *FixCounter) heard(ref Ref, now time.Time) { t.add(ref, Counts{LastSeen: ms(now)}) }

// sanePhone is how far a phone's clock may be from the store's to measure by:
// beyond it a fix is flagged for its clock (geo.FlagClock).
const sanePhone = time.Minute

// seen notes that a student has been shown a location.
func (t *FixCounter) seen(v View, now time.Time) {
	if t == nil {
		return
	}
	at := v.Location
	after, taken, clock := now.Sub(at.At), at.At, "store"
	if !at.RecordedAt.IsZero() && !at.RecordedAt.Equal(at.At) && at.At.Sub(at.RecordedAt).Abs() < sanePhone {
		taken, clock = at.RecordedAt, "phone"
	}
	t.opts.Metrics.FixSeen(clock, max(0, now.Sub(taken)), max(0, after))
	if by, came := t.promised.shown(v, now); came {
		t.opts.Metrics.ETAOff(by)
	}
	var c Counts
	c.FixToEye.Count(after)
	t.add(v.Ref, c)
}

// ended asks for a journey's counts to be written soon: what is known of it
// should be whole when its end is told. Of that journey only: with ten thousand
// under way one ends every tenth of a second.
func (t *FixCounter) ended(ref Ref) {
	if t == nil {
		return
	}
	select {
	case t.ending <- ref:
	default: // its next turn has it
	}
}

// takeEnding takes the counts of a journey that has ended, and of whichever
// have ended since.
func (t *FixCounter) takeEnding(ref Ref) []JourneyCounts {
	ended := map[Ref]Counts{} // one may have been begun again, and ended again
	for {
		if c := t.takeOne(ref); c != nil {
			ended[ref] = ended[ref].Add(*c)
		}
		select {
		case ref = <-t.ending:
		default:
			list := make([]JourneyCounts, 0, len(ended))
			for ref, c := range ended {
				list = append(list, JourneyCounts{ref, c})
			}
			return list
		}
	}
}

// takeOne is nil for a journey that is not counted.
func (t *FixCounter) takeOne(ref Ref) *Counts {
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
	return &t.shards[shardOf(ref.SessionID, len(t.shards))]
}

// shardOf spreads ids over n shards, n a divisor of 256. It uses the last two hex
// digits, which are random in every kind of UUID that is not made up.
func shardOf(id ID, n int) int {
	sum := 0
	for _, c := range []byte(id[max(0, len(id)-2):]) {
		sum = sum<<4 + int(c&15+c>>6*9)
	}
	return sum % n
}

func (t *FixCounter) add(ref Ref, c Counts) {
	if t != nil && !t.shard(ref).add(ref, c, &t.counted, int64(t.opts.Limit)) {
		t.opts.Metrics.CountDropped()
	}
}

// add reports false for a journey that there is no room for.
func (s *counterShard) add(ref Ref, c Counts, counted *atomic.Int64, limit int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := s.journeys[ref]
	if sum == nil {
		if counted.Add(1) > limit {
			counted.Add(-1)
			return false
		}
		sum = &Counts{}
		s.journeys[ref] = sum
	}
	*sum = sum.Add(c)
	return true
}

// take takes the counts of a shard.
func (t *FixCounter) take(i int) []JourneyCounts {
	s := &t.shards[i]
	s.mu.Lock()
	journeys := s.journeys
	s.journeys = map[Ref]*Counts{}
	s.mu.Unlock()
	t.counted.Add(-int64(len(journeys)))
	list := make([]JourneyCounts, 0, len(journeys))
	for ref, c := range journeys {
		list = append(list, JourneyCounts{ref, *c})
	}
	return list
}

func (t *FixCounter) giveBack(list []JourneyCounts) {
	for _, one := range list {
		t.add(one.Ref, one.Counts)
	}
}

// Seen notes that c was shown a location: of a student's long poll that has
// been answered with a new one.
func (s *Service) Seen(c Caller, v View) {
	if c.Role == Student && v.Active && v.Location != nil {
		s.opts.Counter.seen(v, s.opts.Now())
	}
}

type noFixCounterMetrics struct{}

func (noFixCounterMetrics) FixSeen(string, time.Duration, time.Duration) {}
func (noFixCounterMetrics) ETAOff(time.Duration)                         {}
func (noFixCounterMetrics) CountsWritten(int, error)                     {}
func (noFixCounterMetrics) CountDropped()                                {}
