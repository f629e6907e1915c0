package geo

// Ruling is Judge's answer.
type Ruling struct {
	Verdict Verdict
	Flags   Flags
}

// Judge decides whether a fix continues a track, and returns the track that
// follows. It is a pure function, and the specification of steps 4 to 12 of
// scripts/update.lua, its twin; steps 1 to 3, the order and the rate among them,
// have been decided before. nowMS is the store's clock, Unix ms: a re-anchor is
// kept by it, everything else by when the fix was taken. The fix's point
// must be valid. It takes a third of a microsecond, most of it for one haversine.
//
// Three things are compared: the track so far, the rival track of the refused
// fixes, and the fix. A fix within the limit of the track continues it. A fix
// over the limit is refused and becomes the rival. A fix that agrees with the
// rival adds a vote, and with enough votes the rival replaces the track. So an
// honest phone is refused twice in a row at most, whatever the track was; and a
// fake that jumps is refused or flagged at its first fix.
func Judge(track Track, fix Fix, limits Limits, nowMS int64) (Ruling, Track) {
	// Step 4: the fix as a track point, and the track so far.
	next := trackPoint(fix)

	// Step 5: what is suspicious about the fix alone.
	flags := selfReported(fix)

	// Step 6: no position, or a vague one.
	if fix.Point.Nowhere() {
		return Ruling{IgnoredNoPosition, flags}, track
	}
	if next.AccuracyDM > decimetres(limits.VagueM) {
		if !limits.Shadow.LowAccuracy {
			return Ruling{IgnoredLowAccuracy, flags}, track
		}
		flags |= FlagShadow
	}

	// Step 7: a first fix begins a track.
	if !track.Last.Point.Valid() {
		more, begun := track.begin(next, nowMS)
		return Ruling{Accepted, flags | more}, begun
	}

	// Steps 8 and 9.
	way := track.Last.legTo(next, limits)
	if track.Guess == guessFirst && way.over(limits.LimitKMH) {
		return Ruling{Accepted, flags | FlagFirstFixReplaced}, track.replaceFirst(next)
	}
	verdict, more := track.weigh(way, next, limits)
	flags |= more

	// Step 10: the refusal.
	if verdict != Accepted {
		return Ruling{verdict, flags}, track.refuse(next, limits)
	}

	// Step 11: what is odd about a fix that is believed.
	flags |= track.compareSpeed(way, fix) | track.comparePlace(way, next, fix)

	// Step 12: the track that follows.
	flags, track = track.follow(next, flags, limits, nowMS)
	return Ruling{Accepted, flags}, track
}

// selfReported is step 5.
func selfReported(fix Fix) Flags {
	if fix.Mock {
		return FlagMock
	}
	return 0
}

// begin is step 7. There is nothing to compare the fix with, so it is a guess.
// After a loss (see Restored) it counts as a re-anchor.
func (t Track) begin(next TrackPoint, nowMS int64) (Flags, Track) {
	begun := Track{Last: next, Anchor: next, Guess: guessFirst}
	if t.ReanchoredMS == 0 {
		return 0, begun
	}
	begun.ReanchoredMS = nowMS
	return FlagReanchored, begun
}

// The states of Track.Guess that are not confirmed.
const (
	guessFirst    = 2
	guessReplaced = 1
)

// replaceFirst begins the track anew with a fix that contradicts the first one.
// Receivers send a position from another city, from a cache, before the true one.
// It happens once in a track, so that two guesses in turn do not teleport. It is
// no re-anchor, and it does not end the wait of one.
func (t Track) replaceFirst(next TrackPoint) Track {
	return Track{Last: next, Anchor: next, Guess: guessReplaced, ReanchoredMS: t.ReanchoredMS}
}

// weigh decides whether a fix is believed that has a track to continue.
func (t Track) weigh(way leg, next TrackPoint, limits Limits) (Verdict, Flags) {
	// Step 8: the speed limit of the mode.
	if !way.over(limits.LimitKMH) {
		if way.ms > limits.BankMS && way.taking(limits.BankMS).over(limits.LimitKMH) {
			return Accepted, FlagSilence
		}
		return Accepted, 0
	}

	// Step 9: why a fix over the limit may be believed.
	if believed := t.believe(way, next, limits); believed != 0 {
		return Accepted, believed
	}
	verdict := way.refusal(limits)
	if limits.Shadow.passes(verdict) {
		return Accepted, FlagShadow
	}
	return verdict, 0
}

