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
	offS [len(minutesOut)][]float64
	none [len(minutesOut)]int
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
				e.compare(next, track, home, detour, leftMS)
			}
			next++
		}
	}
}

func (e *etaErrors) compare(which int, track geo.Track, home geo.Point, detour float64, leftMS int64) {
	eta, known := geo.ETA(geo.DistanceM(track.Last.Point, home), track.PaceMMS, track.PacedMS, detour)
	if !known {
		e.none[which]++
		return
	}
	e.offS[which] = append(e.offS[which], math.Abs(eta.Seconds()-float64(leftMS)/1000))
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
