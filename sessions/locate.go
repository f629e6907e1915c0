package sessions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"doorstep/geo"
)

// Update judges one fix of the caller's journey. One round trip to the live
// store, none to the repository; only when the store knows no such journey, or
// an ended one, is the repository asked, at a bounded rate per caller: to tell a
// stranger from a store that has forgotten, or that was away when the journey
// was started again.
//
// Refusals of the fix are in the receipt. Errors: SessionNotFound, Forbidden,
// NoActiveJourney, RateLimited, LiveStoreUnavailable, DatabaseUnavailable.
func (s *Service) Update(ctx context.Context, c Caller, id ID, fix Fix) (Receipt, error) {
	if c.Role != Trainer {
		return Receipt{}, errNotTrainer
	}
	ref := Ref{TrainerID: c.ID, SessionID: id}
	receipt, err := s.live.Update(ctx, ref, fix)
	if err == nil && receipt.Verdict <= VerdictEnded {
		if err := s.restoreFor(ctx, c, id); err != nil {
			return Receipt{}, err
		}
		receipt, err = s.live.Update(ctx, ref, fix)
	}
	switch {
	case err != nil:
		s.heard(ref, err)
		return Receipt{}, liveDown(err)
	case receipt.Verdict == VerdictUnknown || receipt.Verdict == VerdictEnded:
		return Receipt{}, errNoJourney
	}
	s.opts.Counter.count(ref, receipt, s.opts.Now())
	s.suspect(id, receipt)
	return receipt, nil
}

// heard notes that a phone has spoken to a store that was away. Nobody can say
// then whether there is such a journey, and made-up ids must not fill the tally:
// so a caller is heard no more often than it may look up.
func (s *Service) heard(ref Ref, err error) {
	now := s.opts.Now()
	if errors.Is(err, ErrUnavailable) && s.voices.Take(string(ref.TrainerID), now) == 0 {
		s.opts.Counter.heard(ref, now)
	}
}

// ErrLookups is the cause of RateLimited when a caller has asked too often for
// sessions or journeys that are not there, or not theirs.
var ErrLookups = errors.New("look-ups of one caller")

// lookUp begins a look into the repository for a session that the live store
// does not know. Nobody's ids may become a flood of those; admins, who may see
// every session, are the house's own.
func (s *Service) lookUp(c Caller) error {
	if c.Role == Admin {
		return nil
	}
	wait := s.slow.Take(string(c.ID), s.opts.Now())
	if wait == 0 {
		return nil
	}
	e := Fault(RateLimited, "too many requests for sessions that are not there or journeys that are not active", ErrLookups)
	e.RetryAfter = wait
	return e
}

// foundFor ends a look-up that was not for nothing, which is free: a live store
// that forgets, or is away, must not make an honest caller wait.
func (s *Service) foundFor(c Caller) {
	if c.Role != Admin {
		s.slow.GiveBack(string(c.ID))
	}
}

// restoreFor puts a journey of this trainer back into the live store.
func (s *Service) restoreFor(ctx context.Context, c Caller, id ID) error {
	if err := s.lookUp(c); err != nil {
		return err
	}
	session, err := s.repo.Session(ctx, id)
	switch {
	case err != nil:
		return err
	case !session.isTrainer(c):
		return errNotTrainer
	case !s.running(session):
		return errNoJourney
	}
	return liveDown(s.restore(ctx, session))
}

// View is what a reader sees of a journey. Degraded means that the live store
// could not be asked: Active is then the repository's word, and there is no
// version to wait on.
type View struct {
	Ref
	Snapshot
	Degraded bool

	detour float64 // how much longer than the great circle the way is; 0: geo's
}

// ETASeconds is how long the rest of the way takes; nil where a number would be
// a guess.
func (v View) ETASeconds() *int64 {
	if v.Location == nil || !v.Active {
		return nil
	}
	eta, known := geo.ETA(v.DistanceM, v.Pace.MMS, v.Pace.OverMS, cmp.Or(v.detour, geo.DefaultDetour))
	if !known {
		return nil
	}
	seconds := int64(eta / time.Second)
	return &seconds
}

