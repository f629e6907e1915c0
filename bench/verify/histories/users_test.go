package histories

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"doorstep/geo"
	"doorstep/sessions"
)

// phone is a user's bad network and clock. It belongs to one goroutine.
type phone struct {
	world *world
	draw  *rand.Rand
	to    int // the gateway that it talks to now
	bad   Window
	clock time.Duration // off the true one
}

func (w *world) phone(draw *rand.Rand) *phone {
	p := &phone{world: w, draw: draw, to: draw.IntN(2), clock: between(draw, -time.Second, time.Second)}
	if draw.IntN(10) == 0 {
		p.clock = between(draw, -10*time.Minute, 10*time.Minute)
	}
	return p
}

// sending is one request before it is sent, with all its faults drawn.
type sending struct {
	call     Call
	body     string
	gateway  *gateway
	r        *request
	rough    bool
	patience time.Duration
}

// prepare draws the faults of a request.
func (p *phone) prepare(call Call, body string) sending {
	if p.draw.IntN(6) == 0 {
		p.to = p.draw.IntN(2)
	}
	now := time.Now()
	return sending{
		call: call, body: body, gateway: p.world.gateway[p.to], patience: 8*time.Second + call.Wait,
		r:     newRequest(p.draw.Uint64()),
		rough: now.After(p.bad.From) && now.Before(p.bad.To),
	}
}

// do sends a request and waits for its answer. Without an answer, the next request
// goes to the other gateway.
func (p *phone) do(call Call, body string) (Call, answer, bool) {
	c, a, ok := p.world.send(p.prepare(call, body))
	if !ok {
		p.to = 1 - p.to
	}
	return c, a, ok
}

// send is the network: it delays, loses, and delivers twice.
func (w *world) send(s sending) (Call, answer, bool) {
	draw, lossPercent, slowPercent := s.r.draw, 1, 1
	if s.rough {
		lossPercent, slowPercent = 25, 25
	}
	chance := func(percent int) bool { return draw.IntN(100) < percent }
	way := func() time.Duration {
		if chance(slowPercent) {
			return between(draw, time.Second, 10*time.Second)
		}
		return between(draw, 10*time.Millisecond, 150*time.Millisecond)
	}
	up, down := way(), way()
	lost, unanswered, twice, unnoticed := chance(lossPercent), chance(lossPercent), chance(2), chance(50)
	ctx, cancel := context.WithTimeout(context.Background(), s.patience)
	defer cancel()
	if lost {
		<-ctx.Done()
		return Call{}, answer{}, false
	}
	if twice {
		again := newRequest(draw.Uint64())
		wait := way()
		w.late.Go(func() {
			time.Sleep(wait)
			s.gateway.ask(context.Background(), again, s.call, s.body)
		})
	}
	type reply struct {
		call Call
		answer
		ok bool
	}
	replies := make(chan reply, 1)
	served := ctx
	if unnoticed { // the gateway does not notice that the phone has given up
		served = context.WithoutCancel(ctx)
	}
	w.late.Go(func() {
		time.Sleep(up)
		c, a, ok := s.gateway.ask(served, s.r, s.call, s.body)
		time.Sleep(down)
		if !unanswered {
			replies <- reply{c, a, ok}
		}
	})
	select {
	case got := <-replies:
		return got.call, got.answer, got.ok && got.call.Status != callerGone
	case <-ctx.Done():
		return Call{}, answer{}, false
	}
}

// trainer is one trainer's day.
func (w *world) trainer(n int) {
	p := w.phone(w.stream("trainer", n))
	mine := w.visits[n*visits : (n+1)*visits]
	for i, v := range mine {
		time.Sleep(time.Until(v.at))
		for again := true; again; again = p.draw.IntN(3) == 0 {
			w.travel(p, v, mine[(i+1)%visits])
			time.Sleep(between(p.draw, time.Second, 40*time.Second))
		}
	}
}

