package sessions

import (
	"context"
	"errors"
	"math"
	"time"

	"doorstep/geo"
)

// Fix is one position that a phone reports. NewFix checks that its values are in
// range and rounds them to what the live stores keep, so that both implementations
// judge the same numbers.
type Fix struct {
	Point geo.Point
	// AccuracyM is the radius in metres that the phone claims to be within, to
	// 0.1; 0 means that it did not say.
	AccuracyM float64
	// SpeedKMH and HeadingDeg are what the receiver measured, to 0.1; nil where
	// the phone did not say.
	SpeedKMH   *float64
	HeadingDeg *float64
	// RecordedAt is the phone's clock for the position, to the millisecond;
	// zero where the phone did not say.
	RecordedAt time.Time
	// SentAt is the same clock when the request that holds the fix was sent, to
	// the millisecond. SentAt - RecordedAt is the fix's age, however wrong the
	// clock is. Zero where it is not known; never before RecordedAt, and zero
	// without it.
	SentAt time.Time
	// Mock is the phone's own word that the position comes from a mock
	// provider.
	Mock bool
	// Continued means that another fix of the same request has been stored
	// before this one. Only Live.UpdateAll sets it. An arrival needs a track
	// of more than one request, so those are counted by the fixes without it.
	Continued bool
	// AtArrival means that the fix came with a request to arrive. Its rate is its
	// own, one in RateInterval, and over it VerdictIgnoredTooSoon.
	AtArrival bool
}

// NewFix checks and rounds a fix. Only the place can be refused: the error is an
// *Error with InvalidRequest and its Field. An optional field never costs the
// fix. Where it cannot be meant it counts as not known: a negative or
// non-numeric accuracy, speed or heading (iOS sends -1 for "not known"), a speed
// over 2000 km/h, a heading over 360, an instant outside 2000 to 2200, and a
// SentAt that is before RecordedAt or comes without it. An accuracy over 100 km is
// 100 km: it is vague, and must not become "not known", which is believed.
func NewFix(f Fix) (Fix, error) {
	if !f.Point.Valid() {
		return Fix{}, InvalidField("latitude", "latitude must be in [-90, 90] and longitude in [-180, 180]")
	}
	f.AccuracyM = accuracyOf(f.AccuracyM)
	f.SpeedKMH = tenthWithin(f.SpeedKMH, maxSpeedKMH)
	f.HeadingDeg = headingOf(f.HeadingDeg)
	f.RecordedAt = instantOrZero(f.RecordedAt)
	f.SentAt = instantOrZero(f.SentAt)
	if f.RecordedAt.IsZero() || f.SentAt.Before(f.RecordedAt) {
		f.SentAt = time.Time{}
	}
	return f, nil
}

// NoPosition reports whether the fix is within a metre of 0° N 0° E. Receivers
// and apps that have no position send those coordinates. The point lies in the
// sea 600 km off Ghana, so no trainer is there.
func (f Fix) NoPosition() bool {
	const metresPerDegree = 111_195 // of the sphere that geo measures on: 6,371,009 m × π / 180
	return math.Hypot(f.Point.Lat(), f.Point.Lng())*metresPerDegree <= 1
}

// age is how long ago the fix was taken. It reports false where the phone's clock is
// ahead of now and sentAt does not tell by how much.
func (f Fix) age(now time.Time) (time.Duration, bool) {
	switch {
	case f.RecordedAt.IsZero():
		return 0, true
	case !f.SentAt.IsZero():
		return f.SentAt.Sub(f.RecordedAt), true
	}
	age := now.Sub(f.RecordedAt)
	return max(0, age), age >= -aheadFor
}

// Instant is an instant from outside as the stores keep it: UTC, milliseconds,
// and in a range where all arithmetic on it is exact. InvalidRequest names the
// field.
func Instant(field string, t time.Time) (time.Time, error) {
	if !keeps(t) {
		return time.Time{}, InvalidField(field, field+" must be between the years 2000 and 2200")
	}
	return ms(t), nil
}

// instantOrZero is Instant where an instant out of range is not known.
func instantOrZero(t time.Time) time.Time {
	if !keeps(t) {
		return time.Time{}
	}
	return ms(t)
}

func keeps(t time.Time) bool { return !t.Before(earliest) && !t.After(latest) }

// aheadFor is how far a phone's clock may be ahead: geo.Limits.FutureMS.
const aheadFor = 2 * time.Second

const (
	maxAccuracyM = 100_000 // a phone that knows only its country reports tens of km
	maxSpeedKMH  = 2_000   // no trainer flies faster; keeps one decimal exact
)

