package geo

// What is odd about a fix without refuting it. None of these refuses; a
// journey that has them is reported.

const (
	// frozenMS at one place to the centimetre is flagged. Receivers do hold a
	// parked car still, so it takes this long, unless the receiver itself says
	// that it moves.
	frozenMS       = 100_000
	frozenMovingMS = 14_000
	movingKMH      = 10

	// mismatchLegs in a row make a contradiction; recordings of honest phones
	// have single ones.
	mismatchLegs = 3
	// mismatchKMH, beside a factor of two, is what accelerating and braking
	// within one leg may explain.
	mismatchKMH = 20
	// mismatchLegMS is the longest leg whose end tells about its middle.
	mismatchLegMS = 30_000

	// markMS is the span of the long look: over a minute the doubt of two
	// accuracies, worth 36 km/h at 5 s, shrinks to 3 km/h.
	markMS = 60_000
	// repeatDM is how far the leg back to exactly one place must be; the
	// positions of a standing phone do repeat.
	repeatDM = 50
)

// ownWord flags what the fix says against itself.
func ownWord(fix Fix, limits Limits, nowMS int64) Flags {
	var flags Flags
	if fix.Mock {
		flags |= FlagMock
	}
	if off := nowMS - fix.RecordedMS; fix.RecordedMS > 0 && max(off, -off) > limits.ClockSkewMS {
		flags |= FlagClock
	}
	return flags
}

// suspect compares an accepted fix with the track it continues, and counts.
func (t *Track) suspect(way leg, next Sighting, fix Fix) Flags {
	return t.compareSpeed(way, fix) | t.comparePlace(way, next, fix)
}

// compareSpeed counts legs that the receiver's own speed contradicts.
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

// contradicts reports whether a leg cannot have ended at kmh: at the slowest it
// was far faster, or at the fastest far slower.
func (l leg) contradicts(kmh float64) bool {
	longest := leg{reachDM: 2*l.distanceDM - l.reachDM, ms: l.ms}
	return l.over(2*kmh+mismatchKMH) || kmh > mismatchKMH && !longest.over((kmh-mismatchKMH)/2)
}

// comparePlace flags a place that is too exactly the same.
func (t *Track) comparePlace(way leg, next Sighting, fix Fix) Flags {
	if next.Point != t.Last.Point {
		t.StillMS = 0
		if next.Point == t.Mark.Point && way.distanceDM >= repeatDM {
			return FlagRepeated
		}
		return 0
	}
	if t.StillMS == 0 {
		t.StillMS = t.Last.AtMS
	}
	stillMS := next.AtMS - t.StillMS
	kmh, _ := fix.SpeedKMH.Get()
	if stillMS >= frozenMS || stillMS >= frozenMovingMS && kmh >= movingKMH {
		return FlagFrozen
	}
	return 0
}

// passMark looks back over a minute, and sets the next mark. Small steps that
// each hide in the accuracies add up here, and so do small steps of a clock.
func (t *Track) passMark(next Sighting, limits Limits) Flags {
	if next.AtMS-t.Mark.AtMS < markMS {
		return 0
	}
	way := t.Mark.legTo(next, limits)
	t.Mark = next
	t.keepPace(way)
	var flags Flags
	if way.aheadMS > limits.CatchUpMS {
		flags |= FlagClock
	}
	if way.over(limits.LimitKMH) {
		flags |= FlagFast
	}
	if way.over(limits.CeilingKMH) {
		flags |= FlagReanchored
	}
	return flags
}
