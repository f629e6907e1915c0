package sessions

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"doorstep/geo"
	"doorstep/ratelimit"
)

// Service is the rules put to work: who may do what, in which order the two
// stores are touched, and what heals when one of them forgot. It holds no
// state of a journey; any number of them run side by side.
//
// The repository is always written first: what it has committed is true, and
// the live store is then brought to agree. A live store that cannot be reached
// stops no start and no stop; its hash is put right by the next call that
// finds it, by the clean-up consumer, or by its own expiry.
type Service struct {
	repo   Repository
	live   Live
	opts   ServiceOptions
	slow   *ratelimit.Limit // looks into the repository, see lookUp
	voices *ratelimit.Limit // see heard

	parties *parties // of the sessions that Ref was asked for lately
	reads   sharedReads

	sighted chan sighted // suspicions on their way to Report
}

// ServiceOptions are the service's settings. Zero means default.
type ServiceOptions struct {
	Now func() time.Time // the wall clock
	Log *slog.Logger     // discarded by default
	// JourneyTTL and RadiusM are those of LiveOptions.
	JourneyTTL time.Duration
	RadiusM    float64
	// FreshWithin is how old the live location may be for an arrival. 60 s.
	FreshWithin time.Duration
	// Detour is how much longer than the great circle a way is taken to be for
	// an ETA. geo.DefaultDetour.
	Detour float64
	// ApproachFor is how long a track that began anew must go on plausibly
	// before it can arrive. 60 s.
	ApproachFor time.Duration
	// RestoreEvery and RestoreBurst bound, per caller, how often a session that
	// the live store does not know may cost a look into the repository that
	// finds nothing for the caller. 1 s, 10.
	RestoreEvery time.Duration
	RestoreBurst int
	// OnEvents is called after a commit that raised events: a hint to the
	// outbox's relay. It must not block.
	OnEvents func()
	// FixCounter counts what becomes of fixes; nil: nobody does.
	Counter *FixCounter
}

// NewService wires a service. It does no I/O.
func NewService(repo Repository, live Live, opts ServiceOptions) *Service {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.OnEvents == nil {
		opts.OnEvents = func() {}
	}
	opts.JourneyTTL = cmp.Or(opts.JourneyTTL, time.Hour)
	opts.FreshWithin = cmp.Or(opts.FreshWithin, time.Minute)
	opts.ApproachFor = cmp.Or(opts.ApproachFor, time.Minute)
	opts.RestoreEvery = cmp.Or(opts.RestoreEvery, time.Second)
	opts.RestoreBurst = cmp.Or(opts.RestoreBurst, 10)
	opts.RadiusM = cmp.Or(opts.RadiusM, 150)
	return &Service{
		repo: repo, live: live, opts: opts,
		slow:    ratelimit.New(opts.RestoreEvery, opts.RestoreBurst),
		voices:  ratelimit.New(opts.RestoreEvery, opts.RestoreBurst),
		parties: newParties(),
		sighted: make(chan sighted, suspicionQueue),
	}
}

// Booking is what the booking side of the house says of a new session.
type Booking struct {
	ID          ID // empty: a new one is made
	TrainerID   ID
	StudentID   ID
	ScheduledAt time.Time // zero: not fixed yet
	Home        geo.Point
	Mode        Mode // empty: Car
}

// Create books a session; false when the same booking was there already.
// Errors: Forbidden, SessionConflict, DatabaseUnavailable.
func (s *Service) Create(ctx context.Context, c Caller, b Booking) (Session, bool, error) {
	if c.Role != Admin {
		return Session{}, false, Refuse(Forbidden, "only an admin may book a session")
	}
	if b.ID == "" {
		b.ID = NewID()
	}
	if b.Mode == "" {
		b.Mode = Car
	}
	return s.repo.Create(ctx, Session{
		ID: b.ID, TrainerID: b.TrainerID, StudentID: b.StudentID, Status: Scheduled,
		ScheduledAt: b.ScheduledAt, Home: b.Home, Mode: b.Mode, CreatedAt: ms(s.opts.Now()),
	})
}

// Session reads one for a party or an admin. The trainer does not see the OTP.
// Errors: SessionNotFound, Forbidden, DatabaseUnavailable.
func (s *Service) Session(ctx context.Context, c Caller, id ID) (Session, error) {
	session, err := s.repo.Session(ctx, id)
	if err != nil {
		return Session{}, err
	}
	if !session.HasParty(c) {
		return Session{}, errNotParty
	}
	if c.Role == Trainer {
		session.OTP = ""
	}
	return session, nil
}

// OfStudent lists the caller's own sessions, latest booking first.
// Errors: Forbidden, DatabaseUnavailable.
func (s *Service) OfStudent(ctx context.Context, c Caller) ([]Session, error) {
	if c.Role != Student {
		return nil, Refuse(Forbidden, "only a student has sessions of their own")
	}
	return s.repo.OfStudent(ctx, c.ID)
}