var (
	earliest = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

// RoundM rounds a distance in metres to 0.1, as every answer and both stores do.
func RoundM(d float64) float64 { return tenth(d) }

// tenth rounds to one decimal. It adds 0 because some receivers send a negative
// zero, which would print with its sign; -0 + 0 is 0.
func tenth(v float64) float64 { return math.Round(v*10)/10 + 0 }

// accuracyOf is 0 for a radius that is not known.
func accuracyOf(v float64) float64 {
	if !(v >= 0) { // NaN, too
		return 0
	}
	return tenth(min(v, maxAccuracyM))
}

// tenthWithin rounds what is in [0, limit]; nil for all else.
func tenthWithin(v *float64, limit float64) *float64 {
	if v == nil || !(*v >= 0 && *v <= limit) {
		return nil
	}
	t := tenth(*v)
	return &t
}

// headingOf rounds a heading and turns 360, which some receivers send for north,
// into 0. 359.97 rounds to that too.
func headingOf(v *float64) *float64 {
	t := tenthWithin(v, 360)
	if t != nil && *t >= 360 {
		*t = 0
	}
	return t
}

// Refusal is the error of a fix that was not believed or came too soon, with the
// time after which another may come; nil for every other verdict of a journey
// that runs. An implausible fix counts against the rate, so a phone that only
// waits its usual five seconds could be too soon.
func (r Receipt) Refusal() error {
	switch r.Verdict {
	case VerdictTooSoon:
		return &Error{Code: RateLimited, Message: "too soon after the last update", RetryAfter: r.RetryAfter}
	case VerdictJump:
		return &Error{Code: ImplausibleJump, Message: "too far from the last location for the time between", RetryAfter: r.NextUpdate}
	case VerdictSpeed, VerdictCeiling:
		return &Error{Code: ImplausibleSpeed, Message: "faster than the travel mode allows", RetryAfter: r.NextUpdate}
	case VerdictUnknown, VerdictEnded:
		return errNoJourney
	case VerdictStale, VerdictVague, VerdictStored, VerdictBeforeStart, VerdictIgnoredTooSoon, VerdictNoPosition:
	}
	return nil
}

// Update judges one fix of the caller's journey. It costs one round trip to the
// live store and none to the repository. It asks the repository only when the live
// store knows no such journey, or an ended one, at a bounded rate for each caller.
// That tells an unknown caller from a store that has lost the journey, or that was
// away when the journey was started again.
//
// Refusals of the fix are in the receipt. Errors: SessionNotFound, Forbidden,
// NoActiveJourney, RateLimited, WrongRegion, LiveStoreUnavailable, DatabaseUnavailable.
func (s *Service) Update(ctx context.Context, c Caller, id ID, fix Fix) (Receipt, error) {
	receipt, err := s.update(ctx, c, id, fix)
	s.publishLocation(Ref{TrainerID: c.ID, SessionID: id}, fix, receipt)
	return receipt, err
}

// update is Update without the event about the location.
func (s *Service) update(ctx context.Context, c Caller, id ID, fix Fix) (Receipt, error) {
	ref := Ref{TrainerID: c.ID, SessionID: id}
	var receipt Receipt
	err := s.ask(ctx, c, ref, func() (_ Verdict, err error) {
		receipt, err = s.live.Update(ctx, ref, fix)
		return receipt.Verdict, err
	})
	if err != nil {
		return Receipt{}, err
	}
	s.judged(ref, fix, &receipt)
	return receipt, nil
}

// ask calls the live store about the caller's journey, and once more where it has lost
// that. The verdict that call returns is the least of its fixes'.
func (s *Service) ask(ctx context.Context, c Caller, ref Ref, call func() (Verdict, error)) error {
	if !c.Has(Trainer) {
		return errNotTrainer
	}
	if err := s.hereByID(ctx, ref.SessionID); err != nil {
		s.countOutage(ref, err)
		return err
	}
	if !s.opts.Lease.Held() {
		s.countOutage(ref, errNoLease)
		return liveDown(errNoLease)
	}
	verdict, err := call()
	if err == nil && verdict <= VerdictEnded {
		if err := s.restoreFor(ctx, c, ref.SessionID); err != nil {
			return err
		}
		verdict, err = call()
	}
	switch {
	case err != nil:
		s.countOutage(ref, err)
		return liveDown(err)
	case verdict <= VerdictEnded:
		return errNoJourney
	}
	return nil
}

// judged notes what the live store has made of a fix, and decides when the next is due.
func (s *Service) judged(ref Ref, fix Fix, receipt *Receipt) {
	s.steer(fix, receipt)
	s.served.use(ref, Meta{})
	s.opts.Counter.count(ref, *receipt, s.opts.Now())
	s.suspect(ref.SessionID, *receipt)
	s.offerArriving(ref.SessionID, *receipt)
}

// countOutage notes that a phone has sent a fix while the live store was away, so
// that the journey does not look silent. Whether there is such a journey is
// unknown then, and made-up ids must not fill the counter. So a caller is counted
// at most at the rate of allowLookup.
func (s *Service) countOutage(ref Ref, err error) {
	now := s.opts.Now()
	if errors.Is(err, ErrUnavailable) && s.outages.Take(string(ref.TrainerID), now) == 0 {
		s.opts.Counter.phoneSeen(ref, now)
	}
}

// restoreFor writes a running journey of this trainer into the live store
// again.
func (s *Service) restoreFor(ctx context.Context, c Caller, id ID) error {
	if err := s.allowLookup(c); err != nil {
		return err
	}
	session, err := s.repo.Session(ctx, id)
	switch {
	case err != nil:
		return err
	case !session.isTrainer(c):
		return errNotTrainer
	case !session.In(s.opts.Region):
		s.returnLookup(c)
		return s.hereLive(ctx, session)
	case !s.running(session):
		return errNoJourney
	}
	return liveDown(s.restore(ctx, session))
}
