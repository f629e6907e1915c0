package sessions

import (
	"cmp"
	"context"
	"errors"
	"time"

	"doorstep/geo"
)

// Start begins the journey to a session. An admin may do so for the trainer, and is
// named in the event. Errors: SessionNotFound, Forbidden, NotScheduled,
// JourneyAlreadyStarted and TrainerBusy (with the running journey), RateLimited,
// WrongRegion, DatabaseUnavailable.
func (s *Service) Start(ctx context.Context, c Caller, id ID, mode Mode) (Session, error) {
	if !c.mayDriveAny() {
		return Session{}, errNotTrainer
	}
	var lastEnd time.Time // of the session's journey before this one
	session, err := s.change(ctx, c, id, func(session *Session) ([]Event, error) {
		c, ok := session.driver(c)
		if !ok {
			return nil, errNotTrainer
		}
		if err := s.here(ctx, *session); err != nil {
			return nil, err
		}
		lastEnd = session.JourneyEndedAt
		events, err := forTrainer(c)(session.Start(mode, s.opts.Now()))
		if err == nil {
			session.Region = cmp.Or(session.Region, s.opts.Region)
		}
		s.withLink(*session, events)
		return events, err
	})
	if err != nil {
		s.repairRepeatedStart(ctx, err)
		return Session{}, s.withRunning(ctx, session.TrainerID, err)
	}
	journey := session.Journey()
	// A refused jump to the door must not become believable by a stop and a start.
	journey.Restored = !lastEnd.IsZero() && session.JourneyStartedAt.Sub(lastEnd) < continuesWithin
	s.syncLive(ctx, session, journey)
	return session, nil
}

// forTrainer names c in events of a trainer's call that c has made for the trainer.
func forTrainer(c Caller) func([]Event, error) ([]Event, error) {
	return func(events []Event, err error) ([]Event, error) {
		if c.Role != Trainer {
			byCaller(c, events)
		}
		return events, err
	}
}

// withRunning adds the trainer's running journey to TrainerBusy. Where it cannot be read
// any more the refusal goes without.
func (s *Service) withRunning(ctx context.Context, trainer ID, err error) error {
	if CodeOf(err) != TrainerBusy {
		return err
	}
	running, ok, readErr := s.repo.RunningOf(ctx, trainer)
	if readErr != nil || !ok {
		return err
	}
	return &Error{Code: TrainerBusy, Message: "another journey of this trainer is running", Journey: &running}
}

// continuesWithin is how soon after the end of the last one a journey to the same
// session counts as its continuation. Its first fix is then a re-anchor, which
// cannot arrive at once.
const continuesWithin = 10 * time.Minute

// repairRepeatedStart opens a young journey in the live store, when a start was
// refused because that journey runs already. It is for a gateway that died between
// the two stores: the trainer got no answer and starts again. Without it the first
// fix would restore the journey, which counts as a re-anchor and cannot arrive for
// a minute. Where the live store knows the journey nothing changes. An older
// journey has a track, and the loss of a track must not go unnoticed, so it is left
// to restore.
func (s *Service) repairRepeatedStart(ctx context.Context, err error) {
	var e *Error
	if errors.As(err, &e) && e.Code == JourneyAlreadyStarted && s.opts.Now().Sub(e.Journey.JourneyStartedAt) < startRetryWithin {
		s.syncLive(ctx, *e.Journey, e.Journey.Journey())
	}
}

// startRetryWithin is the age up to which repairRepeatedStart repairs a journey.
const startRetryWithin = 30 * time.Second

// Stop ends the journey without an arrival. The same caller gets the same answer again
// (Session.StopRepeated). When it returns, no coordinate of the
// journey is in a live store that could be reached. That holds too where the stop
// is refused because the journey has ended already. Errors: SessionNotFound,
// Forbidden, NoActiveJourney, WrongRegion, DatabaseUnavailable.
func (s *Service) Stop(ctx context.Context, c Caller, id ID) (Session, error) {
	if !c.mayDriveAny() {
		return Session{}, errNotTrainer
	}
	var ended Session
	session, err := s.change(ctx, c, id, func(session *Session) ([]Event, error) {
		c, ok := session.driver(c)
		if !ok {
			return nil, errNotTrainer
		}
		if err := s.here(ctx, *session); err != nil {
			return nil, err
		}
		ended = *session
		if session.StopRepeated(c.ID, s.opts.Now()) {
			return nil, nil
		}
		events, err := forTrainer(c)(session.Stop(EndCancelled, s.opts.Now()))
		if err == nil {
			session.JourneyEndedBy = c.ID
		}
		return events, err
	})
	if err != nil {
		// This may repeat a stop whose gateway died, or whose live store was away,
		// before the live store was told. The clean-up consumer would tell it too,
		// but only after the dead relay's claim on the event has expired.
		if CodeOf(err) == NoActiveJourney && !ended.JourneyEndedAt.IsZero() {
			s.syncLive(ctx, ended, ended.Journey())
		}
		return Session{}, err
	}
	s.syncLive(ctx, session, session.Journey())
	return session, nil
}

