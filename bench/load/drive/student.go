package drive

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"doorstep/bench/rig"
	"doorstep/sessions"
)

const (
	waitS = 25
	// waitWithin is the wait and what a late answer may take more.
	waitWithin = (waitS + 10) * time.Second
	retry      = time.Second
)

// watch starts the plan's students and returns when each has read once. A
// journey has one student. Its other watchers are admins, each a user of its
// own, so that no limit of one caller is met by many.
func (p *play) watch(ctx context.Context) error {
	p.waiting.Add(p.plan.Watchers)
	for i := range p.plan.Watchers {
		n := p.plan.First + i
		j := p.journeys[i%len(p.journeys)]
		token := j.studentToken
		if i >= len(p.journeys) {
			var err error
			if token, err = rig.Token(sessions.NewID(), sessions.Admin); err != nil {
				return err
			}
		}
		s := &student{play: p, journey: j, token: token, wire: &wire{addr: p.watches(i), local: loopback(1, n)}}
		go func() {
			defer s.wire.close()
			s.longPoll(ctx)
		}()
	}
	p.waiting.Wait()
	return nil
}

// student is one app that watches one journey.
type student struct {
	play     *play
	journey  *journey
	token    string
	wire     *wire
	ready    bool
	lat, lng int64 // the last position that it was shown
}

// first makes the student's first call, of which only a few are made at a time,
// and notes that the student is there, whatever the answer.
func (s *student) first(ctx context.Context, request []byte) (answer, error) {
	s.play.gate <- struct{}{}
	a, err := s.wire.call(ctx, request, callWithin)
	<-s.play.gate
	if !s.ready {
		s.ready = true
		s.play.setup.Add(1)
		s.play.waiting.Done()
	}
	return a, err
}

// longPoll waits for what is newer than what it knows, again and again. When a
// leg ends it goes on with the next.
func (s *student) longPoll(ctx context.Context) {
	for ctx.Err() == nil {
		session, next := s.journey.leg()
		if !s.follow(ctx, session) {
			return
		}
		select {
		case <-next:
		case <-ctx.Done():
		}
	}
}

// follow watches one leg until it ends; false when the run did.
func (s *student) follow(ctx context.Context, id sessions.ID) bool {
	waits := liveRequest(id, s.token, waitS)
	a, err := s.first(ctx, append(liveRequest(id, s.token, 0), "\r\n"...))
	request := append([]byte(nil), waits...)
	for ctx.Err() == nil {
		s.play.count(ctx, "live", a.status, codeOf(a), err)
		switch {
		case err != nil, a.status != http.StatusOK && a.status != http.StatusNotModified:
			sleep(ctx, retry/2+fraction(retry)) // not all at once, as apps do
			request = append(request[:len(waits)], "\r\n"...)
		case a.status == http.StatusOK:
			if s.show(a.body, time.Now()) {
				return true
			}
			request = fmt.Appendf(request[:len(waits)], "If-None-Match: %s\r\n\r\n", a.etag)
		}
		a, err = s.wire.call(ctx, request, waitWithin)
	}
	return false
}

// show records a position that is new to this student and reports whether the
// journey is over.
func (s *student) show(body []byte, at time.Time) (over bool) {
	if ended(body) {
		return true
	}
	lat, lng, ok := placeOf(body)
	if !ok || lat == s.lat && lng == s.lng {
		return false
	}
	s.lat, s.lng = lat, lng
	if f, ok := s.journey.see(lat, lng); ok && f.metered {
		s.play.latencies[Sight].record(at.Sub(f.intended))
		since := time.Duration(0)
		if !f.answered.IsZero() {
			since = at.Sub(f.answered)
		}
		s.play.latencies[SightOK].record(since)
	}
	return false
}