// Start begins the journey to a session. Errors: SessionNotFound, Forbidden,
// NotScheduled, JourneyAlreadyStarted (with the running journey), TrainerBusy,
// DatabaseUnavailable.
func (s *Service) Start(ctx context.Context, c Caller, id ID, mode Mode) (Session, error) {
	if c.Role != Trainer {
		return Session{}, errNotTrainer
	}
	var before time.Time // when the session's last journey ended
	session, err := s.change(ctx, id, func(session *Session) ([]Event, error) {
		if !session.isTrainer(c) {
			return nil, errNotTrainer
		}
		before = session.JourneyEndedAt
		return session.Start(mode, s.opts.Now())
	})
	if err != nil {
		s.startedBefore(ctx, err)
		return Session{}, err
	}
	journey := session.Journey()
	// A stop and a start must not wash a refused jump to the door clean.
	journey.Restored = !before.IsZero() && session.JourneyStartedAt.Sub(before) < washed
	s.settle(ctx, session, journey)
	return session, nil
}

// startedBefore heals what a gateway left behind that died between the two
// stores: the trainer, who had no answer, starts again. Without it the first fix
// would restore the journey, which counts as a re-anchor and cannot arrive for a
// minute. A live store that knows the journey changes nothing. Only a young
// journey: an older one has a track, and losing that must not go unnoticed.
func (s *Service) startedBefore(ctx context.Context, err error) {
	var e *Error
	if errors.As(err, &e) && e.Code == JourneyAlreadyStarted && s.opts.Now().Sub(e.Journey.JourneyStartedAt) < startRepeats {
		s.settle(ctx, *e.Journey, e.Journey.Journey())
	}
}

const startRepeats = 30 * time.Second

// washed is how soon after the last one a journey to the same session counts as
// its continuation: its first fix is then a re-anchor, which cannot arrive at
// once.
const washed = 10 * time.Minute

// Stop ends the journey without an arrival. When it returns, no coordinate of
// the journey is in a live store that could be reached; nor is it where the stop
// is refused because the journey has ended already. Errors: SessionNotFound,
// Forbidden, NoActiveJourney, DatabaseUnavailable.
func (s *Service) Stop(ctx context.Context, c Caller, id ID) (Session, error) {
	if c.Role != Trainer && c.Role != Admin {
		return Session{}, errNotTrainer
	}
	var ended Session
	session, err := s.change(ctx, id, func(session *Session) ([]Event, error) {
		if !session.isTrainer(c) && c.Role != Admin {
			return nil, errNotTrainer
		}
		ended = *session
		return session.Stop(EndCancelled, s.opts.Now())
	})
	if err != nil {
		// Perhaps the repetition of a stop whose gateway died, or whose live
		// store was away, before the students heard of it. The clean-up would
		// tell them, but only once a dead relay's claim on the event is over.
		if CodeOf(err) == NoActiveJourney && !ended.JourneyEndedAt.IsZero() {
			s.settle(ctx, ended, ended.Journey())
		}
		return Session{}, err
	}
	s.settle(ctx, session, session.Journey())
	return session, nil
}

// Arrive ends the journey at the door and makes the OTP; repeated, it gives
// the same one. Errors: SessionNotFound, Forbidden, NoActiveJourney,
// NoFreshLocation, NotWithinRadius, SuspiciousLocation, LiveStoreUnavailable,
// DatabaseUnavailable.
func (s *Service) Arrive(ctx context.Context, c Caller, id ID) (Session, error) {
	if c.Role != Trainer {
		return Session{}, errNotTrainer
	}
	session, err := s.repo.Session(ctx, id)
	if err != nil {
		return Session{}, err
	}
	if !session.isTrainer(c) {
		return Session{}, errNotTrainer
	}
	if session.JourneyActive() {
		if err := s.atTheDoor(ctx, session); err != nil && !s.arrivedMeanwhile(ctx, session) {
			return Session{}, err
		}
	}
	journey := session.JourneyStartedAt
	session, err = s.change(ctx, id, func(session *Session) ([]Event, error) {
		// Checked at the door was that journey; one that was stopped and
		// started again meanwhile has to be checked itself.
		if session.JourneyActive() && !session.JourneyStartedAt.Equal(journey) {
			return nil, Refuse(NoFreshLocation, "the journey has just started again")
		}
		return session.Arrive(s.opts.Now())
	})
	if err != nil {
		return Session{}, err
	}
	s.settle(ctx, session, session.Journey())
	return session, nil
}

// arrivedMeanwhile reports whether the journey has ended since session was read:
// another call of the same arrival was first, and has taken the location away.
// The transition then decides.
func (s *Service) arrivedMeanwhile(ctx context.Context, session Session) bool {
	now, err := s.repo.Session(ctx, session.ID)
	return err == nil && !now.JourneyActive() && now.JourneyStartedAt.Equal(session.JourneyStartedAt)
}

