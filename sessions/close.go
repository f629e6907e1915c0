package sessions

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"
)

// maxCloseReason bounds the reason of a cancellation, in characters.
const maxCloseReason = 200

// Cancel ends the session before its lesson, and a running journey with it. The
// student may cancel while it is Scheduled, an admin also while it is
// PendingVerification. The caller checks who by is. The same caller again changes
// nothing. Error: NotCancellable.
func (s *Session) Cancel(by Caller, reason string, now time.Time) ([]Event, error) {
	switch {
	case s.Status == Cancelled && s.ClosedBy == by.ID:
		return nil, nil
	case s.Status != Scheduled && (s.Status != PendingVerification || by.Role != Admin):
		return nil, Refuse(NotCancellable, "the session is "+string(s.Status)+" and cannot be cancelled")
	}
	return s.close(Cancelled, by, reason, now), nil
}

// MarkNoShow ends a session whose trainer stood at the door in vain. The same caller
// again changes nothing. Error: NotPendingVerification.
func (s *Session) MarkNoShow(by Caller, now time.Time) ([]Event, error) {
	switch {
	case s.Status == NoShow && s.ClosedBy == by.ID:
		return nil, nil
	case s.Status != PendingVerification:
		return nil, s.notPending()
	}
	return s.close(NoShow, by, "", now), nil
}

func (s *Session) close(status Status, by Caller, reason string, now time.Time) (events []Event) {
	if s.JourneyActive() {
		events = s.end(EndCancelled, now)
		s.JourneyEndedBy = by.ID
	}
	s.Status, s.ClosedAt, s.ClosedBy, s.CloseReason = status, after(now, s.JourneyEndedAt), by.ID, reason
	s.OTP, s.OTPExpiresAt, s.OTPAttempts = "", time.Time{}, 0
	e := s.event(SessionCancelled, s.ClosedAt)
	e.Status, e.Note = status, reason
	return byCaller(by, append(events, e))
}

// byCaller names the caller in events.
func byCaller(c Caller, events []Event) []Event {
	for i := range events {
		events[i].By, events[i].ByID = c.Role, c.ID
	}
	return events
}

// Cancel cancels a session. Errors: InvalidRequest, SessionNotFound, Forbidden,
// NotCancellable, WrongRegion, DatabaseUnavailable.
func (s *Service) Cancel(ctx context.Context, c Caller, id ID, reason string) (Session, error) {
	if !utf8.ValidString(reason) || strings.ContainsRune(reason, 0) || utf8.RuneCountInString(reason) > maxCloseReason {
		return Session{}, InvalidField("reason", "reason must be a text of at most 200 characters")
	}
	return s.closeBy(ctx, c, id, Student, func(session *Session, c Caller) ([]Event, error) {
		return session.Cancel(c, reason, s.opts.Now())
	})
}

// MarkNoShow notes that nobody opened the door. Errors: SessionNotFound, Forbidden,
// NotPendingVerification, NotSupported, WrongRegion, DatabaseUnavailable.
func (s *Service) MarkNoShow(ctx context.Context, c Caller, id ID) (Session, error) {
	return s.closeBy(ctx, c, id, Trainer, func(session *Session, c Caller) ([]Event, error) {
		return session.MarkNoShow(c, s.opts.Now())
	})
}

// closeBy makes a transition that an admin may make, and the session's party with that
// role. Who is both acts as an admin, who may do more.
func (s *Service) closeBy(ctx context.Context, c Caller, id ID, role Role, do func(*Session, Caller) ([]Event, error)) (Session, error) {
	refused := Refuse(Forbidden, "only the session's "+string(role)+" or an admin may do this")
	if admin, ok := c.As(Admin); ok {
		c = admin
	} else if c, ok = c.As(role); !ok {
		return Session{}, refused
	}
	session, err := s.change(ctx, c, id, func(session *Session) ([]Event, error) {
		if !session.HasParty(c) {
			return nil, refused
		}
		if err := s.here(ctx, *session); err != nil {
			return nil, err
		}
		return do(session, c)
	})
	if err == nil {
		s.syncLive(ctx, session, session.Journey())
	}
	return session, err
}
