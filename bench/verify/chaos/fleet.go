package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"doorstep/bench/rig"
	"doorstep/internal/pause"
	"doorstep/internal/servers/awstest"
	"doorstep/sessions"
	"doorstep/sessions/outbox/aws"
	"doorstep/sessions/postgres"
)

// fleetScenarios are the faults of one gateway among several.
func fleetScenarios() []scenario {
	return []scenario{{name: "gateways-come-and-go", play: playFleet}}
}

const (
	fleetSize = 3
	// fleetDelay is DRAIN_DELAY: what HAProxy needs to leave a gateway, thrice.
	fleetDelay = 2 * time.Second
	// drainLimit is what the contract gives a drain.
	drainLimit = 25 * time.Second
	// grace is what a balancer may take to find a gateway gone or back: errors
	// that long after a return are charged to what was before.
	grace = time.Second
	// cutWithin is how soon after a kill the callers of its connections know, on
	// a busy machine.
	cutWithin = 2 * time.Second
	busFor    = "application-events"
	// leaseOver is when a killed relay's claim is free again, with time to spare.
	leaseOver = 45 * time.Second
)

// fleetPlan is how much is played.
type fleetPlan struct {
	lanes    int           // journeys at a time
	fixes    int           // a journey
	interval time.Duration // RATE_INTERVAL
	stepM    float64       // from fix to fix: 90 km/h and less
	wait     int           // of a long poll, seconds
	rounds   int           // a termination and a kill each
	rest     time.Duration // between rounds
	// hurry: what a killed relay had claimed is not waited for. Its lease is 30 s.
	hurry bool
}

// playFleet has phones and students hop between three gateways, behind a plain
// round-robin, while one is terminated and one killed, over and over.
func playFleet(ctx context.Context, s *stage) (row, error) {
	plan := pick(s,
		fleetPlan{lanes: 30, fixes: 8, interval: 400 * time.Millisecond, stepM: 10, wait: 4, rounds: 2, rest: 500 * time.Millisecond, hurry: true},
		fleetPlan{lanes: 1000, fixes: 15, interval: 2 * time.Second, stepM: 30, wait: 25, rounds: 24, rest: 2 * time.Second})
	r := row{Fault: fmt.Sprintf("%d times: one of three gateways behind HAProxy terminated, one killed", plan.rounds), Well: "–"}
	if _, err := findHAProxy(); err != nil && os.Getenv("DOORSTEP_REQUIRE_SERVERS") == "" {
		r.Saw = "not played: " + err.Error()
		return r, nil
	}
	f, err := newFleet(ctx, s, plan)
	if err != nil {
		return r, err
	}
	trips, err := f.play(ctx)
	if err != nil {
		return r, err
	}
	if err := f.spread(ctx, &r); err != nil {
		return r, err
	}
	f.report(&r, trips)
	if err := f.checkEvents(ctx, &r, trips); err != nil {
		return r, err
	}
	f.checkWorker(ctx, &r)
	return r, nil
}

// fleet is the gateways, what they share and what stands before them.
type fleet struct {
	plan    fleetPlan
	members []*member
	front   *haproxy
	bus     *awstest.Server
	queues  []string
	worker  *rig.Gateway
	// What PostgreSQL says, by the product's own reading.
	database string
	truth    *postgres.Repository

	mu      sync.Mutex
	mishaps []mishap
}

func newFleet(ctx context.Context, s *stage, plan fleetPlan) (*fleet, error) {
	live, err := s.valkey(ctx)
	if err != nil {
		return nil, err
	}
	database, err := s.commons.database(ctx, s.program)
	if err != nil {
		return nil, err
	}
	f := &fleet{plan: plan, database: database, bus: awstest.Start()}
	s.onEnd(func() error { f.bus.Close(); return nil })
	f.bus.Bus(busFor)
	stores := append(awstest.Env(), "VALKEY_URL="+live.URL(), "DATABASE_URL="+database, "LOG_LEVEL=warn",
		"VALKEY_TIMEOUT=3s") // a busy machine is not the fault that is played here
	if err := f.startWorker(ctx, s, stores); err != nil {
		return nil, err
	}
	if f.truth, err = postgres.New(postgres.Options{URL: database}); err != nil {
		return nil, err
	}
	s.onEnd(func() error { f.truth.Close(); return nil })
	settings := slices.Concat(stores, []string{
		"EVENT_BUS=" + busFor, "EVENTBRIDGE_ENDPOINT=" + f.bus.URL(),
		"RATE_INTERVAL=" + plan.interval.String(), "RATE_TOLERANCE=" + (plan.interval / 4).String(), "DRAIN_DELAY=" + fleetDelay.String(),
	})
	servers := make([][2]string, fleetSize)
	for i := range fleetSize {
		m := &member{name: fmt.Sprintf("gateway%d", i+1), program: s.program, settings: settings}
		if m.addr, err = lowAddr(); err != nil {
			return nil, err
		}
		s.onEnd(m.bury)
		if err := m.start(ctx); err != nil {
			return nil, err
		}
		f.members = append(f.members, m)
		servers[i] = [2]string{m.name, m.addr}
	}
	f.front, err = s.haproxy(ctx, servers, f.noteMishap)
	return f, err
}

