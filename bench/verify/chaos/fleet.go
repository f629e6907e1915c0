package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"doorstep/internal/pause"

	"github.com/jackc/pgx/v5"

	"doorstep/bench/rig"
	"doorstep/internal/servers/awstest"
	"doorstep/internal/servers/haproxy"
	"doorstep/internal/servers/process"
	"doorstep/sessions"
)

const (
	fleetSize = 3
	// fleetDelay is DRAIN_DELAY. HAProxy takes a gateway out of service in two
	// thirds of it.
	fleetDelay = 2 * time.Second
	// drainLimit is what the contract gives a drain.
	drainLimit = 25 * time.Second
	// grace is what a balancer may take to find a gateway gone or back: errors that
	// soon after a return are attributed to the end before it.
	grace = time.Second
	// cutWithin is how soon after a kill the callers of its connections know, on a
	// busy machine.
	cutWithin = 2 * time.Second
)

// fleetPlan is how much is played.
type fleetPlan struct {
	trafficPlan
	rounds int           // a termination and a kill each
	rest   time.Duration // between rounds
}

// playFleet has phones and students use three gateways in turn, behind a plain
// round-robin, while one is terminated and one killed, over and over.
func playFleet(ctx context.Context, s *stage) (row, error) {
	plan := pick(s,
		fleetPlan{trafficPlan{lanes: 30, fixes: 8, interval: 400 * time.Millisecond, stepM: 20, wait: 4}, 2, 500 * time.Millisecond},
		fleetPlan{trafficPlan{lanes: 1000, fixes: 15, interval: 2 * time.Second, stepM: 30, wait: 25}, 24, 2 * time.Second}) // 90 km/h and less
	r := row{Fault: fmt.Sprintf("%d times: one of three gateways behind HAProxy terminated, one killed", plan.rounds), Well: "–"}
	if _, err := haproxy.Find(); err != nil && os.Getenv("DOORSTEP_REQUIRE_SERVERS") == "" {
		r.Saw = "not played: " + err.Error()
		return r, nil
	}
	f, err := newFleet(ctx, s, plan)
	if err != nil {
		return r, err
	}
	logs, err := f.play(ctx)
	if err != nil {
		return r, err
	}
	if err := f.checkSpread(ctx, &r); err != nil {
		return r, err
	}
	f.report(&r, logs)
	if err := f.checkEvents(ctx, s, &r, logs); err != nil {
		return r, err
	}
	f.checkWorker(ctx, &r)
	return r, nil
}

// fleet is the gateways, their servers, and the balancer in front.
type fleet struct {
	plan     fleetPlan
	members  []*member
	front    *haproxy.Server
	aws      *awstest.Server
	worker   *rig.Gateway
	database string

	mu       sync.Mutex
	failures []haproxy.Failure
}

func newFleet(ctx context.Context, s *stage, plan fleetPlan) (*fleet, error) {
	sys, err := stores(ctx, s)
	if err != nil {
		return nil, err
	}
	f := &fleet{plan: plan, database: sys.dsn, aws: s.aws()}
	stores := []string{
		"VALKEY_URL=" + sys.store.URL(), "DATABASE_URL=" + sys.dsn, "LOG_LEVEL=warn",
		"VALKEY_TIMEOUT=3s", // a busy machine is not the fault that is played here
	}
	// The worker's clean-up ends, in the live store, the journeys whose gateway died
	// before it could.
	if f.worker, err = s.worker(ctx, f.aws, stores...); err != nil {
		return nil, err
	}
	settings := slices.Concat(awstest.Env(), stores, []string{
		"EVENT_BUS=" + bus, "EVENTBRIDGE_ENDPOINT=" + f.aws.URL(),
		"RATE_INTERVAL=" + plan.interval.String(), "RATE_TOLERANCE=" + (plan.interval / 4).String(), "STEER=false", "DRAIN_DELAY=" + fleetDelay.String(),
	})
	backends := make([]haproxy.Backend, fleetSize)
	for i := range fleetSize {
		m := &member{name: fmt.Sprintf("gateway%d", i+1), program: s.program, settings: settings}
		// No outgoing connection may take the port while the gateway is away.
		if m.addr, err = process.FreeAddr(); err != nil {
			return nil, err
		}
		s.ends.Add(func() error { return m.gateway.Kill() })
		if err := m.start(ctx); err != nil {
			return nil, err
		}
		f.members = append(f.members, m)
		backends[i] = haproxy.Backend{Name: m.name, Addr: m.addr}
	}
	f.front, err = haproxy.Start(ctx, backends, haproxy.QuickChecks, func(failure haproxy.Failure) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.failures = append(f.failures, failure)
	})
	if err == nil {
		s.ends.Add(f.front.Stop)
	}
	return f, err
}

// play plays the traffic while gateways come and go.
func (f *fleet) play(ctx context.Context) ([]*journeyLog, error) {
	if err := f.front.AwaitAllReady(ctx); err != nil {
		return nil, err
	}
	// A connection for each call: on a used one both HAProxy and net/http would hide
	// a gateway's cut, and send a read again.
	t, err := newTraffic(f.front.URL(), f.plan.trafficPlan, &http.Client{
		Timeout:   time.Duration(f.plan.wait)*time.Second + healIn,
		Transport: &http.Transport{DisableKeepAlives: true},
	})
	if err != nil {
		return nil, err
	}
	played := make(chan []*journeyLog)
	go func() { played <- t.run(ctx) }()
	err = f.comeAndGo(ctx)
	close(t.over)
	return <-played, err
}

