package main

import (
	"math"
	"math/rand/v2"
	"slices"

	"doorstep/geo"
	"doorstep/geo/trace"
)

// host is a part of an honest journey that is turned into fakes: five minutes
// before the fake begins, and ten after.
type host struct {
	file  string
	mode  geo.Mode
	fixes []trace.Fix
	at    []int64
	from  int // the first fix that a fake may change
}

const (
	windowMS  = 15 * 60_000
	preludeMS = 5 * 60_000
	gapMS     = 30_000 // a longer silence would give a fake more travelling time
	perTrack  = 4
)

// hosts cuts up to four windows out of a recording.
func hosts(r recording) []host {
	at := r.arrivals()
	var out []host
	for i := 0; i < len(r.fixes) && len(out) < perTrack; {
		end := i + 1
		for end < len(r.fixes) && at[end]-at[i] < windowMS && at[end]-at[end-1] <= gapMS {
			end++
		}
		if at[end-1]-at[i] >= windowMS-gapMS {
			from := i + slices.IndexFunc(at[i:end], func(ms int64) bool { return ms-at[i] >= preludeMS })
			out = append(out, host{r.file, r.mode, r.fixes[i:end], at[i:end], from - i})
		}
		i = end
	}
	return out
}

// forgery is a host that was turned into a fake.
type forgery struct {
	mode  geo.Mode
	fixes []trace.Fix
	at    []int64
	from  int       // the first forged fix
	door  geo.Point // where `arrived` is asked for; invalid = nowhere
}

// fake is one way to lie. forge reports false where the host does not allow it.
type fake struct {
	name  string
	forge func(host, *rand.Rand) (forgery, bool)
}

func fakes() []fake {
	return []fake{
		{"teleport of 1 to 20 km", teleport},
		{"teleport to the door, then arrived", door},
		{"at the door at once, then arrived", doorAtOnce},
		{"at the door by mock fixes", mockedDoor},
		{"a young track of 5 s at the door", youngTrack},
		{"silent for 4 min, then at the door", silentDoor},
		{"last 2 min replayed in a loop", replay},
		{"last 2 min driven back exactly", retrace},
		{"another day's journey replayed", otherDay},
		{"slow drift, 2 m/s sideways", drift},
		{"constant offset of 300 m", offset},
		{"frozen position", frozen},
		{"frozen accuracy", frozenAccuracy},
		{"mock flag", mock},
		{"clock shifted 2 min", clockShift},
		{"back-dated 4 min, then twice as fast", backDated},
		{"clock 50 s behind, made good in 2 min", clockCreep},
		{"drive claimed as walk", driveAsWalk},
		{"walk claimed as drive", walkAsDrive},
		{"boiling frog: faster by half every minute", boilingFrog},
		{"hides in a claimed accuracy of 100 m", vagueOnPurpose},
	}
}

// copyOf is the host as a forgery in which nothing is forged yet.
func copyOf(h host) forgery {
	return forgery{mode: h.mode, fixes: slices.Clone(h.fixes), at: slices.Clone(h.at), from: h.from}
}

// each changes every fix from the first forged one on.
func each(h host, change func(f *trace.Fix, sinceMS int64)) (forgery, bool) {
	out := copyOf(h)
	for i := out.from; i < len(out.fixes); i++ {
		change(&out.fixes[i], out.at[i]-out.at[out.from])
	}
	return out, true
}

func teleport(h host, rng *rand.Rand) (forgery, bool) {
	bearing, far := 360*rng.Float64(), 1000*math.Pow(20, rng.Float64())
	here := h.fixes[h.from-1].Point
	target := geo.Offset(h.fixes[h.from].Point, bearing, far)
	if geo.DistanceM(here, target) < 1000 {
		target = geo.Offset(here, bearing, far)
	}
	shift := shiftBy(h.fixes[h.from].Point, target)
	return each(h, func(f *trace.Fix, _ int64) { f.Point = shift(f.Point) })
}

// shiftBy moves points as from was moved to to.
func shiftBy(from, to geo.Point) func(geo.Point) geo.Point {
	bearing, far := geo.BearingDeg(from, to), geo.DistanceM(from, to)
	return func(p geo.Point) geo.Point { return geo.Offset(p, bearing, far) }
}

