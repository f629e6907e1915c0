package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestRecorder_note(t *testing.T) {
	t.Parallel()
	r := newRecorder()
	r.note(update, before, "201", time.Millisecond)
	r.enter(during)
	r.note(update, before, "202", 260*time.Millisecond) // began before, ended in it
	r.note(update, during, "202", 310*time.Millisecond)
	r.enter(after)
	r.note(update, during, "201", time.Second)
	r.note(update, after, "201", time.Millisecond)

	assert.Equal(t, "201 ×1", r.of(before, update).String())
	assert.Equal(t, "202 ×2, 201 ×1", r.of(during, update).String(), "what touches a fault is in it")
	assert.Equal(t, "201 ×1", r.of(after, update).String())
	assert.Equal(t, time.Second, r.of(during, update).worst)
	assert.Equal(t, 2, r.of(during, update).slow(promised))
	assert.Equal(t, "none", r.of(during, live).String())
}

// Well is when the last kind of call to recover had its first good answer, and
// is only said when it has lasted.
func TestRecorder_well(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		good := func() {
			for _, k := range kinds() {
				r.note(k, after, asEver()[k][0], 0)
			}
		}
		known := func() bool { _, _, known := r.well(time.Second); return known }
		r.enter(after)
		good()
		time.Sleep(3 * time.Second)
		r.note(live, after, degraded, 0)
		time.Sleep(2 * time.Second)
		good()
		assert.False(t, known(), "one good read is not enough")
		assert.Contains(t, r.unwell(), "live")
		good()
		assert.True(t, known())
		took, last, _ := r.well(time.Second)
		assert.Equal(t, 5*time.Second, took)
		assert.Equal(t, live, last)

		r.note(update, after, "429 RATE_LIMITED", 0)
		assert.True(t, known(), "what a healthy gateway may say does not count")
		r.note(update, after, notStored, 0)
		good()
		good()
		assert.False(t, known(), "it has not lasted yet")
		time.Sleep(time.Second)
		assert.True(t, known())
	})
}

func TestRecorder_well_at_once(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		r.enter(after)
		for range 2 {
			for _, k := range kinds() {
				r.note(k, after, asEver()[k][0], 0)
			}
		}
		time.Sleep(time.Second)
		took, last, known := r.well(time.Second)
		assert.True(t, known)
		assert.Zero(t, took)
		assert.Empty(t, last)
	})
}