// Arrive ends the journey at the door and makes the OTP. A repeated call gives the
// same OTP. fix is where the phone is now; nil where it did not say. It is judged
// like any other before the live location is checked. An implausible one refuses
// the arrival; one that is not stored for another reason is ignored, and a repeated
// call ignores every one. An admin may arrive for the trainer. Once the OTP has expired a repeated call makes a new one,
// and fix alone decides. Errors: SessionNotFound, Forbidden, NoActiveJourney,
// ImplausibleSpeed, ImplausibleJump, NoFreshLocation, NotWithinRadius,
// SuspiciousLocation, RateLimited, OTPLocked, WrongRegion, LiveStoreUnavailable,
// DatabaseUnavailable.
func (s *Service) Arrive(ctx context.Context, c Caller, id ID, fix *Fix) (Session, error) {
	if !c.mayDriveAny() {
		return Session{}, errNotTrainer
	}
	session, err := s.repo.Session(ctx, id)
	if err != nil {
		return Session{}, err
	}
	c, ok := session.driver(c)
	if !ok {
		return Session{}, errNotTrainer
	}
	if err := s.hereLive(ctx, session); err != nil {
		return Session{}, err
	}
	expired := session.codeGone(s.opts.Now())
	if err := s.checkDoor(ctx, session, fix, expired); err != nil {
		s.opts.Counter.refusedArrival(session.Journey().Ref, err, s.opts.Now())
		return Session{}, err
	}
	checked := session
	session, err = s.change(ctx, c, id, func(session *Session) ([]Event, error) {
		switch {
		// The location was checked for that journey. One that was stopped and
		// started again meanwhile needs its own check.
		case session.JourneyActive() && !session.JourneyStartedAt.Equal(checked.JourneyStartedAt):
			return nil, Refuse(NoFreshLocation, "the journey has just started again")
		case session.TrainerID != checked.TrainerID || session.Home != checked.Home:
			return nil, Refuse(NoFreshLocation, "the booking has just changed")
		case session.codeGone(s.opts.Now()) && !expired: // just now: its fix was not looked at
			return nil, errNoFix
		}
		return forTrainer(c)(session.Arrive(s.opts.Now()))
	})
	if err != nil {
		return Session{}, err
	}
	s.syncLive(ctx, session, session.Journey())
	return session, nil
}

// checkDoor checks that the phone is at the student's home, where the answer depends on
// it: while the journey runs, and for a new code.
func (s *Service) checkDoor(ctx context.Context, session Session, fix *Fix, expired bool) error {
	if expired {
		return s.checkFixAtHome(ctx, session, fix)
	}
	if !session.JourneyActive() {
		return nil
	}
	lost, err := s.updateAtHome(ctx, session, fix)
	if err != nil {
		return err
	}
	if err := s.checkAtHome(ctx, session); err != nil && !s.arrivedMeanwhile(ctx, session) {
		// The fix before the lost one may be anywhere.
		if code := CodeOf(err); lost != nil && (code == NotWithinRadius || code == NoFreshLocation) {
			return lost
		}
		return err
	}
	return nil
}

// updateAtHome judges the fix of an arrival. It refuses only an implausible one: for
// every other refusal checkAtHome has the better answer. lost is not nil where a store
// could not take the fix, a full one for example, which may still answer checkAtHome.
func (s *Service) updateAtHome(ctx context.Context, session Session, fix *Fix) (lost, err error) {
	if fix == nil {
		return nil, nil
	}
	at := *fix
	at.AtArrival = true
	receipt, err := s.Update(ctx, Caller{ID: session.TrainerID, Role: Trainer}, session.ID, at)
	switch {
	case err != nil && Unavailable(err):
		return err, ctx.Err()
	case err != nil:
		return nil, ctx.Err()
	}
	if err := receipt.Refusal(); CodeOf(err) == ImplausibleSpeed || CodeOf(err) == ImplausibleJump {
		return nil, err
	}
	return nil, nil
}

var errNoFix = Refuse(NoFreshLocation, "the code has expired; send the fix of now in the body to get a new one")