// door is a home one to five kilometres away, and a phone that is there at once.
func door(h host, rng *rand.Rand) (forgery, bool) {
	home := geo.Offset(h.fixes[h.from-1].Point, 360*rng.Float64(), 1050+4000*rng.Float64())
	out, ok := each(h, func(f *trace.Fix, _ int64) { f.Point = geo.Offset(home, 360*rng.Float64(), 5*rng.Float64()) })
	out.door = home
	return out, ok
}

// startAtDoor is a journey that starts with n fixes at the home, whose place the
// trainer knows from the API.
func startAtDoor(h host, rng *rand.Rand, n int) forgery {
	home := geo.Offset(h.fixes[h.from].Point, 360*rng.Float64(), 1050+4000*rng.Float64())
	out := copyOf(h)
	out.fixes, out.at, out.from, out.door = out.fixes[h.from:], out.at[h.from:], 0, home
	n = min(n, len(out.fixes))
	out.fixes, out.at = out.fixes[:n], out.at[:n]
	for i := range out.fixes {
		out.fixes[i].Point = geo.Offset(home, 360*rng.Float64(), 5*rng.Float64())
	}
	return out
}

func doorAtOnce(h host, rng *rand.Rand) (forgery, bool) { return startAtDoor(h, rng, 1), true }

func mockedDoor(h host, rng *rand.Rand) (forgery, bool) {
	out := startAtDoor(h, rng, 30)
	for i := range out.fixes {
		out.fixes[i].Mock = true
	}
	return out, true
}

// youngTrack has two fixes of one track, which agree.
func youngTrack(h host, rng *rand.Rand) (forgery, bool) { return startAtDoor(h, rng, 2), true }

func silentDoor(h host, rng *rand.Rand) (forgery, bool) {
	out, _ := door(h, rng)
	i := slices.IndexFunc(out.at, func(ms int64) bool { return ms-out.at[out.from] >= 240_000 })
	out.fixes = slices.Delete(out.fixes, out.from, i)
	out.at = slices.Delete(out.at, out.from, i)
	return out, true
}

// twoMinutes is how many fixes before the fake span two minutes.
func twoMinutes(h host) int {
	i := h.from - 1
	for i > 0 && h.at[h.from]-h.at[i] < 120_000 {
		i--
	}
	return h.from - i
}

func replay(h host, _ *rand.Rand) (forgery, bool) {
	n := twoMinutes(h)
	out := copyOf(h)
	for i := out.from; i < len(out.fixes); i++ {
		out.fixes[i].Point = h.fixes[h.from-n+(i-h.from)%n].Point
	}
	return out, moved(h, n)
}

func retrace(h host, _ *rand.Rand) (forgery, bool) {
	n := twoMinutes(h)
	out := copyOf(h)
	for i := out.from; i < len(out.fixes); i++ {
		back := (i - h.from) % (2 * n)
		out.fixes[i].Point = h.fixes[h.from-1-min(back, 2*n-1-back)].Point
	}
	return out, moved(h, n)
}

// moved reports whether the host moved in its last n fixes. The replay of a parked
// phone is a parked phone.
func moved(h host, n int) bool {
	return geo.DistanceM(h.fixes[h.from-n].Point, h.fixes[h.from-1].Point) > 100
}

// otherDay is the whole host, sent again with new times: only the day is false.
func otherDay(h host, _ *rand.Rand) (forgery, bool) {
	out := copyOf(h)
	out.from = 0
	for i := range out.fixes {
		out.fixes[i].RecordedMS += 86_400_000
		out.at[i] += 86_400_000
	}
	return out, true
}

func drift(h host, rng *rand.Rand) (forgery, bool) {
	bearing := 360 * rng.Float64()
	return each(h, func(f *trace.Fix, ms int64) { f.Point = geo.Offset(f.Point, bearing, float64(ms)/500) })
}

func offset(h host, rng *rand.Rand) (forgery, bool) {
	h.from = 0
	bearing := 360 * rng.Float64()
	return each(h, func(f *trace.Fix, _ int64) { f.Point = geo.Offset(f.Point, bearing, 300) })
}

func frozen(h host, _ *rand.Rand) (forgery, bool) {
	at := h.fixes[h.from-1].Point
	return each(h, func(f *trace.Fix, _ int64) { f.Point = at })
}

