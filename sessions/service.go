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

// Service decides who may do what, in which order the two stores are written, and
// how they agree again when one of them has lost something. It holds no state of
// a journey, so any number of services can run side by side.
//
// The repository is always written first: what it has committed is true, and the
// live store is then brought to agree. A live store that is away stops no start
// and no stop. Its hash is corrected by the next call that reaches it, by the
// clean-up consumer, or by its own expiry.
type Service struct {
	repo Repository
	late LateReads // ServiceOptions.LateReads, or else repo
	live Live
	opts ServiceOptions

	lookups *ratelimit.Limit // see allowLookup
	outages *ratelimit.Limit // see countOutage

	parties   *parties    // of the sessions that Ref was called for lately
	served    *served     // the journeys that were updated or read lately
	reporters *reporters  // the devices that have reported lately
	links     *links      // the share links that are read
	elsewhere *elsewhere  // the sessions of other regions that were asked for lately
	reads     sharedReads // of Read and View

	news      chan news // on its way to Report
	arrivings *arrivings
	locations *locationTimes
}

// ServiceOptions are the service's settings. Zero means default.
type ServiceOptions struct {
	Now func() time.Time // the wall clock
	Log *slog.Logger     // discarded by default
	// These are those of LiveOptions.
	JourneyTTL    time.Duration
	RadiusM       float64
	RateInterval  time.Duration
	RateTolerance time.Duration
	StaleAfter    time.Duration
	// Steer makes Receipt.NextUpdate longer than RateInterval where nobody waits for a
	// fix; see Steering.
	Steer bool
	// FreshWithin is how old the live location may be for an arrival. 60 s.
	FreshWithin time.Duration
	// VagueM is the accuracy in metres from which a fix is too inaccurate. 200 m.
	VagueM float64
	// Detour is the factor from the great-circle distance to the length of the
	// road, for an ETA. geo.DefaultDetour.
	Detour float64
	// ApproachFor is how long a track that began anew must go on plausibly
	// before it can arrive. 60 s.
	ApproachFor time.Duration
	// OnEvents is called after a commit that stored events, so that the outbox's
	// relay looks at once. It must not block.
	OnEvents func()
	// OnLocation is given a location of each journey, at most one in LocationEvery,
	// which is at least a millisecond. It must not block. Nil: none.
	OnLocation    func(LocationEvent)
	LocationEvery time.Duration
	// EventLinks is the key of the share links that events of a start have; empty: they
	// have none.
	EventLinks []byte
	// Counter counts what becomes of fixes; nil counts nothing.
	Counter *FixCounter
	// Region is this gateway's, and Regions are those that a booking may name. Empty: an
	// installation of one region, which has no name.
	Region  string
	Regions []string
	// Lease is that of Region. Nil: without regions.
	Lease *Lease
	// OnElsewhere is told that a session which is waited for here belongs to another region:
	// whoever waits is to look again. It must not block. Nil: nobody waits.
	OnElsewhere func(Ref)
	// Outcomes tells what has become of events, for a session's history. Nil: not known.
	Outcomes Outcomes
	// LateReads answers what may be a second old: an admin's list of sessions, histories and
	// ratings. Nil: the Repository.
	LateReads LateReads
}

// lookupEvery and lookupBurst bound, for each caller, how often a session that the
// live store does not know may cost a read of the repository that finds nothing
// for the caller.
const (
	lookupEvery = time.Second
	lookupBurst = 10
)

// NewService makes a service. It does no I/O.
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
	opts.RadiusM = cmp.Or(opts.RadiusM, 150)
	opts.VagueM = cmp.Or(opts.VagueM, 200)
	opts.RateInterval = cmp.Or(opts.RateInterval, 5*time.Second)
	opts.RateTolerance = cmp.Or(opts.RateTolerance, time.Second)
	opts.StaleAfter = cmp.Or(opts.StaleAfter, 5*time.Minute)
	return &Service{
		repo: repo, late: cmp.Or[LateReads](opts.LateReads, repo), live: live, opts: opts,
		lookups:   ratelimit.New(lookupEvery, lookupBurst),
		outages:   ratelimit.New(lookupEvery, lookupBurst),
		parties:   newParties(),
		served:    newServed(),
		reporters: newReporters(repo, opts.Now),
		links:     newLinks(repo),
		elsewhere: newElsewhere(),
		news:      make(chan news, newsQueue),
		arrivings: newArrivings(),
		locations: newLocationTimes(),
	}
}

