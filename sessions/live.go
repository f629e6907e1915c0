package sessions

import (
	"cmp"
	"context"
	"errors"
	"time"

	"doorstep/geo"
)

// ErrUnavailable is the one fault of a live store: it did not answer in time, it
// could not be reached, or its breaker is open. A call that was sent may still take
// effect, so every call of Live is safe to repeat. Wrapped with the cause.
var ErrUnavailable = errors.New("live store unavailable")

// Live is the contract of the live store. There are two implementations:
// memory.Live, and scripts.Store on Valkey. Package livetest tests both against it.
//
// All methods are safe for concurrent use, and atomic for one Ref. A refusal is a
// value, never an error. The only errors are ErrUnavailable and the context's.
type Live interface {
	// Open makes a journey active, with no location. To open it again changes
	// nothing. It does nothing and reports false for a journey that has ended, is
	// older than the known one, or has lasted for JourneyTTL. So neither a retry
	// nor a restoration can bring an ended journey back.
	Open(ctx context.Context, j Journey) (bool, error)

	// Update judges one fix. One that is believed becomes the live location and
	// wakes the watchers.
	Update(ctx context.Context, ref Ref, fix Fix) (Receipt, error)

	// UpdateAll judges the fixes of one request in the order given, in one round trip
	// and without another call between them: as Update, one after the other, with
	// Continued set once one has been stored. There are as many receipts as fixes.
	UpdateAll(ctx context.Context, ref Ref, fixes []Fix) ([]Receipt, error)

	// Latest reads a journey. Snapshot.Known is false when the store has nothing
	// of it: it has not started, it has expired, or the store lost its data.
	Latest(ctx context.Context, ref Ref) (Snapshot, error)

	// CachedView is Latest without a round trip: the journey as the last wake-up
	// message told it. It reports false where a read is needed: the message did not
	// tell everything, or a later one may have been missed. For a caller that has
	// been watching ref it is as good as a read. It may be one message behind, and
	// it leaves ReanchoredAt, Evidence and LearntAt out.
	CachedView(ref Ref) (Snapshot, bool)

	// Move gives a running journey another home: the distance is to that one, it is
	// not arriving, and its Evidence begins anew. With the home that is known it only
	// makes a new version and wakes the watchers. It reports false, and changes
	// nothing, where the store does not know the journey as running.
	Move(ctx context.Context, j Journey) (bool, error)

	// End replaces the journey by a tombstone, which has no coordinate but the
	// journey's Phase, and wakes the watchers. To repeat it, or to end a journey that
	// is older than the known one, changes nothing; a later phase than the known one
	// is a new version. For a journey that never started it writes a tombstone too,
	// so that readers have a version to wait on.
	End(ctx context.Context, j Journey) error

	// Watch calls wake after every change to ref, from the moment Watch returns
	// until stop is called, and also whenever changes may have been missed. wake
	// must not block. It means "look again": by CachedView, or by a read.
	Watch(ctx context.Context, ref Ref, wake func()) (stop func(), err error)

	// Meta reads the parties and the region of a session as last set. It reports false when they
	// are not known.
	Meta(ctx context.Context, id ID) (Meta, bool, error)

	// SetMeta keeps the parties and the region of a session for LiveOptions.LocationTTL.
	SetMeta(ctx context.Context, id ID, m Meta) error
}

// Verdict is what a live store did with a fix.
type Verdict int

// The verdicts, in the order of update.lua's return codes.
const (
	// VerdictUnknown: the store knows no such journey of this trainer.
	VerdictUnknown Verdict = iota
	// VerdictEnded: the journey has ended, or has lasted for JourneyTTL.
	VerdictEnded
	// VerdictTooSoon: over the rate. Receipt.RetryAfter is the time to wait.
	VerdictTooSoon
	// VerdictStale: not newer than the live location, or taken more than StaleAfter
	// ago. Nothing was written, but what learning the phone's clock needs; the same
	// holds for VerdictBeforeStart and VerdictIgnoredTooSoon.
	VerdictStale
	// VerdictVague: too inaccurate to store. It counts against the rate.
	VerdictVague
	// VerdictJump: too far in too short a time. It counts against the rate, and
	// what the judgement of the next fix needs is stored.
	VerdictJump
	// VerdictSpeed: over the limit of the travel mode. Otherwise as VerdictJump.
	VerdictSpeed
	// VerdictCeiling: faster than the travel mode can be at all. Otherwise as
	// VerdictJump.
	VerdictCeiling
	// VerdictStored: the fix is now the live location.
	VerdictStored
	// VerdictBeforeStart: taken before the journey began; nothing written.
	VerdictBeforeStart
	// VerdictIgnoredTooSoon: too close to the live location by the fix's own
	// time, and not of the last two seconds, so that sending it again can never
	// help; nothing written.
	VerdictIgnoredTooSoon
	// VerdictNoPosition: see Fix.NoPosition; counts against the rate.
	VerdictNoPosition
)

