package livetest

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

const (
	raceRounds = 20
	racers     = 8
)

var raceTests = map[string]func(*testing.T, journey){
	// The reason for the tombstone: whichever call is first, no coordinate is left.
	"end_and_fixes": func(t *testing.T, j journey) {
		for range raceRounds {
			j := j.sameTrainer().begun(t)
			atOnce(func(i int) {
				if i == 0 {
					assert.NoError(t, j.Live.End(t.Context(), j.Journey))
					return
				}
				_, err := j.Live.Update(t.Context(), j.Ref, sessions.Fix{Point: north(100)})
				assert.NoError(t, err)
			})
			require.False(t, j.latest(t).Active)
			j.requireNoCoordinate(t)
		}
	},
	"end_and_opens": func(t *testing.T, j journey) {
		for range raceRounds {
			j := j.sameTrainer()
			atOnce(func(i int) {
				if i == 0 {
					assert.NoError(t, j.Live.End(t.Context(), j.Journey))
					return
				}
				_, err := j.Live.Open(t.Context(), j.Journey)
				assert.NoError(t, err)
			})
			require.False(t, j.latest(t).Active)
			require.True(t, j.latest(t).Known)
			j.requireNoCoordinate(t)
		}
	},
	"opens": func(t *testing.T, j journey) {
		for range raceRounds {
			j := j.sameTrainer()
			atOnce(func(int) {
				opened, err := j.Live.Open(t.Context(), j.Journey)
				assert.NoError(t, err)
				assert.True(t, opened)
			})
			require.Equal(t, j.Clock.Now().UnixMilli(), j.latest(t).Version, "opened once")
		}
	},
	"opens_of_two_journeys": func(t *testing.T, j journey) {
		for range raceRounds {
			newer := j.sameTrainer()
			older := newer.startedAgo(time.Second)
			atOnce(func(i int) {
				which := []journey{older, newer}[i%2]
				opened, err := which.Live.Open(t.Context(), which.Journey)
				assert.NoError(t, err)
				assert.True(t, opened || i%2 == 0, "the newer one always opens")
			})
			newer.unchanged(t, func() { require.True(t, newer.open(t)) })
		}
	},
	"fixes": func(t *testing.T, j journey) {
		for range raceRounds {
			j := j.sameTrainer().begun(t)
			var mu sync.Mutex
			verdicts := map[sessions.Verdict]int{}
			atOnce(func(int) {
				receipt, err := j.Live.Update(t.Context(), j.Ref, sessions.Fix{Point: north(100)})
				assert.NoError(t, err)
				mu.Lock()
				defer mu.Unlock()
				verdicts[receipt.Verdict]++
			})
			require.Equal(t, map[sessions.Verdict]int{sessions.VerdictStored: 1, sessions.VerdictTooSoon: racers - 1}, verdicts)
		}
	},
	// A reader sees complete snapshots, whose versions only rise.
	"readers": func(t *testing.T, j journey) {
		j.begun(t)
		atOnce(func(i int) {
			if i == 0 {
				for metres := range raceRounds {
					_, err := j.Live.Update(t.Context(), j.Ref, sessions.Fix{Point: north(float64(metres)), AccuracyM: float64(metres)})
					assert.NoError(t, err)
					j.Clock.Advance(5 * time.Second)
				}
				assert.NoError(t, j.Live.End(t.Context(), j.Journey))
				return
			}
			last := int64(0)
			for range 5 * raceRounds {
				snap, err := j.Live.Latest(t.Context(), j.Ref)
				assert.NoError(t, err)
				assert.GreaterOrEqual(t, snap.Version, last)
				last = snap.Version
				if at := snap.Location; at != nil {
					assert.InDelta(t, at.AccuracyM, snap.DistanceM, 0.05)
					assert.Equal(t, at.RecordedAt, at.At)
				}
			}
		})
	},
}

// atOnce calls f from several goroutines and waits for them.
func atOnce(f func(i int)) {
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
