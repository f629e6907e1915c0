package livetest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// watchTests run on a healthy store, which misses no message: it wakes exactly once
// for each change.
var watchTests = map[string]func(*testing.T, journey){
	"open_fix_end": func(t *testing.T, j journey) {
		w := j.watch(t)
		j.begun(t)
		w.require(t, 1)
		j.stored(t, 100)
		w.require(t, 2)
		j.end(t)
		w.require(t, 3)
	},
	"newer_journey": func(t *testing.T, j journey) {
		j.startedAgo(time.Second).begun(t)
		w := j.watch(t)
		j.begun(t)
		w.require(t, 1)
	},
	"mark_of_one_that_never_started": func(t *testing.T, j journey) {
		w := j.watch(t)
		j.StartedAt = time.Time{}
		j.end(t)
		w.require(t, 1)
	},
	"not_without_a_change": func(t *testing.T, j journey) {
		first := j.begun(t).stored(t, 100)
		w := j.watch(t)
		j.open(t)
		j.startedAgo(time.Second).open(t)
		j.startedAgo(time.Second).end(t)
		j.requireVerdict(t, sessions.VerdictTooSoon, sessions.Fix{Point: north(100)})
		j.Clock.Advance(5 * time.Second)
		j.requireVerdict(t, sessions.VerdictStale, sessions.Fix{Point: north(100), RecordedAt: first.At})
		j.requireVerdict(t, sessions.VerdictVague, sessions.Fix{Point: north(100), AccuracyM: 300})
		w.require(t, 0)
		j.end(t)
		j.end(t)
		j.open(t)
		j.requireVerdict(t, sessions.VerdictEnded, sessions.Fix{Point: north(100)})
		w.require(t, 1)
	},
	"not_for_others": func(t *testing.T, j journey) {
		w := j.watch(t)
		stranger := j
		stranger.TrainerID = sessions.NewID()
		stranger.begun(t)
		j.sameTrainer().begun(t)
		w.require(t, 0)
	},
	"not_after_stop": func(t *testing.T, j journey) {
		stopped, other := j.watch(t), j.watch(t)
		j.begun(t)
		stopped.require(t, 1)
		stopped.stop()
		stopped.stop()
		j.stored(t, 100)
		other.require(t, 2)
		stopped.require(t, 1)
	},
	"again_after_stop": func(t *testing.T, j journey) {
		j.watch(t).stop()
		w := j.watch(t)
		j.begun(t)
		w.require(t, 1)
	},
	"many": func(t *testing.T, j journey) {
		watches := make([]*watch, 100)
		for i := range watches {
			watches[i] = j.watch(t)
		}
		j.begun(t)
		for _, w := range watches {
			w.require(t, 1)
		}
	},
	"told_to_the_phone": func(t *testing.T, j journey) {
		require.False(t, j.begun(t).stored(t, 100).Watched)
		j.sameTrainer().watch(t)
		j.Clock.Advance(5 * time.Second)
		require.False(t, j.stored(t, 100).Watched, "that is another journey")
		j.watch(t)
		j.Clock.Advance(5 * time.Second)
		require.True(t, j.stored(t, 100).Watched)
		j.Clock.Advance(time.Second)
		require.False(t, j.requireVerdict(t, sessions.VerdictTooSoon, sessions.Fix{Point: north(100)}).Watched)
	},
	"outlives_its_call's_context": func(t *testing.T, j journey) {
		ctx, cancel := context.WithCancel(t.Context())
		w := j.watchUnder(ctx, t)
		cancel()
		j.begun(t)
		w.require(t, 1)
	},
}

// watch counts wakes. Another journey of the same trainer, watched after it, is the
// barrier: a store delivers in order, so all earlier wakes have come before its own.
type watch struct {
	journey
	barrier       journey
	wakes, passed *atomic.Int64
	stop          func()
}

func (j journey) watch(t *testing.T) *watch { t.Helper(); return j.watchUnder(t.Context(), t) }

func (j journey) watchUnder(ctx context.Context, t *testing.T) *watch {
	t.Helper()
	w := &watch{journey: j, barrier: j.sameTrainer(), wakes: &atomic.Int64{}, passed: &atomic.Int64{}}
	var err error
	w.stop, err = j.Live.Watch(ctx, j.Ref, func() { w.wakes.Add(1) })
	require.NoError(t, err)
	t.Cleanup(w.stop)
	stop, err := j.Live.Watch(ctx, w.barrier.Ref, func() { w.passed.Add(1) })
	require.NoError(t, err)
	t.Cleanup(stop)
	return w
}

// require requires that many wakes so far.
func (w *watch) require(t *testing.T, want int64) {
	t.Helper()
	before := w.passed.Load()
	w.barrier.StartedAt = w.barrier.StartedAt.Add(time.Millisecond)
	w.barrier.begun(t)
	require.Eventually(t, func() bool { return w.passed.Load() > before }, 10*time.Second, 200*time.Microsecond)
	assert.Equal(t, want, w.wakes.Load())
}
