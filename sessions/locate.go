package sessions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/singleflight"

	"doorstep/geo"
)

// ErrLookups is the cause of RateLimited when a caller has asked too often for
// sessions or journeys that do not exist, or are not the caller's.
var ErrLookups = errors.New("look-ups of one caller")

// allowLookup takes one look-up from the caller's limit. A look-up is a read of the
// repository for a session that the live store does not know. Made-up ids must not
// flood the repository. Admins are not limited: they may see every session, and
// they are the operator's own.
func (s *Service) allowLookup(c Caller) error {
	if c.Has(Admin) {
		return nil
	}
	wait := s.lookups.Take(string(c.ID), s.opts.Now())
	if wait == 0 {
		return nil
	}
	e := Fault(RateLimited, "too many requests for sessions that do not exist or journeys that are not active", ErrLookups)
	e.RetryAfter = wait
	return e
}

// returnLookup gives one look-up back to the caller. A look-up that has found a
// session does not count: a live store that loses data, or is away, must not
// make an honest caller wait.
func (s *Service) returnLookup(c Caller) {
	if !c.Has(Admin) {
		s.lookups.GiveBack(string(c.ID))
	}
}

// View is what a reader sees of a journey. Degraded means that the live store could
// not be asked. Active is then what the repository says, and there is no version to
// wait on.
type View struct {
	Ref
	Snapshot
	Degraded bool
	// Told means that another region has told the view, which has worked out ETA there:
	// seconds, nil where it cannot be estimated.
	Told bool
	ETA  *int64

	detour float64 // ServiceOptions.Detour; 0: geo.DefaultDetour
}

// ETASeconds is how long the rest of the way takes; nil where it cannot be
// estimated.
func (v View) ETASeconds() *int64 {
	if v.Told {
		return v.ETA
	}
	if v.Location == nil || !v.Active {
		return nil
	}
	eta, known := geo.ETA(v.DistanceM, v.Pace.Mode, v.Pace.MMS, v.Pace.OverMS, cmp.Or(v.detour, geo.DefaultDetour))
	if !known {
		return nil
	}
	seconds := int64(eta / time.Second)
	return &seconds
}

// Ref finds where a session's journey is in the live store, for a caller who may
// see it. It costs no round trip for a session that was asked for lately, otherwise
// one to the live store. For a session that the live store does not know it asks
// the repository, at a bounded rate for a caller whose look-ups find nothing.
// Errors: SessionNotFound, Forbidden, RateLimited, WrongRegion with a Ref for a caller who
// may see it, DatabaseUnavailable.
func (s *Service) Ref(ctx context.Context, c Caller, id ID) (Ref, error) {
	seen, known := s.parties.get(id, s.opts.Now())
	meta := seen.meta
	if known {
		id = seen.id
	}
	if !known || !meta.HasParty(c) { // a remembered entry may be outdated, so it never refuses a caller
		var err error
		if meta, err = s.metaOf(ctx, c, id, known); err != nil {
			return Ref{}, err
		}
		s.parties.put(id, meta, s.opts.Now())
	}
	if !meta.HasParty(c) {
		return Ref{}, errNotParty
	}
	ref := Ref{TrainerID: meta.TrainerID, SessionID: id}
	s.served.use(ref, meta) // one of another region, too: it may be waited for here
	if err := s.hereByID(ctx, id); CodeOf(err) == WrongRegion {
		return ref, err
	}
	return ref, nil
}

// metaOf reads who may see a session: from the live store, or where that does not know the
// caller as one of them, from the repository. While the repository is away, what the live
// store remembers counts. doubted says that this process has just remembered other parties:
// one of the two is outdated, and the repository decides.
func (s *Service) metaOf(ctx context.Context, c Caller, id ID, doubted bool) (Meta, error) {
	remembered, known, err := s.live.Meta(ctx, id)
	known = known && err == nil
	// Another region that the live store remembers may be an earlier one of the booking.
	if known && !doubted && remembered.HasParty(c) && remembered.in(s.opts.Region) {
		return remembered, nil
	}
	meta, err := s.metaFor(ctx, c, id)
	switch {
	case err == nil || !known || CodeOf(err) == SessionNotFound:
		return meta, err
	case !remembered.HasParty(c): // it may only be outdated where the repository says so
		return Meta{}, errNotParty
	case CodeOf(err) == DatabaseUnavailable && !doubted:
		s.elsewhere.put(id, remembered.Region, s.opts.Now())
		return remembered, nil
	}
	return Meta{}, err
}

// Party checks that a caller who has waited may still see the session, here. It costs a
// look-up in a map or two. Errors: Forbidden, WrongRegion.
func (s *Service) Party(c Caller, id ID) error {
	if seen, known := s.parties.get(id, s.opts.Now()); known && !seen.meta.HasParty(c) {
		return errNotParty
	}
	if region, elsewhere := s.Elsewhere(id); elsewhere {
		return wrongRegion(region)
	}
	return nil
}

