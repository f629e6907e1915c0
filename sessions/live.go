package sessions

import (
	"cmp"
	"context"
	"errors"
	"time"

	"doorstep/geo"
)

// ErrUnavailable is the one fault of a live store: it did not answer in time,
// could not be reached, or its breaker is open. What was sent may still
// happen; every call here is safe to repeat. Wrapped with the cause.
var ErrUnavailable = errors.New("live store unavailable")

// Live is the contract of the live store. Two implementations keep it: Memory
// here and scripts.Store on Valkey; package livetest holds both to it.
//
// All methods are safe for concurrent use and atomic for one Ref. Refusals are
// values, never errors; the only errors are ErrUnavailable and the context's.
type Live interface {
	// Open makes a journey active, with no location. Opening it again changes
	// nothing. It reports false, and does nothing, for a journey that has
	// ended, is older than the one known, or has had its hour: so neither a
	// retry nor a restoration can wake the dead.
	Open(ctx context.Context, j Journey) (bool, error)

	// Update judges one fix and, when it is believed, makes it the live
	// location and wakes the watchers.
	Update(ctx context.Context, ref Ref, fix Fix) (Receipt, error)

	// Latest reads a journey. Snapshot.Known is false when the store has
	// nothing of it: not started, expired, or the store lost its memory.
	Latest(ctx context.Context, ref Ref) (Snapshot, error)

	// CachedView is Latest without asking: what the last wake-up told, where it told
	// all and nothing can have been missed since. It is as good as a read for
	// whoever watches ref since before the call, and may be a message behind; it
	// leaves out ReanchoredAt. False where a read is needed.
	CachedView(ref Ref) (Snapshot, bool)

	// End removes the journey's coordinates, leaves a mark without any, and
	// wakes the watchers. Repeating it changes nothing, and so does ending a
	// journey older than the one known. With a journey that never started it
	// leaves the mark of one that is not there, so that readers have a
	// version to wait on.
	End(ctx context.Context, j Journey) error

	// Watch calls wake, which must not block, after every change to ref from
	// the moment Watch returns until stop is called; and also whenever changes
	// may have been missed. It says "look again": ask CachedView, or read.
	Watch(ctx context.Context, ref Ref, wake func()) (stop func(), err error)

	// Meta reads the parties of a session as last set; false when unknown.
	Meta(ctx context.Context, id ID) (Meta, bool, error)

	// SetMeta remembers the parties of a session for LiveOptions.LocationTTL.
	SetMeta(ctx context.Context, id ID, m Meta) error
}

// Verdict is what a live store did with a fix.
type Verdict int

// The verdicts, in the order of update.lua's return codes.
const (
	// VerdictUnknown: the store knows no such journey of this trainer.
	VerdictUnknown Verdict = iota
	// VerdictEnded: the journey has ended or had its hour.
	VerdictEnded
	// VerdictTooSoon: over the rate; Receipt.RetryAfter says by how much.
	VerdictTooSoon
	// VerdictStale: not newer than the live location; nothing written.
	VerdictStale
	// VerdictVague: too inaccurate to store; counts against the rate.
	VerdictVague
	// VerdictJump: too far in too short a time; counts against the rate, and
	// leaves what the judgement of the next fix needs.
	VerdictJump
	// VerdictSpeed: over the mode's limit; as VerdictJump.
	VerdictSpeed
	// VerdictCeiling: over what the mode can do at all; as VerdictJump.
	VerdictCeiling
	// VerdictStored: the fix is the live location now.
	VerdictStored
)

// String is the verdict's name in metrics.
func (v Verdict) String() string {
	names := [...]string{
		"unknown", "ended", "too_soon", "stale", "low_accuracy",
		"refused_jump", "refused_speed", "refused_ceiling", "stored",
	}
	if v < 0 || int(v) >= len(names) {
		return "invalid"
	}
	return names[v]
}

