package sessions

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"time"

	"doorstep/internal/pause"
)

// Sweeper ends the journeys that have lasted for JourneyTTL, and reports those
// whose phone has fallen silent. One runs in every gateway. Each time-out is decided
// under the session's lock, and each silence has an id that is the same in every
// process, so both happen once however many sweepers run.
type Sweeper struct {
	service *Service
	opts    SweeperOptions

	silentAt time.Time // of the last look for silences that succeeded
	stuck    map[ID]stuckJourney
}

// stuckJourney is a journey that could not be timed out.
type stuckJourney struct {
	tries int
	next  time.Time // not tried before then
}

// SweeperOptions are the settings of a Sweeper. Zero means default.
type SweeperOptions struct {
	// Silence is how long a phone may be silent until that is reported. 15 min;
	// a negative value turns the reports off.
	Silence time.Duration
	Log     *slog.Logger
	Metrics SweeperMetrics
}

// SweeperMetrics counts what the sweeper finds. For each time-out and each silence
// one gateway calls it.
type SweeperMetrics interface {
	JourneyTimedOut()
	JourneySilent()
	Swept(err error)
	JourneysStuck(n int) // how many overdue journeys cannot be ended; called after every sweep
}

const (
	// sweepEvery is the mean time between two sweeps. Half of it is jitter to both
	// sides, so that gateways that were started together drift apart.
	sweepEvery = 10 * time.Second
	// sweepAtLeast is the least time between two sweeps.
	sweepAtLeast = 250 * time.Millisecond
	// silenceEvery is the time between two looks for silences.
	silenceEvery = time.Minute
	// sweepBatch is how many journeys one query returns to be timed out: after a
	// long outage all of the operator's journeys may be due.
	sweepBatch = 200
	// stuckFor is how long a journey that could not be ended is left alone at
	// first. It doubles, up to stuckAtMost.
	stuckFor, stuckAtMost = 10 * time.Second, 5 * time.Minute
	// othersAfter is how long after its hour a journey of another region is ended from here.
	othersAfter = 2 * time.Minute
	// lockedRows is how many silences a look may fail to report, because another
	// transaction holds the row. More of them are a database in trouble.
	lockedRows = 3
	// silenceBatch bounds a look for silences. With more running journeys than
	// that, only the oldest are looked at.
	silenceBatch = 20_000
)

// NewSweeper makes a sweeper for the service's repository and live store. Run does
// the work.
func NewSweeper(s *Service, opts SweeperOptions) *Sweeper {
	opts.Silence = cmp.Or(opts.Silence, 15*time.Minute)
	opts.Log = cmp.Or(opts.Log, slog.New(slog.DiscardHandler))
	if opts.Metrics == nil {
		opts.Metrics = noSweeperMetrics{}
	}
	return &Sweeper{service: s, opts: opts, stuck: map[ID]stuckJourney{}}
}

// Run sweeps until ctx ends. A failed sweep is logged, and the next one comes at its
// usual time.
func (w *Sweeper) Run(ctx context.Context) error {
	for {
		if err := pause.For(ctx, w.untilNext(ctx)); err != nil {
			return err
		}
		err := w.Sweep(ctx)
		w.opts.Metrics.Swept(err)
		if err != nil && ctx.Err() == nil {
			w.opts.Log.WarnContext(ctx, "sweep of journeys failed", slog.Any("error", err))
		}
	}
}

// untilNext is the time to the next sweep: sweepEvery with jitter, or until the next
// journey is due, so that it ends in both stores at the same moment.
func (w *Sweeper) untilNext(ctx context.Context) time.Duration {
	wait := sweepEvery/2 + rand.N(sweepEvery) //nolint:gosec // jitter
	s := w.service
	now := s.opts.Now()
	soon, err := s.repo.Running(ctx, now.Add(wait-s.opts.JourneyTTL), JourneyKey{}, len(w.stuck)+w.othersDue()+1)
	if err != nil {
		return wait
	}
	for _, next := range soon {
		if _, stuck := w.stuck[next.ID]; !stuck && next.In(s.opts.Region) {
			wait = next.JourneyStartedAt.Add(s.opts.JourneyTTL).Sub(now)
			break
		}
	}
	return max(sweepAtLeast, wait) + rand.N(sweepAtLeast) //nolint:gosec // jitter
}

// Sweep looks once. Errors: those of the repository.
func (w *Sweeper) Sweep(ctx context.Context) error {
	if err := w.timeOut(ctx); err != nil {
		return err
	}
	now := w.service.opts.Now()
	if w.opts.Silence < 0 || now.Sub(w.silentAt) < silenceEvery && now.After(w.silentAt) {
		return nil
	}
	return w.reportSilence(ctx, now)
}

