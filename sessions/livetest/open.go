package livetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
)

var openTests = map[string]func(*testing.T, journey){
	"active_without_a_location": func(t *testing.T, j journey) {
		j.begun(t)
		require.Equal(t, sessions.Snapshot{Known: true, Active: true, Version: j.Clock.Now().UnixMilli()}, j.latest(t))
	},
	"again": func(t *testing.T, j journey) {
		j.begun(t)
		j.Clock.Advance(time.Second)
		j.unchanged(t, func() { require.True(t, j.open(t)) })
	},
	"again_after_a_fix": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 100)
		j.Clock.Advance(time.Second)
		j.unchanged(t, func() { require.True(t, j.open(t)) })
		require.NotNil(t, j.latest(t).Location)
	},
	"newer": func(t *testing.T, j journey) {
		before := j.startedAgo(time.Minute).begun(t).confirmed(t, 100)
		j = j.startedAgo(0)
		require.True(t, before.Arriving)
		j.begun(t)
		require.Equal(t, sessions.Snapshot{Known: true, Active: true, Version: before.Version + 1}, j.latest(t))
	},
	"older": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 100)
		j.unchanged(t, func() { require.False(t, j.startedAgo(time.Millisecond).open(t)) })
	},
	"ended": func(t *testing.T, j journey) {
		j.begun(t).end(t)
		j.unchanged(t, func() { require.False(t, j.open(t)) })
	},
	"ended_before_it_was_opened": func(t *testing.T, j journey) {
		j.end(t)
		j.unchanged(t, func() { require.False(t, j.open(t)) })
	},
	"older_than_the_ended": func(t *testing.T, j journey) {
		j.begun(t).end(t)
		j.unchanged(t, func() { require.False(t, j.startedAgo(time.Millisecond).open(t)) })
	},
	"newer_than_the_ended": func(t *testing.T, j journey) {
		j.startedAgo(time.Millisecond).begun(t).end(t)
		j.begun(t)
		require.True(t, j.latest(t).Active)
	},
	"over_the_mark_of_one_that_never_started": func(t *testing.T, j journey) {
		never := j
		never.StartedAt = time.Time{}
		never.end(t)
		j.begun(t)
		require.True(t, j.latest(t).Active)
	},
	"in_the_last_millisecond_of_its_hour": func(t *testing.T, j journey) {
		require.True(t, j.startedAgo(time.Hour-time.Millisecond).open(t))
	},
	"past_its_hour": func(t *testing.T, j journey) {
		require.False(t, j.startedAgo(time.Hour).open(t))
		require.Equal(t, sessions.Snapshot{}, j.latest(t))
		require.Empty(t, j.Kept(j.Ref))
	},
	"never_started": func(t *testing.T, j journey) {
		j.StartedAt = time.Time{}
		require.False(t, j.open(t))
		require.Equal(t, sessions.Snapshot{}, j.latest(t))
	},
	"restored_after_a_loss": func(t *testing.T, j journey) {
		before := j.begun(t).stored(t, 100)
		j.Clock.Advance(5 * time.Second)
		j.Forget()
		require.Equal(t, sessions.Snapshot{}, j.latest(t))
		j.begun(t)
		require.Greater(t, j.latest(t).Version, before.Version)
		j.stored(t, 100)
	},
	"each_session_is_its_own": func(t *testing.T, j journey) {
		j.begun(t)
		require.Equal(t, sessions.Snapshot{}, j.sameTrainer().latest(t))
		stranger := j
		stranger.TrainerID = sessions.NewID()
		require.Equal(t, sessions.Snapshot{}, stranger.latest(t))
	},
}

var latestTests = map[string]func(*testing.T, journey){
	"unknown": func(t *testing.T, j journey) {
		require.Equal(t, sessions.Snapshot{}, j.latest(t))
	},
	"all_of_a_fix": func(t *testing.T, j journey) {
		j.begun(t)
		j.Clock.Advance(time.Second)
		at := j.Clock.Now()
		fix := sessions.Fix{
			Point: north(1234.5), AccuracyM: 12.3, SpeedKMH: new(25.3), HeadingDeg: new(359.9),
			RecordedAt: at.Add(-1234 * time.Millisecond), Mock: true,
		}
		receipt := j.requireVerdict(t, sessions.VerdictStored, fix)
		fix.Mock = false
		require.Equal(t, sessions.Snapshot{
			Known: true, Active: true, Version: receipt.Version,
			Location: &sessions.Location{Fix: fix, At: at}, DistanceM: 1234.5, Pace: sessions.Pace{Mode: sessions.Car},
			Evidence: sessions.Evidence{Guess: true, Mock: true, Fixes: 1, Requests: 1}, Suspicions: sessions.Suspicions(geo.FlagMock),
		}, j.latest(t))
	},
	"what_the_phone_did_not_say": func(t *testing.T, j journey) {
		j.begun(t)
		now := j.Clock.Now()
		j.stored(t, 300)
		require.Equal(t, &sessions.Location{Fix: sessions.Fix{Point: north(300), RecordedAt: now}, At: now}, j.latest(t).Location)
	},
	"only_the_last_fix": func(t *testing.T, j journey) {
		j.begun(t)
		j.requireVerdict(t, sessions.VerdictStored, sessions.Fix{Point: north(300), AccuracyM: 9, SpeedKMH: new(1.0), HeadingDeg: new(2.0)})
		j.Clock.Advance(5 * time.Second)
		j.stored(t, 310)
		require.Equal(t, sessions.Fix{Point: north(310), RecordedAt: j.Clock.Now()}, j.latest(t).Location.Fix)
	},
	"safe_to_keep": func(t *testing.T, j journey) {
		j.begun(t)
		fix := sessions.Fix{Point: north(300), SpeedKMH: new(20.0), HeadingDeg: new(90.0)}
		_, err := j.Live.Update(t.Context(), j.Ref, fix)
		require.NoError(t, err)
		*fix.SpeedKMH = 1 // the caller's own again
		first := j.latest(t)
		*first.Location.HeadingDeg = 2 // the reader's own
		second := j.latest(t)
		require.InDelta(t, 20, *second.Location.SpeedKMH, 0)
		require.InDelta(t, 90, *second.Location.HeadingDeg, 0)
	},
}