// travel is a journey from its start to its end.
func (w *world) travel(p *phone, v, other *visit) {
	if !p.begin(v, other) {
		return
	}
	p.bad = Window{}
	if p.draw.IntN(2) == 0 {
		from := time.Now().Add(between(p.draw, 0, 3*time.Minute))
		p.bad = Window{from, from.Add(between(p.draw, 10*time.Second, 90*time.Second))}
	}
	fixes := 8 + p.draw.IntN(20)
	end := p.draw.IntN(10)
	route := journeyTo(v, p.draw, fixes)
	for range fixes {
		p.report(v, route)
		switch p.draw.IntN(60) {
		case 0: // a tunnel
			time.Sleep(between(p.draw, 10*time.Second, 90*time.Second))
		case 1:
			p.clock += between(p.draw, -10*time.Second, 10*time.Second)
		case 2:
			_, _, _ = p.do(Call{Caller: v.trainer, Verb: Start, Session: other.id}, "")
		}
		time.Sleep(5*time.Second + between(p.draw, -400*time.Millisecond, 800*time.Millisecond))
	}
	switch {
	case end < 6:
		p.arrive(v, route)
	case end < 7:
		p.persist(Call{Caller: v.trainer, Verb: Stop, Session: v.id})
	case end < 8:
		admin := sessions.Caller{ID: v.id, Role: sessions.Admin}
		p.persist(Call{Caller: admin, Verb: Stop, Session: v.id})
		p.report(v, route) // the phone does not know yet
	case end < 9: // both at once
		other := Call{Caller: v.trainer, Verb: Stop, Session: v.id}
		if p.draw.IntN(2) == 0 {
			other = Call{Caller: sessions.Caller{ID: v.id, Role: sessions.Admin}, Verb: Cancel, Session: v.id}
		}
		sent := p.prepare(other, "")
		w.late.Go(func() { w.send(sent) })
		p.arrive(v, route)
	default: // the phone is dead, and the hour ends the journey
		time.Sleep(80 * time.Minute)
	}
}

// begin starts the journey, trying as phones do.
func (p *phone) begin(v, other *visit) bool {
	for range 8 {
		call, a, ok := p.do(Call{Caller: v.trainer, Verb: Start, Session: v.id}, "")
		switch {
		case ok && (call.Status == 201 || a.Code == sessions.JourneyAlreadyStarted):
			return true
		case ok && a.Code == sessions.NotScheduled:
			return false
		case ok && a.Code == sessions.TrainerBusy:
			p.persist(Call{Caller: v.trainer, Verb: Stop, Session: other.id})
		}
		time.Sleep(between(p.draw, time.Second, 4*time.Second))
	}
	return false
}

// persist repeats a call until its answer is no 5xx.
func (p *phone) persist(call Call) {
	for range 20 {
		if c, _, ok := p.do(call, ""); ok && c.Status < 500 {
			return
		}
		time.Sleep(between(p.draw, time.Second, 4*time.Second))
	}
}

// way is a straight line to a home at a steady speed.
type way struct {
	home         geo.Point
	began        time.Time
	metres, mps  float64
	north, east  float64
	wanderMetres float64
}

func journeyTo(v *visit, draw *rand.Rand, fixes int) way {
	sin, cos := math.Sincos(draw.Float64() * 2 * math.Pi)
	mps := 6 + 8*draw.Float64() // 22 to 50 km/h
	return way{home: v.home, began: time.Now(), mps: mps, metres: mps * 5 * float64(fixes), north: cos, east: sin, wanderMetres: 4}
}

// at is where the trainer is at an instant.
func (t way) at(now time.Time, draw *rand.Rand) geo.Point {
	left := max(0, t.metres-t.mps*now.Sub(t.began).Seconds())
	wander := func() float64 { return (draw.Float64()*2 - 1) * t.wanderMetres }
	lat := t.home.Lat() + (left*t.north+wander())/111_195
	lng := t.home.Lng() + (left*t.east+wander())/(111_195*math.Cos(t.home.Lat()*math.Pi/180))
	return geo.MustPoint(lat, lng)
}

// report sends a fix and does not wait for the answer, so the next fix may arrive
// first. Without an answer the fix is sent again, once.
func (p *phone) report(v *visit, t way) {
	now := time.Now()
	at, accuracy := t.at(now, p.draw), 10.0
	switch p.draw.IntN(50) {
	case 0: // a wild one
		at = geo.MustPoint(at.Lat()+0.03, at.Lng())
	case 1:
		accuracy = 900
	}
	recorded, says := p.clock, p.draw.IntN(8)
	body := func() string { return fixBody(v, at, accuracy, now.Add(recorded), time.Now().Add(recorded), says) }
	call := Call{Caller: v.trainer, Verb: Update, Session: v.id, Fix: at}
	first, second := p.prepare(call, body()), p.prepare(call, "")
	p.world.late.Go(func() {
		if _, _, ok := p.world.send(first); !ok {
			second.body = body()
			p.world.send(second)
		}
	})
}

// fixBody is a fix of an app that says both times, or only when it was recorded
// (says is 1), or none (says is 0).
func fixBody(v *visit, at geo.Point, accuracy float64, recorded, sent time.Time, says int) string {
	const layout = `,%q:"2006-01-02T15:04:05.000Z"`
	body := fmt.Sprintf(`{"sessionId":%q,"latitude":%.7f,"longitude":%.7f,"accuracy":%.1f`, v.id, at.Lat(), at.Lng(), accuracy)
	if says > 0 {
		body += fmt.Sprintf(recorded.UTC().Format(layout), "recordedAt")
	}
	if says > 1 {
		body += fmt.Sprintf(sent.UTC().Format(layout), "sentAt")
	}
	return body + "}"
}

