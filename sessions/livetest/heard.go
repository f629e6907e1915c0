package livetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"doorstep/sessions"
)

// heardTests hold what was heard to what would be read, for somebody who
// watches and has been told of all changes so far.
var heardTests = map[string]func(*testing.T, journey){
	"nothing_yet": func(t *testing.T, j journey) {
		j.requireNotHeard(t)
		j.begun(t).stored(t, 100)
		w := j.watch(t)
		w.require(t, 0)
		j.requireHeardOrNot(t)
	},
	"each_fix": func(t *testing.T, j journey) {
		j.begun(t)
		w := j.watch(t)
		for i := range int64(20) { // over a minute, so that there is a pace
			j.stored(t, 900-20*float64(i))
			w.require(t, i+1)
			j.requireHeardOrNot(t)
			j.Clock.Advance(5 * time.Second)
		}
	},
	"all_that_a_phone_says": func(t *testing.T, j journey) {
		j.begun(t)
		w := j.watch(t)
		speed, heading := 25.3, 271.5
		j.update(t, sessions.Fix{
			Point: north(300), AccuracyM: 8.5, SpeedKMH: &speed, HeadingDeg: &heading, RecordedAt: j.Clock.Now().Add(-time.Second),
		})
		w.require(t, 1)
		j.requireHeardOrNot(t)
	},
	"arriving": func(t *testing.T, j journey) {
		j.begun(t)
		w := j.watch(t)
		j.stored(t, 20)
		w.require(t, 1)
		j.requireHeardOrNot(t)
	},
	"not_past_the_end": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 100)
		w := j.watch(t)
		j.Clock.Advance(5 * time.Second)
		j.stored(t, 90)
		w.require(t, 1)
		j.end(t)
		w.require(t, 2)
		j.requireNotHeard(t)
	},
	"not_of_an_older_journey": func(t *testing.T, j journey) {
		old := j.startedAgo(time.Minute).begun(t)
		w := j.watch(t)
		old.stored(t, 100)
		w.require(t, 1)
		j.begun(t)
		w.require(t, 2)
		j.requireNotHeard(t)
	},
}

// requireHeardOrNot allows a store not to have heard: then it is read.
func (j journey) requireHeardOrNot(t *testing.T) {
	t.Helper()
	want := j.latest(t)
	want.ReanchoredAt = time.Time{}
	if snap, ok := j.Live.Heard(j.Ref); ok {
		assert.Equal(t, describe(want), describe(snap))
	}
}

func (j journey) requireNotHeard(t *testing.T) {
	t.Helper()
	_, ok := j.Live.Heard(j.Ref)
	assert.False(t, ok)
}
