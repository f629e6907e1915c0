package geo

// Ruling is Judge's answer.
type Ruling struct {
	Verdict Verdict
	Flags   Flags
}

// Judge decides whether a fix continues a track, and returns the track that
// follows. It is a pure function and the specification of its twin in
// scripts/update.lua. Order and rate have been decided before it; nowMS is the
// store's clock. The fix's point must be valid. A third of a microsecond, most
// of it one haversine.
//
// Three stories compete: the track so far, a rival that refused fixes told, and
// the fix. A fix within the limit of the track continues it. One that is not is
// refused and becomes the rival; one that agrees with the rival adds its vote,
// and enough votes make the rival the track. So an honest phone is refused
// twice in a row at most, whatever the track was, and a fake that jumps is
// refused or flagged at its first fix.
func Judge(track Track, fix Fix, limits Limits, nowMS int64) (Ruling, Track) {
	next := sight(fix, nowMS, limits)
	flags := ownWord(fix, limits, nowMS)
	if next.AccuracyDM > decimetres(limits.VagueM) {
		if !limits.Shadow.LowAccuracy {
			return Ruling{IgnoredLowAccuracy, flags}, track
		}
		flags |= FlagShadow
	}
	if !track.Last.Point.Valid() {
		more, begun := track.start(next)
		return Ruling{Accepted, flags | more}, begun
	}
	way := track.Last.legTo(next, limits)
	verdict, more := track.weigh(way, next, limits)
	flags |= more
	if verdict != Accepted {
		return Ruling{verdict, flags}, track.refuse(next, limits)
	}
	flags |= track.suspect(way, next, fix)
	flags, track = track.follow(next, flags, limits)
	return Ruling{Accepted, flags}, track
}

// start is the track of a first fix. There is nothing to doubt it by; after a
// loss (see Restored) it counts as a re-anchor.
func (t Track) start(next Sighting) (Flags, Track) {
	begun := Track{Last: next, Mark: next}
	if t.ReanchoredMS == 0 {
		return 0, begun
	}
	begun.ReanchoredMS = next.AtMS
	return FlagReanchored, begun
}

// weigh is the verdict on a fix that has a track to continue.
func (t Track) weigh(way leg, next Sighting, limits Limits) (Verdict, Flags) {
	var flags Flags
	if way.aheadMS > limits.CatchUpMS {
		flags = FlagClock
	}
	if !way.over(limits.LimitKMH) {
		if way.ms > limits.BankMS && way.lasting(limits.BankMS).over(limits.LimitKMH) {
			flags |= FlagSilence
		}
		return Accepted, flags
	}
	if believed := t.believe(way, next, limits); believed != 0 {
		return Accepted, flags | believed
	}
	verdict := way.refusal(limits)
	if limits.Shadow.passes(verdict) {
		return Accepted, flags | FlagShadow
	}
	return verdict, flags
}

// believe is why a fix over the limit is let through, or 0.
func (t Track) believe(way leg, next Sighting, limits Limits) Flags {
	fast := !way.over(limits.CeilingKMH)
	switch {
	case fast && (t.inGrace(next, limits) || t.paceExplains(way, limits)):
		return way.fastFlags()
	case t.thawed(way, limits):
		return FlagSilence
	case t.Votes == 0 || t.Rival.legTo(next, limits).over(limits.CeilingKMH):
		return 0
	case fast && t.Votes < veteran:
		return t.seconded(limits)
	case enough(t.Votes+1, next.AtMS-t.Rival.AtMS):
		return FlagReanchored
	default:
		return 0
	}
}

// fastFlags adds a doubt to a fast leg that nobody watched for a while: at 180
// km/h a silence of 25 s is a kilometre, and may end at a door.
func (l leg) fastFlags() Flags {
	if l.ms >= witnessMS {
		return FlagFast | FlagSilence
	}
	return FlagFast
}

// inGrace reports whether fast driving was believed less than GraceMS ago.
func (t Track) inGrace(next Sighting, limits Limits) bool {
	return t.FastMS > 0 && next.AtMS-t.FastMS < limits.GraceMS
}

