package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"doorstep/internal/pause"

	"github.com/jackc/pgx/v5"

	"doorstep/bench/rig"
	"doorstep/internal/servers/awstest"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeyserver"
)

// system is what a fault is played on: a gateway with real servers, and proxies
// between them where the network is to be made bad.
type system struct {
	stage      *stage
	store      *valkeyserver.Server
	database   *postgrestest.Server // nil: the shared server
	dsn        string               // of the database, without a proxy
	held       []*pgx.Conn          // connections that a fault has taken
	toStore    *proxy               // nil: no proxy between
	toDatabase *proxy
	aws        *awstest.Server // nil: the consumers are in the gateway
	push       *pushService    // nil: students register no devices
	gateway    *rig.Gateway
	callers    *callers
}

// fault is one thing that breaks while callers call, and what they may see.
type fault struct {
	name          string // of the scenario
	what          string // the table's first column
	start         func(ctx context.Context, s *stage) (*system, error)
	breaks, mends act // they return when it is broken, and when it is mended
	during        expectations
	trips         bool // the live store's breaker has to open
	// check is made at the end, when nobody calls any more; nil: none.
	check func(ctx context.Context, sys *system, r *row) error
}

const (
	travels = 3 // journeys under way all the time
	// lasting is for how long all has to be as before until it counts as well, and
	// wellIn how long that may take. It is three times what the slowest takes: pgx
	// keeps connections to a host that disappeared silently for 18 s.
	lasting = 1500 * time.Millisecond
	wellIn  = time.Minute
)

// play breaks and mends while callers call.
func (f fault) play(ctx context.Context, s *stage) (r row, err error) {
	sys, err := f.start(ctx, s)
	if err != nil {
		return r, err
	}
	if sys.callers, err = newCallers(ctx, sys.gateway.URL(), sys.push != nil); err != nil {
		return r, err
	}
	before, err := sys.usage(ctx)
	if err != nil {
		return r, err
	}
	if err := sys.callers.start(ctx); err != nil {
		return r, err
	}
	defer sys.callers.stop()
	lasted, err := f.runFault(ctx, sys)
	if err != nil {
		return r, err
	}
	sys.awaitRecovery(ctx, &r)
	sys.callers.stop()
	r.Fault = fmt.Sprintf("%s, %s", f.what, round(lasted))
	f.judge(&r, sys.callers.recorder)
	err = errors.Join(f.checkBreaker(ctx, sys, &r, lasted), sys.checkUsage(ctx, before, &r),
		checkDatabase(ctx, sys.dsn, sys.callers.done, s.short, &r))
	if f.check != nil {
		err = errors.Join(err, f.check(ctx, sys, &r))
	}
	if len(r.Fails) > 0 {
		s.gatewayLog = sys.gateway.Log()
	}
	return r, err
}

// runFault lets the callers call for a while, breaks, waits and mends. lasted is
// the time from the breaking to the mending.
func (f fault) runFault(ctx context.Context, sys *system) (lasted time.Duration, err error) {
	if err := pause.For(ctx, pick(sys.stage, time.Second, 3*time.Second)); err != nil {
		return 0, err
	}
	sys.callers.recorder.enter(during)
	began := time.Now()
	if err := f.breaks(ctx, sys); err != nil {
		return 0, fmt.Errorf("break: %w", err)
	}
	if err := pause.For(ctx, pick(sys.stage, 2500*time.Millisecond, 10*time.Second)); err != nil {
		return 0, err
	}
	if err := f.mends(ctx, sys); err != nil {
		return 0, fmt.Errorf("mend: %w", err)
	}
	sys.callers.recorder.enter(after)
	return time.Since(began), nil
}

// awaitRecovery waits until all is as before, and records how long that took.
func (sys *system) awaitRecovery(ctx context.Context, r *row) {
	for deadline := time.Now().Add(wellIn); time.Now().Before(deadline); {
		took, last, known := sys.callers.recorder.recovery(lasting)
		switch {
		case known && last == "":
			r.Well = "at once"
			return
		case known:
			r.Well = fmt.Sprintf("%s (%s)", round(max(took, time.Millisecond)), last)
			return
		}
		if pause.For(ctx, 50*time.Millisecond) != nil {
			break
		}
	}
	r.Well = "never"
	r.check(false, "not well %s after it was mended: %s", wellIn, sys.callers.recorder.notRecovered())
}

