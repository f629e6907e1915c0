// Package memory holds both stores in process memory: Live, the live store, and
// Repository, the store of record. They are the embedded default, and the
// executable specification that the real stores are tested against.
package memory

import (
	"context"
	"fmt"
	"sync"
	"time"

	"doorstep/geo"
	"doorstep/sessions"
)

// Live is the live store in process memory. It has the same fields as the Lua
// scripts, decides in the same order and returns the same receipts; a differential
// test plays random histories on both. Its journeys are lost with the process, and
// restored from the repository like those of any live store.
//
// One mutex guards all of it. An update holds it for about a microsecond.
type Live struct {
	opts sessions.LiveOptions
	now  func() time.Time

	mu       sync.Mutex
	journeys map[sessions.Ref]*track
	metas    map[sessions.ID]metaEntry
	watchers map[sessions.Ref]map[*watcher]struct{}
	swept    time.Time
}

var _ sessions.Live = (*Live)(nil)

// track is one journey's hash.
type track struct {
	startedMS int64
	ended     bool
	over      sessions.Phase // once ended
	home      geo.Point
	fence     geo.Fence
	mode      sessions.Mode
	version   int64
	expiresMS int64

	tatMS      int64 // GCRA: when the next fix is due
	arrivalMS  int64 // when the next fix with an arrival is due
	clock      geo.Clock
	setBack    bool  // the phone's clock was set back: recordedMS cannot be compared
	recordedMS int64 // the live fix's, by the phone's clock; 0 = not said
	judged     geo.Track
	evidence   sessions.Evidence
	begunMS    int64            // when the first fix of the track was taken
	silent     sessions.LastFix // of a journey that expired after a silence, until its first fix
	seen       sessions.Suspicions
	last       sessions.Fix // as it is shown, once judged.Last is valid
	acceptedMS int64        // when last was
	isArriving bool
	leftMS     int64 // when the last watcher left
}

type metaEntry struct {
	meta      sessions.Meta
	expiresMS int64
}

type watcher struct{ wake func() }

// NewLive makes an empty store with the given rules. now is its clock.
func NewLive(opts sessions.LiveOptions, now func() time.Time) *Live {
	return &Live{
		opts: opts.WithDefaults(), now: now,
		journeys: map[sessions.Ref]*track{}, metas: map[sessions.ID]metaEntry{}, watchers: map[sessions.Ref]map[*watcher]struct{}{},
	}
}

// Open implements sessions.Live.
func (m *Live) Open(_ context.Context, j sessions.Journey) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, started := m.clock(), j.StartedAt.UnixMilli()
	old := m.find(j.Ref, now)
	left := started + m.opts.JourneyTTL.Milliseconds() - now
	switch {
	case left <= 0, old != nil && old.startedMS > started:
		return false, nil
	case old != nil && old.startedMS == started:
		return !old.ended, nil
	}
	fence, err := geo.Cover(j.Home, m.opts.RadiusM)
	if err != nil {
		return false, fmt.Errorf("open: %w", err)
	}
	t := &track{
		startedMS: started, home: j.Home, fence: fence, mode: j.Mode,
		version: nextVersion(old, now), expiresMS: now + left,
	}
	if j.Restored {
		t.judged = geo.Restored(now)
		t.clock = geo.Clock{OffsetMS: j.Last.Clock.OffsetMS, ToldMS: j.Last.Clock.ToldMS, SinceMS: j.Last.Clock.SinceMS}
		if last := j.Last; !last.At.IsZero() && now-last.At.UnixMilli() >= m.opts.LocationTTL.Milliseconds() {
			t.silent, t.isArriving = last, last.Arriving // it has expired, and was not lost
		}
	}
	m.put(j.Ref, t)
	return true, nil
}

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

// Latest implements sessions.Live.
func (m *Live) Latest(_ context.Context, ref sessions.Ref) (sessions.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock()
	t := m.find(ref, now)
	if t == nil {
		return sessions.Snapshot{Now: at(now)}, nil
	}
	s := sessions.Snapshot{Now: at(now), Known: true, Active: !t.ended, Version: t.version, Arriving: t.isArriving, Over: t.over}
	if s.Active {
		s.StartedAt, s.Home, s.Suspicions = at(t.startedMS), t.home, t.seen
	}
	if last := t.judged.Last; last.Point.Valid() {
		s.Location = &sessions.Location{Fix: copied(t.last), At: at(t.acceptedMS)}
		s.DistanceM = sessions.RoundM(geo.DistanceM(last.Point, t.home))
		s.Pace.Mode = t.mode
		s.Pace.MMS, s.Pace.OverMS = geo.PaceFrom(t.judged.Anchor, last, t.judged.PaceMMS, t.judged.PacedMS)
		s.Evidence = t.evidence
	}
	if t.clock.SinceMS > 0 {
		s.LearntAt = at(t.clock.SinceMS)
	}
	if t.judged.ReanchoredMS > 0 {
		s.ReanchoredAt = at(t.judged.ReanchoredMS)
	}
	return s, nil
}

