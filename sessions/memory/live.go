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
