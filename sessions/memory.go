package sessions

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"doorstep/geo"
)

// Memory is the live store in one process: the embedded default, and the
// executable specification of the scripts. It keeps the same fields, decides
// in the same order and answers the same receipts; the differential test plays
// random histories on both. Journeys are lost with the process, and restored
// from the Repository like those of any live store.
//
// One mutex guards it all: an update holds it for about a microsecond.
type Memory struct {
	opts LiveOptions
	now  func() time.Time

	mu       sync.Mutex
	journeys map[Ref]*track
	metas    map[ID]metaEntry
	watchers map[Ref]map[*watcher]struct{}
	swept    time.Time
}

var _ Live = (*Memory)(nil)

// track is one journey's hash.
type track struct {
	startedMS int64
	ended     bool
	home      geo.Point
	fence     geo.Fence
	mode      Mode
	version   int64
	expiresMS int64

	tatMS      int64 // GCRA: when the next fix is due
	judged     geo.Track
	seen       Suspicions
	last       Fix // as it is shown, once judged.Last is valid
	isArriving bool
}

type metaEntry struct {
	meta      Meta
	expiresMS int64
}

type watcher struct{ wake func() }

// NewMemory makes an empty store that reads its time from now.
func NewMemory(opts LiveOptions, now func() time.Time) *Memory {
	return &Memory{
		opts: opts.WithDefaults(), now: now,
		journeys: map[Ref]*track{}, metas: map[ID]metaEntry{}, watchers: map[Ref]map[*watcher]struct{}{},
	}
}

// Open keeps the contract of Live.
func (m *Memory) Open(_ context.Context, j Journey) (bool, error) {
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
	}
	m.put(j.Ref, t)
	return true, nil
}

// Update keeps the contract of Live. The order of the decisions is that of
// update.lua.
func (m *Memory) Update(_ context.Context, ref Ref, fix Fix) (Receipt, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock()
	t := m.find(ref, now)
	switch {
	case t == nil:
		return Receipt{Verdict: VerdictUnknown}, nil
	case t.ended, now >= t.startedMS+m.opts.JourneyTTL.Milliseconds():
		return Receipt{Verdict: VerdictEnded}, nil
	}
	tat := m.due(t, now)
	if wait := tat - m.opts.RateTolerance.Milliseconds() - now; wait > 0 {
		return Receipt{Verdict: VerdictTooSoon, At: at(now), RetryAfter: millis(wait)}, nil
	}
	if m.stale(t, fix, now) {
		return m.receipt(VerdictStale, t, now, tat), nil
	}
	t.tatMS = max(tat, now) + m.opts.RateInterval.Milliseconds()
	return m.judge(ref, t, fix, now), nil
}

// due is the GCRA's theoretical arrival time. One further ahead than the rate
// can put it means that the clock was set back: a phone is not made to wait
// for the clock to catch up.
func (m *Memory) due(t *track, now int64) int64 {
	if t.tatMS > now+(m.opts.RateInterval+m.opts.RateTolerance).Milliseconds() {
		return now
	}
	return t.tatMS
}

// stale says whether the fix is older than the live one, or the same. A phone's
// clock in the future by more than the tolerance is wrong, so it is not used; a
// live fix from the future means that the store's clock was set back, so it is
// no reason to refuse.
func (m *Memory) stale(t *track, fix Fix, now int64) bool {
	future := now + m.opts.Rules.FutureMS
	fixMS := ownTime(unixMS(fix.RecordedAt), now, future)
	if fixMS < now-m.opts.StaleAfter.Milliseconds() {
		return true
	}
	last := t.judged.Last
	if !last.Point.Valid() {
		return false
	}
	lastMS := ownTime(last.RecordedMS, last.AtMS, math.MaxInt64)
	return lastMS <= future && fixMS <= lastMS
}

// ownTime is a fix's time: the phone's clock where that is sane, else ours.
func ownTime(recordedMS, atMS, futureMS int64) int64 {
	if recordedMS > 0 && recordedMS <= futureMS {
		return recordedMS
	}
	return atMS
}