// comeAndGo plays the rounds: each gateway is terminated and killed in turn.
func (f *fleet) comeAndGo(ctx context.Context) error {
	for n := range f.plan.rounds {
		if pause.For(ctx, f.plan.rest) != nil {
			return ctx.Err()
		}
		terminated, killed := f.members[n%fleetSize], f.members[(n+1)%fleetSize]
		ended := make(chan error, 1)
		go func() { ended <- terminated.comeBack(ctx, terminated.terminate) }()
		// At any moment of the drain, or after it.
		_ = pause.For(ctx, time.Duration(rand.Int64N(int64(2*fleetDelay))))
		err := killed.comeBack(ctx, killed.kill)
		if err := errors.Join(err, <-ended); err != nil {
			return err
		}
		if err := f.front.AwaitAllReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// member is one address of the fleet, on which gateways follow each other.
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

// turn is a change of what a member is.
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

func (m *member) turn(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turns = append(m.turns, turn{time.Now(), what})
}

// was is what the member was at an instant, for a balancer that takes some time
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

// report judges the logs and what HAProxy saw, and fills in the row.
func (f *fleet) report(r *row, logs []*journeyLog) {
	v := judge(logs)
	v.report(r)
	errs := f.errorsByCause(r)
	// HAProxy may log nothing for a call whose connection it dropped.
	for _, at := range v.silent {
		died := slices.ContainsFunc(f.members, func(m *member) bool { return m.died(at) })
		r.check(died, "a call had no answer, and no gateway had been killed")
	}
	var longest time.Duration
	for _, m := range f.members {
		longest = max(longest, slices.Max(append(m.drains, 0)))
	}
	if len(errs) == 0 {
		errs["errors"] = 0
	}
	r.Saw += fmt.Sprintf("; HAProxy: %s; drains took %s at most", counted(errs), ms(longest))
}

// errorsByCause counts HAProxy's errors by what had become of the gateway. A
// gateway that serves or drains must cause none, and its checks must succeed while
// it serves. Equal failures are one line of the table.
func (f *fleet) errorsByCause(r *row) map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	by := map[string]int{}
	was := map[string]func(time.Time) string{}
	for _, m := range f.members {
		was[m.name] = m.was
		for _, uneven := range m.uneven {
			r.check(false, "%s", uneven)
		}
	}
	odd := map[string][]haproxy.Failure{} // by what they have in common
	for _, failure := range f.failures {
		if failure.ByCaller() {
			continue
		}
		cause := "no gateway"
		if find := was[failure.Server]; find != nil {
			cause = find(failure.At)
		}
		allowed := cause == killed
		if failure.State == haproxy.Check {
			allowed = cause != serving
		} else {
			by[cause]++
		}
		if !allowed {
			kind := strings.Join([]string{failure.Server, failure.State, failure.Status, cause}, " ")
			odd[kind] = append(odd[kind], failure)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(odd)) {
		r.check(false, "%d × %s; the first: %s", len(odd[kind]), kind, odd[kind][0])
	}
	return by
}

// checkSpread checks that the callers really used all gateways: each has stored
// fixes since its last start.
func (f *fleet) checkSpread(ctx context.Context, r *row) error {
	for _, m := range f.members {
		stored, err := m.gateway.Metric(ctx, `doorstep_updates_total{verdict="stored"}`)
		if err != nil {
			return err
		}
		r.check(stored > 0, "%s has stored nothing since it is back", m.name)
	}
	return nil
}

// checkEvents compares what the callers were told with PostgreSQL, and PostgreSQL
// with the bus. An honest phone raises no suspicion, with one exception: when a
// gateway died before it had told the live store of a start that was then
// repeated, the first fix restores the journey, whose track counts as begun anew.
func (f *fleet) checkEvents(ctx context.Context, s *stage, r *row, logs []*journeyLog) error {
	done := map[kind][]sessions.ID{}
	repeated := []sessions.ID{} // their start was
	for _, l := range logs {
		switch l.end {
		case sessions.EndArrived:
			done[arrive] = append(done[arrive], l.ID)
		case sessions.EndCancelled:
			done[stop] = append(done[stop], l.ID)
		}
		if slices.ContainsFunc(l.retries, func(h retried) bool { return h.call == "start" }) {
			repeated = append(repeated, l.ID)
		}
	}
	if err := checkDatabase(ctx, f.database, done, s.short, r); err != nil {
		return err
	}
	err := connected(ctx, f.database, func(conn *pgx.Conn) error {
		var ended, suspicions int
		const query = `SELECT (SELECT count(*) FROM tutoring_sessions WHERE journey_ended_at IS NOT NULL),
			(SELECT count(*) FROM outbox WHERE type = 'TrainerLocationSuspicious' AND session_id <> ALL($1::uuid[]))`
		err := conn.QueryRow(ctx, query, repeated).Scan(&ended, &suspicions)
		r.check(ended == len(done[arrive])+len(done[stop]), "%d journeys have ended, and the callers know of %d", ended, len(done[arrive])+len(done[stop]))
		r.check(suspicions == 0, "%d suspicions of honest phones", suspicions)
		return err
	})
	return errors.Join(err, published(ctx, f.database, f.aws, r))
}

// checkWorker drains the worker: it finishes or returns what it has in hand, and
// exits with 0.
func (f *fleet) checkWorker(ctx context.Context, r *row) {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	began := time.Now()
	err := f.worker.Stop(ctx)
	r.check(err == nil, "the worker after SIGTERM: %v: %s", err, f.worker.Log())
	checkDeadMessages(f.aws, r)
	r.Saw += "; the worker drained in " + ms(time.Since(began))
}