// Verdicts lists the verdicts.
func Verdicts() []Verdict {
	var list []Verdict
	for v := VerdictUnknown; v <= VerdictNoPosition; v++ {
		list = append(list, v)
	}
	return list
}

// String is the verdict's name in metrics.
func (v Verdict) String() string {
	names := [...]string{
		"unknown", "ended", "too_soon", "stale", "low_accuracy",
		"refused_jump", "refused_speed", "refused_ceiling", "stored",
		"before_start", "ignored_too_soon", "no_position",
	}
	if v < 0 || int(v) >= len(names) {
		return "invalid"
	}
	return names[v]
}

// Receipt is a live store's answer to one fix. A field after Verdict is set only
// for the verdicts that its comment names. "judged" is every verdict from
// VerdictStale on.
type Receipt struct {
	Verdict    Verdict
	At         time.Time     // judged, TooSoon: the store's clock
	RetryAfter time.Duration // TooSoon: until the next fix may come
	NextUpdate time.Duration // judged: the time until the phone should send the next fix
	Version    int64         // judged: the journey's version
	TTL        time.Duration // judged: the time until the journey's hash expires
	Arriving   bool          // judged: the journey has reached the fence
	Flags      geo.Flags     // judged: what is odd about this fix
	Suspicions Suspicions    // judged: those that this fix raised for the first time in its journey
	MovedM     float64       // Stored: the distance from the fix before
	DistanceM  float64       // Stored: to the home
	Trusted    bool          // Stored: two requests and three fixes speak for the track; see Evidence
	Outside    bool          // Stored: the track has been outside the fence
	Late       bool          // Stored: it was taken over a RateInterval ago
	Watched    bool          // Stored: somebody waits for the journey's changes, or did 15 s ago or less; see Watch
	Clock      PhoneClock    // Stored: what is known of the phone's
	// SeenAgo is, Stored, how long before this fix the last one came that was stored or
	// counted against the rate, by the store's clock; negative where the store knows of
	// none, as for the first fix of a journey.
	SeenAgo time.Duration
}

// Last is what stays of a stored fix after a silence.
func (r Receipt) Last() LastFix {
	return LastFix{
		At: r.At, DistanceM: r.DistanceM, Arriving: r.Arriving, Trusted: r.Trusted, Outside: r.Outside, Clock: r.Clock,
	}
}

// LastFix is what stays of a live location that expired after a silence: no
// coordinate. The zero value is none.
type LastFix struct {
	At        time.Time // the store's clock at acceptance
	DistanceM float64   // to the home
	Arriving  bool      // as in Receipt, like the next two
	Trusted   bool
	Outside   bool
	Clock     PhoneClock
}

// PhoneClock is what outlives a live location of a geo.Clock, with the same fields.
// The zero value is a clock that agrees with the store's.
type PhoneClock struct{ OffsetMS, ToldMS, SinceMS int64 }

// Location is a fix that was believed, and the time of that. Its RecordedAt is when
// it was taken, by the store's clock; see geo.Clock. SentAt and Mock are not kept.
type Location struct {
	Fix
	// At is the store's clock at acceptance.
	At time.Time
}

// Snapshot is what a live store knows of a journey. A value: safe to keep.
type Snapshot struct {
	Known   bool
	Active  bool
	Version int64
	// Location is nil before the first fix and after the end.
	Location *Location
	// DistanceM is from Location to the home; meaningless without Location.
	DistanceM float64
	Arriving  bool
	// StartedAt is when an active journey began, and Home is where it leads.
	StartedAt time.Time
	Home      geo.Point
	// Over is the phase of a journey that is not active.
	Over Phase
	// Pace is the speed that an ETA uses.
	Pace Pace
	// ReanchoredAt is when the track last began anew, by the store's clock; zero for
	// never.
	ReanchoredAt time.Time
	// Suspicions are those of the running journey so far; after 300 s without a fix
	// they begin anew.
	Suspicions Suspicions
	// Evidence is what speaks for the track of Location.
	Evidence Evidence
	// LearntAt is since when the phone's clock is off by what its fixes alone told,
	// by the store's clock; zero where it agrees, or where sentAt told.
	LearntAt time.Time
	// Now is the store's clock at the read.
	Now time.Time
}

// Phase is where the journey stands; empty where it is not known.
func (s Snapshot) Phase() Phase {
	switch {
	case !s.Active:
		return s.Over
	case s.Arriving:
		return Arriving
	default:
		return OnTheWay
	}
}

