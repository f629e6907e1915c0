package geo_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"doorstep/geo"
)

// said is one fix, in seconds after the start by the store's clock: when it comes,
// and what the phone's clock says. sentS is 0 where the phone does not tell it.
type said struct {
	nowS, recordedS, sentS float64
	takenS                 float64
	odd                    bool
}

func TestClock_Take(t *testing.T) {
	t.Parallel()
	const hour = 3600
	for name, c := range map[string]struct {
		fixes  []said
		offset float64 // at the end, s
		learnt bool
	}{
		"agrees":                   {fixes: []said{{0, -0.3, 0, -0.3, false}, {5, 4.8, 4.9, 4.8, false}, {10, 11, 0, 10, false}}},
		"late":                     {fixes: []said{{100, 20, 0, 20, false}, {101, 25, 0, 25, false}, {102, 30, 0, 30, false}}},
		"slow, and sentAt tells":   {fixes: []said{{5, -357, -356, 4, true}, {10, -352, -351, 9, false}}, offset: 361},
		"slow by little, and sent": {fixes: []said{{5, 1, 2, 1, false}}},
		"ahead, and sentAt tells":  {fixes: []said{{5, hour, hour + 4, 1, true}, {10, hour + 9, hour + 10, 9, false}}, offset: 1 - hour - 1},
		"ahead":                    {fixes: []said{{5, hour, 0, 5, true}, {10, hour + 5, 0, 10, false}}, offset: 5 - hour, learnt: true},
		"slow from before the start: the second fix tells": {
			fixes: []said{{1, -359, 0, -359, false}, {6, -354, 0, 6, true}, {11, -349.5, 0, 10.5, false}}, offset: 360, learnt: true,
		},
		"slow by a minute, mid-journey: half a minute tells": {
			fixes: []said{
				{600, 540, 0, 540, false},
				{605, 545, 0, 545, false},
				{610, 550, 0, 550, false},
				{615, 555, 0, 555, false},
				{620, 560, 0, 560, false},
				{625, 565, 0, 565, false},
				{630, 570, 0, 630, true},
			}, offset: 60, learnt: true,
		},
		"a backlog sent at two thirds of its pace teaches nothing": {
			fixes: []said{{600, 500, 0, 500, false}, {610, 515, 0, 515, false}, {620, 530, 0, 530, false}, {630, 545, 0, 545, false}, {640, 560, 0, 560, false}},
		},
		"the least offset counts":            {fixes: []said{{5, -357, -356, 4, true}, {10, -352, -350.5, 8.5, false}}, offset: 360.5},
		"a late request is not a slow clock": {fixes: []said{{100, 99, 99.5, 99, false}, {180, 104, 105, 104, false}, {181, 180, 180.5, 180, false}}},
		"two requests that are late by the same are no slow clock": {
			fixes: []said{{100, 99, 99.5, 99, false}, {114, 100, 100.5, 100, false}, {119, 105, 105.5, 105, false}, {120, 119, 119.5, 119, false}},
		},
		"three over half a minute are": {
			fixes:  []said{{100, 99, 99.5, 99, false}, {114, 100, 100, 100, false}, {129, 115, 115, 115, false}, {145, 131, 131, 145, true}},
			offset: 14,
		},
		"set back by more than a network delays: the second request tells": {
			fixes:  []said{{100, 99, 99.5, 99, false}, {105, 24, 25, 24, false}, {110, 29, 30, 109, true}},
			offset: 80,
		},
		"sent before the start: slow by little": {fixes: []said{{2, -4, -3.5, 1.5, false}, {7, 1, 1.5, 6.5, false}}, offset: 5.5},
		"a clock that creeps is flagged": {
			fixes:  []said{{1, -49, 0, -49, false}, {6, -44, 0, 6, true}, {11, -36, 0, 11, false}, {16, -28, 0, 16, false}, {21, -20, 0, 21, false}, {26, -12, 0, 26, true}},
			offset: 38, learnt: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var clock geo.Clock
			for i, f := range c.fixes {
				times := geo.Times{NowMS: msAfter(f.nowS), RecordedMS: msAfter(f.recordedS), StartedMS: startMS, First: i == 0}
				if f.sentS != 0 {
					times.SentMS = msAfter(f.sentS)
				}
				taken, next, _, odd := clock.Take(times, geo.DefaultLimits(geo.Car))
				assert.Equal(t, msAfter(f.takenS), taken, "fix %d", i)
				assert.Equal(t, f.odd, odd, "fix %d", i)
				clock = next
			}
			assert.Equal(t, int64(c.offset*1000), clock.OffsetMS)
			assert.Equal(t, c.learnt, clock.SinceMS > 0)
		})
	}
}

func msAfter(s float64) int64 { return startMS + int64(s*1000) }
