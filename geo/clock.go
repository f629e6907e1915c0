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
	// candidateMaxMS is how long it must have lasted otherwise.
	candidateMaxMS = 30_000
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
	case offset <= c.OffsetMS+clockStepMS:
		c.least(offset, toleranceMS)
		c.SinceMS = 0
		c.drop()
		return c, false
	case t.First && c.OffsetMS == 0 || t.SentMS+c.OffsetMS < t.StartedMS:
		return c.replaced(offset, 0), true // a late request of this journey cannot say that
	case c.continues(t.SentMS, offset):
		return c.replaced(min(offset, c.CandidateMS), 0), true
	default:
		c.CandidateMS, c.BeganMS, c.LastMS = offset, t.NowMS, t.SentMS
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
	case !c.continues(t.RecordedMS, offset):
		c.CandidateMS, c.BeganMS, c.LastMS = offset, t.NowMS, t.RecordedMS
		return c, false
	}
	c.LastMS = t.RecordedMS
	lasted := t.NowMS - c.BeganMS
	noBacklog := t.RecordedMS+c.OffsetMS < t.StartedMS-toleranceMS
	if lasted >= candidateMaxMS || noBacklog && lasted >= candidateMinMS {
		return c.replaced(min(offset, c.CandidateMS), c.BeganMS), true
	}
	return c, false
}

// continues reports whether a fix speaks for the candidate, too. The candidate's
// offset is its first fix's: compared with the last one's, the falling offsets of a
// backlog that is sent slowly would agree.
func (c Clock) continues(phoneMS, offset int64) bool {
	off := offset - c.CandidateMS
	return c.BeganMS > 0 && phoneMS > c.LastMS && max(off, -off) <= candidateMS
}

// least keeps the least offset seen, because a slow network is not a slow clock. A
// clock that agrees with the store's within the tolerance stays exactly that.
func (c *Clock) least(offset, toleranceMS int64) {
	if c.OffsetMS != 0 || offset < -toleranceMS {
		c.OffsetMS = min(c.OffsetMS, offset)
	}
}

func (c *Clock) drop() { c.CandidateMS, c.BeganMS, c.LastMS = 0, 0, 0 }

// replaced is the clock after a new offset.
func (c Clock) replaced(offset, sinceMS int64) Clock {
	return Clock{OffsetMS: offset, ToldMS: c.ToldMS, SinceMS: sinceMS}
}
