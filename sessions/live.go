package sessions

import (
	"context"
	"errors"
	"time"
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

	// Publish judges one fix and, when it is believed, makes it the live
	// location and wakes the watchers.
	Publish(ctx context.Context, ref Ref, fix Fix) (Receipt, error)

	// Latest reads a journey. Snapshot.Known is false when the store has
	// nothing of it: not started, expired, or the store lost its memory.
	Latest(ctx context.Context, ref Ref) (Snapshot, error)

	// End removes the journey's coordinates, leaves a mark without any, and
	// wakes the watchers. Repeating it changes nothing, and so does ending a
	// journey older than the one known. With a journey that never started it
	// leaves the mark of one that is not there, so that readers have a
	// version to wait on.
	End(ctx context.Context, j Journey) error

	// Watch calls wake, which must not block, after every change to ref from
	// the moment Watch returns until stop is called; and also whenever changes
	// may have been missed. A wake carries nothing: read again.
	Watch(ctx context.Context, ref Ref, wake func()) (stop func(), err error)

	// Meta reads the parties of a session as last set; false when unknown.
	Meta(ctx context.Context, id ID) (Meta, bool, error)

	// SetMeta remembers the parties of a session for LiveOptions.LocationTTL.
	SetMeta(ctx context.Context, id ID, m Meta) error
}

// Verdict is what a live store did with a fix.
type Verdict int

// The verdicts, in the order in which they are decided.
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
	// VerdictJump: too far in too short a time; counts against the rate.
	VerdictJump
	// VerdictSpeed: implies a speed over the mode's; counts against the rate.
	VerdictSpeed
	// VerdictStored: the fix is the live location now.
	VerdictStored
)

// String is the verdict's name in metrics.
func (v Verdict) String() string {
	names := [...]string{"unknown", "ended", "too_soon", "stale", "low_accuracy", "implausible_jump", "implausible_speed", "stored"}
	if v < 0 || int(v) >= len(names) {
		return "invalid"
	}
	return names[v]
}

// Receipt is a store's answer to one fix. Fields past Verdict are set only
// where the comment says so.
type Receipt struct {
	Verdict    Verdict
	At         time.Time     // every verdict from TooSoon on: the store's clock
	RetryAfter time.Duration // TooSoon: until the next fix may come
	NextUpdate time.Duration // Stale, Vague, Stored: when the phone should come back
	Version    int64         // Stored, Vague, Stale: the journey's version
	TTL        time.Duration // Stored, Vague, Stale: what the journey's hash has left
	DistanceM  float64       // Stored: to the home
	Arriving   bool          // Stale, Vague, Stored: a fix of this journey was inside the fence
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
}

// LiveOptions are the rules a live store applies. The zero value of a field
// means its default. Both implementations take the same.
type LiveOptions struct {
	RateInterval  time.Duration // 5 s between two fixes of one journey
	RateTolerance time.Duration // 1 s of GCRA tolerance
	LocationTTL   time.Duration // 300 s after the last accepted fix; also of marks and metas
	JourneyTTL    time.Duration // 1 h, the longest journey
	RadiusM       float64       // 150 m, the geofence around the home

	MaxSpeedCarKMH  float64 // 120
	MaxSpeedBikeKMH float64 // 30
	MaxSpeedWalkKMH float64 // 15
	MaxJumpM        float64 // 1000 m within JumpWindow
	JumpWindow      time.Duration
	VagueM          float64 // 200 m: an accuracy worse than that is not stored
	FutureTolerance time.Duration
	StaleAfter      time.Duration
}

// WithDefaults fills the zero fields.
func (o LiveOptions) WithDefaults() LiveOptions {
	setDuration(&o.RateInterval, 5*time.Second)
	setDuration(&o.RateTolerance, time.Second)
	setDuration(&o.LocationTTL, 300*time.Second)
	setDuration(&o.JourneyTTL, time.Hour)
	setDuration(&o.JumpWindow, 5*time.Second)
	setDuration(&o.FutureTolerance, 2*time.Second)
	setDuration(&o.StaleAfter, 5*time.Minute)
	setFloat(&o.RadiusM, 150)
	setFloat(&o.MaxSpeedCarKMH, 120)
	setFloat(&o.MaxSpeedBikeKMH, 30)
	setFloat(&o.MaxSpeedWalkKMH, 15)
	setFloat(&o.MaxJumpM, 1000)
	setFloat(&o.VagueM, 200)
	return o
}

// MaxSpeedKMH is the limit of one mode.
func (o LiveOptions) MaxSpeedKMH(m Mode) float64 {
	switch m {
	case Bike:
		return o.MaxSpeedBikeKMH
	case Walk:
		return o.MaxSpeedWalkKMH
	default:
		return o.MaxSpeedCarKMH
	}
}

func setDuration(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

func setFloat(f *float64, v float64) {
	if *f == 0 {
		*f = v
	}
}
