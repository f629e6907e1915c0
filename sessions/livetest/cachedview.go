package livetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"doorstep/sessions"
)

// cachedViewTests compare the cached view with a read, for a watcher that has
// been woken for every change so far.
var cachedViewTests = map[string]func(*testing.T, journey){
	"nothing_yet": func(t *testing.T, j journey) {
		j.requireNotCached(t)
		j.begun(t).stored(t, 100)
		w := j.watch(t)
		w.require(t, 0)
		j.requireCachedOrNone(t)
	},
	"each_fix": func(t *testing.T, j journey) {
		j.begun(t)
		w := j.watch(t)
		for i := range int64(20) { // over a minute, so that there is a pace
			j.stored(t, 900-20*float64(i))
			w.require(t, i+1)
			j.requireCachedOrNone(t)
			j.Clock.Advance(5 * time.Second)
		}
	},
	"every_field_of_a_fix": func(t *testing.T, j journey) {
		j.begun(t)
		w := j.watch(t)
		speed, heading := 25.3, 271.5
		j.update(t, sessions.Fix{
			Point: north(300), AccuracyM: 8.5, SpeedKMH: &speed, HeadingDeg: &heading, RecordedAt: j.Clock.Now().Add(-time.Second),
		})
		w.require(t, 1)
		j.requireCachedOrNone(t)
	},
	"arriving": func(t *testing.T, j journey) {
		j.begun(t)
		w := j.watch(t)
		j.stored(t, 20)
		w.require(t, 1)
		j.requireCachedOrNone(t)
	},
	"not_past_the_end": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 100)
		w := j.watch(t)
		j.Clock.Advance(5 * time.Second)
		j.stored(t, 90)
		w.require(t, 1)
		j.end(t)
		w.require(t, 2)
		j.requireNotCached(t)
	},
	"not_of_an_older_journey": func(t *testing.T, j journey) {
		old := j.startedAgo(time.Minute).begun(t)
		w := j.watch(t)
		old.stored(t, 100)
		w.require(t, 1)
		j.begun(t)
		w.require(t, 2)
		j.requireNotCached(t)
	},
}

// requireCachedOrNone requires that a cached view equals a read. A store may have
// no cached view: its callers read then.
func (j journey) requireCachedOrNone(t *testing.T) {
	t.Helper()
	want := j.latest(t)
	want.ReanchoredAt, want.LearntAt, want.Evidence, want.Suspicions = time.Time{}, time.Time{}, sessions.Evidence{}, 0
	if snap, ok := j.Live.CachedView(j.Ref); ok {
		want.StartedAt, want.Home = j.StartedAt, j.Home
		assert.Equal(t, describe(want), describe(snap))
	}
}

func (j journey) requireNotCached(t *testing.T) {
	t.Helper()
	_, ok := j.Live.CachedView(j.Ref)
	assert.False(t, ok)
}
