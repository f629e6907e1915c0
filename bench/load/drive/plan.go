package drive

import (
	"errors"
	"time"
)

// Way is how the phones send.
type Way string

// The ways of sending.
const (
	Pace  Way = "pace"  // open loop: each journey on its own schedule
	Flood Way = "flood" // closed loop: each connection as fast as it is answered
	Once  Way = "once"  // one fix of each journey, all at the same instant
	Still Way = "still" // no fix
)

// Plan is what one generator process plays. It is sent to it as a gob.
type Plan struct {
	Updates []string // host:port that fixes and changes of a journey go to, in turns
	Watches []string // host:port that students go to, in turns; may be the same. Empty: where their journey's phone goes

	// Store is the URL of a live store in which journeys are opened directly,
	// without booking and start, which cost a gateway and its database fifty times
	// as much: for many journeys whose beginning is not what is measured. Empty:
	// they are booked and started, as in production.
	Store string

	Journeys int // at the same time
	First    int // number of the first one among all processes'
	Conns    int // connections that the phones share, as behind a load balancer; 0: one each
	Watchers int // students; number i watches journey i modulo Journeys: its student, then admins

	Way      Way
	Every    time.Duration // Pace, and Once where a fix is not stored: between two fixes of a journey
	Jitter   time.Duration // Pace: a fix is due up to this much later than its schedule
	Life     time.Duration // Pace: a journey's mean length (exponential); 0: none ends
	Arrivals float64       // Pace: share of the journeys that end by arriving; the others are stopped
	SpeedMPS float64       // of every trainer

	Warmup   time.Duration // played, not measured
	Duration time.Duration // measured
}

func (p Plan) validate() error {
	switch {
	case len(p.Updates) == 0:
		return errors.New("drive: a plan without addresses")
	case p.Journeys <= 0:
		return errors.New("drive: a plan without journeys")
	case p.Store != "" && p.Life > 0:
		return errors.New("drive: a journey that was not booked cannot end")
	case (p.Way == Pace || p.Way == Once) && p.Every <= 0:
		return errors.New("drive: phones that send again need a period")
	case p.SpeedMPS < 0 || p.SpeedMPS > 33:
		return errors.New("drive: a speed over 33 m/s, 120 km/h, would be refused")
	}
	return nil
}

// conns is how many connections the phones have.
func (p Plan) conns() int {
	if p.Conns == 0 {
		return p.Journeys
	}
	return p.Conns
}

// descriptors is about how many files a process that plays the plan has open.
func (p Plan) descriptors() int { return p.conns() + p.Watchers }

// perProcess is how many of them one process may have. It leaves room under the
// usual hard limit of 20,000.
const perProcess = 18_000

// Split shares a plan among as many processes as its connections need.
func (p Plan) Split() []Plan {
	n := (p.descriptors() + perProcess - 1) / perProcess
	n = max(1, min(n, p.Journeys))
	plans := make([]Plan, n)
	for i := range plans {
		part := p
		from, to := i*p.Journeys/n, (i+1)*p.Journeys/n
		part.First, part.Journeys = p.First+from, to-from
		part.Watchers = (i+1)*p.Watchers/n - i*p.Watchers/n
		if p.Conns > 0 {
			part.Conns = max(1, (i+1)*p.Conns/n-i*p.Conns/n)
		}
		plans[i] = part
	}
	return plans
}