// startWorker starts the consumers, with a queue each on the bus: the clean-up
// ends the journeys in the live store whose gateway died before it could.
func (f *fleet) startWorker(ctx context.Context, s *stage, settings []string) error {
	settings = append([]string{"SQS_ENDPOINT=" + f.bus.URL()}, settings...)
	for _, consumer := range []string{"NOTIFY", "CLEANUP", "ANALYTICS"} {
		queue := "journey-" + strings.ToLower(consumer)
		settings = append(settings, "QUEUE_"+consumer+"="+f.bus.Queue(queue, 30*time.Second, 5))
		f.bus.Rule(busFor, aws.Source, queue, string(sessions.JourneyStarted), string(sessions.JourneyEnded))
		f.queues = append(f.queues, queue)
	}
	var err error
	if f.worker, err = s.program.StartWorker(ctx, settings...); err == nil {
		s.onEnd(f.worker.Kill)
	}
	return err
}

// lowAddr is a free loopback address below the kernel's range for outgoing
// connections: none of those may sit on a gateway's port while it is away.
func lowAddr() (string, error) {
	var err error
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))); err == nil { //nolint:noctx // closed at once
			return l.Addr().String(), l.Close()
		}
	}
	return "", err
}

func (f *fleet) noteMishap(m mishap) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mishaps = append(f.mishaps, m)
}

// play drives the callers while gateways come and go, and returns what the
// callers saw.
func (f *fleet) play(ctx context.Context) ([]*trip, error) {
	if err := f.front.awaitWhole(ctx); err != nil {
		return nil, err
	}
	over := make(chan struct{})
	played := make(chan []*trip)
	go func() { played <- f.drive(ctx, over) }()
	err := f.comeAndGo(ctx)
	close(over)
	return <-played, err
}

// comeAndGo plays the rounds: each gateway has both ends in turn.
func (f *fleet) comeAndGo(ctx context.Context) error {
	for n := range f.plan.rounds {
		if pause.For(ctx, f.plan.rest) != nil {
			return ctx.Err()
		}
		terminated, killed := f.members[n%fleetSize], f.members[(n+1)%fleetSize]
		ended := make(chan error, 1)
		go func() { ended <- terminated.comeBack(ctx, terminated.terminate) }()
		// Somewhere in the drain, or before, or after it.
		_ = pause.For(ctx, time.Duration(rand.Int64N(int64(2*fleetDelay))))
		err := killed.comeBack(ctx, killed.kill)
		if err := errors.Join(err, <-ended); err != nil {
			return err
		}
		if err := f.front.awaitWhole(ctx); err != nil {
			return err
		}
	}
	return nil
}

// member is one place in the fleet: gateways follow each other on its port.
type member struct {
	name, addr string
	program    *rig.Program
	settings   []string
	gateway    *rig.Gateway

	mu     sync.Mutex
	turns  []turn
	drains []time.Duration
	uneven []string // terminations that did not end in exit code 0, in time
}

// turn is a change in a member's life.
type turn struct {
	at   time.Time
	what string
}

// What a member can be.
const (
	serving    = "serving"
	terminated = "terminated"
	killed     = "killed"
)

func (m *member) start(ctx context.Context) error {
	var err error
	if m.gateway, err = m.program.Start(ctx, append([]string{"LISTEN=" + m.addr}, m.settings...)...); err == nil {
		m.turn(serving)
	}
	return err
}

// bury ends what the last turn has left.
func (m *member) bury() error {
	if m.gateway == nil {
		return nil
	}
	return m.gateway.Kill()
}

func (m *member) turn(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turns = append(m.turns, turn{time.Now(), what})
}

// was is what the member was at an instant, to a balancer that needs its time
// to notice.
func (m *member) was(at time.Time) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := serving
	for _, t := range m.turns {
		since := t.at
		if t.what == serving {
			since = since.Add(grace)
		}
		if !since.After(at) {
			was = t.what
		}
	}
	return was
}

// died reports whether the member was killed right before an instant.
func (m *member) died(at time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.turns, func(t turn) bool {
		return t.what == killed && !at.Before(t.at) && at.Sub(t.at) < cutWithin
	})
}

// comeBack ends the gateway and starts the next one on its port.
func (m *member) comeBack(ctx context.Context, end func(context.Context) error) error {
	if err := end(ctx); err != nil {
		return err
	}
	return m.start(ctx)
}

func (m *member) kill(context.Context) error {
	m.turn(killed)
	return m.gateway.Kill()
}

func (m *member) terminate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	m.turn(terminated)
	began := time.Now()
	err := m.gateway.Stop(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drains = append(m.drains, time.Since(began))
	if err != nil {
		m.uneven = append(m.uneven, fmt.Sprintf("%s after SIGTERM: %v: %s", m.name, err, m.gateway.Log()))
	}
	return nil
}
