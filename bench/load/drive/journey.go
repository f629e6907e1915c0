package drive

import (
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"doorstep/bench/rig"
	"doorstep/sessions"
)

// journey is one trainer on the way to one student, in one session after the
// other; the way to one session is a leg. A phone's goroutine changes it;
// students read it through leg and see.
type journey struct {
	number                         int
	trainer, student               sessions.ID
	trainerToken, studentToken     string
	homeLat, homeLng               float64
	update                         []byte // the request of an update, with room for the position at lat and lng
	lat, lng                       int
	due, intended                  time.Time // the schedule, and that plus jitter
	began, ends                    time.Time // of this leg; ends zero: never
	arrives                        bool      // else it is stopped
	startM, cosBearing, sinBearing float64   // the way: a straight line
	watched                        bool

	mu      sync.Mutex
	session sessions.ID
	next    chan struct{} // closed when the next leg has begun
	flight  flight
}

// flight is the fix that was sent last.
type flight struct {
	lat, lng int64 // 1e-7 degrees
	intended time.Time
	answered time.Time // zero: not yet
	seen     bool
	metered  bool
}

func newJourney(number int) (*journey, error) {
	j := &journey{
		number: number, trainer: sessions.NewID(), student: sessions.NewID(), next: make(chan struct{}),
		// Homes lie in an area of 0.2 by 0.2 degrees: many H3 cells. The latitude has
		// two digits before the point and the longitude one, so that all requests of
		// an update have one length.
		homeLat: 51.9 + 0.2*rand.Float64(), homeLng: 4.9 + 0.2*rand.Float64(),
	}
	var err error
	if j.trainerToken, err = rig.Token(j.trainer, sessions.Trainer); err != nil {
		return nil, err
	}
	j.studentToken, err = rig.Token(j.student, sessions.Student)
	return j, err
}

// embark begins a leg in a new session. A leg that arrives starts as far from
// the home as the speed covers until ends; any other leads away from the home.
func (j *journey) embark(now, ends time.Time, arrives bool, speedMPS float64) {
	j.mu.Lock()
	j.session = sessions.NewID()
	j.flight = flight{}
	j.mu.Unlock()
	j.began, j.ends, j.arrives = now, ends, arrives && !ends.IsZero()
	j.startM = 3000
	if j.arrives {
		j.startM = speedMPS * ends.Sub(now).Seconds()
	}
	bearing := 2 * math.Pi * rand.Float64()
	j.cosBearing, j.sinBearing = math.Cos(bearing), math.Sin(bearing)
	j.update, j.lat, j.lng = updateRequest(j.session, j.trainerToken)
}

// depart moves the leg's beginning, and its end with it, to the first fix: other
// journeys were still being set up when the leg was made.
func (j *journey) depart(at time.Time) {
	if !j.ends.IsZero() {
		j.ends = j.ends.Add(at.Sub(j.began))
	}
	j.began = at
}

// underway tells students that the leg has begun.
func (j *journey) underway() {
	j.mu.Lock()
	defer j.mu.Unlock()
	close(j.next)
	j.next = make(chan struct{})
}

// leg is the current session, and what is closed when the next leg has begun.
func (j *journey) leg() (sessions.ID, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.session, j.next
}

const metresPerDegree = 111_195

// position at an instant, in 1e-7 degrees.
func (j *journey) position(at time.Time, speedMPS float64) (lat, lng int64) {
	m := speedMPS * at.Sub(j.began).Seconds()
	if j.arrives {
		m = -m
	}
	m = min(60_000, max(0, j.startM+m)) // over 60 km the number of digits could change
	lat = int64(1e7 * (j.homeLat + m*j.cosBearing/metresPerDegree))
	lng = int64(1e7 * (j.homeLng + m*j.sinBearing/(metresPerDegree*math.Cos(j.homeLat*math.Pi/180))))
	return lat, lng
}

// send notes a fix that is about to leave and reports whether the one before,
// if it was measured, was never shown to a student.
func (j *journey) send(lat, lng int64, intended time.Time, metered bool) (unseen bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	unseen = j.watched && j.flight.metered && !j.flight.seen && !j.flight.answered.IsZero()
	j.flight = flight{lat: lat, lng: lng, intended: intended, metered: metered}
	return unseen
}

func (j *journey) answered(at time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.flight.answered = at
}

// see takes a position that a student was shown and returns the flight of its
// fix; ok is false where that is not the fix that was sent last.
func (j *journey) see(lat, lng int64) (f flight, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.flight.lat != lat || j.flight.lng != lng {
		return flight{}, false
	}
	j.flight.seen = true
	return j.flight, true
}
