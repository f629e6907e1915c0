package sessions

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"doorstep/internal/pause"
)

// Reconciler brings what is shown into agreement with the repository, whoever changed
// that and however: a call of another gateway that died half-way, the operator's own
// services by SQL, a failover of either store. It asks about the journeys that this
// process serves within a second of their first use, and then every 15 s, in
// batches; and it compares the journeys that ended within the last hour with the live
// store, at a bounded rate. One runs in every gateway. All it does may be repeated,
// and what happens once is decided under the session's lock.
type Reconciler struct {
	service *Service
	log     *slog.Logger
	metrics ReconcilerMetrics

	// Up to which the ended journeys have been compared; zero between two rounds.
	endedAt time.Time
	endedID ID
	rested  time.Time // when the last round was through
}

// ReconcilerMetrics counts what the reconciler does.
type ReconcilerMetrics interface {
	// Reconciled is one question about n journeys.
	Reconciled(n int, err error)
	// Corrected is one disagreement that was removed; why is one of Corrections.
	Corrected(why string)
}

// Corrections is the closed list of what a Reconciler corrects.
func Corrections() []string {
	return []string{correctedEnded, correctedCancelled, correctedStopped, correctedReassigned, correctedParties, correctedHome, correctedStart, correctedDeleted}
}

const (
	correctedEnded      = "ended"      // the live store had a journey that was over
	correctedCancelled  = "cancelled"  // a running journey whose session is not scheduled any more
	correctedStopped    = "stopped"    // another service has written the journey's end
	correctedReassigned = "reassigned" // a running journey whose session got another trainer
	correctedParties    = "parties"    // readers were checked against other parties
	correctedHome       = "home"       // the home has moved
	correctedStart      = "start"      // the live store had another journey of the session
	correctedDeleted    = "deleted"    // the session's row is gone
)

const (
	// reconcileEvery is the time between two looks for what is due.
	reconcileEvery = time.Second
	// reconcileBatch is how many sessions one query returns.
	reconcileBatch = 500
	// endedBatch is how many ended journeys one look compares.
	endedBatch = 100
	// endedRest is the least time between two rounds over the ended journeys: where they
	// are few, what comes back is gone within half a minute.
	endedRest = 10 * time.Second
	// endedEarlier is by how much an end that another service writes may lie in the past.
	endedEarlier = 5 * time.Minute
)

// NewReconciler makes a reconciler of the service's stores, before the service is
// used. Run does the work. log and metrics may be nil.
func NewReconciler(s *Service, log *slog.Logger, metrics ReconcilerMetrics) *Reconciler {
	if metrics == nil {
		metrics = noReconcilerMetrics{}
	}
	s.served.asking = true
	return &Reconciler{service: s, log: cmp.Or(log, slog.New(slog.DiscardHandler)), metrics: metrics}
}

// Run reconciles until ctx ends.
func (r *Reconciler) Run(ctx context.Context) error {
	for {
		if err := pause.For(ctx, reconcileEvery); err != nil {
			return err
		}
		if err := r.Pass(ctx); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "journeys not compared with the database", slog.Any("error", err))
		}
	}
}

// Pass asks about all that is due. Errors: those of the repository. A live store that
// is away leaves what is due for the next pass.
func (r *Reconciler) Pass(ctx context.Context) error {
	due := r.service.served.due()
	refs := slices.SortedFunc(maps.Keys(due), func(a, b Ref) int { // the same order wherever the same is due
		return cmp.Or(cmp.Compare(a.SessionID, b.SessionID), cmp.Compare(a.TrainerID, b.TrainerID))
	})
	for batch := range slices.Chunk(refs, reconcileBatch) {
		if err := r.ask(ctx, batch, due); err != nil {
			return err
		}
	}
	return r.compareEnded(ctx)
}

// ask asks about one batch.
func (r *Reconciler) ask(ctx context.Context, refs []Ref, due map[Ref]serving) error {
	at := r.service.served.now()
	ids := make([]ID, len(refs))
	for i, ref := range refs {
		ids[i] = ref.SessionID
	}
	found, err := r.service.repo.Sessions(ctx, ids)
	r.metrics.Reconciled(len(refs), err)
	if err != nil {
		return err
	}
	for _, ref := range refs {
		session, ok := found[ref.SessionID]
		if !ok {
			err = r.deleted(ctx, ref)
		} else {
			err = r.settle(ctx, ref, due[ref], session)
		}
		switch {
		case err == nil:
			r.service.served.answered(ref, at, session)
		case !errors.Is(err, ErrUnavailable): // the live store is away: it shows nothing, and the next pass tries again
			r.warn(ctx, ref.SessionID, err)
		}
	}
	return ctx.Err()
}