// rampMS is how long it takes from the limit to the ceiling: 2.8 m/s² by car
// (0 to 100 in 10 s), 1.0 by bike, 0.5 on foot.
const rampMS = 8_000

// paceExplains reports whether the journey's own pace leads to this speed: a
// car at 110 may be at 130 five seconds on, one in traffic may not. The pace is
// the smoothed one or that since the mark, whichever is higher.
func (t Track) paceExplains(way leg, limits Limits) bool {
	since := t.Mark.legTo(t.Last, limits)
	paceKMH := max(float64(t.PaceMMS)*36/10_000, float64(since.distanceDM*360)/float64(since.ms))
	gainKMH := (limits.CeilingKMH - limits.LimitKMH) * float64(way.ms) / rampMS
	return paceKMH > 0 && !way.over(paceKMH+gainKMH)
}

// thawed reports whether a position that had not moved by a centimetre caught
// up: receivers repeat their last place until they have a new one, so the time
// since it was new counts, as silence would, up to BankMS. A jump stays a jump.
func (t Track) thawed(way leg, limits Limits) bool {
	if t.StillMS == 0 || way.refusal(limits) == RefusedJump {
		return false
	}
	still := way.ms + max(0, t.Last.AtMS-t.StillMS)
	return !way.lasting(max(way.ms, min(still, limits.BankMS))).over(limits.LimitKMH)
}

// seconded is for a fix under the ceiling that the last refused one supports.
// If the track and the refused one are under it too, all three agree, and it
// was fast driving; else the track was wrong.
func (t Track) seconded(limits Limits) Flags {
	if t.Last.legTo(t.Rival, limits).over(limits.CeilingKMH) {
		return FlagReanchored
	}
	return FlagFast
}

const (
	// veteran is how many fixes must agree to overthrow a track. A track that
	// was overthrown keeps that many votes, so that if the rival was the
	// glitch after all, the first fix back on the old track restores it.
	veteran = 3
	// veteranMS is how long that lasts.
	veteranMS = 120_000
	// witnessMS apart, two fixes are worth three: they have agreed for longer
	// than three at the usual 5 s. Without this a phone that reports every
	// 30 s, as one in a pocket does, would be refused for over a minute.
	witnessMS = 15_000
)

func enough(votes, apartMS int64) bool {
	return votes >= veteran || votes == 2 && apartMS >= witnessMS
}

// refusal names the rule that an unbelieved leg breaks.
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

// refuse is the track after a refusal: the fix becomes the rival, or speaks for
// it.
func (t Track) refuse(next Sighting, limits Limits) Track {
	if t.Votes > 0 && !t.Rival.legTo(next, limits).over(limits.CeilingKMH) {
		t.Votes++
	} else {
		t.Votes = 1
	}
	t.Rival = next
	return t
}

// follow is the track after an acceptance, and its flags with those of the long
// look back.
func (t Track) follow(next Sighting, flags Flags, limits Limits) (Flags, Track) {
	if flags.Has(FlagReanchored) {
		t.Rival, t.Votes = t.Last, veteran
		t.PaceMMS, t.PacedMS, t.StillMS, t.Mark = 0, 0, 0, next
	} else {
		t.dropRival(next)
		flags |= t.passMark(next, limits)
	}
	if flags&(FlagReanchored|FlagSilence) != 0 {
		t.ReanchoredMS = next.AtMS
	}
	if flags.Has(FlagFast) {
		t.FastMS = next.AtMS
	}
	t.Last = next
	return flags, t
}

// dropRival forgets the rival once the track goes on without it: a veteran
// after a while, any other at once, because only fixes in a row may vote.
func (t *Track) dropRival(next Sighting) {
	if t.Votes > 0 && (t.Votes < veteran || next.AtMS-t.Rival.AtMS > veteranMS) {
		t.Rival, t.Votes = Sighting{}, 0
	}
}
