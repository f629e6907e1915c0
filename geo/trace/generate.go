package trace

import (
	"math"
	"math/rand/v2"

	"doorstep/geo"
)

// epochMS is when every generated journey starts: 2025-01-01T08:00:00Z.
const epochMS = 1735718400000

// pace is how a mode moves: km/h it likes, how hard it accelerates, how often
// it has to stop and for how long at most.
type pace struct {
	cruiseKMH, accelMPS2  float64
	stopEveryM, stopMaxS  float64
	wanderM, wanderEveryM float64 // how far the road leaves the great circle
}

func paceOf(mode geo.Mode) pace {
	switch mode {
	case geo.Bike:
		return pace{cruiseKMH: 18, accelMPS2: 0.8, stopEveryM: 700, stopMaxS: 25, wanderM: 60, wanderEveryM: 600}
	case geo.Walk:
		return pace{cruiseKMH: 5, accelMPS2: 0.5, stopEveryM: 300, stopMaxS: 20, wanderM: 25, wanderEveryM: 250}
	default:
		return pace{cruiseKMH: 48, accelMPS2: 1.8, stopEveryM: 500, stopMaxS: 40, wanderM: 120, wanderEveryM: 900}
	}
}

// Generate makes up an honest journey from one place to another: one fix a
// second, traffic lights, a road that wanders off the great circle and comes
// back, and the error of a real receiver, which drifts slowly instead of
// jumping. It starts at 2025-01-01T08:00:00Z, stands still before to within the
// noise, and the same arguments give the same fixes. Points must be valid; a
// mode outside the list travels as Car.
func Generate(seed uint64, from, to geo.Point, mode geo.Mode) []Fix {
	return newDrive(seed, from, to, paceOf(mode)).fixes()
}

// drive is a journey on its way.
type drive struct {
	pace
	rng        *rand.Rand
	from       geo.Point
	bearingDeg float64
	lengthM    float64
	phase      [2]float64 // of the two waves the road is made of
	alongM     float64
	speedMPS   float64
	nextStopM  float64
	waitS      float64
	northM     float64 // the receiver's error, a slow random walk that is pulled back
	eastM      float64
}

func newDrive(seed uint64, from, to geo.Point, p pace) *drive {
	rng := rand.New(rand.NewPCG(seed, 0x5eed))
	d := &drive{
		pace: p, rng: rng, from: from,
		bearingDeg: geo.BearingDeg(from, to), lengthM: geo.DistanceM(from, to),
		phase: [2]float64{rng.Float64() * 2 * math.Pi, rng.Float64() * 2 * math.Pi},
	}
	d.wanderM = math.Min(d.wanderM, d.lengthM/25) // a short way has no room for a bend
	d.cruiseKMH *= 0.85 + 0.3*rng.Float64()
	d.nextStopM = d.stopEveryM * (0.3 + rng.Float64())
	return d
}

// settleS is how long the phone stands before the door at the end.
const settleS = 10

func (d *drive) fixes() []Fix {
	var out []Fix
	for standing := 0; standing <= settleS; {
		out = append(out, d.fix(len(out)))
		d.step()
		if d.alongM >= d.lengthM {
			standing++
		}
	}
	return out
}

// step moves one second on.
func (d *drive) step() {
	remaining := d.lengthM - d.alongM
	if remaining <= 0 {
		d.speedMPS = 0
		return
	}
	if d.waitS > 0 {
		d.waitS--
		return
	}
	target := math.Min(d.cruiseKMH/kmhPerMPS, math.Max(0.5, remaining/4))
	d.speedMPS += math.Max(-2*d.accelMPS2, math.Min(d.accelMPS2, target-d.speedMPS))
	d.alongM = math.Min(d.lengthM, d.alongM+d.speedMPS)
	if d.alongM >= d.nextStopM {
		d.nextStopM += d.stopEveryM * (0.4 + 1.2*d.rng.Float64())
		d.waitS, d.speedMPS = math.Floor(d.stopMaxS*d.rng.Float64()), 0
	}
}

// errorKeep and errorStepM give the receiver's error a memory of half a minute
// and a spread of about 3 m an axis: keep = exp(-1/30), and the spread of such
// a walk is step/sqrt(1-keep²).
const (
	errorKeep  = 0.967
	errorStepM = 0.76
)

func (d *drive) fix(second int) Fix {
	d.northM = errorKeep*d.northM + errorStepM*d.noise()
	d.eastM = errorKeep*d.eastM + errorStepM*d.noise()
	onRoad := geo.Offset(geo.Offset(d.from, d.bearingDeg, d.alongM), d.bearingDeg+90, d.aside())
	seen := geo.Offset(geo.Offset(onRoad, 0, d.northM), 90, d.eastM)
	return Fix{Seq: second, Fix: geo.Fix{
		Point:      seen,
		AccuracyM:  math.Round(10*(5+4*d.rng.Float64())) / 10,
		SpeedKMH:   geo.Measured(math.Max(0, kmhPerMPS*d.speedMPS+0.5*d.noise())),
		HeadingDeg: geo.Measured(math.Mod(d.bearingDeg+360, 360)),
		RecordedMS: epochMS + int64(second)*1000,
	}}
}

// noise is normal without its tails, so that what is made up here is honest for
// every seed and not for nearly all.
func (d *drive) noise() float64 { return math.Max(-2.5, math.Min(2.5, d.rng.NormFloat64())) }

// aside is how far the road is from the great circle here; nothing at both ends.
func (d *drive) aside() float64 {
	if d.lengthM == 0 {
		return 0
	}
	taper := math.Sin(math.Pi * d.alongM / d.lengthM)
	wave := math.Sin(2*math.Pi*d.alongM/d.wanderEveryM/6+d.phase[0]) +
		0.4*math.Sin(2*math.Pi*d.alongM/d.wanderEveryM/2+d.phase[1])
	return d.wanderM * taper * wave
}
