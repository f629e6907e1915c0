package geo

import "strings"

// Verdict is what Judge decided about one fix. Each name begins with accepted,
// ignored or refused.
type Verdict string

// The closed list of verdicts.
const (
	// Accepted: the fix is the live location.
	Accepted Verdict = "accepted"
	// IgnoredLowAccuracy: too inaccurate to show or to judge by; the track stays
	// as it is.
	IgnoredLowAccuracy Verdict = "ignored_low_accuracy"
	// RefusedSpeed: over the mode's limit, below its ceiling.
	RefusedSpeed Verdict = "refused_speed"
	// RefusedCeiling: faster than the mode can physically go.
	RefusedCeiling Verdict = "refused_ceiling"
	// RefusedJump: over the ceiling, and more than JumpM in JumpMS.
	RefusedJump Verdict = "refused_jump"
)

// IsRefused reports whether the fix was refused. The phone then gets an error
// answer.
func (v Verdict) IsRefused() bool { return strings.HasPrefix(string(v), "refused") }

// Flags is what is odd about a fix that was not refused for it: a set, kept as
// the sum of its members.
type Flags uint16

// The closed list of flags. Their numbers are stored and sent: never reuse one.
const (
	// FlagFast: over the mode's limit, and believed because the fixes agree.
	FlagFast Flags = 1 << iota
	// FlagReanchored: the track did not lead here; see Track.ReanchoredMS.
	FlagReanchored
	// FlagSilence: plausible only if the phone moved during the whole of a silence,
	// or of a time in which its position did not change. An arrival has to wait, as
	// after a re-anchor.
	FlagSilence
	// FlagClock: the phone's clock is a minute off, or ran ahead of the store's.
	FlagClock
	// FlagMismatch: the receiver's own speed contradicts the positions, three
	// fixes in a row.
	FlagMismatch
	// FlagFrozen: the clock moves and the position does not, to the centimetre.
	FlagFrozen
	// FlagRepeated: exactly where it was up to a minute ago, after having been
	// elsewhere.
	FlagRepeated
	// FlagMock: the phone itself says that the position is simulated.
	FlagMock
	// FlagShadow: a rule in shadow mode would have refused this fix.
	FlagShadow
	flagEnd
)

var flagNames = [...]string{"fast", "reanchored", "silence", "clock", "mismatch", "frozen", "repeated", "mock", "shadow"}

// AllFlags returns the closed list, for counters that are made in advance.
func AllFlags() []Flags {
	var all []Flags
	for f := FlagFast; f < flagEnd; f <<= 1 {
		all = append(all, f)
	}
	return all
}

// Has reports whether every flag of want is in f.
func (f Flags) Has(want Flags) bool { return f&want == want }

// String joins the names with "|"; it is empty for no flag.
func (f Flags) String() string {
	var names []string
	for i, name := range flagNames {
		if f.Has(1 << i) {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}
