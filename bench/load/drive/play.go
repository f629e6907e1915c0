package drive

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"doorstep/bench/rig"
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
	// clerks book and start journeys before the run; openers open them in the live
	// store itself, in whose pipeline they share trips.
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
	admin    string
	from     time.Time // measured from here
	until    time.Time

	latencies map[string]*latency
	accepted  atomic.Int64 // measured fixes
	unseen    atomic.Int64 // fixes overtaken before a student saw them
	setup     atomic.Int64 // journeys begun, then students waiting
	gate      chan struct{}
	waiting   sync.WaitGroup // students who have looked once

	mu    sync.Mutex
	tally map[string]int64
}

func newPlay(plan Plan) (*play, error) {
	if err := plan.validate(); err != nil {
		return nil, err
	}
	p := &play{plan: plan, latencies: map[string]*latency{}, tally: map[string]int64{}, gate: make(chan struct{}, gates)}
	for _, name := range names {
		p.latencies[name] = newLatency()
	}
	var err error
	p.admin, err = rig.Token(sessions.NewID(), sessions.Admin)
	return p, err
}

// prepare begins every journey. The first fix is the run's: a phone's schedule
// begins with it.
func (p *play) prepare(ctx context.Context) error {
	p.journeys = make([]*journey, p.plan.Journeys)
	if p.plan.Store != "" {
		return p.openAll(ctx)
	}
	return p.each(clerks, func(c int) (func(*journey) error, func()) {
		w := p.phoneWire(c)
		return func(j *journey) error {
			err := p.begin(ctx, w, j, time.Now())
			for try := 1; err != nil && try < tries && sleep(ctx, retry); try++ {
				err = p.begin(ctx, w, j, time.Now()) // counted, and it is not what is measured
			}
			return err
		}, w.close
	})
}

// each makes every journey, shared among so many workers, and lets its worker
// begin it. Worker c is made by hire, with how to dismiss it.
func (p *play) each(workers int, hire func(c int) (begin func(*journey) error, dismiss func())) error {
	var group errgroup.Group
	for c := range workers {
		group.Go(func() error {
			begin, dismiss := hire(c)
			defer dismiss()
			for i := c; i < len(p.journeys); i += workers {
				j, err := newJourney(p.plan.First + i)
				if err != nil {
					return err
				}
				j.watched = i < p.plan.Watchers
				p.journeys[i] = j
				if err := begin(j); err != nil {
					return err
				}
				p.setup.Add(1)
			}
			return nil
		})
	}
	return group.Wait()
}

// begin books and starts a leg.
func (p *play) begin(ctx context.Context, w *wire, j *journey, now time.Time) error {
	j.embark(now, p.endOf(now), lucky(p.plan.Arrivals), p.plan.SpeedMPS)
	for _, step := range []struct {
		name    string
		request []byte
	}{
		{Booking, bookRequest(j, p.admin)},
		{Starting, changeRequest(j, "start-journey")},
	} {
		began := time.Now()
		a, err := w.call(ctx, step.request, callWithin)
		p.count(ctx, step.name, a, err)
		if err != nil {
			return fmt.Errorf("drive: %s: %w", step.name, err)
		}
		if a.status != 201 && a.status != 200 {
			return fmt.Errorf("drive: %s: %d %s", step.name, a.status, a.body)
		}
		p.latencies[step.name].record(time.Since(began))
	}
	return nil
}

// endOf draws when a leg that begins now shall end.
func (p *play) endOf(now time.Time) time.Time {
	if p.plan.Way != Pace || p.plan.Life <= 0 {
		return time.Time{}
	}
	return now.Add(exponential(p.plan.Life))
}

// run plays from a given instant until the plan's end.
func (p *play) run(ctx context.Context, at time.Time) {
	var group sync.WaitGroup
	conns := p.plan.Conns
	if conns == 0 {
		conns = len(p.journeys)
	}
	for c := range conns {
		var mine []*journey
		for i := c; i < len(p.journeys); i += conns {
			mine = append(mine, p.journeys[i])
		}
		if len(mine) == 0 {
			break
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
	n := p.plan.First + c
	return &wire{addr: p.plan.Updates[n%len(p.plan.Updates)], local: loopback(2, n)}
}

// loopback is one of 65,536 addresses of a net: 127.net.x.y.
func loopback(network byte, n int) net.IP {
	return net.IPv4(127, network, byte(n>>8), byte(n))
}

// count notes an answer by its call, status and code. What the end of the run cut
// short is none.
func (p *play) count(ctx context.Context, call string, a answer, err error) {
	if err != nil && ctx.Err() != nil {
		return
	}
	label := fmt.Sprintf("%s %d", call, a.status)
	if code := codeOf(a); code != "" {
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
	p.tally[label]++
}
