package sessions

import (
	"context"
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

// track is one journey's hash: the fields of update.lua under their names.
type track struct {
	startedMS int64
	ended     bool
	home      geo.Point
	mode      Mode
	version   int64
	expiresMS int64

	tatMS      int64 // GCRA: when the next fix is due
	last       *Fix
	atMS       int64 // store's clock at acceptance
	fixMS      int64 // the fix's own time: the phone's clock if sane, else atMS
	distanceM  float64
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
	m.put(j.Ref, &track{
		startedMS: started, home: j.Home, mode: j.Mode,
		version: nextVersion(old, now), expiresMS: now + left,
	})
	return true, nil
}

// Publish keeps the contract of Live. The order of the decisions is that of
// update.lua.
func (m *Memory) Publish(_ context.Context, ref Ref, fix Fix) (Receipt, error) {
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
	fixMS, stale := m.order(t, fix, now)
	if stale {
		return m.receipt(VerdictStale, t, now, tat), nil
	}
	t.tatMS = max(tat, now) + m.opts.RateInterval.Milliseconds()
	if fix.AccuracyM > m.opts.VagueM {
		return m.receipt(VerdictVague, t, now, t.tatMS), nil
	}
	if v := m.plausible(t, fix, fixMS); v != VerdictStored {
		return m.receipt(v, t, now, t.tatMS), nil
	}
	m.store(ref, t, fix, fixMS, now)
	return m.receipt(VerdictStored, t, now, t.tatMS), nil
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

// order gives the fix its time and says whether it is older than the live one,
// or the same. A phone's clock in the future by more than the tolerance is
// wrong, so it is not used; a live fix from the future means that the store's
// clock was set back, so it is no reason to refuse.
func (m *Memory) order(t *track, fix Fix, now int64) (fixMS int64, stale bool) {
	future := now + m.opts.FutureTolerance.Milliseconds()
	fixMS = now
	if !fix.RecordedAt.IsZero() {
		recorded := fix.RecordedAt.UnixMilli()
		if recorded < now-m.opts.StaleAfter.Milliseconds() {
			return recorded, true
		}
		if recorded <= future {
			fixMS = recorded
		}
	}
	return fixMS, t.last != nil && t.fixMS <= future && fixMS <= t.fixMS
}

// plausible is the review's rule less both accuracies.
func (m *Memory) plausible(t *track, fix Fix, fixMS int64) Verdict {
	if t.last == nil || fixMS <= t.fixMS {
		return VerdictStored
	}
	moved := geo.DistanceM(t.last.Point, fix.Point) - t.last.AccuracyM - fix.AccuracyM
	elapsed := fixMS - t.fixMS
	if moved > m.opts.MaxJumpM && elapsed <= m.opts.JumpWindow.Milliseconds() {
		return VerdictJump
	}
	// km/h = m/ms · 3600, without a division.
	if moved*3600 > m.opts.MaxSpeedKMH(t.mode)*float64(elapsed) {
		return VerdictSpeed
	}
	return VerdictStored
}

func (m *Memory) store(ref Ref, t *track, fix Fix, fixMS, now int64) {
	fix.RecordedAt, fix.Mock = at(fixMS), false
	t.last, t.atMS, t.fixMS = &fix, now, fixMS
	toHome := geo.DistanceM(fix.Point, t.home)
	t.distanceM = RoundM(toHome)
	t.isArriving = t.isArriving || toHome <= m.opts.RadiusM
	t.version = max(t.version+1, now)
	t.expiresMS = min(now+m.opts.LocationTTL.Milliseconds(), t.startedMS+m.opts.JourneyTTL.Milliseconds())
	m.wake(ref)
}

func (m *Memory) receipt(v Verdict, t *track, now, tat int64) Receipt {
	r := Receipt{
		Verdict: v, At: at(now), NextUpdate: millis(max(0, tat-now)),
		Version: t.version, TTL: millis(t.expiresMS - now), Arriving: t.isArriving,
	}
	if v == VerdictStored {
		r.DistanceM = t.distanceM
	}
	return r
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
	if t.last != nil {
		s.Location = &Location{Fix: *t.last, At: at(t.atMS)}
		s.DistanceM = t.distanceM
	}
	return s, nil
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
func startedMS(j Journey) int64 {
	if j.StartedAt.IsZero() {
		return 0
	}
	return j.StartedAt.UnixMilli()
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

// find is the journey's track unless it has expired; it does not remove it,
// sweep does.
func (m *Memory) find(ref Ref, now int64) *track {
	t := m.journeys[ref]
	if t == nil || t.expiresMS <= now {
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