// judge compares the answers of each phase with what was expected.
func (f fault) judge(r *row, rec *recorder) {
	r.Saw = summary(rec.seen[during])
	var noise time.Duration
	for p := range phases {
		noise = max(noise, rec.of(phase(p), health).worst)
	}
	normal().check(r, rec.seen[before], noise)
	f.during.check(r, rec.seen[during], noise)
	// Until all is as before, the answers may be as if the fault lasted.
	f.during.and(expectations{wait: {wokenLate, timedOut}}).check(r, rec.seen[after], noise)
	r.Saw += fmt.Sprintf("; /healthz took %s at the worst", round(noise))
	checkPrompt(r, rec.of(during, update), noise)
	checkPrompt(r, rec.of(after, update), noise)
}

// checkBreaker checks that the live store's breaker has opened where it must, has
// let few calls through meanwhile, and is closed in the end.
func (f fault) checkBreaker(ctx context.Context, sys *system, r *row, lasted time.Duration) error {
	text, err := sys.gateway.Metrics(ctx)
	if err != nil {
		return err
	}
	changed := func(to string) float64 {
		return sum(text, "doorstep_live_store_breaker_changes_total", `state="`+to+`"`)
	}
	opened, probed, closed := changed("open"), changed("half-open"), changed("closed")
	r.check(sum(text, "doorstep_live_store_breaker_state", `state="closed"`) == 1, "the live store's breaker is not closed in the end")
	if !f.trips {
		return nil
	}
	waited := sum(text, "doorstep_live_store_calls_total", `result="timeout"`)
	r.check(opened >= 1 && probed >= 1 && closed >= 1, "the breaker opened %v times, was half open %v times, closed %v times", opened, probed, closed)
	// It is half open every half second at most, and lets three calls through then.
	// Twenty failures in a row open it. Some ten more calls are under way by that time, and twenty
	// where a busy machine is late to end them.
	r.check(probed <= 2*lasted.Seconds()+4, "the breaker was half open %v times in %s", probed, round(lasted))
	r.check(waited <= 40*max(1, closed)+3*probed, "%v calls waited for the live store in vain", waited)
	r.Saw += fmt.Sprintf("; breaker opened, half open ×%v, closed; %v calls waited in vain", probed, waited)
	return nil
}

// sum adds up the series of a name that have a label.
func sum(metrics, name, label string) (total float64) {
	for line := range strings.Lines(metrics) {
		var v float64
		at := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, name+"{") && strings.Contains(line, label) {
			if _, err := fmt.Sscan(line[at+1:], &v); err == nil {
				total += v
			}
		}
	}
	return total
}

// usage is what a gateway holds.
type usage struct {
	goroutines float64
	fds        int
	rss        int64 // bytes
}

func (sys *system) usage(ctx context.Context) (usage, error) {
	n, err := sys.gateway.Metric(ctx, "go_goroutines")
	if err != nil {
		return usage{}, err
	}
	u, err := rig.UsageOf(sys.gateway.PID())
	return usage{n, u.FDs, u.RSS}, err
}

// How much more a gateway may hold after a fault than before: all 16 connections
// of the database's pool may be open, and some timers may run. A leak in each call
// would be hundreds.
const (
	moreGoroutines = 24
	moreFDs        = 24
	moreRSS        = 96 << 20
)

// checkUsage waits until the gateway is idle and compares.
func (sys *system) checkUsage(ctx context.Context, before usage, r *row) error {
	var now usage
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		var err error
		if now, err = sys.usage(ctx); err != nil {
			return err
		}
		if now.goroutines <= before.goroutines+moreGoroutines && now.fds <= before.fds+moreFDs {
			break
		}
		if err := pause.For(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	r.check(now.goroutines <= before.goroutines+moreGoroutines, "goroutines went from %v to %v", before.goroutines, now.goroutines)
	r.check(now.fds <= before.fds+moreFDs, "open files went from %d to %d", before.fds, now.fds)
	r.check(now.rss <= before.rss+moreRSS, "memory went from %d to %d MB", before.rss>>20, now.rss>>20)
	return nil
}