// arrive asks for the code until there is one, and uses it: wrongly, rightly.
func (p *phone) arrive(v *visit, t way) {
	for range 25 {
		call, body := Call{Caller: v.trainer, Verb: Arrived, Session: v.id}, ""
		if p.draw.IntN(3) != 0 {
			at := time.Now().Add(p.clock)
			call.Fix = t.at(time.Now(), p.draw)
			body = fixBody(v, call.Fix, 10, at, at, p.draw.IntN(8))
		}
		c, a, ok := p.do(call, body)
		switch {
		case ok && c.Status == 200:
			if a = p.atTheDoor(v, a); a.Data.OTP == "" {
				return
			}
			_, _, _ = p.do(Call{Caller: v.trainer, Verb: Verify, Session: v.id}, fmt.Sprintf(`{"otp":"%04d"}`, p.draw.IntN(10_000)))
			_, _, _ = p.do(Call{Caller: v.trainer, Verb: Verify, Session: v.id}, fmt.Sprintf(`{"otp":%q}`, a.Data.OTP))
			return
		case ok && a.Code == sessions.NoActiveJourney:
			return
		}
		p.report(v, t)
		time.Sleep(5*time.Second + between(p.draw, 0, time.Second))
	}
	p.persist(Call{Caller: v.trainer, Verb: Stop, Session: v.id})
}

// atTheDoor waits until the door opens: long enough for the push, or until the code has
// expired and a new one is made. It returns the last answer that has a code.
func (p *phone) atTheDoor(v *visit, a answer) answer {
	switch p.draw.IntN(4) {
	case 0:
		return a // it is open already
	case 1:
		time.Sleep(10*time.Minute + between(p.draw, time.Second, 30*time.Second))
		at := time.Now().Add(p.clock)
		for range 5 {
			c, again, ok := p.do(Call{Caller: v.trainer, Verb: Arrived, Session: v.id, Fix: v.home}, fixBody(v, v.home, 10, at, at, 2))
			if ok && c.Status == 200 {
				time.Sleep(2 * time.Minute)
				return again
			}
			time.Sleep(5 * time.Second)
			at = time.Now().Add(p.clock)
		}
		return answer{}
	default:
		time.Sleep(between(p.draw, time.Minute, 5*time.Minute))
		return a
	}
}

// student follows the journeys of one visit by long polls until some minutes after
// the last.
func (w *world) student(n int, v *visit) {
	p := w.phone(w.stream("student", n))
	if p.draw.IntN(2) == 0 {
		from := v.at.Add(between(p.draw, 0, 4*time.Minute))
		p.bad = Window{from, from.Add(between(p.draw, 10*time.Second, 90*time.Second))}
	}
	time.Sleep(time.Until(v.at.Add(-between(p.draw, time.Second, 40*time.Second))))
	var seen int64
	for quiet := 0; quiet < 12; {
		wait := time.Duration(p.draw.IntN(31)) * time.Second
		if p.draw.IntN(4) != 0 {
			wait = 30 * time.Second
		}
		call, _, ok := p.do(Call{Caller: v.student, Verb: Live, Session: v.id, Seen: seen, Wait: wait}, "")
		switch {
		case !ok, call.Status >= 400, call.Degraded:
			time.Sleep(between(p.draw, 500*time.Millisecond, 2*time.Second))
			quiet++
		case call.Version != seen && call.Version != 0:
			seen = call.Version
			if quiet++; call.Active {
				quiet = 0
			}
		default:
			time.Sleep(between(p.draw, 0, time.Second))
			quiet++
		}
		if p.draw.IntN(40) == 0 {
			seen = 0 // the app was opened anew
		}
	}
}

// stranger makes calls for other users' sessions, all day.
func (w *world) stranger() {
	p := w.phone(w.stream("stranger"))
	for range 12 {
		v, other := w.visits[p.draw.IntN(len(w.visits))], w.visits[p.draw.IntN(len(w.visits))]
		if v.trainer == other.trainer {
			continue
		}
		time.Sleep(time.Until(v.at.Add(between(p.draw, 0, 4*time.Minute))))
		_, _, _ = p.do(Call{Caller: other.student, Verb: Live, Session: v.id}, "")
		_, _, _ = p.do(Call{Caller: other.trainer, Verb: Live, Session: v.id, Wait: 5 * time.Second}, "")
		_, _, _ = p.do(Call{Caller: other.trainer, Verb: Stop, Session: v.id}, "")
		_, _, _ = p.do(Call{Caller: other.trainer, Verb: Arrived, Session: v.id}, "")
		at := geo.MustPoint(v.home.Lat()+0.001+p.draw.Float64()/1000, v.home.Lng()-0.001)
		_, _, _ = p.do(Call{Caller: other.trainer, Verb: Update, Session: v.id, Fix: at},
			fmt.Sprintf(`{"sessionId":%q,"latitude":%.7f,"longitude":%.7f}`, v.id, at.Lat(), at.Lng()))
	}
}
