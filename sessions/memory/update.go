package memory

import (
	"context"
	"time"

	"doorstep/geo"
	"doorstep/sessions"
)

// Update implements sessions.Live. Its steps are those of update.lua, in the same
// order and with the same numbers; steps 4 to 12 are in geo.Judge.
func (m *Live) Update(_ context.Context, ref sessions.Ref, fix sessions.Fix) (sessions.Receipt, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.update(ref, fix), nil
}

// UpdateAll implements sessions.Live.
func (m *Live) UpdateAll(_ context.Context, ref sessions.Ref, fixes []sessions.Fix) ([]sessions.Receipt, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return sessions.OneByOne(fixes, func(fix sessions.Fix) (sessions.Receipt, error) { return m.update(ref, fix), nil })
}

func (m *Live) update(ref sessions.Ref, fix sessions.Fix) sessions.Receipt {
	// Step 1: the journey runs.
	now := m.clock()
	t := m.find(ref, now)
	switch {
	case t == nil:
		return sessions.Receipt{Verdict: sessions.VerdictUnknown}
	case t.ended, now >= t.startedMS+m.opts.JourneyTTL.Milliseconds():
		return sessions.Receipt{Verdict: sessions.VerdictEnded}
	}

	// Step 2: when the fix was taken. The live fix sent again teaches nothing. And
	// nothing is kept of a fix that is too soon: the phone sends it again.
	f := toGeo(fix)
	limits := m.opts.Limits(t.mode)
	before := *t
	var setBack, odd bool
	times := geo.Times{
		NowMS: now, RecordedMS: f.RecordedMS, SentMS: unixMS(fix.SentAt), StartedMS: t.startedMS,
		First: !t.judged.Last.Point.Valid(),
	}
	f.TakenMS = now
	if repeat := f.RecordedMS > 0 && f.RecordedMS == t.recordedMS; !repeat {
		f.TakenMS, t.clock, setBack, odd = t.clock.Take(times, limits)
	}
	// Where the live fix would come from the future by the new clock, it is of another.
	t.setBack = t.setBack || setBack && t.recordedMS+t.clock.OffsetMS > t.acceptedMS+limits.FutureMS
	var flags geo.Flags
	if odd {
		flags = geo.FlagClock
	}

	// Step 3: the order, and then the rate, by GCRA on the time when it was taken.
	due := m.due(t, now)
	wait := due - m.opts.RateTolerance.Milliseconds() - f.TakenMS
	switch {
	case f.TakenMS < min(t.startedMS, now)-limits.FutureMS:
		return m.ignored(sessions.VerdictBeforeStart, t, flags, now, leastNextMS)
	case m.stale(t, f, now):
		return m.ignored(sessions.VerdictStale, t, flags, now, max(leastNextMS, due-now))
	case t.clock.Unsure(before.clock, times, limits):
		return m.ignored(sessions.VerdictIgnoredTooSoon, t, flags, now, leastNextMS)
	case fix.AtArrival:
		interval := m.opts.RateInterval.Milliseconds()
		if t.arrivalMS > now && t.arrivalMS <= now+interval {
			return m.ignored(sessions.VerdictIgnoredTooSoon, t, flags, now, max(leastNextMS, due-now))
		}
		was := t.tatMS
		t.arrivalMS, t.tatMS = now+interval, due
		return m.judge(ref, t, fix, f, flags, was, now, max(leastNextMS, due-now))
	case wait > 0 && f.TakenMS > now-presentMS:
		*t = before
		return sessions.Receipt{Verdict: sessions.VerdictTooSoon, At: at(now), RetryAfter: millis(wait)}
	case wait > 0:
		return m.ignored(sessions.VerdictIgnoredTooSoon, t, flags, now, m.next(due, f.TakenMS, now))
	}
	was := t.tatMS
	t.tatMS = max(due, f.TakenMS) + m.opts.RateInterval.Milliseconds()
	return m.judge(ref, t, fix, f, flags, was, now, m.next(t.tatMS, f.TakenMS, now))
}

const (
	// leastNextMS is the least that a phone is told to wait: a phone that obeys must
	// not flood the gateway.
	leastNextMS = 1000
	// presentMS is the age up to which a fix that is too soon may be sent again.
	presentMS = 2000
)

// next is when the phone should send again: when the next fix is due, and soon after
// a late one, because there is more to come.
func (m *Live) next(due, taken, now int64) int64 {
	if taken < now-m.opts.RateInterval.Milliseconds() {
		return leastNextMS
	}
	return max(leastNextMS, due-now)
}

// ignored is the receipt of a fix of which nothing is kept but its clock.
func (m *Live) ignored(v sessions.Verdict, t *track, flags geo.Flags, now, next int64) sessions.Receipt {
	r := m.receipt(v, t, now, next)
	r.Flags, r.Suspicions = flags, t.suspect(sessions.Suspicions(flags))
	return r
}

// suspect adds suspicions to those of the journey, and returns the new ones.
func (t *track) suspect(s sessions.Suspicions) sessions.Suspicions {
	fresh := s &^ t.seen
	t.seen |= s
	return fresh
}

