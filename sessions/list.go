package sessions

import (
	"context"
	"errors"
	"sync"
	"time"
)

// SessionQuery is which sessions Repository.List returns. A zero field asks for all.
type SessionQuery struct {
	Status    Status
	TrainerID ID
	StudentID ID
	From, To  time.Time // of ScheduledAt; To itself is not in it
	After     Cursor
	Limit     int
}

// Cursor is the place in a list of the last entry of a page; zero for the first page. Of
// sessions At is ScheduledAt, of running journeys JourneyStartedAt.
type Cursor struct {
	At time.Time
	ID ID
}

// Matches reports whether the query asks for the session, apart from After and Limit.
func (q SessionQuery) Matches(s Session) bool {
	return (q.Status == "" || s.Status == q.Status) && (q.TrainerID == "" || s.TrainerID == q.TrainerID) &&
		(q.StudentID == "" || s.StudentID == q.StudentID) &&
		(q.From.IsZero() || !s.ScheduledAt.Before(q.From)) &&
		(q.To.IsZero() || !s.ScheduledAt.IsZero() && s.ScheduledAt.Before(q.To))
}

// List lists sessions for an admin, latest booking first. Errors: Forbidden,
// DatabaseUnavailable.
func (s *Service) List(ctx context.Context, c Caller, q SessionQuery) ([]Session, error) {
	if !c.Has(Admin) {
		return nil, errNotAdmin
	}
	return s.list(ctx, s.late, c, q)
}

// Own lists the caller's own sessions as a student or as a trainer, latest booking first.
// Errors: Forbidden, DatabaseUnavailable.
func (s *Service) Own(ctx context.Context, c Caller, as Role, q SessionQuery) ([]Session, error) {
	if !c.Has(as) {
		return nil, Refuse(Forbidden, "only a "+string(as)+" has this list of sessions")
	}
	if as == Student {
		q.StudentID = c.ID
	} else {
		q.TrainerID = c.ID
	}
	return s.list(ctx, s.repo, c, q)
}

func (s *Service) list(ctx context.Context, from LateReads, c Caller, q SessionQuery) ([]Session, error) {
	list, err := from.List(ctx, q)
	for i := range list {
		list[i] = s.shown(list[i], c)
	}
	return list, err
}

// RunningJourney is what an operator sees of a journey that runs.
type RunningJourney struct {
	Session Session
	View    View
	Silent  time.Duration // how long ago its phone last sent a fix; since the start where it sent none
}

// Journeys lists the running journeys, the longest running first, with what the live
// store knows of each. trainer may be empty. Errors: Forbidden, DatabaseUnavailable.
func (s *Service) Journeys(ctx context.Context, c Caller, trainer ID, after Cursor, limit int) ([]RunningJourney, error) {
	if !c.Has(Admin) {
		return nil, errNotAdmin
	}
	list, err := s.repo.RunningPage(ctx, trainer, after, limit)
	if err != nil {
		return nil, err
	}
	keys := make([]JourneyKey, len(list))
	for i, session := range list {
		keys[i] = JourneyKey{session.ID, session.JourneyStartedAt}
	}
	seen, err := s.repo.LastSeen(ctx, keys)
	if err != nil {
		return nil, err
	}
	journeys := make([]RunningJourney, len(list))
	var all sync.WaitGroup
	for i, session := range list {
		all.Go(func() { journeys[i] = s.runningJourney(ctx, session, seen[keys[i]]) })
	}
	all.Wait()
	return journeys, ctx.Err()
}

// runningJourney reads what the live store knows, of another region's journey nothing. It
// restores nothing: the next update does.
func (s *Service) runningJourney(ctx context.Context, session Session, seen time.Time) RunningJourney {
	ref := session.Journey().Ref
	snap, err := Snapshot{}, error(errElsewhere)
	if session.In(s.opts.Region) {
		snap, err = s.latest(ctx, ref)
	}
	view := s.view(ref, snap)
	if err != nil || !snap.Active {
		view = View{Ref: ref, Snapshot: Snapshot{Active: true}, Degraded: errors.Is(err, ErrUnavailable)}
	}
	last := session.JourneyStartedAt
	for _, at := range []time.Time{seen, view.seenAt()} {
		if at.After(last) {
			last = at
		}
	}
	return RunningJourney{Session: session, View: view, Silent: max(0, s.opts.Now().Sub(last))}
}

func (v View) seenAt() time.Time {
	if v.Location == nil {
		return time.Time{}
	}
	return v.Location.At
}

// Rating is the sum and the number of a trainer's ratings. Error: DatabaseUnavailable.
func (s *Service) Rating(ctx context.Context, trainerID ID) (Rating, error) {
	return s.late.Rating(ctx, trainerID)
}
