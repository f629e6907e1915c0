package drive

import (
	"context"
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

// watch starts the plan's students and returns when each has looked once. A
// journey has one student; who else watches it is an admin, each another, so that
// no limit of one caller's is met by many.
func (p *play) watch(ctx context.Context) error {
	look := map[Eye]func(context.Context, *student){LongPoll: p.longPoll, Poll: p.poll, Push: p.push}[p.plan.Eye]
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
		s := &student{play: p, journey: j, token: token, wire: &wire{
			// Another gateway than the phone's where there are several.
			addr: p.plan.Watches[(n+1)%len(p.plan.Watches)], local: loopback(1, n),
		}}
		go look(ctx, s)
	}
	p.waiting.Wait()
	return nil
}

// student is one app that looks at one journey.
type student struct {
	play     *play
	journey  *journey
	token    string
	wire     *wire
	looked   bool
	lat, lng int64 // of the last sight
}

// first is called with the first answer, whatever it is.
func (s *student) first() {
	if !s.looked {
		s.looked = true
		s.play.setup.Add(1)
		s.play.waiting.Done()
	}
}

// longPoll waits for what is newer than what it knows, over and over. When a
// leg ends it goes on with the next.
func (p *play) longPoll(ctx context.Context, s *student) {
	defer s.wire.close()
	for ctx.Err() == nil {
		session, next := s.journey.leg()
		if !p.follow(ctx, s, session) {
			return
		}
		select {
		case <-next:
		case <-ctx.Done():
		}
	}
}

// follow looks at one leg until it ends; false when the run did.
func (p *play) follow(ctx context.Context, s *student, id sessions.ID) bool {
	once, waits := liveRequest(id, s.token, 0), liveRequest(id, s.token, waitS)
	p.gate <- struct{}{}
	a, err := s.wire.call(ctx, append(once, "\r\n"...), callWithin)
	<-p.gate
	s.first()
	request := append([]byte(nil), waits...)
	for ctx.Err() == nil {
		p.count(ctx, "live", a, err)
		switch {
		case err != nil, a.status != http.StatusOK && a.status != http.StatusNotModified:
			sleep(ctx, retry/2+fraction(retry)) // not all at once, as apps do
			request = append(request[:len(waits)], "\r\n"...)
		case a.status == http.StatusOK:
			if s.sight(a.body, time.Now()) {
				return true
			}
			request = append(request[:len(waits)], "If-None-Match: "...)
			request = append(append(request, a.etag...), "\r\n\r\n"...)
		}
		a, err = s.wire.call(ctx, request, waitWithin)
	}
	return false
}

// poll looks every 3 to 5 s.
func (p *play) poll(ctx context.Context, s *student) {
	defer s.wire.close()
	session, _ := s.journey.leg()
	request := append(liveRequest(session, s.token, 0), "\r\n"...)
	p.gate <- struct{}{}
	a, err := s.wire.call(ctx, request, callWithin)
	<-p.gate
	s.first()
	for ctx.Err() == nil {
		p.count(ctx, "live", a, err)
		if err == nil && a.status == http.StatusOK {
			s.sight(a.body, time.Now())
		}
		if !sleep(ctx, 3*time.Second+fraction(2*time.Second)) {
			return
		}
		a, err = s.wire.call(ctx, request, callWithin)
	}
}

// sight records a position that is new to this student and reports whether the
// journey is over.
func (s *student) sight(body []byte, at time.Time) (over bool) {
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