// CachedView implements sessions.Live. It reads: a read costs no round trip here.
func (m *Live) CachedView(ref sessions.Ref) (sessions.Snapshot, bool) {
	snap, _ := m.Latest(context.Background(), ref) // it cannot fail
	snap.ReanchoredAt, snap.LearntAt, snap.Evidence, snap.Suspicions = time.Time{}, time.Time{}, sessions.Evidence{}, 0
	return snap, snap.Location != nil
}

// Move implements sessions.Live, as move.lua does.
func (m *Live) Move(_ context.Context, j sessions.Journey) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock()
	t := m.find(j.Ref, now)
	if t == nil || t.ended || t.startedMS != startedMS(j) {
		return false, nil
	}
	fence, err := geo.Cover(j.Home, m.opts.RadiusM)
	if err != nil {
		return false, fmt.Errorf("move: %w", err)
	}
	t.version = nextVersion(t, now)
	if t.home != j.Home {
		t.home, t.fence, t.isArriving, t.silent = j.Home, fence, false, sessions.LastFix{}
		if t.judged.Last.Point.Valid() {
			t.begunMS = now
			t.evidence = sessions.Evidence{
				Guess: t.judged.Guess > 0, Mock: t.evidence.Mock, Fixes: 1, Requests: 1, Lasted: millis(t.judged.Last.TakenMS - now),
			}
		}
	}
	m.wake(j.Ref)
	return true, nil
}

// End implements sessions.Live.
func (m *Live) End(_ context.Context, j sessions.Journey) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, started := m.clock(), startedMS(j)
	old := m.find(j.Ref, now)
	if old != nil && (old.startedMS > started || old.startedMS == started && old.ended && j.Phase.Rank() <= old.over.Rank()) {
		return nil
	}
	m.put(j.Ref, &track{
		startedMS: started, ended: true, over: j.Phase, version: nextVersion(old, now),
		expiresMS: now + m.opts.LocationTTL.Milliseconds(),
	})
	return nil
}

// startedMS is a journey's start in ms, its identity; 0 for one that never started.
func startedMS(j sessions.Journey) int64 { return unixMS(j.StartedAt) }

// unixMS is t in ms; 0 for the zero time.
func unixMS(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// Watch implements sessions.Live.
func (m *Live) Watch(_ context.Context, ref sessions.Ref, wake func()) (func(), error) {
	w := &watcher{wake: wake}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watchers[ref] == nil {
		m.watchers[ref] = map[*watcher]struct{}{}
	}
	m.watchers[ref][w] = struct{}{}
	return func() { m.unwatch(ref, w) }, nil
}

func (m *Live) unwatch(ref sessions.Ref, w *watcher) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.watchers[ref], w)
	if len(m.watchers[ref]) == 0 {
		delete(m.watchers, ref)
		if t := m.journeys[ref]; t != nil {
			t.leftMS = m.clock()
		}
	}
}

// lingerMS is how long a journey counts as watched after its last watcher: the next long
// poll comes within it. Package valkeyconn keeps subscriptions as long.
const lingerMS = 15_000

// Meta implements sessions.Live.
func (m *Live) Meta(_ context.Context, id sessions.ID) (sessions.Meta, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.metas[id]
	if !ok || e.expiresMS <= m.clock() {
		delete(m.metas, id) // it stays away, as in find
		return sessions.Meta{}, false, nil
	}
	return e.meta, true, nil
}

// SetMeta implements sessions.Live.
func (m *Live) SetMeta(_ context.Context, id sessions.ID, meta sessions.Meta) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock()
	m.sweep(now)
	m.metas[id] = metaEntry{meta: meta, expiresMS: now + m.opts.LocationTTL.Milliseconds()}
	return nil
}

// find returns the journey's track unless it has expired. It deletes an expired
// track: a clock that is set back later must not bring it back, as it cannot in
// Valkey.
func (m *Live) find(ref sessions.Ref, now int64) *track {
	t := m.journeys[ref]
	if t == nil || t.expiresMS <= now {
		delete(m.journeys, ref)
		return nil
	}
	return t
}

func (m *Live) put(ref sessions.Ref, t *track) {
	m.sweep(m.clock())
	m.journeys[ref] = t
	m.wake(ref)
}

// sweep deletes what has expired, at most once in a LocationTTL, as part of a write.
// So there is no goroutine to stop, and the memory stays within twice what is live.
func (m *Live) sweep(now int64) {
	if at(now).Sub(m.swept).Abs() < m.opts.LocationTTL {
		return
	}
	m.swept = at(now)
	for ref, t := range m.journeys {
		if t.expiresMS <= now {
			delete(m.journeys, ref)
		}
	}
	for id, e := range m.metas {
		if e.expiresMS <= now {
			delete(m.metas, id)
		}
	}
}

func (m *Live) wake(ref sessions.Ref) {
	for w := range m.watchers[ref] {
		w.wake()
	}
}

func (m *Live) clock() int64 { return m.now().UnixMilli() }

func nextVersion(t *track, now int64) int64 {
	if t == nil {
		return now
	}
	return max(t.version+1, now)
}

func at(unixMS int64) time.Time    { return time.UnixMilli(unixMS).UTC() }
func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