func (r *Reconciler) warn(ctx context.Context, id ID, err error) {
	r.log.WarnContext(ctx, "journey does not agree with the database", slog.String("session_id", string(id)), slog.Any("error", err))
}

// deleted ends a journey whose session's row is gone.
func (r *Reconciler) deleted(ctx context.Context, ref Ref) error {
	s := r.service
	s.parties.forget(ref.SessionID)
	snap, err := s.live.Latest(ctx, ref)
	if err != nil || !snap.Active {
		return err
	}
	r.metrics.Corrected(correctedDeleted)
	return s.live.End(ctx, Journey{Ref: ref, StartedAt: snap.StartedAt, Phase: Ended})
}

// settle makes one journey agree with its session.
func (r *Reconciler) settle(ctx context.Context, ref Ref, seen serving, session Session) error {
	if r.service.here(ctx, session) != nil { // which also corrects what is remembered
		return r.moved(ctx, ref, seen, session)
	}
	if err := r.settleParties(ctx, ref, seen, session); err != nil {
		return err
	}
	switch {
	case session.TrainerID != ref.TrainerID:
		return r.reassigned(ctx, ref, session)
	case session.JourneyActive() && session.Status != Scheduled:
		return r.cancelled(ctx, session)
	case session.endedElsewhere(r.service.opts.Now()):
		return r.stopped(ctx, session)
	case r.service.running(session) && seen.known && seen.home == session.Home && seen.began.Equal(session.JourneyStartedAt):
		return nil // as at the last answer
	default:
		return r.compare(ctx, session)
	}
}

// moved lets nobody wait here for a session that another region's start has taken. No
// journey of it is left in this live store, whoever has changed the region. Of one that
// this process knows to be elsewhere it renews the parties.
func (r *Reconciler) moved(ctx context.Context, ref Ref, seen serving, session Session) error {
	s := r.service
	if seen.known && seen.told == session.Meta() {
		s.parties.put(session.ID, session.Meta(), s.opts.Now())
		return nil
	}
	if err := s.moved(ctx, session); err != nil {
		return err
	}
	snap, err := s.live.Latest(ctx, ref)
	if err != nil || !snap.Active {
		return err
	}
	r.metrics.Corrected(correctedEnded)
	return s.live.End(ctx, Journey{Ref: ref, StartedAt: snap.StartedAt, Phase: Ended})
}

// settleParties lets nobody read any more who is not a party, and lets in who is.
func (r *Reconciler) settleParties(ctx context.Context, ref Ref, seen serving, session Session) error {
	s, meta := r.service, session.Meta()
	s.parties.put(session.ID, meta, s.opts.Now())
	// Where only updates came here, the live store may have other parties for readers.
	if (seen.meta == (Meta{}) || seen.meta.Parties() == meta.Parties()) && (!seen.known || seen.told.Parties() == meta.Parties()) {
		return nil
	}
	r.metrics.Corrected(correctedParties)
	s.links.changed(session.ID)
	s.noteFound(ctx, session, correctedParties)
	err := s.live.SetMeta(ctx, session.ID, meta)
	if err == nil && session.JourneyActive() && ref.TrainerID == meta.TrainerID {
		_, err = s.live.Move(ctx, session.Journey()) // wakes those who wait, so that they are checked again
	}
	return err
}

// reassigned ends the journey of a trainer whose session has got another one. The
// journey in the repository ends with it, unless it is already one of the new
// trainer's.
func (r *Reconciler) reassigned(ctx context.Context, ref Ref, session Session) error {
	s := r.service
	snap, err := s.live.Latest(ctx, ref)
	if err != nil {
		return err
	}
	record, _, err := s.repo.JourneyRecord(ctx, JourneyKey{session.ID, session.JourneyStartedAt})
	if err != nil {
		return err
	}
	theirs := record.TrainerID == ref.TrainerID || snap.Active && snap.StartedAt.Equal(session.JourneyStartedAt)
	if !snap.Active && (!theirs || !session.JourneyActive()) {
		return nil
	}
	changed := session
	if theirs {
		if changed, err = s.endForeign(ctx, session, ref.TrainerID); err != nil {
			return err
		}
	}
	r.metrics.Corrected(correctedReassigned)
	old := Journey{Ref: ref, StartedAt: snap.StartedAt, Phase: Ended}
	if !snap.Active {
		old.StartedAt = session.JourneyStartedAt
	}
	if err := s.live.End(ctx, old); err != nil {
		return err
	}
	s.syncLive(ctx, changed, changed.Journey()) // after that, so that readers see the version rise
	return nil
}