// Booking is what the operator's booking side says about a new session.
type Booking struct {
	ID          ID // empty: Create makes one
	TrainerID   ID
	StudentID   ID
	ScheduledAt time.Time // zero: not fixed yet
	Home        geo.Point
	Mode        Mode   // empty: Car
	Region      string // empty: that of the first start
	// Key names the request and BodyHash is a hash of its body, so that a repeat is
	// recognised for a week, whatever has become of the session. Empty: no key.
	Key      string
	BodyHash string
}

// Create books a session. It reports false when the same booking, or the same request
// by its key, was stored before. Errors: Forbidden, InvalidRequest, SessionConflict,
// DatabaseUnavailable.
func (s *Service) Create(ctx context.Context, c Caller, b Booking) (Session, bool, error) {
	c, ok := c.As(Admin)
	if !ok {
		return Session{}, false, Refuse(Forbidden, "only an admin may book a session")
	}
	if err := s.checkPin(b.Region); err != nil {
		return Session{}, false, err
	}
	if b.ID == "" {
		b.ID = NewID()
	}
	if b.Mode == "" {
		b.Mode = Car
	}
	session := Session{
		ID: b.ID, TrainerID: b.TrainerID, StudentID: b.StudentID, Status: Scheduled,
		ScheduledAt: b.ScheduledAt, Home: b.Home, Mode: b.Mode, Region: b.Region, CreatedAt: ms(s.opts.Now()),
	}
	if b.Key == "" {
		return s.repo.Create(actingFor(ctx, c), session)
	}
	key := BookingKey{CallerID: c.ID, Key: b.Key, BodyHash: b.BodyHash, At: session.CreatedAt}
	return s.repo.CreateOnce(actingFor(context.WithoutCancel(ctx), c), key, session)
}

// Session reads a session for one of its parties or an admin. The trainer does not
// get the OTP. Errors: SessionNotFound, Forbidden, DatabaseUnavailable.
func (s *Service) Session(ctx context.Context, c Caller, id ID) (Session, error) {
	session, err := s.repo.Session(ctx, id)
	if err != nil {
		return Session{}, err
	}
	if !session.HasParty(c) {
		return Session{}, errNotParty
	}
	return s.shown(session, c), nil
}

// shown is a session as c may see it: without a code that cannot be used, and for the
// session's trainer without any, and without the home once the session is over. That
// holds for a trainer who is an admin, too: the code proves that the student is there.
func (s *Service) shown(session Session, c Caller) Session {
	if session.OTP == "" {
		session.OTPExpiresAt = time.Time{} // another service's row: see CodeState
	}
	if session.isTrainer(c) && session.over() {
		session.Home = geo.Point{}
	}
	if session.isTrainer(c) || session.CodeState(s.opts.Now()) != CodeActive {
		session.OTP = ""
	}
	return session
}

// change calls Repository.Change for a caller, the zero Caller for the gateways
// themselves, with a context that is not cancelled when the
// caller leaves: a write that has begun is completed.
func (s *Service) change(ctx context.Context, by Caller, id ID, f func(*Session) ([]Event, error)) (Session, error) {
	return s.changeBy(s.repo.Change)(ctx, by, id, f)
}

type changer func(ctx context.Context, id ID, f func(*Session) ([]Event, error)) (Session, error)

// changeBy is change by Repository.Change or Repository.Rebook.
func (s *Service) changeBy(change changer) func(context.Context, Caller, ID, func(*Session) ([]Event, error)) (Session, error) {
	return func(ctx context.Context, by Caller, id ID, f func(*Session) ([]Event, error)) (Session, error) {
		raised := 0
		session, err := change(actingFor(context.WithoutCancel(ctx), by), id, func(session *Session) ([]Event, error) {
			events, err := f(session)
			raised = len(events)
			return traced(ctx, events), err
		})
		if err == nil && raised > 0 {
			s.opts.OnEvents()
		}
		return session, err
	}
}

// record calls Repository.Record as change calls Repository.Change.
func (s *Service) record(ctx context.Context, e Event) (first bool, err error) {
	first, err = s.repo.Record(context.WithoutCancel(ctx), e)
	if first {
		s.opts.OnEvents()
	}
	return first, err
}

// syncLive makes the live store agree with a session that has just been stored. A
// failure only delays that: see Service.
func (s *Service) syncLive(ctx context.Context, session Session, journey Journey) {
	ctx = context.WithoutCancel(ctx)
	s.arrivings.forget(session.ID) // what comes is another journey
	s.reporters.forgetJourney(session.TrainerID)
	if !session.JourneyActive() {
		s.opts.Counter.ended(journey.Ref)
	}
	if !session.In(s.opts.Region) { // its own region's live store, which that brings to agree
		return
	}
	err := errors.Join(s.writeLive(ctx, journey, session), s.live.SetMeta(ctx, session.ID, session.Meta()))
	s.links.changed(session.ID) // after that, so that who waits is woken by the live store
	if err != nil {
		s.opts.Log.WarnContext(ctx, "live store does not agree with the database yet",
			slog.String("session_id", string(session.ID)), slog.Any("error", err))
	}
}