// judge is geo.Judge, and what follows from its ruling.
func (m *Memory) judge(ref Ref, t *track, fix Fix, now int64) Receipt {
	before := t.judged.Last
	ruling, judged := geo.Judge(t.judged, fix.toGeo(), m.opts.Limits(t.mode), now)
	t.judged = judged
	verdict, suspicions := verdictOf(ruling)
	fresh := suspicions &^ t.seen
	t.seen |= suspicions
	if verdict == VerdictStored {
		m.store(ref, t, before, fix, ruling, now)
	}
	r := m.receipt(verdict, t, now, t.tatMS)
	r.Flags, r.Suspicions = ruling.Flags, fresh
	if verdict == VerdictStored {
		r.DistanceM = RoundM(geo.DistanceM(fix.Point, t.home))
		if before.Point.Valid() {
			r.MovedM = RoundM(geo.DistanceM(before.Point, fix.Point))
		}
	}
	return r
}

func verdictOf(r geo.Ruling) (Verdict, Suspicions) {
	suspicions := Suspicions(r.Flags)
	switch r.Verdict {
	case geo.IgnoredLowAccuracy:
		return VerdictVague, suspicions
	case geo.RefusedJump:
		return VerdictJump, suspicions | suspectJump
	case geo.RefusedSpeed:
		return VerdictSpeed, suspicions | suspectSpeed
	case geo.RefusedCeiling:
		return VerdictCeiling, suspicions | suspectCeiling
	default:
		return VerdictStored, suspicions
	}
}

func (m *Memory) store(ref Ref, t *track, before geo.Sighting, fix Fix, ruling geo.Ruling, now int64) {
	fix.RecordedAt, fix.Mock = at(ownTime(t.judged.Last.RecordedMS, now, math.MaxInt64)), false
	t.last = fix.copied()
	t.isArriving = t.isArriving || m.arrives(t, before.Point, fix.Point, ruling.Flags)
	t.version = max(t.version+1, now)
	t.expiresMS = min(now+m.opts.LocationTTL.Milliseconds(), t.startedMS+m.opts.JourneyTTL.Milliseconds())
	m.wake(ref)
}

// copied shares nothing with f: neither a caller that goes on to use its fix
// nor a reader can write into the store.
func (f Fix) copied() Fix {
	if f.SpeedKMH != nil {
		f.SpeedKMH = new(*f.SpeedKMH)
	}
	if f.HeadingDeg != nil {
		f.HeadingDeg = new(*f.HeadingDeg)
	}
	return f
}

// longLegM is the leg from which it is worth asking whether it passed the
// fence between two fixes: 72 km/h at the usual 5 s.
const longLegM = 100

// arrives reports whether a fix reaches the fence: in a cell of its cover the
// exact distance decides, and a long leg may have passed between two fixes.
func (m *Memory) arrives(t *track, from, to geo.Point, flags geo.Flags) bool {
	toHome := geo.DistanceM(to, t.home)
	if t.fence.MayContain(geo.CellOf(to)) && toHome <= m.opts.RadiusM {
		return true
	}
	if !from.Valid() || flags.Has(geo.FlagReanchored) {
		return false
	}
	moved := RoundM(geo.DistanceM(from, to))
	return moved > longLegM && moved > toHome-m.opts.RadiusM && geo.CrossesFence(from, to, t.home, m.opts.RadiusM)
}

func (m *Memory) receipt(v Verdict, t *track, now, tat int64) Receipt {
	return Receipt{
		Verdict: v, At: at(now), NextUpdate: millis(max(0, tat-now)),
		Version: t.version, TTL: millis(t.expiresMS - now), Arriving: t.isArriving,
	}
}