// due is the GCRA's theoretical arrival time. One that is further ahead than the rate
// can move it means that the clock was set back. A phone does not have to wait until
// the clock has caught up.
func (m *Live) due(t *track, now int64) int64 {
	if t.tatMS > now+(m.opts.RateInterval+m.opts.RateTolerance).Milliseconds() {
		return now
	}
	return t.tatMS
}

// stale reports whether the fix is not newer than the live one, or too old. The raw
// recordedAt decides, so that the same fix sent again is never newer, and then the
// time of taking; without a recordedAt two fixes of one millisecond are both now, and
// the rate decides. A live fix from the future means that the store's clock was set
// back, so it is no reason to refuse.
func (m *Live) stale(t *track, f geo.Fix, now int64) bool {
	if f.TakenMS < now-m.opts.StaleAfter.Milliseconds() {
		return true
	}
	last := t.judged.Last
	if !last.Point.Valid() {
		return false
	}
	if f.RecordedMS > 0 && t.recordedMS > 0 && (f.RecordedMS == t.recordedMS || f.RecordedMS < t.recordedMS && !t.setBack) {
		return true
	}
	return last.TakenMS <= now+m.opts.Rules.FutureMS && (f.TakenMS < last.TakenMS || f.RecordedMS > 0 && f.TakenMS == last.TakenMS)
}

// seenAgo is Receipt.SeenAgo before the fix is stored. due is when it was due: a
// refused or vague fix has moved only that.
func (m *Live) seenAgo(t *track, due, now int64) time.Duration {
	seen := t.acceptedMS
	switch {
	case t.judged.Last.Point.Valid():
	case !t.silent.At.IsZero():
		seen = t.silent.At.UnixMilli()
	default:
		return -time.Millisecond
	}
	return millis(now - min(now, max(seen, due-m.opts.RateInterval.Milliseconds())))
}

// judge calls geo.Judge and stores what its ruling says: steps 4 to 15.
func (m *Live) judge(ref sessions.Ref, t *track, fix sessions.Fix, f geo.Fix, flags geo.Flags, due, now, next int64) sessions.Receipt {
	before := t.judged
	seenAgo := m.seenAgo(t, due, now)
	ruling, judged := geo.Judge(t.judged, f, m.opts.Limits(t.mode), now)
	resumed := false
	if ruling.Verdict == geo.Accepted && !t.silent.At.IsZero() {
		resumed = m.resume(t, f, &ruling, &judged)
	}
	ruling.Flags |= flags
	t.judged = judged

	// Step 13: the suspicions.
	verdict, suspicions := verdictOf(ruling)
	fresh := t.suspect(suspicions)
	if verdict == sessions.VerdictStored {
		m.store(ref, t, before, fix, f, ruling, now, resumed)
	}
	r := m.receipt(verdict, t, now, next)
	r.Flags, r.Suspicions = ruling.Flags, fresh
	if verdict == sessions.VerdictStored {
		r.DistanceM = sessions.RoundM(geo.DistanceM(fix.Point, t.home))
		if before.Last.Point.Valid() {
			r.MovedM = sessions.RoundM(geo.DistanceM(before.Last.Point, fix.Point))
		}
		e := t.evidence
		r.Trusted = !e.Guess && !e.Mock && e.Fixes == sessions.EvidenceFixes && e.Requests == sessions.EvidenceRequests
		r.Clock = sessions.PhoneClock{OffsetMS: t.clock.OffsetMS, ToldMS: t.clock.ToldMS, SinceMS: t.clock.SinceMS}
		r.SeenAgo = seenAgo
		r.Outside, r.Late = e.Outside, f.TakenMS < now-m.opts.RateInterval.Milliseconds()
		r.Watched = len(m.watchers[ref]) > 0 || t.leftMS > 0 && now-t.leftMS < lingerMS
	}
	return r
}

// resume is step 7 for the first fix after a silence, once geo.Judge has taken it
// for a re-anchor: where the trainer could have got there it is none. It reports
// whether the track is as trusted as it was. After a long way it is a new one.
func (m *Live) resume(t *track, f geo.Fix, ruling *geo.Ruling, judged *geo.Track) bool {
	last := t.silent
	t.silent = sessions.LastFix{}
	reachable, flags := geo.AfterSilence(t.home, last.DistanceM, last.At.UnixMilli(), f, m.opts.Limits(t.mode))
	if !reachable {
		return false
	}
	judged.ReanchoredMS, ruling.Flags = 0, ruling.Flags&^geo.FlagReanchored|flags
	if !last.Trusted || flags != 0 {
		return false
	}
	judged.Guess, t.evidence.Outside = 0, last.Outside
	return true
}

// toGeo converts a fix for geo.Judge.
func toGeo(f sessions.Fix) geo.Fix {
	return geo.Fix{
		Point: f.Point, AccuracyM: f.AccuracyM, SpeedKMH: reading(f.SpeedKMH), HeadingDeg: reading(f.HeadingDeg),
		RecordedMS: unixMS(f.RecordedAt), Mock: f.Mock,
	}
}