// metaFor reads the parties of a session from the repository, and writes them into
// the live store.
func (s *Service) metaFor(ctx context.Context, c Caller, id ID) (Meta, error) {
	if err := s.allowLookup(c); err != nil {
		return Meta{}, err
	}
	session, err := s.repo.Session(ctx, id)
	// A caller that disconnects does not get the look-up back: a query that is cut
	// short costs a connection.
	if ctx.Err() == nil && (CodeOf(err) == DatabaseUnavailable || err == nil && session.HasParty(c)) {
		s.returnLookup(c)
	}
	if err != nil {
		return Meta{}, err
	}
	if !session.In(s.opts.Region) {
		s.elsewhere.put(id, session.Region, s.opts.Now())
	}
	// This is only a cache for the next read. If the store is away, the next read
	// writes it.
	_ = s.live.SetMeta(ctx, id, session.Meta())
	return session.Meta(), nil
}

// View reads a journey through a Ref that Service.Ref returned. It restores a
// journey that the live store has lost, so that every reader and every gateway sees
// the same version. Errors: SessionNotFound, DatabaseUnavailable.
func (s *Service) View(ctx context.Context, ref Ref) (View, error) {
	view, err := s.Read(ctx, ref)
	if err == nil && view.Degraded {
		return s.degraded(ctx, ref)
	}
	return view, err
}

// Cached is Read without a round trip: a journey as the last wake-up message described
// it. That is enough for a reader that watches for a change. It is false where only a
// read can tell.
func (s *Service) Cached(ref Ref) (View, bool) {
	if _, elsewhere := s.Elsewhere(ref.SessionID); elsewhere {
		return View{}, false
	}
	snap, ok := s.live.CachedView(ref)
	if !ok {
		return View{}, false
	}
	return s.view(ref, snap), true
}

// Read is View for a reader that watches for a change. While the live store is away
// there is no change to see. Read then returns Degraded and does not ask the repository:
// an outage must not turn every waiting student into a query. Errors: as View's, and
// WrongRegion.
func (s *Service) Read(ctx context.Context, ref Ref) (View, error) {
	var snap Snapshot
	err := s.hereByID(ctx, ref.SessionID)
	if err == nil {
		snap, err = s.reads.read(ctx, ref, func(ctx context.Context) (Snapshot, error) {
			snap, err := s.latest(ctx, ref)
			if err == nil && !snap.Known {
				return s.restoreAndRead(ctx, ref)
			}
			return snap, err
		})
	}
	switch {
	case errors.Is(err, ErrUnavailable):
		return View{Ref: ref, Degraded: true}, nil
	case err != nil:
		return View{}, err
	}
	return s.view(ref, snap), nil
}

// view is a snapshot as a reader sees it: without anything where the repository has
// not confirmed the journey, or the region's lease, for too long.
func (s *Service) view(ref Ref, snap Snapshot) View {
	if !s.served.holds(ref) || !s.opts.Lease.Held() {
		return View{Ref: ref, Degraded: true}
	}
	return View{Ref: ref, Snapshot: snap, detour: s.opts.Detour}
}

func (s *Service) restoreAndRead(ctx context.Context, ref Ref) (Snapshot, error) {
	session, err := s.repo.Session(ctx, ref.SessionID)
	if err != nil {
		return Snapshot{}, err
	}
	if err := s.restore(ctx, session); err != nil {
		return Snapshot{}, err
	}
	snap, err := s.live.Latest(ctx, ref)
	if err == nil && !snap.Known { // a store that restarts again and again
		err = fmt.Errorf("%w: it has lost what was just written", ErrUnavailable)
	}
	return snap, err
}

// degraded is what the repository alone can say of a journey.
func (s *Service) degraded(ctx context.Context, ref Ref) (View, error) {
	session, err := s.repo.Session(ctx, ref.SessionID)
	if CodeOf(err) == DatabaseUnavailable && !s.opts.Lease.Held() {
		return s.cutOff(ctx, ref, err)
	}
	if err != nil {
		return View{}, err
	}
	return View{Ref: ref, Snapshot: Snapshot{Known: true, Active: s.running(session), Over: s.phase(session)}, Degraded: true}, nil
}

// sharedReads gives all readers of one journey that ask at the same time the
// result of one read. A change wakes every waiter of its journey at once, and
// each then reads.
//
// A reader is never given what was read before it asked: a waiter could then
// miss the change that woke it. So a reader that asks while a read is under way
// joins the next read, and any number of concurrent readers cost at most two
// reads.
//
// The zero value is ready. Safe for concurrent use.
type sharedReads struct {
	waiting singleflight.Group // a read that has not begun: readers may join it
	running singleflight.Group // the read that has begun, one a journey
}

// read calls f for ref, or joins a call that has not begun. f runs on another
// goroutine and is not cancelled when this caller leaves, because other readers may
// wait for its result.
func (r *sharedReads) read(ctx context.Context, ref Ref, f func(context.Context) (Snapshot, error)) (Snapshot, error) {
	key := string(ref.TrainerID) + string(ref.SessionID)
	result := r.waiting.DoChan(key, func() (any, error) {
		return r.run(key, func() (Snapshot, error) { return f(context.WithoutCancel(ctx)) })
	})
	select {
	case done := <-result:
		snap, _ := done.Val.(Snapshot)
		return snap, done.Err
	case <-ctx.Done():
		return Snapshot{}, ctx.Err()
	}
}

// run calls f when the read before it has ended. From the moment f begins, new
// readers join the next read.
func (r *sharedReads) run(key string, f func() (Snapshot, error)) (any, error) {
	for {
		mine := false
		snap, err, _ := r.running.Do(key, func() (any, error) {
			mine = true
			r.waiting.Forget(key)
			return f()
		})
		if mine {
			return snap, err
		}
	}
}