// checkFixAtHome checks that a fix was taken at the student's home just now, by the live
// store's clock. The journey has ended, so there is no track to judge it by, and it is
// not stored.
func (s *Service) checkFixAtHome(ctx context.Context, session Session, fix *Fix) error {
	if fix == nil {
		return errNoFix
	}
	snap, err := s.live.Latest(ctx, session.Journey().Ref)
	if err != nil {
		return liveDown(err)
	}
	distance := RoundM(geo.DistanceM(fix.Point, session.Home))
	age, known := fix.age(snap.Now)
	switch {
	case fix.Mock:
		return Refuse(SuspiciousLocation, "the location is simulated")
	case !known:
		return Refuse(NoFreshLocation, "the phone's clock is wrong; send sentAt beside recordedAt")
	case age >= s.opts.FreshWithin:
		return Refuse(NoFreshLocation, "the location is too old; send the fix of now")
	case fix.NoPosition(), fix.AccuracyM > s.opts.VagueM:
		return Refuse(NoFreshLocation, "the location is too inaccurate; send a better one")
	case distance > s.opts.RadiusM:
		return &Error{
			Code: NotWithinRadius, Message: "the location is not at the student's home",
			DistanceM: distance, RadiusM: s.opts.RadiusM,
		}
	}
	return nil
}

// arrivedMeanwhile reports whether the journey has ended since session was read.
// Another call of the same arrival was then first and has removed the location.
// The transition decides in that case.
func (s *Service) arrivedMeanwhile(ctx context.Context, session Session) bool {
	now, err := s.repo.Session(ctx, session.ID)
	return err == nil && !now.JourneyActive() && now.JourneyStartedAt.Equal(session.JourneyStartedAt)
}

// checkAtHome checks that the live location is fresh, at the student's home, and
// of a track that can be believed. An error of the live store is a refusal.
func (s *Service) checkAtHome(ctx context.Context, session Session) error {
	snap, err := s.latest(ctx, session.Journey().Ref)
	if err == nil && snap.Active && snap.Home != session.Home && session.Home.Valid() {
		// Another service has moved it, and the reconciler has not seen that yet.
		if err = s.homeMoved(ctx, session); err == nil {
			snap, err = s.latest(ctx, session.Journey().Ref)
		}
	}
	if err != nil {
		return liveDown(err)
	}
	err = CheckArrival(snap, session.JourneyStartedAt, ArrivalRules{
		RadiusM: s.opts.RadiusM, FreshWithin: s.opts.FreshWithin, ApproachFor: s.opts.ApproachFor,
	})
	if err == nil && !snap.Evidence.Outside {
		s.suspect(session.ID, Receipt{Suspicions: SuspectNoApproach, At: snap.Now})
	}
	return err
}

// ArrivalRules are the limits of CheckArrival, as in ServiceOptions. Zero means
// default.
type ArrivalRules struct {
	RadiusM                  float64
	FreshWithin, ApproachFor time.Duration
}

const (
	// youngFor is how old a journey must be to arrive: one that starts at the door
	// needs time for a track.
	youngFor = 10 * time.Second
	// oneRequestFor is how old a journey must be whose whole track came in one
	// request: one can be made up at a desk.
	oneRequestFor = time.Minute
	// trackFor is how long a track must be that was never outside the fence.
	trackFor = 10 * time.Second
	// learntFor is how long a clock that was learnt must hold: an attacker's constant
	// delay looks the same.
	learntFor = time.Minute
)

