package sessions

import (
	"context"
	"time"
)

// UserData is all that the repository keeps of a user.
type UserData struct {
	Sessions   []Session // as a party, oldest booking first
	Reviews    []Review  // of those sessions
	Rating     Rating    // as a trainer
	PushTokens []PushToken
	Devices    []Device        // as a trainer
	ShareLinks []ShareLink     // of those sessions
	Journeys   []JourneyRecord // of those sessions
	// Audit are the entries of those sessions' histories, and of those where the user
	// acted or was a party once, oldest first; the newest MaxUserAudit.
	Audit []AuditEntry
}

// MaxUserAudit bounds UserData.Audit: an admin that books for the operator acts in all
// sessions.
const MaxUserAudit = 10_000

// Erasure is what EraseUser is to do.
type Erasure struct {
	UserID ID
	Alias  ID // what takes the id's place
	By     Caller
	At     time.Time
}

// CloseForErasure is what becomes of one session of a user who is erased: one that could
// still take place is cancelled, and what was said of it goes. Error: JourneyRunning.
func (s *Session) CloseForErasure(e Erasure) (events []Event, err error) {
	if s.JourneyActive() {
		running := *s
		return nil, &Error{Code: JourneyRunning, Message: "a journey of this user is running; end it first", Journey: &running}
	}
	if s.Status == Scheduled || s.Status == PendingVerification {
		events = s.close(Cancelled, e.By, "", e.At)
	}
	s.OTP, s.OTPExpiresAt, s.Codes.Proof, s.CloseReason = "", time.Time{}, "", ""
	return events, nil
}

// UserData reads all that is kept of a user. Errors: Forbidden, DatabaseUnavailable.
func (s *Service) UserData(ctx context.Context, c Caller, id ID) (UserData, error) {
	if !c.Has(Admin) {
		return UserData{}, errNotAdmin
	}
	data, err := s.repo.UserData(ctx, id)
	for i := range data.Sessions {
		data.Sessions[i] = s.shown(data.Sessions[i], c)
	}
	return data, err
}

// EraseUser erases a user: homes, codes, comments, devices and push tokens; what could still take place is
// cancelled, and once all events of theirs are delivered the id is replaced by a random
// one. It returns how many events are still under way; the call is to be repeated until
// there is none. Errors: Forbidden, JourneyRunning, NotSupported, DatabaseUnavailable.
func (s *Service) EraseUser(ctx context.Context, c Caller, id ID) (pending int, err error) {
	c, ok := c.As(Admin)
	if !ok {
		return 0, errNotAdmin
	}
	pending, err = s.repo.EraseUser(actingFor(context.WithoutCancel(ctx), c), Erasure{UserID: id, Alias: NewID(), By: c, At: ms(s.opts.Now())})
	if err == nil && pending > 0 {
		s.opts.OnEvents()
	}
	return pending, err
}
