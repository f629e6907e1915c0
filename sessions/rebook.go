package sessions

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"doorstep/geo"
)

// Rebooking is what an admin changes of a booking. Nil: as it is.
type Rebooking struct {
	ScheduledAt *time.Time
	Home        *geo.Point
	Mode        *Mode
	TrainerID   *ID
	StudentID   *ID
	Region      *string
}

// Rebook changes the booking of a Scheduled session, its region only before the first
// start. Another trainer ends a running journey. Errors: NotChangeable, InvalidRequest.
func (s *Session) Rebook(b Rebooking, by Caller, now time.Time) ([]Event, error) {
	next := *s
	put(&next.ScheduledAt, b.ScheduledAt)
	put(&next.Mode, b.Mode)
	put(&next.TrainerID, b.TrainerID)
	put(&next.StudentID, b.StudentID)
	put(&next.Region, b.Region)
	if b.Home != nil && *b.Home != s.Home {
		next.Home, next.HomeMovedAt = *b.Home, ms(now)
	}
	switch {
	case s.Status != Scheduled:
		return nil, Refuse(NotChangeable, "the session is "+string(s.Status)+", not scheduled")
	case next.Region != s.Region && !s.JourneyStartedAt.IsZero():
		return nil, Refuse(NotChangeable, "the session has had a journey, which belongs to region "+s.Region)
	case next.TrainerID == next.StudentID:
		return nil, InvalidField("studentId", "trainerId and studentId must differ")
	}
	var events []Event
	if next.TrainerID != s.TrainerID && s.JourneyActive() {
		events = byCaller(by, s.end(EndCancelled, now)) // the events name the old trainer
		next.JourneyEndedAt, next.JourneyEndReason, next.JourneyEndedBy = s.JourneyEndedAt, s.JourneyEndReason, by.ID
	}
	*s = next
	return events, nil
}

func put[T any](into, from *T) {
	if from != nil {
		*into = *from
	}
}

// Rebook changes a booking. While a journey runs, another home moves its fence,
// another trainer ends it, and another student shuts the old one out. Errors:
// InvalidRequest, SessionNotFound, Forbidden, NotChangeable, WrongRegion,
// DatabaseUnavailable.
func (s *Service) Rebook(ctx context.Context, c Caller, id ID, b Rebooking) (Session, error) {
	admin, ok := c.As(Admin)
	if !ok {
		return Session{}, errNotAdmin
	}
	if b.Region != nil {
		if err := s.checkPin(*b.Region); err != nil {
			return Session{}, err
		}
	}
	var before Session
	session, err := s.changeBy(s.repo.Rebook)(ctx, admin, id, func(session *Session) ([]Event, error) {
		before = *session
		if err := s.here(ctx, before); err != nil {
			return nil, err
		}
		return session.Rebook(b, admin, s.opts.Now())
	})
	if err != nil {
		return Session{}, err
	}
	s.rebookLive(ctx, before, session)
	return s.shown(session, c), nil
}

// rebookLive makes the live store agree with a booking that has changed. A failure
// only delays that: see syncLive.
func (s *Service) rebookLive(ctx context.Context, before, after Session) {
	ctx = context.WithoutCancel(ctx)
	s.links.changed(after.ID)
	if !after.In(s.opts.Region) {
		if err := s.moved(ctx, after); err != nil {
			s.warnBooking(ctx, after, err)
		}
		return
	}
	s.elsewhere.forget(after.ID)
	known := s.rebookParties(ctx, after) // first: who is woken is checked again
	var err error
	switch {
	case before.TrainerID != after.TrainerID:
		old := before.Journey()
		old.Phase = Ended
		s.opts.Counter.ended(old.Ref)
		err = s.live.End(ctx, old) // and readers of the new trainer's begin with a tombstone of their own
	case after.JourneyActive() && (before.Home != after.Home || before.StudentID != after.StudentID):
		err = s.moveLive(ctx, after)
	}
	if err = errors.Join(known, err); err != nil {
		s.warnBooking(ctx, after, err)
	}
}

func (s *Service) warnBooking(ctx context.Context, session Session, err error) {
	s.opts.Log.WarnContext(ctx, "live store does not agree with the booking yet",
		slog.String("session_id", string(session.ID)), slog.Any("error", err))
}

// rebookParties tells readers who the parties are. It reads once more for the reason that
// moveLive gives.
func (s *Service) rebookParties(ctx context.Context, session Session) error {
	for range moveTries {
		s.parties.put(session.ID, session.Meta(), s.opts.Now())
		if err := s.live.SetMeta(ctx, session.ID, session.Meta()); err != nil {
			return err
		}
		again, err := s.repo.Session(ctx, session.ID)
		if err != nil || again.Meta() == session.Meta() {
			return err
		}
		session = again
	}
	return nil
}

// moveLive gives the running journey its home. Where two calls change the home at the
// same time, the one that writes last may have the older home. So each reads once more
// what is true, and writes that.
func (s *Service) moveLive(ctx context.Context, session Session) error {
	for range moveTries {
		known, err := s.live.Move(ctx, session.Journey())
		if err != nil {
			return err
		}
		if !known {
			return s.openMoved(ctx, session)
		}
		again, err := s.repo.Session(ctx, session.ID)
		if err != nil || !again.JourneyActive() || again.Home == session.Home {
			return err
		}
		session = again
	}
	return nil
}

// homeMoved makes the live store agree with a home that another service has changed. The
// instant keeps what was seen of the way to the old home from counting after a silence.
func (s *Service) homeMoved(ctx context.Context, session Session) error {
	session, err := s.changeBy(s.repo.Rebook)(finding(ctx, correctedHome), Caller{}, session.ID, func(now *Session) ([]Event, error) {
		now.HomeMovedAt = ms(s.opts.Now())
		return nil, nil
	})
	if err != nil || !session.JourneyActive() {
		return err
	}
	return s.moveLive(ctx, session)
}

// openMoved opens a running journey that the live store does not know. It may have lost
// it; or the start that is under way has not reached it yet.
func (s *Service) openMoved(ctx context.Context, session Session) error {
	if s.opts.Now().Sub(session.JourneyStartedAt) < startRetryWithin {
		return s.writeLive(ctx, session.Journey(), session)
	}
	return s.restore(ctx, session)
}

// moveTries bounds moveLive and rebookParties: each further try needs another change.
const moveTries = 5