// restore is writeLive for a live store that has lost the journey. It refuses a session of
// another region: no journey is in two live stores. The journey may
// have ended after session was read, and the store may have lost its tombstone too.
// So restore reads the session once more after it has opened the journey, and ends
// the journey if it should not have been opened.
func (s *Service) restore(ctx context.Context, session Session) error {
	if err := s.hereLive(ctx, session); err != nil {
		return err
	}
	journey := session.Journey()
	journey.Restored = true
	if s.running(session) {
		record, _, err := s.repo.JourneyRecord(ctx, JourneyKey{session.ID, session.JourneyStartedAt})
		if err != nil {
			return err
		}
		if record.TrainerID != "" && record.TrainerID != session.TrainerID {
			if session, err = s.endForeign(ctx, session, record.TrainerID); err != nil {
				return err
			}
			return s.writeLive(ctx, session.Journey(), session)
		}
		journey.Last = record.Counts.Add(Counts{Last: s.opts.Counter.last(journey.Ref)}).Last
		if journey.Last.At.Before(session.HomeMovedAt.Add(clockSlack)) {
			journey.Last = LastFix{} // it speaks of the way to another home
		}
	}
	if err := s.writeLive(ctx, journey, session); err != nil || !s.running(session) {
		return err
	}
	again, err := s.repo.Session(ctx, session.ID)
	if err != nil {
		return err
	}
	same := again.JourneyStartedAt.Equal(session.JourneyStartedAt) && again.TrainerID == session.TrainerID
	switch {
	case same && s.running(again) && again.Home != session.Home:
		return s.moveLive(ctx, again)
	case same && s.running(again):
		return nil
	case same:
		journey.Phase = s.phase(again)
	default:
		journey.Phase = Ended
	}
	return s.live.End(ctx, journey)
}

// endForeign ends a journey that this trainer has begun and whose session another service
// has given to another one since.
func (s *Service) endForeign(ctx context.Context, session Session, trainer ID) (Session, error) {
	return s.change(finding(ctx, correctedReassigned), Caller{}, session.ID, func(now *Session) ([]Event, error) {
		if !now.JourneyActive() || !now.JourneyStartedAt.Equal(session.JourneyStartedAt) || now.TrainerID == trainer {
			return nil, nil
		}
		events, err := now.Stop(EndCancelled, s.opts.Now())
		for i := range events {
			events[i].TrainerID = trainer // whose journey it was
		}
		return events, err
	})
}

// clockSlack is by how much the live store's clock and a gateway's may differ here.
const clockSlack = 10 * time.Second

// writeLive writes what the repository says into the live store: a running
// journey, or the tombstone of one that is not running.
func (s *Service) writeLive(ctx context.Context, journey Journey, session Session) error {
	if s.running(session) {
		// Where Open does nothing the journey has ended meanwhile, or has lasted
		// for an hour by the store's clock. Then readers need a tombstone. End
		// changes no other journey.
		if opened, err := s.live.Open(ctx, journey); opened || err != nil {
			return err
		}
	}
	journey.Phase = s.phase(session)
	return s.live.End(ctx, journey)
}

// phase is Session.Phase, and Ended past the journey's hour.
func (s *Service) phase(session Session) Phase {
	if session.JourneyActive() && !s.running(session) {
		return Ended
	}
	return session.Phase()
}

// running is JourneyActive within the journey's hour (JourneyTTL). Past the hour
// the journey only waits for the sweep that times it out.
func (s *Service) running(session Session) bool {
	return session.JourneyActive() && s.opts.Now().Before(session.JourneyStartedAt.Add(s.opts.JourneyTTL))
}

var (
	errNotTrainer = Refuse(Forbidden, "only the session's trainer may do this")
	errNotAdmin   = Refuse(Forbidden, "only an admin may do this")
	errNotParty   = Refuse(Forbidden, "only the session's parties may see it")
	errNoJourney  = Refuse(NoActiveJourney, "no journey to this session is running")
)

// liveDown turns a fault of the live store into the error that callers get.
func liveDown(err error) error {
	if !errors.Is(err, ErrUnavailable) {
		return err
	}
	return &Error{
		Code: LiveStoreUnavailable, Message: "the live location cannot be read just now",
		RetryAfter: time.Second, cause: err,
	}
}

// RetryIn rounds a wait up to whole seconds, at least one: the form of the
// Retry-After header.
func RetryIn(d time.Duration) int {
	return max(1, int((d+time.Second-1)/time.Second))
}