// cancelled ends a journey whose session was cancelled, or begun, by someone else.
func (r *Reconciler) cancelled(ctx context.Context, session Session) error {
	s, ended := r.service, false
	changed, err := s.change(finding(ctx, correctedCancelled), Caller{}, session.ID, func(now *Session) ([]Event, error) {
		if !now.JourneyActive() || now.Status == Scheduled {
			return nil, nil
		}
		ended = true
		return now.Stop(EndCancelled, s.opts.Now())
	})
	if err != nil {
		return err
	}
	if ended {
		r.metrics.Corrected(correctedCancelled)
	}
	return s.writeLive(ctx, changed.Journey(), changed)
}

// stopped completes the end of a journey that another service has written.
func (r *Reconciler) stopped(ctx context.Context, session Session) error {
	s, raised := r.service, 0
	changed, err := s.change(finding(ctx, correctedStopped), Caller{}, session.ID, func(now *Session) ([]Event, error) {
		events := now.completeEnd(s.opts.Now())
		raised = len(events)
		return events, nil
	})
	if err != nil {
		return err
	}
	if raised > 0 {
		r.metrics.Corrected(correctedStopped)
	}
	return r.compare(ctx, changed)
}

// compare reads what the live store has and corrects it. What has begun after the
// session was read is newer than that, and stays.
func (r *Reconciler) compare(ctx context.Context, session Session) error {
	s, ref := r.service, session.Journey().Ref
	snap, err := s.live.Latest(ctx, ref)
	if err != nil || !snap.Active {
		return err // what it does not know it shows to nobody; the next read restores it
	}
	switch {
	case snap.StartedAt.After(session.JourneyStartedAt):
		return nil
	case !s.running(session):
		r.metrics.Corrected(correctedEnded)
		ended := session.Journey()
		ended.Phase = s.phase(session)
		return s.live.End(ctx, ended)
	case !snap.StartedAt.Equal(session.JourneyStartedAt):
		r.metrics.Corrected(correctedStart)
		return s.writeLive(ctx, session.Journey(), session)
	case snap.Home != session.Home && session.Home.Valid(): // without one it goes on to the old one
		r.metrics.Corrected(correctedHome)
		s.noteFound(ctx, session, correctedHome)
		return s.homeMoved(ctx, session)
	}
	return nil
}

// compareEnded compares the next journeys that ended within the last hour with the
// live store: as long as a hash could come back.
func (r *Reconciler) compareEnded(ctx context.Context) error {
	s := r.service
	now := s.opts.Now()
	if r.endedID == "" {
		if now.Sub(r.rested).Abs() < endedRest {
			return nil
		}
		r.endedAt = now.Add(-s.opts.JourneyTTL - endedEarlier)
	}
	list, err := s.repo.EndedSince(ctx, r.endedAt, r.endedID, endedBatch)
	if err != nil {
		return err
	}
	for _, session := range list {
		switch err := r.compareOne(ctx, session, now); {
		case errors.Is(err, ErrUnavailable): // the live store is away: go on here
			return nil
		case err != nil: // one row holds up no other
			r.warn(ctx, session.ID, err)
		}
		r.endedAt, r.endedID = session.JourneyEndedAt, session.ID
	}
	if len(list) < endedBatch {
		r.endedID, r.rested = "", now
	}
	return nil
}

// compareOne leaves the journeys of other regions to those.
func (r *Reconciler) compareOne(ctx context.Context, session Session, now time.Time) error {
	switch {
	case !session.In(r.service.opts.Region):
		return nil
	case session.endedElsewhere(now):
		return r.stopped(ctx, session)
	}
	return r.compare(ctx, session)
}

type noReconcilerMetrics struct{}

func (noReconcilerMetrics) Reconciled(int, error) {}
func (noReconcilerMetrics) Corrected(string)      {}
