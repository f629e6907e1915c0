package geo

// Clock is what a store knows of a phone's clock. Its zero value is a clock that
// agrees with the store's, which is believed until something says otherwise.
// Times are Unix ms. See docs/adr/0012-one-time-for-a-fix.md.
//
// Only what a fix says is used: recordedAt, the phone's clock at the position, and
// sentAt, the same clock at sending. With sentAt the age of a fix is known, however
// wrong the clock is. Without it a fix that was late and a clock that is slow look
// the same, so a slow clock is learnt from several fixes.
type Clock struct {
	OffsetMS int64 // store's clock less the phone's
	ToldMS   int64 // the offset that was last flagged; see Take
	SinceMS  int64 // store's clock: since when a learnt offset holds; 0 = not learnt

	// The candidate: an offset that the last fixes spoke for.
	CandidateMS int64 // the first fix's offset
	BeganMS     int64 // store's clock at the first fix; 0 = no candidate
	LastMS      int64 // the phone's clock at the last fix of the candidate
	Fixes       int64 // of the candidate, at most candidateFixes
}

// Times are what is said of one fix. Unix ms.
type Times struct {
	NowMS      int64 // store's clock
	RecordedMS int64 // phone's clock at the position; 0 = not said
	SentMS     int64 // phone's clock at sending; 0 = not said
	StartedMS  int64 // start of the journey
	First      bool  // the journey has no live fix
}

const (
	// clockStepMS is how much an offset must change to be a new clock, and to be
	// flagged. A mobile network delays a request by less.
	clockStepMS = 10_000
	// candidateMS is how closely the fixes of a candidate must agree. A backlog is
	// sent faster than it was recorded, so its offset falls from fix to fix.
	candidateMS = 2_000
	// candidateMinMS is how long a candidate must have lasted where its fixes cannot
	// be a backlog of this journey.
	candidateMinMS = 4_000
	// candidateMaxMS is how long it must have lasted otherwise, and of how many fixes.
	candidateMaxMS = 30_000
	candidateFixes = 3
	// backlogMS is how old a journey is at least whose phone may have a backlog.
	backlogMS = 10_000
	// networkMS is the most by which a network delays a request. Two requests that are
	// delayed by the same look like a clock that was set back, so a candidate with
	// sentAt within it must last as long, too.
	networkMS = 60_000
)

// Take returns when a fix was taken, by the store's clock and never after now, and
// what is then known of the phone's clock. It is step 2 of scripts/update.lua.
// setBack reports that the phone's clock was found to be further behind than
// believed: what it recorded before cannot be compared with what it records now.
// odd reports that the offset is more than clockStepMS from the one last flagged.
func (c Clock) Take(t Times, limits Limits) (takenMS int64, next Clock, setBack, odd bool) {
	if t.RecordedMS == 0 {
		return t.NowMS, c, false, false
	}
	offset := t.NowMS - t.RecordedMS
	if t.SentMS >= t.RecordedMS {
		offset = t.NowMS - t.SentMS
		next, setBack = c.sent(t, offset, limits.FutureMS)
	} else {
		next, setBack = c.unsent(t, offset, limits.FutureMS)
	}
	if off := next.OffsetMS - next.ToldMS; max(off, -off) > clockStepMS {
		next.ToldMS, odd = next.OffsetMS, true
	}
	return min(t.NowMS, t.RecordedMS+next.OffsetMS), next, setBack, odd
}

// sent learns from a fix with sentAt. offset is the offset that it speaks for,
// with the time that the network took.
func (c Clock) sent(t Times, offset, toleranceMS int64) (next Clock, setBack bool) {
	switch {
	case offset < c.OffsetMS-clockStepMS:
		return c.replaced(offset, 0), false
	case t.First && t.SentMS+c.OffsetMS < t.StartedMS-toleranceMS:
		return c.replaced(offset, 0), true // no request of this journey was sent before it
	case offset <= c.OffsetMS+clockStepMS:
		c.least(offset, toleranceMS)
		c.SinceMS = 0
		c.drop()
		return c, false
	case t.First && c.OffsetMS == 0:
		return c.replaced(offset, 0), true
	case !c.candidate(t.NowMS, t.SentMS, offset):
		return c, false
	case offset-c.OffsetMS > networkMS || c.held(t.NowMS):
		return c.replaced(min(offset, c.CandidateMS), 0), true
	default:
		return c, false
	}
}

// unsent learns from a fix without sentAt. offset is the offset that it speaks for,
// with its own age.
func (c Clock) unsent(t Times, offset, toleranceMS int64) (next Clock, setBack bool) {
	switch {
	case offset < c.OffsetMS-toleranceMS: // no fix comes from the future
		return c.replaced(offset, t.NowMS), false
	case offset <= c.OffsetMS+toleranceMS:
		c.least(offset, toleranceMS)
		c.drop()
		return c, false
	case !c.candidate(t.NowMS, t.RecordedMS, offset):
		return c, false
	}
	noBacklog := t.RecordedMS+c.OffsetMS < t.StartedMS-toleranceMS
	if noBacklog && t.NowMS-c.BeganMS >= candidateMinMS || c.held(t.NowMS) {
		return c.replaced(min(offset, c.CandidateMS), c.BeganMS), true
	}
	return c, false
}

// Unsure reports that the fix of t, which turned the clock before into this one, had no
// sentAt and seemed to come from the future, at a time when a phone may have a backlog.
// Of a backlog each fix seems to, and tells more of the clock. So it says nothing of the
// present; the first fix that agrees with the clock does.
func (c Clock) Unsure(before Clock, t Times, limits Limits) bool {
	return t.SentMS < t.RecordedMS && c.OffsetMS < before.OffsetMS-limits.FutureMS && t.NowMS-t.StartedMS > backlogMS
}

// candidate adds a fix to the candidate, and reports false where it begins a new one. The
// candidate's offset is its first fix's: compared with the last one's, the falling
// offsets of a backlog that is sent slowly would agree.
func (c *Clock) candidate(nowMS, phoneMS, offset int64) bool {
	off := offset - c.CandidateMS
	if c.BeganMS == 0 || phoneMS <= c.LastMS || max(off, -off) > candidateMS {
		c.CandidateMS, c.BeganMS, c.LastMS, c.Fixes = offset, nowMS, phoneMS, 1
		return false
	}
	c.LastMS, c.Fixes = phoneMS, min(candidateFixes, c.Fixes+1)
	return true
}

// held reports whether the candidate has lasted for as long as a network may look like
// a clock.
func (c Clock) held(nowMS int64) bool {
	return nowMS-c.BeganMS >= candidateMaxMS && c.Fixes >= candidateFixes
}

// least keeps the least offset seen, because a slow network is not a slow clock. A
// clock that agrees with the store's within the tolerance stays exactly that.
func (c *Clock) least(offset, toleranceMS int64) {
	if c.OffsetMS != 0 || offset < -toleranceMS {
		c.OffsetMS = min(c.OffsetMS, offset)
	}
}

func (c *Clock) drop() { c.CandidateMS, c.BeganMS, c.LastMS, c.Fixes = 0, 0, 0, 0 }

// replaced is the clock after a new offset.
func (c Clock) replaced(offset, sinceMS int64) Clock {
	return Clock{OffsetMS: offset, ToldMS: c.ToldMS, SinceMS: sinceMS}
}
