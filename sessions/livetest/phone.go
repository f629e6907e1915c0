package livetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
)

// phoneTests are about what real phones do: wrong clocks, backlogs, first fixes from
// a cache; and about what an arrival needs. See docs/adr/0012-one-time-for-a-fix.md.
var phoneTests = map[string]func(*testing.T, journey){
	"the_past_is_not_the_present": func(t *testing.T, j journey) {
		j = j.startedAgo(10 * time.Minute).begun(t)
		for i := range 3 {
			j.taken(t, 50, -250*time.Second+time.Duration(i)*5*time.Second)
		}
		require.Equal(t, sessions.NoFreshLocation, j.arrival(t))
	},
	"slow_clock/sent_tells_at_once": func(t *testing.T, j journey) {
		j.begun(t)
		j.Clock.Advance(5 * time.Second)
		phone := j.Clock.Now().Add(-6 * time.Minute)
		first := j.requireVerdict(t, sessions.VerdictStored, sessions.Fix{Point: north(1000), RecordedAt: phone, SentAt: phone.Add(time.Second)})
		require.Equal(t, geo.FlagClock, first.Flags)
		require.Equal(t, j.Clock.Now().Add(-time.Second), j.latest(t).Location.RecordedAt)
		j.Clock.Advance(5 * time.Second)
		second := j.requireVerdict(t, sessions.VerdictStored, sessions.Fix{Point: north(950), RecordedAt: phone.Add(5 * time.Second), SentAt: phone.Add(6 * time.Second)})
		require.Zero(t, second.Flags, "once")
		require.Zero(t, j.latest(t).LearntAt)
	},
	"slow_clock/the_second_fix_tells": func(t *testing.T, j journey) {
		j.begun(t)
		j.Clock.Advance(5 * time.Second)
		receipt := j.off(t, 1000, -6*time.Minute, sessions.VerdictBeforeStart)
		require.Equal(t, time.Second, receipt.NextUpdate)
		j.Clock.Advance(5 * time.Second)
		require.Equal(t, geo.FlagClock, j.off(t, 950, -6*time.Minute, sessions.VerdictStored).Flags)
		require.Equal(t, j.Clock.Now(), j.latest(t).Location.RecordedAt)
	},
	"slow_clock/within_a_journey_half_a_minute_tells": func(t *testing.T, j journey) {
		j = j.startedAgo(10 * time.Minute).begun(t)
		for i := range 7 {
			receipt := j.off(t, 1000-20*float64(i), -time.Minute, sessions.VerdictStored)
			require.Equal(t, i == 6, receipt.Flags == geo.FlagClock, "fix %d: %v", i, receipt.Flags)
			j.Clock.Advance(5 * time.Second)
		}
	},
	"slow_clock/counts_for_an_arrival_after_a_minute": func(t *testing.T, j journey) {
		j.begun(t)
		for i := range 15 {
			j.Clock.Advance(5 * time.Second)
			want := sessions.VerdictStored
			if i == 0 {
				want = sessions.VerdictBeforeStart
			}
			j.off(t, 100+float64(i), -6*time.Minute, want)
			if i > 0 && i < 12 {
				require.Equal(t, sessions.NoFreshLocation, j.arrival(t), "fix %d", i)
			}
		}
		require.Empty(t, j.arrival(t))
	},
	"clock_ahead": func(t *testing.T, j journey) {
		j.begun(t)
		for i := range 3 {
			j.Clock.Advance(5 * time.Second)
			receipt := j.off(t, 1000-50*float64(i), time.Hour, sessions.VerdictStored)
			require.Equal(t, i == 0, receipt.Flags == geo.FlagClock)
			require.Equal(t, j.Clock.Now(), j.latest(t).Location.RecordedAt)
		}
	},
	"clock_ahead/a_backlog_is_not_the_present": func(t *testing.T, j journey) {
		j = j.startedAgo(10 * time.Minute).begun(t)
		for i := range 40 { // of an hour ahead, five seconds each, sent as fast as the network allows
			receipt := j.off(t, 1000, time.Hour-time.Duration(40-i)*5*time.Second, sessions.VerdictIgnoredTooSoon)
			require.Equal(t, time.Second, receipt.NextUpdate)
			j.Clock.Advance(100 * time.Millisecond)
		}
		require.Nil(t, j.latest(t).Location)
		j.off(t, 500, time.Hour, sessions.VerdictIgnoredTooSoon)
		j.Clock.Advance(5 * time.Second)
		j.off(t, 450, time.Hour, sessions.VerdictStored)
		require.Equal(t, j.Clock.Now(), j.latest(t).Location.RecordedAt)
	},
	"late_requests/are_no_slow_clock": func(t *testing.T, j journey) {
		j = j.startedAgo(10 * time.Minute).begun(t)
		sent := func(metres float64, ago time.Duration, want sessions.Verdict) {
			at := j.Clock.Now().Add(-ago)
			j.requireVerdict(t, want, sessions.Fix{Point: north(metres), RecordedAt: at, SentAt: at})
		}
		sent(1000, 0, sessions.VerdictStored)
		j.Clock.Advance(20 * time.Second)
		sent(900, 0, sessions.VerdictStored)
		j.Clock.Advance(time.Second)
		sent(980, 16*time.Second, sessions.VerdictStale) // overtaken
		j.Clock.Advance(5 * time.Second)
		sent(940, 16*time.Second, sessions.VerdictStale)
		require.InDelta(t, 900, j.latest(t).DistanceM, 0.1, "the pin does not go back")
	},
	"slow_clock/a_late_first_request_sets_nothing_back": func(t *testing.T, j journey) {
		j.begun(t)
		j.Clock.Advance(6 * time.Second)
		phone := j.Clock.Now().Add(-9 * time.Second) // it said so before the start, so it is slow
		j.requireVerdict(t, sessions.VerdictStored, sessions.Fix{Point: north(1000), RecordedAt: phone, SentAt: phone})
		require.Equal(t, j.Clock.Now(), j.latest(t).Location.RecordedAt)
		j.Clock.Advance(10 * time.Second)
		first := phone.Add(-3 * time.Second)
		j.requireVerdict(t, sessions.VerdictStale, sessions.Fix{Point: north(1050), RecordedAt: first, SentAt: first})
		require.InDelta(t, 1000, j.latest(t).DistanceM, 0.1)
	},
	"clock_set_back_during_the_journey": func(t *testing.T, j journey) {
		j = j.startedAgo(10 * time.Minute).begun(t)
		j.confirmed(t, 1000)
		stored := 0
		for i := range 10 {
			j.Clock.Advance(5 * time.Second)
			f := sessions.Fix{Point: north(990 - float64(i)), RecordedAt: j.Clock.Now().Add(-time.Hour), SentAt: j.Clock.Now().Add(-time.Hour)}
			if j.update(t, f).Verdict == sessions.VerdictStored {
				stored++
			}
		}
		require.GreaterOrEqual(t, stored, 9)
	},
	"pace/from_the_second_fix": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 1000)
		require.Equal(t, sessions.Pace{Mode: sessions.Car}, j.latest(t).Pace)
		j.Clock.Advance(5 * time.Second)
		j.stored(t, 950)
		require.Equal(t, sessions.Pace{MMS: 10_000, OverMS: 5000, Mode: sessions.Car}, j.latest(t).Pace)
		j.Clock.Advance(60 * time.Second)
		j.stored(t, 300)
		require.Equal(t, sessions.Pace{MMS: 700_000 / 65, OverMS: 65_000, Mode: sessions.Car}, j.latest(t).Pace, "the first minute has told one")
	},
	"back_off_is_never_zero": func(t *testing.T, j journey) {
		fix := sessions.Fix{Point: north(300), RecordedAt: j.Clock.Now()}
		j.begun(t).requireVerdict(t, sessions.VerdictStored, fix)
		for range 20 {
			require.GreaterOrEqual(t, j.requireVerdict(t, sessions.VerdictStale, fix).NextUpdate, time.Second)
			j.Clock.Advance(time.Second)
		}
	},
	"backlog/oldest_first": func(t *testing.T, j journey) {
		j = j.startedAgo(10 * time.Minute).begun(t)
		for i := range 49 { // four minutes, sent as fast as the network allows
			receipt := j.taken(t, 1000-10*float64(i), -240*time.Second+time.Duration(i)*5*time.Second)
			require.Zero(t, receipt.Flags, "fix %d", i)
			require.True(t, i > 46 || receipt.NextUpdate == time.Second, "fix %d", i)
			j.Clock.Advance(time.Millisecond)
		}
		require.Less(t, j.Clock.Now().Sub(j.latest(t).Location.RecordedAt), time.Second)
	},
	"backlog/newest_first": func(t *testing.T, j journey) {
		j = j.startedAgo(10 * time.Minute).begun(t)
		last := j.taken(t, 500, 0)
		for i := 1; i < 48; i++ {
			j.requireVerdict(t, sessions.VerdictStale, sessions.Fix{
				Point: north(500 + 10*float64(i)), RecordedAt: j.Clock.Now().Add(-time.Duration(i) * 5 * time.Second),
			})
		}
		require.Equal(t, last.Version, j.latest(t).Version)
		require.InDelta(t, 500, j.latest(t).DistanceM, 0.1)
	},
	"backlog/closer_than_the_rate_is_ignored": func(t *testing.T, j journey) {
		j = j.startedAgo(10 * time.Minute).begun(t)
		j.taken(t, 1000, -60*time.Second)
		j.unchangedLive(t, func() {
			j.requireVerdict(t, sessions.VerdictIgnoredTooSoon, sessions.Fix{Point: north(999), RecordedAt: j.Clock.Now().Add(-58 * time.Second)})
		})
	},
	"before_the_start": func(t *testing.T, j journey) {
		j.begun(t)
		j.requireVerdict(t, sessions.VerdictBeforeStart, sessions.Fix{Point: north(1000), RecordedAt: j.Clock.Now().Add(-time.Minute)})
		require.Nil(t, j.latest(t).Location)
	},
	"no_position": func(t *testing.T, j journey) {
		j.begun(t).requireVerdict(t, sessions.VerdictNoPosition, sessions.Fix{Point: geo.MustPoint(0.000001, -0.000001)})
		require.Nil(t, j.latest(t).Location)
	},
	"first_fix/of_another_city_is_replaced": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 90_000)
		j.Clock.Advance(5 * time.Second)
		require.Equal(t, geo.FlagFirstFixReplaced, j.stored(t, 1000).Flags)
		j.Clock.Advance(5 * time.Second)
		require.Zero(t, j.stored(t, 950).Flags)
		require.Zero(t, j.latest(t).ReanchoredAt)
	},
	"first_fix/once": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 90_000)
		j.Clock.Advance(5 * time.Second)
		j.stored(t, 1000)
		j.Clock.Advance(5 * time.Second)
		j.requireVerdict(t, sessions.VerdictJump, sessions.Fix{Point: north(90_000)})
	},
	"first_fix/is_not_arriving": func(t *testing.T, j journey) {
		require.False(t, j.begun(t).stored(t, 10).Arriving)
		j.Clock.Advance(5 * time.Second)
		require.False(t, j.stored(t, 90_000).Arriving, "nor is the way from it a crossing")
	},
	"arrival/came_in_from_outside": func(t *testing.T, j journey) {
		j.begun(t)
		for _, metres := range []float64{240, 190, 140} {
			j.Clock.Advance(5 * time.Second)
			j.stored(t, metres)
		}
		require.True(t, j.latest(t).Evidence.Outside)
		require.Empty(t, j.arrival(t))
	},
	"arrival/one_fix_opens_no_door": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 10)
		require.Equal(t, sessions.SuspiciousLocation, j.arrival(t))
		j.Clock.Advance(30 * time.Second)
		require.Equal(t, sessions.SuspiciousLocation, j.arrival(t))
	},
	"arrival/starts_at_the_door": func(t *testing.T, j journey) {
		j.begun(t)
		for i := range 3 {
			if i > 0 {
				j.Clock.Advance(5 * time.Second)
			}
			j.stored(t, 10+float64(i))
		}
		require.Empty(t, j.arrival(t), "after 10 s")
		require.False(t, j.latest(t).Evidence.Outside, "so no_approach is flagged")
	},
	"arrival/brings_its_own_fix": func(t *testing.T, j journey) {
		j.begun(t)
		for _, metres := range []float64{300, 250} {
			j.Clock.Advance(5 * time.Second)
			j.stored(t, metres)
		}
		j.Clock.Advance(3 * time.Second)
		j.requireVerdict(t, sessions.VerdictStored, sessions.Fix{Point: north(140), AtArrival: true})
		require.Empty(t, j.arrival(t))
		for range 4 { // one in 5 s
			j.Clock.Advance(time.Second)
			j.requireVerdict(t, sessions.VerdictIgnoredTooSoon, sessions.Fix{Point: north(130), AtArrival: true})
		}
		j.Clock.Advance(time.Second)
		j.requireVerdict(t, sessions.VerdictStored, sessions.Fix{Point: north(120), AtArrival: true})
	},
	"arrival/mocked": func(t *testing.T, j journey) {
		j.begun(t)
		for _, metres := range []float64{240, 190, 140} {
			j.Clock.Advance(5 * time.Second)
			j.requireVerdict(t, sessions.VerdictStored, sessions.Fix{Point: north(metres), Mock: true})
		}
		require.Equal(t, sessions.SuspiciousLocation, j.arrival(t))
		j.Clock.Advance(5 * time.Second)
		j.stored(t, 130)
		require.Empty(t, j.arrival(t))
	},
	"silence/then_a_drive_to_the_door": func(t *testing.T, j journey) {
		j = j.startedAgo(20 * time.Minute).begun(t)
		j.confirmed(t, 3000)
		again := j.silent(t, 385*time.Second)
		require.False(t, again.latest(t).Arriving)
		require.Zero(t, again.stored(t, 500).Flags, "3000 m in 385 s")
		require.Zero(t, again.latest(t).ReanchoredAt)
		for _, metres := range []float64{350, 200, 50} {
			j.Clock.Advance(5 * time.Second)
			require.Zero(t, again.stored(t, metres).Flags)
		}
		require.Empty(t, again.arrival(t))
	},
	"silence/at_the_door": func(t *testing.T, j journey) {
		j = j.startedAgo(20 * time.Minute).begun(t)
		j.confirmed(t, 50)
		again := j.silent(t, 10*time.Minute)
		require.True(t, again.latest(t).Arriving, "it was inside")
		require.Equal(t, sessions.NoFreshLocation, again.arrival(t))
		receipt := again.stored(t, 60)
		require.Zero(t, receipt.Flags)
		require.True(t, receipt.Trusted)
		require.Empty(t, again.arrival(t))
	},
	"silence/too_far_is_a_reanchor": func(t *testing.T, j journey) {
		j = j.startedAgo(20 * time.Minute).begun(t)
		j.confirmed(t, 30_000)
		again := j.silent(t, 310*time.Second)
		require.Equal(t, geo.FlagReanchored, again.stored(t, 50).Flags, "30 km in 310 s")
		for range 3 {
			j.Clock.Advance(5 * time.Second)
			again.stored(t, 40)
		}
		require.Equal(t, sessions.SuspiciousLocation, again.arrival(t))
	},
	"silence/a_long_way_is_flagged": func(t *testing.T, j journey) {
		j = j.startedAgo(20 * time.Minute).begun(t)
		j.confirmed(t, 6000)
		again := j.silent(t, 310*time.Second)
		require.Equal(t, geo.FlagSilence, again.stored(t, 50).Flags, "over 2 minutes of driving at the limit")
		require.Zero(t, again.latest(t).ReanchoredAt)
		require.Equal(t, sessions.SuspiciousLocation, again.arrival(t), "a second fix must agree")
		for range 2 {
			j.Clock.Advance(5 * time.Second)
			again.stored(t, 50)
		}
		require.Empty(t, again.arrival(t))
	},
	"silence/of_a_guess": func(t *testing.T, j journey) {
		j = j.startedAgo(20 * time.Minute).begun(t)
		j.stored(t, 50)
		again := j.silent(t, 310*time.Second)
		again.stored(t, 50)
		require.True(t, again.latest(t).Evidence.Guess)
		require.Equal(t, sessions.SuspiciousLocation, again.arrival(t))
	},
	"silence/a_fix_that_is_not_stored_leaves_it_to_the_next": func(t *testing.T, j journey) {
		j = j.startedAgo(20 * time.Minute).begun(t)
		j.confirmed(t, 50)
		again := j.silent(t, 310*time.Second)
		again.requireVerdict(t, sessions.VerdictVague, sessions.Fix{Point: north(50), AccuracyM: 900})
		j.Clock.Advance(5 * time.Second)
		require.Zero(t, again.stored(t, 50).Flags)
		require.Empty(t, again.arrival(t))
	},
	"silence/a_wrong_clock_stays_known": func(t *testing.T, j journey) {
		j = j.startedAgo(20 * time.Minute).begun(t)
		phone := -6 * time.Minute
		for i := range 12 { // without sentAt it is learnt
			j.Clock.Advance(5 * time.Second)
			j.update(t, sessions.Fix{Point: north(1000 - float64(i)), RecordedAt: j.Clock.Now().Add(phone)})
		}
		j.Clock.Advance(5 * time.Second)
		last := j.off(t, 900, phone, sessions.VerdictStored)
		require.NotZero(t, last.Clock)
		j.Clock.Advance(10 * time.Minute)
		again := j.restored(t, last.Last())
		receipt := again.off(t, 900, phone, sessions.VerdictStored)
		require.Zero(t, receipt.Flags, "it was flagged")
		require.Equal(t, last.Clock, receipt.Clock)
		require.Equal(t, j.Clock.Now(), again.latest(t).Location.RecordedAt)
	},
	"silence/a_loss_is_none": func(t *testing.T, j journey) {
		j = j.startedAgo(20 * time.Minute).begun(t)
		last := j.confirmed(t, 50)
		j.Forget()
		j.Clock.Advance(299 * time.Second)
		again := j.restored(t, last.Last())
		require.Equal(t, geo.FlagReanchored, again.stored(t, 50).Flags)
	},
}

