package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// student is the student's app: one long poll after another, each with the
// validator of the answer before, until the journey is over.
type student struct {
	*client
	journey *journey
	first   *sighted // the first location, for a guess at the ETA
}

type sighted struct {
	at    time.Time
	leftM float64
}

// view is the data of a live read.
type view struct {
	Location *struct {
		Timestamp time.Time `json:"timestamp"`
	} `json:"location"`
	IsActive   bool     `json:"isActive"`
	DistanceM  *float64 `json:"distanceMeters"`
	ETASeconds *float64 `json:"etaSeconds"`
	Degraded   bool     `json:"degraded"`
}

const (
	// waitFor is how long one poll waits, in real seconds.
	waitFor = 25
	// retryRead is the pause after a read that failed, in real time.
	retryRead = 200 * time.Millisecond
	readTries = 20
)

// follow watches the journey until it has ended.
func (s *student) follow(ctx context.Context) error {
	path := "/admin/location-tracking/journey/live?sessionId=" + s.journey.session
	etag, wait, bad := "", 0, 0
	for {
		a, err := s.get(ctx, fmt.Sprintf("%s&wait=%d", path, wait), etag, time.Duration(wait)*time.Second)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && a.Status == http.StatusNotModified:
			bad = 0
		case err == nil && a.Status == http.StatusOK:
			active, err := s.see(a)
			if err != nil || !active {
				return err
			}
			etag, wait, bad = a.ETag, waitFor, 0
		default:
			if bad++; bad == readTries {
				return errors.Join(errors.New("the student cannot read the journey"), err)
			}
			if err := s.trouble(ctx, a, err); err != nil {
				return err
			}
		}
	}
}

// trouble notes a read that failed and waits a little.
func (s *student) trouble(ctx context.Context, a answer, err error) error {
	if err != nil {
		s.journey.report.count(func(t *totals) { t.failures++ })
		s.journey.sayf("no answer to a read: %v", err)
	} else {
		s.journey.odd(unexpected{"live", a}.Error())
	}
	return pause(ctx, retryRead)
}

// see takes one answer; false when it says that the journey is over.
func (s *student) see(a answer) (active bool, err error) {
	var v view
	if err := a.into(&v); err != nil {
		return false, err
	}
	if v.Location != nil && v.DistanceM != nil {
		s.locate(a, v)
	}
	return v.IsActive, nil
}

func (s *student) locate(a answer, v view) {
	now, left := s.journey.clock.Now(), *v.DistanceM
	if s.first == nil {
		s.first = &sighted{now, left}
	}
	eta, guess := s.eta(v, now)
	eye, seen := s.journey.sightings.seen(v.Location.Timestamp, a.receivedAt)
	if seen {
		s.journey.report.count(func(t *totals) { t.seen++; t.eye.add(eye) })
	}
	s.journey.line(func(l *Line) {
		l.Located, l.LeftM, l.FromM, l.ETA, l.Guess = true, left, max(l.FromM, left), eta, guess
		if seen {
			l.Eye = eye
		}
		switch near := left <= arrivalRadiusM; {
		case l.State == OnTheWay && near:
			l.State = Arriving
		case l.State == Arriving && !near: // a way that begins, or passes, near the home
			l.State = OnTheWay
		}
	})
}

// arrivalRadiusM is the contract's, to know an explained refusal by.
const arrivalRadiusM = 150

// eta is the service's where it gives one, else a guess from the way so far.
func (s *student) eta(v view, now time.Time) (eta time.Duration, guess bool) {
	if v.ETASeconds != nil {
		return time.Duration(*v.ETASeconds * float64(time.Second)), false
	}
	came, took := s.first.leftM-*v.DistanceM, now.Sub(s.first.at)
	if came < 50 {
		return 0, true
	}
	return time.Duration(float64(took) * *v.DistanceM / came), true
}

// code asks for the session once the trainer has arrived: only the student is
// shown the code there.
func (s *student) code(ctx context.Context) (string, error) {
	a, err := s.get(ctx, "/admin/sessions/"+s.journey.session, "", 0)
	if err != nil {
		return "", err
	}
	var session struct {
		Status string `json:"status"`
		OTP    string `json:"otp"`
	}
	if a.Status != http.StatusOK {
		return "", unexpected{"session", a}
	}
	if err := a.into(&session); err != nil {
		return "", err
	}
	if session.Status != "pending_verification" || session.OTP == "" {
		return "", fmt.Errorf("the student was shown no code: the session is %s", session.Status)
	}
	return session.OTP, nil
}

// sightings times fixes from the phone's send to the student's answer. A fix is
// known by its recordedAt, which the live read repeats as the location's
// timestamp. Safe for concurrent use.
type sightings struct {
	mu   sync.Mutex
	when map[int64]time.Time
}

func newSightings() *sightings { return &sightings{when: map[int64]time.Time{}} }

// sent notes the start of a request; a repeat replaces it.
func (s *sightings) sent(recorded, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.when[recorded.UnixMilli()] = now
}

// seen is how long the fix took; false for one that was seen before. Those
// before it were overtaken and are forgotten.
func (s *sightings) seen(recorded, now time.Time) (took time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.when[recorded.UnixMilli()]
	for ms := range s.when {
		if ms <= recorded.UnixMilli() {
			delete(s.when, ms)
		}
	}
	return now.Sub(at), ok
}