func reading(v *float64) geo.Reading {
	if v == nil {
		return geo.Reading{}
	}
	return geo.Measured(*v)
}

func verdictOf(r geo.Ruling) (sessions.Verdict, sessions.Suspicions) {
	suspicions := sessions.Suspicions(r.Flags)
	switch r.Verdict {
	case geo.IgnoredLowAccuracy:
		return sessions.VerdictVague, suspicions
	case geo.IgnoredNoPosition:
		return sessions.VerdictNoPosition, suspicions
	case geo.RefusedJump:
		return sessions.VerdictJump, suspicions | sessions.SuspectJump
	case geo.RefusedSpeed:
		return sessions.VerdictSpeed, suspicions | sessions.SuspectSpeed
	case geo.RefusedCeiling:
		return sessions.VerdictCeiling, suspicions | sessions.SuspectCeiling
	default:
		return sessions.VerdictStored, suspicions
	}
}

func (m *Live) store(ref sessions.Ref, t *track, before geo.Track, fix sessions.Fix, f geo.Fix, ruling geo.Ruling, now int64, resumed bool) {
	// Step 14: the arrival, and the evidence for one. A guess says nothing about
	// either.
	t.isArriving = t.isArriving || t.judged.Guess == 0 && m.arrives(t, before.Last.Point, fix.Point, ruling.Flags)
	m.witness(t, before, fix, f.TakenMS, ruling.Flags, resumed)

	// Step 15: the writes, and the wake-up.
	t.recordedMS, t.setBack = f.RecordedMS, false
	fix.RecordedAt, fix.SentAt, fix.Mock, fix.Continued, fix.AtArrival = at(f.TakenMS), time.Time{}, false, false, false
	t.last = copied(fix)
	t.version = max(t.version+1, now)
	t.expiresMS = min(now+m.opts.LocationTTL.Milliseconds(), t.startedMS+m.opts.JourneyTTL.Milliseconds())
	t.acceptedMS = now
	m.wake(ref)
}

// witness adds a fix to the evidence. A track that begins anew brings none along.
func (m *Live) witness(t *track, before geo.Track, fix sessions.Fix, taken int64, flags geo.Flags, resumed bool) {
	e := &t.evidence
	switch {
	case resumed: // the evidence is that of before the silence
		*e, t.begunMS = sessions.Evidence{Fixes: sessions.EvidenceFixes, Requests: sessions.EvidenceRequests, Outside: e.Outside}, t.startedMS
	case !before.Last.Point.Valid(), flags&(geo.FlagReanchored|geo.FlagFirstFixReplaced) != 0:
		*e, t.begunMS = sessions.Evidence{Fixes: 1, Requests: 1}, taken
	default:
		e.Fixes = min(sessions.EvidenceFixes, e.Fixes+1)
		if !fix.Continued {
			e.Requests = min(sessions.EvidenceRequests, e.Requests+1)
		}
		if before.Guess > 0 && m.outside(t, before.Last.Point) {
			e.Outside = true
		}
	}
	e.Guess, e.Mock = t.judged.Guess > 0, fix.Mock
	e.Outside = e.Outside || !e.Guess && m.outside(t, fix.Point)
	e.Lasted = millis(taken - t.begunMS)
	if e.Outside {
		e.Lasted = 0
	}
}

func (m *Live) outside(t *track, p geo.Point) bool { return geo.DistanceM(p, t.home) > m.opts.RadiusM }

// copied is a copy that shares no memory with f, so that neither the caller of
// Update nor a reader can write into the store.
func copied(f sessions.Fix) sessions.Fix {
	if f.SpeedKMH != nil {
		f.SpeedKMH = new(*f.SpeedKMH)
	}
	if f.HeadingDeg != nil {
		f.HeadingDeg = new(*f.HeadingDeg)
	}
	return f
}

// longLegM is the length from which a leg is tested for a crossing of the fence
// between its two fixes: 72 km/h at the usual 5 s.
const longLegM = 100

// arrives reports whether a fix reaches the fence. In a cell of the fence's cover the
// exact distance decides. A long leg may also have crossed the fence.
func (m *Live) arrives(t *track, from, to geo.Point, flags geo.Flags) bool {
	toHome := geo.DistanceM(to, t.home)
	if t.fence.MayContain(geo.CellOf(to)) && toHome <= m.opts.RadiusM {
		return true
	}
	if !from.Valid() || flags&(geo.FlagReanchored|geo.FlagFirstFixReplaced) != 0 {
		return false
	}
	moved := sessions.RoundM(geo.DistanceM(from, to))
	return moved > longLegM && moved > toHome-m.opts.RadiusM && geo.CrossesFence(from, to, t.home, m.opts.RadiusM)
}

func (m *Live) receipt(v sessions.Verdict, t *track, now, next int64) sessions.Receipt {
	return sessions.Receipt{
		Verdict: v, At: at(now), NextUpdate: millis(next),
		Version: t.version, TTL: millis(t.expiresMS - now), Arriving: t.isArriving,
	}
}