// Ref finds where a session's journey lives, for a caller who may see it. No
// round trip for a session of theirs that was asked for lately, else one to the live
// store; a session that it does not know is asked of the repository, at a
// bounded rate per caller where that was for nothing.
// Errors: SessionNotFound, Forbidden, RateLimited, DatabaseUnavailable.
func (s *Service) Ref(ctx context.Context, c Caller, id ID) (Ref, error) {
	meta, known := s.parties.get(id, s.opts.Now())
	if !known || !meta.HasParty(c) { // nobody is refused by what may be old
		var err error
		if meta, known, err = s.live.Meta(ctx, id); err != nil || !known {
			if meta, err = s.metaFor(ctx, c, id); err != nil {
				return Ref{}, err
			}
		}
		s.parties.put(id, meta, s.opts.Now())
	}
	if !meta.HasParty(c) {
		return Ref{}, errNotParty
	}
	return Ref{TrainerID: meta.TrainerID, SessionID: id}, nil
}

// metaFor reads the parties of a session from the repository, and tells the
// live store.
func (s *Service) metaFor(ctx context.Context, c Caller, id ID) (Meta, error) {
	if err := s.lookUp(c); err != nil {
		return Meta{}, err
	}
	session, err := s.repo.Session(ctx, id)
	// Who hangs up pays: a query cut short costs a connection, too.
	if ctx.Err() == nil && (CodeOf(err) == DatabaseUnavailable || err == nil && session.HasParty(c)) {
		s.foundFor(c)
	}
	if err != nil {
		return Meta{}, err
	}
	// Only a hint for the next read; a store that is down will be told then.
	_ = s.live.SetMeta(ctx, id, session.Meta())
	return session.Meta(), nil
}

// View reads a journey through a Ref that Service.Ref gave. A journey that the
// live store has forgotten is put back first, so that every reader and every
// gateway sees the same version. Errors: SessionNotFound, DatabaseUnavailable.
func (s *Service) View(ctx context.Context, ref Ref) (View, error) {
	view, err := s.Read(ctx, ref)
	if err == nil && view.Degraded {
		return s.degraded(ctx, ref)
	}
	return view, err
}

// Look is View for somebody who watches for a change, and what the last one
// told is enough for that: no round trip, as a rule. While the live store is
// away there is none to be seen, so it answers Degraded and asks nobody else:
// an outage must not turn every waiting student into a query.
func (s *Service) Look(ctx context.Context, ref Ref) (View, error) {
	if snap, ok := s.live.CachedView(ref); ok {
		return s.view(ref, snap), nil
	}
	return s.Read(ctx, ref)
}

// Read is Look by a round trip, whatever was told.
func (s *Service) Read(ctx context.Context, ref Ref) (View, error) {
	snap, err := s.reads.read(ctx, ref, func(ctx context.Context) (Snapshot, error) {
		snap, err := s.live.Latest(ctx, ref)
		if err == nil && !snap.Known {
			return s.forgotten(ctx, ref)
		}
		return snap, err
	})
	switch {
	case errors.Is(err, ErrUnavailable):
		return View{Ref: ref, Degraded: true}, nil
	case err != nil:
		return View{}, err
	}
	return s.view(ref, snap), nil
}

func (s *Service) view(ref Ref, snap Snapshot) View {
	return View{Ref: ref, Snapshot: snap, detour: s.opts.Detour}
}

func (s *Service) forgotten(ctx context.Context, ref Ref) (Snapshot, error) {
	session, err := s.repo.Session(ctx, ref.SessionID)
	if err != nil {
		return Snapshot{}, err
	}
	if err := s.restore(ctx, session); err != nil {
		return Snapshot{}, err
	}
	snap, err := s.live.Latest(ctx, ref)
	if err == nil && !snap.Known { // forgotten again: a store that restarts and restarts
		err = fmt.Errorf("%w: it forgets what it is told", ErrUnavailable)
	}
	return snap, err
}

func (s *Service) degraded(ctx context.Context, ref Ref) (View, error) {
	session, err := s.repo.Session(ctx, ref.SessionID)
	if err != nil {
		return View{}, err
	}
	return View{Ref: ref, Snapshot: Snapshot{Known: true, Active: s.running(session)}, Degraded: true}, nil
}

var errNoJourney = Refuse(NoActiveJourney, "no journey to this session is running")

// RetryIn rounds a wait up to whole seconds, at least one: the form of the
// Retry-After header.
func RetryIn(d time.Duration) int {
	return max(1, int((d+time.Second-1)/time.Second))
}