// believe returns the flags of a fix over the limit that is believed, or 0.
func (t Track) believe(way leg, next TrackPoint, limits Limits) Flags {
	under := !way.over(limits.CeilingKMH)
	switch {
	case under && (t.inGrace(next, limits) || t.paceExplains(way, limits)):
		return way.fastFlags()
	case t.caughtUp(way, limits):
		return FlagSilence
	case t.Votes == 0 || t.Rival.legTo(next, limits).over(limits.CeilingKMH):
		return 0
	case under && t.Votes < votesToReplace:
		return t.agreedFlags(limits)
	case enoughVotes(t.Votes+1, next.TakenMS-t.Rival.TakenMS):
		return FlagReanchored
	default:
		return 0
	}
}

// fastFlags are those of a believed fast leg. A leg of longGapMS is also flagged
// as silence: at 180 km/h a silence of 25 s is a kilometre, and may end at a
// door.
func (l leg) fastFlags() Flags {
	if l.ms >= longGapMS {
		return FlagFast | FlagSilence
	}
	return FlagFast
}

// inGrace reports whether fast driving was believed less than GraceMS ago.
func (t Track) inGrace(next TrackPoint, limits Limits) bool {
	return t.FastMS > 0 && next.TakenMS-t.FastMS < limits.GraceMS
}

// rampMS is how long a vehicle takes to accelerate from the limit to the
// ceiling: 2.8 m/s² by car (0 to 100 km/h in 10 s), 1.0 by bike, 0.5 on foot.
const rampMS = 8_000

// paceExplains reports whether the journey's own pace leads to this speed: a
// car at 110 km/h may be at 130 five seconds later, one in traffic may not. The
// pace is the smoothed one or that since the anchor, whichever is higher. One
// mm/s is 36/10,000 km/h.
func (t Track) paceExplains(way leg, limits Limits) bool {
	since := t.Anchor.legTo(t.Last, limits)
	paceKMH := max(float64(t.PaceMMS)*36/10_000, float64(since.distanceDM*kmhPerDMMS)/float64(since.ms))
	gainKMH := (limits.CeilingKMH - limits.LimitKMH) * float64(way.ms) / rampMS
	return paceKMH > 0 && !way.over(paceKMH+gainKMH)
}

// caughtUp reports whether a position that had not moved by a centimetre has
// caught up. Receivers repeat their last position until they have a new one, so
// the time since it was new counts as silence does, up to BankMS. A jump stays a
// jump.
func (t Track) caughtUp(way leg, limits Limits) bool {
	if t.StillMS == 0 || way.refusal(limits) == RefusedJump {
		return false
	}
	still := way.ms + max(0, t.Last.TakenMS-t.StillMS)
	return !way.taking(max(way.ms, min(still, limits.BankMS))).over(limits.LimitKMH)
}

// agreedFlags are those of a fix under the ceiling that agrees with the rival,
// the last refused fix. If the rival is under the ceiling from the track, too,
// all three agree, and it was fast driving; otherwise the track was wrong.
func (t Track) agreedFlags(limits Limits) Flags {
	if t.Last.legTo(t.Rival, limits).over(limits.CeilingKMH) {
		return FlagReanchored
	}
	return FlagFast
}

const (
	// votesToReplace is how many fixes must agree to replace a track. The replaced
	// track becomes the rival with as many votes. So if the fixes that replaced it
	// were wrong after all, the first fix back on it restores it.
	votesToReplace = 3
	// replacedTrackMS is how long a replaced track is kept as the rival.
	replacedTrackMS = 120_000
	// longGapMS is a gap of three usual intervals of 5 s. Two fixes so far apart
	// count as three, because they have agreed for longer than three in a row.
	// Without this a phone that reports every 30 s, as one in a pocket does, would
	// be refused for over a minute.
	longGapMS = 15_000
)

// enoughVotes reports whether this number of votes replaces the track.
// apartMS is the time between the last two votes.
func enoughVotes(votes, apartMS int64) bool {
	return votes >= votesToReplace || votes == 2 && apartMS >= longGapMS
}

// refusal returns the rule that a leg breaks which is not believed. One m/ms is
// 3,600 km/h.
func (l leg) refusal(limits Limits) Verdict {
	jumpKMH := limits.JumpM * 3600 / float64(limits.JumpMS)
	switch {
	case !l.over(limits.CeilingKMH):
		return RefusedSpeed
	case float64(l.reachDM) > limits.JumpM*10 && l.over(jumpKMH):
		return RefusedJump
	default:
		return RefusedCeiling
	}
}

// refuse is step 10: the fix becomes the rival, or votes for it.
func (t Track) refuse(next TrackPoint, limits Limits) Track {
	if t.Votes > 0 && !t.Rival.legTo(next, limits).over(limits.CeilingKMH) {
		t.Votes++
	} else {
		t.Votes = 1
	}
	t.Rival = next
	return t
}