// atTheDoor checks the live location. It never fails open.
func (s *Service) atTheDoor(ctx context.Context, session Session) error {
	snap, err := s.live.Latest(ctx, session.Journey().Ref)
	switch {
	case err != nil:
		return liveDown(err)
	case !snap.Active || snap.Location == nil:
		return Refuse(NoFreshLocation, "no location of this journey is known; send one and try again")
	case s.opts.Now().Sub(snap.Location.At) > s.opts.FreshWithin:
		return Refuse(NoFreshLocation, "the last location is too old; send one and try again")
	case snap.DistanceM > s.opts.RadiusM:
		return &Error{
			Code: NotWithinRadius, Message: "the last location is not at the student's home",
			DistanceM: snap.DistanceM, RadiusM: s.opts.RadiusM,
		}
	case !snap.ReanchoredAt.IsZero() && snap.Location.At.Sub(snap.ReanchoredAt) < s.opts.ApproachFor:
		return &Error{
			Code: SuspiciousLocation, Message: "the track has just begun anew; go on sending locations and try again",
			RetryAfter: s.opts.ApproachFor - snap.Location.At.Sub(snap.ReanchoredAt),
		}
	}
	return nil
}

// Verify checks the OTP that the student shows, and starts the lesson. Errors:
// SessionNotFound, Forbidden, NotPendingVerification, OTPWrong, OTPExpired,
// OTPLocked, DatabaseUnavailable.
func (s *Service) Verify(ctx context.Context, c Caller, id ID, otp string) (Session, error) {
	if c.Role != Trainer {
		return Session{}, errNotTrainer
	}
	var refused error
	session, err := s.change(ctx, id, func(session *Session) ([]Event, error) {
		if !session.isTrainer(c) {
			return nil, errNotTrainer
		}
		// A wrong try is stored like a right one, so it must not fail the
		// transaction.
		refused = session.Verify(otp, s.opts.Now())
		return nil, nil
	})
	if err != nil {
		return Session{}, err
	}
	return session, refused
}

// change is Repository.Change on a context that the caller's leaving does not
// cancel: a phone that hangs up must not leave the answer to chance.
func (s *Service) change(ctx context.Context, id ID, f func(*Session) ([]Event, error)) (Session, error) {
	raised := 0
	session, err := s.repo.Change(context.WithoutCancel(ctx), id, func(session *Session) ([]Event, error) {
		events, err := f(session)
		raised = len(events)
		return events, err
	})
	if err == nil && raised > 0 {
		s.opts.OnEvents()
	}
	return session, err
}

// record is Repository.Record, as change is Change.
func (s *Service) record(ctx context.Context, e Event) (first bool, err error) {
	first, err = s.repo.Record(context.WithoutCancel(ctx), e)
	if first {
		s.opts.OnEvents()
	}
	return first, err
}

// settle brings the live store to agree with a session that has just been
// stored. What fails here is only late: see Service.
func (s *Service) settle(ctx context.Context, session Session, journey Journey) {
	ctx = context.WithoutCancel(ctx)
	if !session.JourneyActive() {
		s.opts.Counter.ended(journey.Ref)
	}
	err := errors.Join(s.tell(ctx, journey, session), s.live.SetMeta(ctx, session.ID, session.Meta()))
	if err != nil {
		s.opts.Log.WarnContext(ctx, "live store not settled",
			slog.String("session_id", string(session.ID)), slog.Any("error", err))
	}
}

// restore is tell for a live store that has lost the journey. The journey may
// have ended, and the store may have lost the mark of that, too, between the
// read of session and now: so what was opened is looked up once more, and ended
// if it should not have been.
func (s *Service) restore(ctx context.Context, session Session) error {
	journey := session.Journey()
	journey.Restored = true
	if err := s.tell(ctx, journey, session); err != nil || !s.running(session) {
		return err
	}
	again, err := s.repo.Session(ctx, session.ID)
	if err != nil {
		return err
	}
	if s.running(again) && again.JourneyStartedAt.Equal(session.JourneyStartedAt) {
		return nil
	}
	return s.live.End(ctx, journey)
}

// tell writes into the live store what the repository says: a journey that
// runs, or the mark of one that does not.
func (s *Service) tell(ctx context.Context, journey Journey, session Session) error {
	if s.running(session) {
		// Not opened: it has ended meanwhile, or has had its hour by the store's
		// clock. Then there has to be a mark to read; End changes no other.
		if opened, err := s.live.Open(ctx, journey); opened || err != nil {
			return err
		}
	}
	return s.live.End(ctx, journey)
}

// running is JourneyActive within the hour: past it a journey is only waiting
// to be timed out.
func (s *Service) running(session Session) bool {
	return session.JourneyActive() && s.opts.Now().Before(session.JourneyStartedAt.Add(s.opts.JourneyTTL))
}

func (s *Session) isTrainer(c Caller) bool { return c.Role == Trainer && c.ID == s.TrainerID }

var (
	errNotTrainer = Refuse(Forbidden, "only the session's trainer may do this")
	errNotParty   = Refuse(Forbidden, "only the session's parties may see it")
)

// liveDown turns the store's fault into the refusal that callers get.
func liveDown(err error) error {
	if !errors.Is(err, ErrUnavailable) {
		return err
	}
	return &Error{
		Code: LiveStoreUnavailable, Message: "the live location cannot be read just now",
		RetryAfter: time.Second, cause: err,
	}
}