// FixAge is how long ago the live location was taken, by the store's clock.
func (s Snapshot) FixAge() time.Duration { return max(0, s.Now.Sub(s.Location.RecordedAt)) }

// Evidence is what an arrival needs of a track, beside its last fix.
type Evidence struct {
	Guess    bool          // no second fix has confirmed it; see geo.Track
	Mock     bool          // the phone said that the last fix was simulated
	Outside  bool          // it has been outside the fence
	Fixes    int64         // of the track, at most EvidenceFixes
	Requests int64         // that brought them, at most EvidenceRequests
	Lasted   time.Duration // from its first fix to its last, by when they were taken; 0 once Outside
}

// What a track needs that was never seen outside the fence, in fixes and requests.
const (
	EvidenceFixes    = 3
	EvidenceRequests = 2
)

// Pace is a journey's speed over ground, in mm/s, the time in ms over which it was
// measured, capped, and the travel mode. See geo.PaceFrom and geo.ETA.
type Pace struct {
	MMS, OverMS int64
	Mode        Mode
}

// LiveOptions are the rules that a live store applies. A zero field means its
// default. Both implementations use the same.
type LiveOptions struct {
	RateInterval  time.Duration // 5 s between two fixes of one journey
	RateTolerance time.Duration // 1 s of GCRA tolerance
	LocationTTL   time.Duration // 300 s after the last accepted fix; also of tombstones and metas
	JourneyTTL    time.Duration // 1 h, the longest journey
	RadiusM       float64       // 150 m, the geofence around the home

	StaleAfter time.Duration // 5 min: a fix recorded earlier is stale

	LimitKMH   Speeds     // 120, 30, 15: see geo.Limits
	CeilingKMH Speeds     // 200, 60, 30
	Rules      geo.Limits // the rest of the limits, common to all modes
}

// Speeds has one speed for each travel mode, in km/h.
type Speeds struct{ Car, Bike, Walk float64 }

// Of returns the speed of a mode.
func (s Speeds) Of(m Mode) float64 {
	switch m {
	case Bike:
		return s.Bike
	case Walk:
		return s.Walk
	default:
		return s.Car
	}
}

// Limits returns the plausibility limits of one mode.
func (o LiveOptions) Limits(m Mode) geo.Limits {
	l := o.Rules
	l.LimitKMH, l.CeilingKMH = o.LimitKMH.Of(m), o.CeilingKMH.Of(m)
	return l
}

// WithDefaults fills the zero fields.
func (o LiveOptions) WithDefaults() LiveOptions {
	o.RateInterval = cmp.Or(o.RateInterval, 5*time.Second)
	o.RateTolerance = cmp.Or(o.RateTolerance, time.Second)
	o.LocationTTL = cmp.Or(o.LocationTTL, 300*time.Second)
	o.JourneyTTL = cmp.Or(o.JourneyTTL, time.Hour)
	o.StaleAfter = cmp.Or(o.StaleAfter, 5*time.Minute)
	o.RadiusM = cmp.Or(o.RadiusM, 150)
	o.Rules = o.rulesOrDefault()
	for _, m := range []struct {
		mode           Mode
		limit, ceiling *float64
	}{
		{Car, &o.LimitKMH.Car, &o.CeilingKMH.Car},
		{Bike, &o.LimitKMH.Bike, &o.CeilingKMH.Bike},
		{Walk, &o.LimitKMH.Walk, &o.CeilingKMH.Walk},
	} {
		usual := geo.DefaultLimits(m.mode)
		*m.limit = cmp.Or(*m.limit, usual.LimitKMH)
		*m.ceiling = cmp.Or(*m.ceiling, max(usual.CeilingKMH, *m.limit))
	}
	return o
}

func (o LiveOptions) rulesOrDefault() geo.Limits {
	r, usual := o.Rules, geo.DefaultLimits(Car)
	return geo.Limits{
		DefaultAccuracyM: cmp.Or(r.DefaultAccuracyM, usual.DefaultAccuracyM),
		MaxAccuracyM:     cmp.Or(r.MaxAccuracyM, usual.MaxAccuracyM),
		VagueM:           cmp.Or(r.VagueM, usual.VagueM),
		JumpM:            cmp.Or(r.JumpM, usual.JumpM),
		JumpMS:           cmp.Or(r.JumpMS, usual.JumpMS),
		BankMS:           cmp.Or(r.BankMS, usual.BankMS),
		GraceMS:          cmp.Or(r.GraceMS, usual.GraceMS),
		FutureMS:         cmp.Or(r.FutureMS, usual.FutureMS),
		Shadow:           r.Shadow,
	}
}
