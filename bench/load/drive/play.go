package drive

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"doorstep/bench/rig"
	"doorstep/client"
	"doorstep/sessions"
)

// The latencies, by name. All but Late count from the instant at which the
// request was due.
const (
	Update   = "update"          // a fix that was accepted: to its 201
	Service  = "update, on wire" // the same from the instant it really left
	Late     = "generator late"  // how much later than due a fix left
	Sight    = "fix to eye"      // from the fix's due instant to the student's answer
	SightOK  = "201 to eye"      // from the trainer's 201; 0 where the student was first
	Starting = "start-journey"
	Ending   = "arrived or stop-journey"
	Booking  = "booking"
)

var names = []string{Update, Service, Late, Sight, SightOK, Starting, Ending, Booking}

const (
	callWithin = 10 * time.Second
	// clerks book and start journeys before the run. openers open them in the live
	// store itself, in whose pipeline they share round trips.
	clerks, openers = 16, 256
	// tries bounds how often one journey is begun before the run.
	tries = 5
	// gates bounds how many students connect at a time.
	gates = 64
)

// play is one process's run of a plan.
type play struct {
	plan     Plan
	journeys []*journey
	admin    string       // an admin's token
	http     *http.Client // of the calls that are not timed by their cost, see wire
	from     time.Time    // measured from here
	until    time.Time

	latencies map[string]*latency
	accepted  atomic.Int64 // measured fixes
	unseen    atomic.Int64 // fixes overtaken before a student saw them
	setup     atomic.Int64 // journeys begun, then students waiting
	gate      chan struct{}
	waiting   sync.WaitGroup // students who have read once

	mu     sync.Mutex
	counts map[string]int64 // answers by call and status
}

func newPlay(plan Plan) (*play, error) {
	if err := plan.validate(); err != nil {
		return nil, err
	}
	p := &play{
		plan: plan, latencies: map[string]*latency{}, counts: map[string]int64{}, gate: make(chan struct{}, gates),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clerks}},
	}
	for _, name := range names {
		p.latencies[name] = newLatency()
	}
	var err error
	p.admin, err = rig.Token(sessions.NewID(), sessions.Admin)
	return p, err
}

// prepare begins every journey. The first fix belongs to the run: a phone's
// schedule begins with it.
func (p *play) prepare(ctx context.Context) error {
	p.journeys = make([]*journey, p.plan.Journeys)
	if p.plan.Store != "" {
		return p.openAll(ctx)
	}
	return p.each(ctx, clerks, func(ctx context.Context, j *journey) error {
		err := p.begin(ctx, j, time.Now())
		for try := 1; err != nil && try < tries && sleep(ctx, retry); try++ {
			err = p.begin(ctx, j, time.Now()) // counted, and not what is measured
		}
		return err
	})
}

// each makes every journey and begins it, so many at a time. The first error
// ends it.
func (p *play) each(ctx context.Context, workers int, begin func(context.Context, *journey) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for i := range p.journeys {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			j, err := newJourney(p.plan.First + i)
			if err != nil {
				return err
			}
			j.watched = i < p.plan.Watchers
			p.journeys[i] = j
			if err := begin(ctx, j); err != nil {
				return err
			}
			p.setup.Add(1)
			return nil
		})
	}
	return group.Wait()
}

// begin books and starts a leg.
func (p *play) begin(ctx context.Context, j *journey, now time.Time) error {
	ends, arrives := p.endOf(now), rand.Float64() < p.plan.Arrivals
	if soonest := now.Add(rig.Ride + 5*time.Second + p.plan.Every + p.plan.Jitter); arrives && !ends.IsZero() && ends.Before(soonest) {
		ends = soonest // its fixes must last for a ride
	}
	j.embark(now, ends, arrives, p.plan.SpeedMPS)
	began := time.Now()
	err := p.ask(ctx, j.number, Booking, p.admin, "/admin/sessions", map[string]any{
		"sessionId": j.session, "trainerId": j.trainer, "studentId": j.student,
		"studentHome": client.Point{Latitude: j.homeLat, Longitude: j.homeLng},
	})
	if err != nil {
		return err
	}
	booked := time.Now()
	p.latencies[Booking].record(booked.Sub(began))
	err = p.ask(ctx, j.number, Starting, j.trainerToken, sessionPath(j, "start-journey"), nil)
	if err == nil {
		p.latencies[Starting].record(time.Since(booked))
	}
	return err
}

