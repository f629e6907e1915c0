package main

import (
	"math"
	"slices"

	"doorstep/geo"
)

// minutesOut are the times before the arrival at which an estimate is checked.
var minutesOut = [...]int{10, 5, 2}

// etaErrors collects, for each of minutesOut, the errors of the estimates in
// seconds, and how often there was no estimate.
type etaErrors struct {
	offS  [len(minutesOut)][]float64
	none  [len(minutesOut)]int
	early [len(secondsIn)]earlyErrors
}

// add estimates one journey. Its home is its last point, and its end the first fix
// after which it stays within the fence. A short journey counts only for the times
// that it is long enough for.
func (e *etaErrors) add(r recording, detour float64) {
	home := r.fixes[len(r.fixes)-1].Point
	end := len(r.fixes) - 1
	for end > 0 && geo.DistanceM(r.fixes[end-1].Point, home) <= radiusM {
		end--
	}
	at := r.arrivals()
	var track geo.Track
	next := 0
	start := max(0, slices.IndexFunc(at, func(ms int64) bool { return at[end]-ms <= journeyMS }))
	for i := start; i < end && next < len(minutesOut); i++ {
		fix := r.fixes[i].Fix
		fix.TakenMS = min(fix.RecordedMS, at[i]) // the phone's clock agrees
		_, track = geo.Judge(track, fix, geo.DefaultLimits(r.mode), at[i])
		leftMS := at[end] - at[i]
		for next < len(minutesOut) && leftMS <= int64(minutesOut[next])*60_000 {
			if math.Abs(float64(leftMS)/60_000-float64(minutesOut[next])) < 0.25 {
				e.compare(next, track, r.mode, home, detour, leftMS)
			}
			next++
		}
	}
}

func (e *etaErrors) compare(which int, track geo.Track, mode geo.Mode, home geo.Point, detour float64, leftMS int64) {
	pace, over := geo.PaceFrom(track.Anchor, track.Last, track.PaceMMS, track.PacedMS)
	eta, known := geo.ETA(geo.DistanceM(track.Last.Point, home), mode, pace, over, detour)
	if !known {
		e.none[which]++
		return
	}
	e.offS[which] = append(e.offS[which], math.Abs(eta.Seconds()-float64(leftMS)/1000))
}

// secondsIn are the times after the first fix at which an estimate is checked.
var secondsIn = [...]int{5, 10, 15, 30, 60, 120, 300}

// earlyErrors are the relative errors of the estimates at one of secondsIn, and of
// those that the mode's usual speed alone would give.
type earlyErrors struct {
	ours, usual []float64
	none        int
}

const (
	tripEveryMS = 180_000
	leastTripM  = 300
	leastLeftMS = 60_000
)

// addEarly makes trips of 10 and 20 minutes of a recording, one of each every three
// minutes.
func (e *etaErrors) addEarly(r recording) {
	at := r.arrivals()
	next := at[0]
	for from := range r.fixes {
		if at[from] < next {
			continue
		}
		next = at[from] + tripEveryMS
		for _, long := range []int64{600_000, 1_200_000} {
			to := from
			for to < len(at)-1 && at[to]-at[from] < long {
				to++
			}
			home := r.fixes[to].Point
			if at[to]-at[from] >= long-gapMS && geo.DistanceM(r.fixes[from].Point, home) >= leastTripM {
				for to > from && geo.DistanceM(r.fixes[to-1].Point, home) <= radiusM {
					to--
				}
				e.trip(r, at, from, to, home)
			}
		}
	}
}

// trip checks the first estimates of a journey from one fix to another.
func (e *etaErrors) trip(r recording, at []int64, from, to int, home geo.Point) {
	var track geo.Track
	next := 0
	for i := from; i < to && at[to]-at[i] >= leastLeftMS; i++ {
		fix := r.fixes[i].Fix
		fix.TakenMS = min(fix.RecordedMS, at[i])
		_, track = geo.Judge(track, fix, geo.DefaultLimits(r.mode), at[i])
		for next < len(secondsIn) && at[i]-at[from] >= int64(secondsIn[next])*1000-1500 {
			if at[i]-at[from] < int64(secondsIn[next])*1000+3000 {
				e.early[next].add(track, r.mode, home, float64(at[to]-at[i])/1000)
			}
			next++
		}
	}
}

func (e *earlyErrors) add(track geo.Track, mode geo.Mode, home geo.Point, leftS float64) {
	far := geo.DistanceM(track.Last.Point, home)
	pace, over := geo.PaceFrom(track.Anchor, track.Last, track.PaceMMS, track.PacedMS)
	eta, known := geo.ETA(far, mode, pace, over, geo.DefaultDetour)
	if !known {
		e.none++
		return
	}
	usualS := far * geo.DefaultDetour * 1000 / float64(geo.UsualMMS(mode))
	e.ours = append(e.ours, math.Abs(eta.Seconds()-leftS)/leftS)
	e.usual = append(e.usual, math.Abs(usualS-leftS)/leftS)
}

// ninetieth is the 90th percentile.
func ninetieth(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)*9/10]
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