// Latest keeps the contract of Live.
func (m *Memory) Latest(_ context.Context, ref Ref) (Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.find(ref, m.clock())
	if t == nil {
		return Snapshot{}, nil
	}
	s := Snapshot{Known: true, Active: !t.ended, Version: t.version, Arriving: t.isArriving}
	if last := t.judged.Last; last.Point.Valid() {
		s.Location = &Location{Fix: t.last.copied(), At: at(last.AtMS)}
		s.DistanceM = RoundM(geo.DistanceM(last.Point, t.home))
		s.Pace = Pace{MMS: t.judged.PaceMMS, OverMS: t.judged.PacedMS}
	}
	if t.judged.ReanchoredMS > 0 {
		s.ReanchoredAt = at(t.judged.ReanchoredMS)
	}
	return s, nil
}

// CachedView keeps the contract of Live: nothing is further away than asking.
func (m *Memory) CachedView(ref Ref) (Snapshot, bool) {
	snap, _ := m.Latest(context.Background(), ref) // it cannot fail
	snap.ReanchoredAt = time.Time{}
	return snap, snap.Location != nil
}

// End keeps the contract of Live.
func (m *Memory) End(_ context.Context, j Journey) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, started := m.clock(), startedMS(j)
	old := m.find(j.Ref, now)
	if old != nil && (old.startedMS > started || old.startedMS == started && old.ended) {
		return nil
	}
	m.put(j.Ref, &track{
		startedMS: started, ended: true, version: nextVersion(old, now),
		expiresMS: now + m.opts.LocationTTL.Milliseconds(),
	})
	return nil
}

// startedMS is a journey's identity, 0 for one that never started.
func startedMS(j Journey) int64 { return unixMS(j.StartedAt) }

// unixMS is t in ms, 0 for the zero time.
func unixMS(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// Watch keeps the contract of Live.
func (m *Memory) Watch(_ context.Context, ref Ref, wake func()) (func(), error) {
	w := &watcher{wake: wake}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watchers[ref] == nil {
		m.watchers[ref] = map[*watcher]struct{}{}
	}
	m.watchers[ref][w] = struct{}{}
	return func() { m.unwatch(ref, w) }, nil
}

func (m *Memory) unwatch(ref Ref, w *watcher) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.watchers[ref], w)
	if len(m.watchers[ref]) == 0 {
		delete(m.watchers, ref)
	}
}

// Meta keeps the contract of Live.
func (m *Memory) Meta(_ context.Context, id ID) (Meta, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.metas[id]
	if !ok || e.expiresMS <= m.clock() {
		delete(m.metas, id) // for good, as in find
		return Meta{}, false, nil
	}
	return e.meta, true, nil
}

// SetMeta keeps the contract of Live.
func (m *Memory) SetMeta(_ context.Context, id ID, meta Meta) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock()
	m.sweep(now)
	m.metas[id] = metaEntry{meta: meta, expiresMS: now + m.opts.LocationTTL.Milliseconds()}
	return nil
}

// find is the journey's track unless it has expired. What has, goes: a clock
// that is set back afterwards must not bring it back, as it could not in the
// other store.
func (m *Memory) find(ref Ref, now int64) *track {
	t := m.journeys[ref]
	if t == nil || t.expiresMS <= now {
		delete(m.journeys, ref)
		return nil
	}
	return t
}

func (m *Memory) put(ref Ref, t *track) {
	m.sweep(m.clock())
	m.journeys[ref] = t
	m.wake(ref)
}

// sweep drops what has expired, at most once a LocationTTL, on the way of a
// write: no goroutine to own, and the memory stays within twice what is live.
func (m *Memory) sweep(now int64) {
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

func (m *Memory) wake(ref Ref) {
	for w := range m.watchers[ref] {
		w.wake()
	}
}

func (m *Memory) clock() int64 { return m.now().UnixMilli() }

func nextVersion(t *track, now int64) int64 {
	if t == nil {
		return now
	}
	return max(t.version+1, now)
}

func at(unixMS int64) time.Time    { return time.UnixMilli(unixMS).UTC() }
func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