func sessionPath(j *journey, verb string) string {
	return "/admin/sessions/" + string(j.session) + "/" + verb
}

// ask makes one POST of package client and counts its answer. n chooses the
// gateway. Any answer below 400 is a success: peers do not answer as the API
// does.
func (p *play) ask(ctx context.Context, n int, call, token, path string, body any) error {
	c, err := client.New(client.Options{
		BaseURL: "http://" + p.plan.Updates[n%len(p.plan.Updates)], Token: client.StaticToken(token), HTTP: p.http, Timeout: callWithin,
	})
	if err != nil {
		return err
	}
	a, err := c.Do(ctx, client.Request{Method: http.MethodPost, Path: path, Body: body})
	code := ""
	if a.Err != nil {
		code = string(a.Err.Code)
	}
	p.count(ctx, call, a.Status, code, err)
	if err == nil && a.Err != nil {
		err = a.Err
	}
	if err != nil {
		return fmt.Errorf("drive: %s: %w", call, err)
	}
	return nil
}

// endOf draws when a leg that begins now shall end.
func (p *play) endOf(now time.Time) time.Time {
	if p.plan.Way != Pace || p.plan.Life <= 0 {
		return time.Time{}
	}
	return now.Add(time.Duration(rand.ExpFloat64() * float64(p.plan.Life)))
}

// run plays from a given instant until the plan's end.
func (p *play) run(ctx context.Context, at time.Time) {
	var group sync.WaitGroup
	conns := p.plan.conns()
	for c := range min(conns, len(p.journeys)) {
		var mine []*journey
		for i := c; i < len(p.journeys); i += conns {
			mine = append(mine, p.journeys[i])
		}
		group.Go(func() {
			w := p.phoneWire(c)
			defer w.close()
			switch p.plan.Way {
			case Pace:
				p.pace(ctx, w, mine, at)
			case Flood:
				p.flood(ctx, w, mine, at)
			case Once:
				p.once(ctx, w, mine)
			case Still:
			}
		})
	}
	group.Wait()
	sleep(ctx, time.Until(p.until))
}

// schedule fixes the instants of the run.
func (p *play) schedule(at time.Time) {
	p.from = at.Add(p.plan.Warmup)
	p.until = p.from.Add(p.plan.Duration)
}

// phoneWire is the phones' connection number c, from an address of its own.
func (p *play) phoneWire(c int) *wire {
	return &wire{addr: p.updates(c), local: loopback(2, p.plan.First+c)}
}

// updates is where the phones' connection number c goes.
func (p *play) updates(c int) string { return p.plan.Updates[(p.plan.First+c)%len(p.plan.Updates)] }

// watches is where student number i goes: to another gateway than the phone where there are
// several, unless the plan says otherwise.
func (p *play) watches(i int) string {
	if len(p.plan.Watches) == 0 {
		return p.updates(i % len(p.journeys) % p.plan.conns())
	}
	return p.plan.Watches[(p.plan.First+i+1)%len(p.plan.Watches)]
}

// loopback is one of 65,536 addresses of a net: 127.net.x.y.
func loopback(network byte, n int) net.IP {
	return net.IPv4(127, network, byte(n>>8), byte(n))
}

// count notes an answer by its call, status and code. A call that the end of the
// run cut short does not count.
func (p *play) count(ctx context.Context, call string, status int, code string, err error) {
	if err != nil && ctx.Err() != nil {
		return
	}
	label := fmt.Sprintf("%s %d", call, status)
	if code != "" {
		label += " " + code
	}
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		label = call + " no answer in time"
	case err != nil:
		label = call + " connection lost"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[label]++
}
