package demo

import (
	"context"
	"fmt"
	"time"

	"doorstep/client"
)

// student is the student's app, which follows the journey by long poll.
type student struct {
	*client.Client
	journey    *journey
	firstAt    time.Time // virtual; of the first location, for a guess at the ETA
	firstLeftM float64
}

// readTries is how many reads in a row may fail.
const readTries = 20

// follow watches the journey until it has ended.
func (s *student) follow(ctx context.Context) error {
	failures := 0
	app := client.Follower{Client: s, SessionID: s.journey.booking.SessionID, Begun: true, Now: s.journey.clock.Now, Sleep: s.journey.clock.Sleep}
	for v, err := range app.Views(ctx) {
		switch {
		case err == nil && !v.Active:
			return nil
		case err == nil:
			failures = 0
			s.show(v, time.Now())
			continue
		case noAnswer(err):
			s.journey.report.count(func(t *totals) { t.failures++ })
			s.journey.sayf("no answer to a read: %v", err)
		default:
			s.journey.odd(err.Error())
		}
		if failures++; failures == readTries || !client.Temporary(err) {
			return fmt.Errorf("the student cannot read the journey: %w", err)
		}
	}
	return ctx.Err()
}

func (s *student) show(v client.View, at time.Time) {
	if v.Location == nil || v.DistanceM == nil {
		return
	}
	now, left := s.journey.clock.Now(), *v.DistanceM
	if s.firstAt.IsZero() {
		s.firstAt, s.firstLeftM = now, left
	}
	eta, guess := s.eta(v, now)
	took, seen := s.journey.sends.seen(v.Location.RecordedAt, at)
	if seen {
		s.journey.report.count(func(t *totals) { t.seen++; t.fixToEye.add(took) })
	}
	s.journey.line(func(l *Line) {
		l.Located, l.LeftM, l.FromM, l.ETA, l.Guess = true, left, max(l.FromM, left), eta, guess
		if seen {
			l.FixToEye = took
		}
		switch near := left <= arrivalRadiusM; {
		case l.State == OnTheWay && near:
			l.State = Arriving
		case l.State == Arriving && !near: // a way that begins, or passes, near the home
			l.State = OnTheWay
		}
	})
}

// arrivalRadiusM is the service's default, to explain a refused arrival by.
const arrivalRadiusM = 150

// eta is the ETA that the service gives. If it gives none, eta is a guess:
// the rest of the distance at the average speed so far; 0 before the first 50
// m.
func (s *student) eta(v client.View, now time.Time) (eta time.Duration, guess bool) {
	if v.ETASeconds != nil {
		return time.Duration(*v.ETASeconds) * time.Second, false
	}
	came, took := s.firstLeftM-*v.DistanceM, now.Sub(s.firstAt)
	if came < 50 {
		return 0, true
	}
	return time.Duration(float64(took) * *v.DistanceM / came), true
}