// timeOut ends the overdue journeys, batch after batch. A journey that cannot be
// ended holds up no other: it is reported, and left alone for a while. The error is
// that of a repository that cannot be asked at all.
func (w *Sweeper) timeOut(ctx context.Context) error {
	s := w.service
	now := s.opts.Now()
	defer func() { w.opts.Metrics.JourneysStuck(len(w.stuck)) }()
	overdue := map[ID]bool{}
	for after := (JourneyKey{}); ; {
		batch, err := s.repo.Running(ctx, now.Add(-s.opts.JourneyTTL), after, sweepBatch)
		if err != nil {
			return err
		}
		for _, session := range batch {
			overdue[session.ID] = true
			if now.Before(w.stuck[session.ID].next) || !w.mine(session, now) {
				continue
			}
			if err := w.timeOutOne(ctx, session.ID); err != nil {
				// The fault may be the repository's, and not this journey's.
				if _, err := s.repo.Running(ctx, now, JourneyKey{}, 1); err != nil {
					return err
				}
				w.leave(ctx, session.ID, now, err)
			}
		}
		if len(batch) < sweepBatch {
			break
		}
		last := batch[len(batch)-1]
		after = JourneyKey{last.ID, last.JourneyStartedAt}
	}
	maps.DeleteFunc(w.stuck, func(id ID, _ stuckJourney) bool { return !overdue[id] })
	return nil
}

// mine reports whether an overdue journey is to be ended from here. Its own region does so
// first, and removes its location. Another does so when that one has not: it is cut off, and
// the trainer has to be free.
func (w *Sweeper) mine(session Session, now time.Time) bool {
	s := w.service
	return session.In(s.opts.Region) || now.Sub(session.JourneyStartedAt) >= s.opts.JourneyTTL+othersAfter
}

// othersDue is how many journeys of other regions may be before the next of this one.
func (w *Sweeper) othersDue() int {
	if w.service.opts.Region == "" {
		return 0
	}
	return sweepBatch
}

// leave notes that a journey could not be ended.
func (w *Sweeper) leave(ctx context.Context, id ID, now time.Time, err error) {
	stuck := w.stuck[id]
	stuck.next = now.Add(min(stuckFor<<min(stuck.tries, 10), stuckAtMost))
	stuck.tries++
	w.stuck[id] = stuck
	w.opts.Log.WarnContext(ctx, "journey cannot be timed out", slog.String("session_id", string(id)),
		slog.Int("tries", stuck.tries), slog.Any("error", err))
}

// timeOutOne ends one journey, unless it has ended meanwhile.
func (w *Sweeper) timeOutOne(ctx context.Context, id ID) error {
	s, ended := w.service, false
	session, err := s.change(ctx, Caller{}, id, func(session *Session) ([]Event, error) {
		events := session.TimeOut(s.opts.JourneyTTL, s.opts.Now())
		ended = len(events) > 0
		return events, nil
	})
	if err == nil {
		delete(w.stuck, id)
	}
	if err != nil || !ended {
		return err
	}
	w.opts.Metrics.JourneyTimedOut()
	w.opts.Log.InfoContext(ctx, "journey timed out", slog.String("session_id", string(id)))
	s.syncLive(ctx, session, session.Journey())
	return nil
}

// reportSilence reports the journeys whose phone was last seen too long ago. It
// reports only when the look before this one succeeded, and not long ago. While the
// database was away the gateways could not write when they last saw the phones, so
// they get the time until the next look to write it.
func (w *Sweeper) reportSilence(ctx context.Context, now time.Time) error {
	since := now.Add(-w.opts.Silence)
	last := w.silentAt
	w.silentAt = time.Time{}
	running, err := w.service.repo.Running(ctx, since, JourneyKey{}, silenceBatch)
	if err != nil {
		return err
	}
	keys := make([]JourneyKey, len(running))
	for i, s := range running {
		keys[i] = JourneyKey{s.ID, s.JourneyStartedAt}
	}
	lastSeen, err := w.service.repo.LastSeen(ctx, keys)
	if err != nil {
		return err
	}
	var failed []error
	if now.Sub(last) <= 3*silenceEvery {
		for i, s := range running {
			at := s.JourneyStartedAt
			if seen := lastSeen[keys[i]]; seen.After(at) {
				at = seen
			}
			if at.Before(since) && w.service.running(s) && s.In(w.service.opts.Region) { // another region may have seen its phone
				if err := w.silent(ctx, s, at, now); err != nil {
					failed = append(failed, err)
				}
				if len(failed) > lockedRows {
					return errors.Join(failed...)
				}
			}
		}
	}
	w.silentAt = now
	return errors.Join(failed...)
}

func (w *Sweeper) silent(ctx context.Context, s Session, lastSeen, now time.Time) error {
	e := s.event(LocationSuspicious, ms(now))
	e.ID = silenceID(JourneyKey{s.ID, s.JourneyStartedAt}, lastSeen)
	e.Verdict, e.Count = VerdictSilent, 1
	first, err := w.service.record(ctx, e)
	if err != nil || !first {
		return err
	}
	w.opts.Metrics.JourneySilent()
	w.opts.Log.WarnContext(ctx, "journey is silent",
		slog.String("session_id", string(s.ID)), slog.Duration("silent_for", now.Sub(lastSeen)))
	return nil
}

type noSweeperMetrics struct{}

func (noSweeperMetrics) JourneyTimedOut()  {}
func (noSweeperMetrics) JourneySilent()    {}
func (noSweeperMetrics) Swept(error)       {}
func (noSweeperMetrics) JourneysStuck(int) {}
