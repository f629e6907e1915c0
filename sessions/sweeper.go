package sessions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
)

// VerdictSilent is the verdict of a LocationSuspicious that no fix raised: the
// journey's phone has not been heard of.
const VerdictSilent = "silent"

// suspicionSpace is the namespace of the ids below; drawn once, at random.
var suspicionSpace = uuid.MustParse("6f1b0d1e-5c1f-4a63-9a53-2f1d7a0c9b54")

// SuspicionID is the event id of a suspicion, the same whoever raises it: the
// repository takes it once a journey and verdict, and so does every consumer.
func SuspicionID(session ID, startedAt time.Time, verdict string) ID {
	name := fmt.Sprintf("%s %d %s", session, startedAt.UnixMilli(), verdict)
	return ID(uuid.NewSHA1(suspicionSpace, []byte(name)).String())
}

// silenceID is SuspicionID once a silence: the phone that is heard again and
// falls silent again is reported again.
func silenceID(key JourneyKey, since time.Time) ID {
	return SuspicionID(key.SessionID, key.StartedAt, fmt.Sprintf("%s %d", VerdictSilent, since.UnixMilli()))
}

// Sweeper ends the journeys that have had their hour, and reports those whose
// phone has fallen silent. One runs in every gateway; what each finds is
// decided under the session's lock, or has an id that is the same wherever it
// is made up, so it happens once however many sweep.
type Sweeper struct {
	service *Service
	opts    SweeperOptions

	silentAt time.Time // when silences were last looked for, without a fault
}

// SweeperOptions are the settings of a Sweeper. Zero means default.
type SweeperOptions struct {
	// Every is the mean time between two sweeps, with half of it as jitter to
	// both sides, so that gateways started together drift apart. 10 s.
	Every time.Duration
	// Silence is how long a phone may be silent until that is reported. 15
	// min; negative: for ever.
	Silence time.Duration
	// SilenceEvery is the time between two looks for silence. 1 min.
	SilenceEvery time.Duration
	Log          *slog.Logger
	Metrics      SweeperMetrics
}

// SweeperMetrics is told of what the sweeper finds. Every gateway that finds a
// silence tells of it, the first and no other of a time-out.
type SweeperMetrics interface {
	JourneyTimedOut()
	JourneySilent()
	Swept(err error)
}

// sweepBatch is how many journeys are timed out between two looks: after a
// long outage all of the house's may be due.
const sweepBatch = 200

// sweepFaults is how many faults it takes to leave the rest to the next sweep:
// it is not the journeys, then.
const sweepFaults = 5

// silenceBatch bounds a look for silences; a house with more journeys under
// way sees the oldest.
const silenceBatch = 20_000

// NewSweeper makes one for the service's repository and live store.
func NewSweeper(s *Service, opts SweeperOptions) *Sweeper {
	opts.Every = cmp.Or(opts.Every, 10*time.Second)
	opts.Silence = cmp.Or(opts.Silence, 15*time.Minute)
	opts.SilenceEvery = cmp.Or(opts.SilenceEvery, time.Minute)
	opts.Log = cmp.Or(opts.Log, slog.New(slog.DiscardHandler))
	if opts.Metrics == nil {
		opts.Metrics = noSweeperMetrics{}
	}
	return &Sweeper{service: s, opts: opts}
}

// Run sweeps until ctx ends. A sweep that fails is told of; the next one is
// due as ever.
func (w *Sweeper) Run(ctx context.Context) error {
	for {
		timer := time.NewTimer(w.opts.Every/2 + rand.N(w.opts.Every)) //nolint:gosec // jitter
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		err := w.Sweep(ctx)
		w.opts.Metrics.Swept(err)
		if err != nil && ctx.Err() == nil {
			w.opts.Log.WarnContext(ctx, "sweep of journeys failed", slog.Any("error", err))
		}
	}
}