// silent lets the location expire after its last fix, for d in all, and opens the
// journey as the service does then. Three fixes confirm the last place before, unless
// it is a guess.
func (j journey) silent(t *testing.T, d time.Duration) journey {
	t.Helper()
	snap := j.latest(t)
	last := sessions.Receipt{At: snap.Location.At, DistanceM: snap.DistanceM, Arriving: snap.Arriving}
	if !snap.Evidence.Guess {
		j.Clock.Advance(5 * time.Second)
		last = j.stored(t, snap.DistanceM)
		require.True(t, last.Trusted)
	}
	j.Clock.Advance(d)
	require.False(t, j.latest(t).Known)
	return j.restored(t, last.Last())
}

func (j journey) restored(t *testing.T, last sessions.LastFix) journey {
	t.Helper()
	j.Restored, j.Last = true, last
	return j.begun(t)
}

// taken sends a fix that was taken that long ago, of a phone whose clock is right. It
// must be stored.
func (j journey) taken(t *testing.T, metres float64, ago time.Duration) sessions.Receipt {
	t.Helper()
	receipt := j.requireVerdict(t, sessions.VerdictStored, sessions.Fix{Point: north(metres), RecordedAt: j.Clock.Now().Add(ago)})
	require.Equal(t, j.Clock.Now().Add(ago), j.latest(t).Location.RecordedAt)
	return receipt
}

// off sends a fix that was taken now, of a phone whose clock is off by that much.
func (j journey) off(t *testing.T, metres float64, by time.Duration, want sessions.Verdict) sessions.Receipt {
	t.Helper()
	return j.requireVerdict(t, want, sessions.Fix{Point: north(metres), RecordedAt: j.Clock.Now().Add(by)})
}

// unchangedLive runs a call that must not change what a reader sees.
func (j journey) unchangedLive(t *testing.T, call func()) {
	t.Helper()
	before := describe(j.latest(t))
	call()
	require.Equal(t, before, describe(j.latest(t)))
}

// arrival is the code with which an arrival would be refused now; empty: granted.
func (j journey) arrival(t *testing.T) sessions.Code {
	t.Helper()
	snap := j.latest(t)
	snap.Now = j.Clock.Now()
	return sessions.CodeOf(sessions.CheckArrival(snap, j.StartedAt, sessions.ArrivalRules{}))
}