// CheckArrival reports why a journey cannot arrive yet: NoFreshLocation,
// NotWithinRadius or SuspiciousLocation. It is nil where it can. Only the store's
// clock counts, the snapshot's Now. See docs/adr/0012-one-time-for-a-fix.md for the
// cheats that each rule answers.
func CheckArrival(snap Snapshot, startedAt time.Time, rules ArrivalRules) error {
	rules.RadiusM = cmp.Or(rules.RadiusM, 150)
	rules.FreshWithin, rules.ApproachFor = cmp.Or(rules.FreshWithin, time.Minute), cmp.Or(rules.ApproachFor, time.Minute)
	age := snap.Now.Sub(startedAt)
	e := snap.Evidence
	switch {
	case !snap.Active || snap.Location == nil:
		return Refuse(NoFreshLocation, "no location of this journey is known; send one and try again")
	case snap.Now.Sub(snap.Location.RecordedAt) >= rules.FreshWithin:
		return Refuse(NoFreshLocation, "the last location is too old; send one and try again")
	case snap.DistanceM > rules.RadiusM:
		return &Error{
			Code: NotWithinRadius, Message: "the last location is not at the student's home",
			DistanceM: snap.DistanceM, RadiusM: rules.RadiusM,
		}
	case !snap.LearntAt.IsZero() && snap.Now.Sub(snap.LearntAt) < learntFor:
		return waitFor(NoFreshLocation, "the phone's clock is wrong and not known for long enough", learntFor-snap.Now.Sub(snap.LearntAt))
	case e.Mock:
		return Refuse(SuspiciousLocation, "the last location is simulated")
	case !snap.ReanchoredAt.IsZero() && snap.Now.Sub(snap.ReanchoredAt) < rules.ApproachFor:
		return waitFor(SuspiciousLocation, "the track has just begun again", rules.ApproachFor-snap.Now.Sub(snap.ReanchoredAt))
	case age < youngFor:
		return waitFor(SuspiciousLocation, "the journey has just started", youngFor-age)
	case e.Guess:
		return waitFor(SuspiciousLocation, "no second location agrees with the first yet", usualInterval)
	case e.Requests < EvidenceRequests && age < oneRequestFor:
		return waitFor(SuspiciousLocation, "all locations came in one request", usualInterval)
	case !e.Outside && (e.Fixes < EvidenceFixes || e.Lasted < trackFor):
		return waitFor(SuspiciousLocation, "the track is too short", max(usualInterval, trackFor-e.Lasted))
	}
	return nil
}

// usualInterval is between two fixes of a phone.
const usualInterval = 5 * time.Second

// waitFor is a refusal that more locations and time may remove.
func waitFor(code Code, message string, wait time.Duration) error {
	return &Error{Code: code, Message: message + "; continue to send locations and try again", RetryAfter: wait}
}

// Verify checks the OTP that the student shows, and starts the lesson. Errors:
// SessionNotFound, Forbidden, NotPendingVerification, OTPWrong, OTPExpired,
// OTPLocked, DatabaseUnavailable.
func (s *Service) Verify(ctx context.Context, c Caller, id ID, otp string) (Session, error) {
	c, ok := c.As(Trainer)
	if !ok {
		return Session{}, errNotTrainer
	}
	var refused error
	session, err := s.change(ctx, c, id, func(session *Session) ([]Event, error) {
		if !session.isTrainer(c) {
			return nil, errNotTrainer
		}
		// A wrong try is stored like a right one, so it must not fail the
		// transaction.
		before := session.Status
		if refused = session.Verify(otp, s.opts.Now()); refused != nil || session.Status == before {
			return nil, nil //nolint:nilerr // a wrong try is stored, too
		}
		return byCaller(c, []Event{session.event(SessionStarted, session.StartedAt)}), nil
	})
	if err != nil {
		return Session{}, err
	}
	return session, refused
}

// ResendOTP pushes the OTP that lives to the student again. Errors: SessionNotFound,
// Forbidden, NotPendingVerification, OTPExpired, OTPLocked, RateLimited,
// DatabaseUnavailable.
func (s *Service) ResendOTP(ctx context.Context, c Caller, id ID) (Session, error) {
	return s.change(ctx, c, id, func(session *Session) ([]Event, error) {
		if !session.HasParty(c) {
			return nil, errNotParty
		}
		return session.ResendOTP(s.opts.Now())
	})
}

// UnlockOTP counts the session's tries and codes anew. Errors: SessionNotFound,
// Forbidden, NotPendingVerification, DatabaseUnavailable.
func (s *Service) UnlockOTP(ctx context.Context, c Caller, id ID) (Session, error) {
	admin, ok := c.As(Admin)
	if !ok {
		return Session{}, errNotAdmin
	}
	session, err := s.change(ctx, admin, id, func(session *Session) ([]Event, error) { return nil, session.UnlockOTP() })
	return s.shown(session, c), err
}

// Complete ends the lesson. A repeat gets the same answer. Errors: SessionNotFound, Forbidden, NotInProgress,
// WrongRegion, DatabaseUnavailable.
func (s *Service) Complete(ctx context.Context, c Caller, id ID) (Session, error) {
	if !c.mayDriveAny() {
		return Session{}, errNotTrainer
	}
	session, err := s.change(ctx, c, id, func(session *Session) ([]Event, error) {
		c, ok := session.driver(c)
		if !ok {
			return nil, errNotTrainer
		}
		if err := s.here(ctx, *session); err != nil {
			return nil, err
		}
		before := session.Status
		if err := session.Complete(s.opts.Now()); err != nil || session.Status == before {
			return nil, err
		}
		return byCaller(c, []Event{session.event(SessionCompleted, session.CompletedAt)}), nil
	})
	if err == nil {
		s.syncLive(ctx, session, session.Journey()) // its phase
	}
	return session, err
}
