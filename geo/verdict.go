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
	// IgnoredNoPosition: the point 0,0, which is what a phone sends that has none.
	IgnoredNoPosition Verdict = "ignored_no_position"
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
	// FlagClock: the phone's clock is over 10 s off, or was set. A clock, and no
	// fraud: once for each new offset. Clock.Take raises it, and not Judge.
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
)

// FlagFirstFixReplaced says that the first fix of the track contradicted this one, which
// took its place. 512 to 2048 are taken by the refusals of sessions.Suspicions.
const FlagFirstFixReplaced Flags = 4096

// flagNames are the names in the order of AllFlags.
var flagNames = [...]string{"fast", "reanchored", "silence", "odd_clock", "mismatch", "frozen", "repeated", "mock", "shadow", "first_fix_replaced"}

// AllFlags returns the closed list, for counters that are made in advance.
func AllFlags() []Flags {
	all := make([]Flags, 0, len(flagNames))
	for f := FlagFast; f <= FlagShadow; f <<= 1 {
		all = append(all, f)
	}
	return append(all, FlagFirstFixReplaced)
}

// Has reports whether every flag of want is in f.
func (f Flags) Has(want Flags) bool { return f&want == want }

// String joins the names with "|"; it is empty for no flag.
func (f Flags) String() string {
	var names []string
	if f != 0 {
		for i, one := range AllFlags() {
			if f.Has(one) {
				names = append(names, flagNames[i])
			}
		}
	}
	return strings.Join(names, "|")
}