func frozenAccuracy(h host, _ *rand.Rand) (forgery, bool) {
	return each(h, func(f *trace.Fix, _ int64) { f.AccuracyM = 5 })
}

func mock(h host, _ *rand.Rand) (forgery, bool) {
	return each(h, func(f *trace.Fix, _ int64) { f.Mock = true })
}

func clockShift(h host, rng *rand.Rand) (forgery, bool) {
	ms := int64(120_000)
	if rng.IntN(2) == 0 {
		ms = -ms
	}
	return each(h, func(f *trace.Fix, _ int64) { f.RecordedMS += ms })
}

// backDated starts with a clock four minutes behind and drives the rest of the
// host in half the time, each fix stamped as if it had not.
func backDated(h host, _ *rand.Rand) (forgery, bool) {
	out := copyOf(h)
	base := h.fixes[h.from].RecordedMS
	for i := range h.from {
		out.fixes[i].RecordedMS -= 240_000
	}
	last := h.from
	for i := h.from; h.from+2*(i-h.from) < len(h.fixes); i++ {
		out.fixes[i] = h.fixes[h.from+2*(i-h.from)]
		out.fixes[i].RecordedMS = base - 240_000 + (out.fixes[i].RecordedMS - base)
		last = i
	}
	out.fixes, out.at = out.fixes[:last+1], out.at[:last+1]
	out.from = 0
	return out, true
}

// clockCreep has a clock fifty seconds behind, too little to be noticed, and makes
// up for it: for two minutes it drives 40 % faster than its times say.
func clockCreep(h host, _ *rand.Rand) (forgery, bool) {
	out := copyOf(h)
	for i := range out.fixes {
		sinceMS := max(0, h.at[i]-h.at[h.from])
		ahead := min(50_000, sinceMS*50/120)
		out.fixes[i] = fixAt(h, h.fixes[i].RecordedMS+ahead)
		out.fixes[i].RecordedMS = h.fixes[i].RecordedMS - 50_000 + ahead
	}
	return out, true
}

// fixAt is the host's fix nearest to a time.
func fixAt(h host, ms int64) trace.Fix {
	best := h.fixes[0]
	for _, f := range h.fixes {
		if math.Abs(float64(f.RecordedMS-ms)) < math.Abs(float64(best.RecordedMS-ms)) {
			best = f
		}
	}
	return best
}

func driveAsWalk(h host, _ *rand.Rand) (forgery, bool) {
	out := copyOf(h)
	out.mode, out.from = geo.Walk, 0
	return out, h.mode == geo.Car && moved(h, twoMinutes(h))
}

func walkAsDrive(h host, _ *rand.Rand) (forgery, bool) {
	out := copyOf(h)
	out.mode, out.from = geo.Car, 0
	return out, h.mode == geo.Walk
}

// boilingFrog goes straight on, faster and faster, and counts from the first fix
// over the limit.
func boilingFrog(h host, _ *rand.Rand) (forgery, bool) {
	out := copyOf(h)
	course := geo.BearingDeg(h.fixes[h.from-1].Point, h.fixes[h.from].Point)
	limitMPS := geo.DefaultLimits(h.mode).LimitKMH / 3.6
	speedMPS, p := limitMPS/3, h.fixes[h.from-1].Point
	over := -1
	for i := h.from; i < len(out.fixes); i++ {
		s := float64(out.at[i]-out.at[i-1]) / 1000
		speedMPS *= math.Pow(1.5, s/60)
		p = geo.Offset(p, course, speedMPS*s)
		out.fixes[i].Point = p
		if over < 0 && speedMPS > limitMPS {
			over = i
		}
	}
	out.from = max(0, over)
	return out, over > 0
}

// vagueOnPurpose goes at one and a half times the ceiling and claims a bad accuracy.
func vagueOnPurpose(h host, _ *rand.Rand) (forgery, bool) {
	course := geo.BearingDeg(h.fixes[h.from-1].Point, h.fixes[h.from].Point)
	mps := 1.5 * geo.DefaultLimits(h.mode).CeilingKMH / 3.6
	start := h.fixes[h.from-1].Point
	return each(h, func(f *trace.Fix, ms int64) {
		f.Point = geo.Offset(start, course, mps*float64(ms)/1000)
		f.AccuracyM = 100
	})
}