// Sweep looks once. Errors: those of the repository.
func (w *Sweeper) Sweep(ctx context.Context) error {
	if err := w.timeOut(ctx); err != nil {
		return err
	}
	now := w.service.opts.Now()
	if w.opts.Silence < 0 || now.Sub(w.silentAt) < w.opts.SilenceEvery && now.After(w.silentAt) {
		return nil
	}
	return w.reportSilence(ctx, now)
}

// timeOut ends what is overdue, batch after batch. One that cannot be ended
// keeps none of its batch from it.
func (w *Sweeper) timeOut(ctx context.Context) error {
	s := w.service
	for {
		overdue, err := s.repo.Running(ctx, s.opts.Now().Add(-s.opts.JourneyTTL), sweepBatch)
		var errs []error
		for _, session := range overdue {
			if err := w.timeOutOne(ctx, session.ID); err != nil {
				errs = append(errs, fmt.Errorf("time out %s: %w", session.ID, err))
			}
			if len(errs) == sweepFaults || ctx.Err() != nil {
				break
			}
		}
		err = errors.Join(append(errs, err, ctx.Err())...)
		if err != nil || len(overdue) < sweepBatch {
			return err
		}
	}
}

// timeOutOne ends one, unless it has been ended meanwhile.
func (w *Sweeper) timeOutOne(ctx context.Context, id ID) error {
	s, ended := w.service, false
	session, err := s.change(ctx, id, func(session *Session) ([]Event, error) {
		events := session.TimeOut(s.opts.JourneyTTL, s.opts.Now())
		ended = len(events) > 0
		return events, nil
	})
	if err != nil || !ended {
		return err
	}
	w.opts.Metrics.JourneyTimedOut()
	w.opts.Log.InfoContext(ctx, "journey timed out", slog.String("session_id", string(id)))
	s.settle(ctx, session, session.Journey())
	return nil
}

// reportSilence reports the journeys whose phone was last heard of too long
// ago. The look before this one must have succeeded, and lately: when the
// database was away, the gateways could not say whom they had heard, and they
// get until the next look to say it.
func (w *Sweeper) reportSilence(ctx context.Context, now time.Time) error {
	since := now.Add(-w.opts.Silence)
	last := w.silentAt
	w.silentAt = time.Time{}
	running, err := w.service.repo.Running(ctx, since, silenceBatch)
	if err != nil {
		return err
	}
	keys := make([]JourneyKey, len(running))
	for i, s := range running {
		keys[i] = JourneyKey{s.ID, s.JourneyStartedAt}
	}
	heard, err := w.service.repo.LastSeen(ctx, keys)
	if err != nil {
		return err
	}
	if now.Sub(last) <= 3*w.opts.SilenceEvery {
		for i, s := range running {
			at := s.JourneyStartedAt
			if h := heard[keys[i]]; h.After(at) {
				at = h
			}
			if at.Before(since) && w.service.running(s) {
				if err := w.silent(ctx, s, at, now); err != nil {
					return err
				}
			}
		}
	}
	w.silentAt = now
	return nil
}

func (w *Sweeper) silent(ctx context.Context, s Session, heardAt, now time.Time) error {
	e := s.event(LocationSuspicious, ms(now))
	e.ID = silenceID(JourneyKey{s.ID, s.JourneyStartedAt}, heardAt)
	e.Verdict, e.Count = VerdictSilent, 1
	first, err := w.service.record(ctx, e)
	if err != nil || !first {
		return err
	}
	w.opts.Metrics.JourneySilent()
	w.opts.Log.WarnContext(ctx, "journey is silent",
		slog.String("session_id", string(s.ID)), slog.Duration("silent_for", now.Sub(heardAt)))
	return nil
}

type noSweeperMetrics struct{}

func (noSweeperMetrics) JourneyTimedOut() {}
func (noSweeperMetrics) JourneySilent()   {}
func (noSweeperMetrics) Swept(error)      {}