// Step 11 flags what is odd about a fix and does not refute it. Nothing here
// refuses; a journey with such flags is reported.
const (
	// mismatchLegs in a row are a contradiction. Recordings of honest phones have
	// single ones.
	mismatchLegs = 3
	// mismatchKMH, beside a factor of two, is what accelerating and braking within
	// one leg may explain.
	mismatchKMH = 20
	// mismatchLegMS is the longest leg whose end says something about its middle: two
	// fixes at the rate, and some delay. A phone that was told 15 or 25 s may have stood
	// at a light, or have started to move, within one.
	mismatchLegMS = 12_000

	// frozenMS at one position, to the centimetre, is flagged. Receivers do repeat
	// the position of a parked car, so it takes this long, unless the receiver
	// itself says that it moves.
	frozenMS = 100_000
	// frozenMovingMS is the same for a receiver that reports movingKMH or more.
	frozenMovingMS = 14_000
	movingKMH      = 10

	// repeatDM is how long the leg back to exactly one position must be, because
	// the positions of a standing phone do repeat.
	repeatDM = 50
)

// compareSpeed counts the legs in a row that the receiver's own speed
// contradicts.
func (t *Track) compareSpeed(way leg, fix Fix) Flags {
	kmh, known := fix.SpeedKMH.Get()
	if !known || way.ms > mismatchLegMS || !way.contradicts(kmh) {
		t.Mismatches = 0
		return 0
	}
	if t.Mismatches = min(t.Mismatches+1, mismatchLegs); t.Mismatches < mismatchLegs {
		return 0
	}
	return FlagMismatch
}

// contradicts reports whether a leg cannot have ended at kmh: its lowest
// possible speed is far higher, or its highest possible speed is far lower.
func (l leg) contradicts(kmh float64) bool {
	longest := leg{reachDM: 2*l.distanceDM - l.reachDM, ms: l.ms}
	return l.over(2*kmh+mismatchKMH) || kmh > mismatchKMH && !longest.over((kmh-mismatchKMH)/2)
}

// comparePlace flags a position that is too exactly the same as an earlier one.
func (t *Track) comparePlace(way leg, next TrackPoint, fix Fix) Flags {
	if next.Point != t.Last.Point {
		t.StillMS = 0
		if next.Point == t.Anchor.Point && way.distanceDM >= repeatDM {
			return FlagRepeated
		}
		return 0
	}
	if t.StillMS == 0 {
		t.StillMS = t.Last.TakenMS
	}
	stillMS := next.TakenMS - t.StillMS
	kmh, _ := fix.SpeedKMH.Get()
	if stillMS >= frozenMS || stillMS >= frozenMovingMS && kmh >= movingKMH {
		return FlagFrozen
	}
	return 0
}

// follow is step 12. It returns the track after an accepted fix, and the flags
// with those of lookBack.
func (t Track) follow(next TrackPoint, flags Flags, limits Limits, nowMS int64) (Flags, Track) {
	t.Guess = 0
	if flags.Has(FlagReanchored) {
		t.Rival, t.Votes = t.Last, votesToReplace
		t.PaceMMS, t.PacedMS, t.StillMS, t.Anchor = 0, 0, 0, next
	} else {
		t.dropRival(next)
		flags |= t.lookBack(next, limits)
	}
	if flags&(FlagReanchored|FlagSilence) != 0 {
		t.ReanchoredMS = nowMS
	}
	if flags.Has(FlagFast) {
		t.FastMS = next.TakenMS
	}
	t.Last = next
	return flags, t
}

// dropRival forgets the rival when the track goes on without it: a replaced
// track after a while, any other at once, because only fixes in a row may vote.
func (t *Track) dropRival(next TrackPoint) {
	if t.Votes > 0 && (t.Votes < votesToReplace || next.TakenMS-t.Rival.TakenMS > replacedTrackMS) {
		t.Rival, t.Votes = TrackPoint{}, 0
	}
}

// anchorMS is how far lookBack looks back. Over a minute the doubt of two
// accuracies, worth 36 km/h at 5 s, shrinks to 3 km/h.
const anchorMS = 60_000

// lookBack compares the fix with the anchor once a minute, and sets the next
// anchor. Small steps that each hide in the accuracies add up here.
func (t *Track) lookBack(next TrackPoint, limits Limits) Flags {
	if next.TakenMS-t.Anchor.TakenMS < anchorMS {
		return 0
	}
	way := t.Anchor.legTo(next, limits)
	t.Anchor = next
	t.smoothPace(way)
	var flags Flags
	if way.over(limits.LimitKMH) {
		flags |= FlagFast
	}
	if way.over(limits.CeilingKMH) {
		flags |= FlagReanchored
	}
	return flags
}