// Receipt is a store's answer to one fix. Fields past Verdict are set only
// where the comment says so; "judged" is every verdict from Stale on.
type Receipt struct {
	Verdict    Verdict
	At         time.Time     // judged, TooSoon: the store's clock
	RetryAfter time.Duration // TooSoon: until the next fix may come
	NextUpdate time.Duration // judged: when the phone should come back
	Version    int64         // judged: the journey's version
	TTL        time.Duration // judged: what the journey's hash has left
	Arriving   bool          // judged: the journey has reached the fence
	Flags      geo.Flags     // judged: what is odd about this fix
	Suspicions Suspicions    // judged: what was seen with this fix for the first time in its journey
	MovedM     float64       // Stored: the way from the fix before
	DistanceM  float64       // Stored: to the home
}

// Suspicions is a set of what a journey can be suspected of: the flags of its
// fixes, and the ways in which one was refused. Kept as the sum of its members.
type Suspicions uint32

// The refusals among the suspicions. The other members are geo.Flags.
const (
	SuspectSpeed   Suspicions = 512
	SuspectCeiling Suspicions = 1024
	SuspectJump    Suspicions = 2048
)

// Names lists the members by the name that an event's verdict has.
func (s Suspicions) Names() []string {
	if s == 0 {
		return nil // nearly always, and once an update
	}
	var names []string
	for _, f := range geo.AllFlags() {
		if s&Suspicions(f) != 0 {
			names = append(names, f.String())
		}
	}
	for _, r := range []struct {
		bit     Suspicions
		verdict Verdict
	}{{SuspectSpeed, VerdictSpeed}, {SuspectCeiling, VerdictCeiling}, {SuspectJump, VerdictJump}} {
		if s&r.bit != 0 {
			names = append(names, r.verdict.String())
		}
	}
	return names
}

// Location is a fix that was believed, and when. Its RecordedAt is the fix's
// own time: the phone's clock where that was sane, else At; Mock is not kept.
type Location struct {
	Fix
	// At is the store's clock at acceptance.
	At time.Time
}

// Snapshot is what a live store knows of a journey. A value, safe to keep.
type Snapshot struct {
	Known   bool
	Active  bool
	Version int64
	// Location is nil before the first fix and after the end.
	Location *Location
	// DistanceM is from Location to the home; meaningless without Location.
	DistanceM float64
	Arriving  bool
	// Pace is the smoothed speed that an ETA goes by.
	Pace Pace
	// ReanchoredAt is when the track last began anew; zero for never.
	ReanchoredAt time.Time
}

// Pace is a journey's smoothed speed over ground, in mm/s, and how many ms of
// journey it has seen, capped; see geo.ETA.
type Pace struct{ MMS, OverMS int64 }

// LiveOptions are the rules a live store applies. The zero value of a field
// means its default. Both implementations take the same.
type LiveOptions struct {
	RateInterval  time.Duration // 5 s between two fixes of one journey
	RateTolerance time.Duration // 1 s of GCRA tolerance
	LocationTTL   time.Duration // 300 s after the last accepted fix; also of marks and metas
	JourneyTTL    time.Duration // 1 h, the longest journey
	RadiusM       float64       // 150 m, the geofence around the home

	StaleAfter time.Duration // 5 min: a fix recorded earlier is stale

	LimitKMH   Speeds     // 120, 30, 15: see geo.Limits
	CeilingKMH Speeds     // 200, 60, 30
	Rules      geo.Limits // the rest of the limits, common to all modes
}

// Speeds is one speed a travel mode, km/h.
type Speeds struct{ Car, Bike, Walk float64 }

// Of is the speed of a mode.
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

// Limits are the limits of one mode.
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
		CatchUpMS:        cmp.Or(r.CatchUpMS, usual.CatchUpMS),
		GraceMS:          cmp.Or(r.GraceMS, usual.GraceMS),
		FutureMS:         cmp.Or(r.FutureMS, usual.FutureMS),
		ClockSkewMS:      cmp.Or(r.ClockSkewMS, usual.ClockSkewMS),
		Shadow:           r.Shadow,
	}
}
