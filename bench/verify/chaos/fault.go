package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"doorstep/bench/rig"
	"doorstep/internal/pause"
	"doorstep/internal/servers/awstest"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeyserver"
)

// set is what a fault is played on: a gateway with real servers, maybe with
// networks between them that can be made bad.
type set struct {
	stage    *stage
	store    *valkeyserver.Server
	database *postgrestest.Server // nil: one that others use, too
	dsn      string               // straight to the database
	toStore  *proxy               // nil: no proxy between
	toData   *proxy
	aws      *awstest.Server // nil: consumers in the gateway
	gateway  *rig.Gateway
	devices  bool // students have phones to push to
	troupe   *troupe
}

// fault is one thing that breaks under a troupe, and what callers were promised.
type fault struct {
	name string // of the scenario
	what string // the table's first column
	// sets starts the servers and the gateway.
	sets func(ctx context.Context, s *stage) (*set, error)
	// breaks and mends return when it is broken and when it is mended.
	breaks, mends func(ctx context.Context, t *set) error
	during        promises
	trips         bool                                              // the live store's breaker has to open
	checks        []func(ctx context.Context, t *set, r *row) error // once all is well, nobody plays, and it was all of r
}

func (f fault) scenario() scenario { return scenario{name: f.name, play: f.play, beside: true} }

const (
	travels = 3
	// lasting is for how long all has to be as before to call it well, and
	// wellIn how long that may take. Three times what the slowest takes: pgx
	// keeps the places of a host that left without a word for 18 s.
	lasting = 1500 * time.Millisecond
	wellIn  = time.Minute
)

// play breaks and mends under a troupe.
func (f fault) play(ctx context.Context, s *stage) (r row, err error) {
	t, err := f.sets(ctx, s)
	if err != nil {
		return r, err
	}
	if t.troupe, err = newTroupe(ctx, t.gateway.URL(), travels, t.devices); err != nil {
		return r, err
	}
	atRest, err := t.leftovers(ctx)
	if err != nil {
		return r, err
	}
	if err := t.troupe.play(ctx); err != nil {
		return r, err
	}
	defer t.troupe.close()
	lasted, err := f.suffer(ctx, t)
	if err != nil {
		return r, err
	}
	t.awaitWell(ctx, &r)
	t.troupe.close()
	r.Fault = fmt.Sprintf("%s, %s", f.what, round(lasted))
	f.judge(&r, t.troupe.recorder)
	err = errors.Join(f.breaker(ctx, t, &r, lasted), t.leftBehind(ctx, atRest, &r), t.consistent(ctx, &r))
	for _, check := range f.checks {
		err = errors.Join(err, check(ctx, t, &r))
	}
	if len(r.Fails) > 0 {
		s.lastWords = t.gateway.Log()
	}
	return r, err
}

// suffer plays on for a while, breaks, waits and mends.
func (f fault) suffer(ctx context.Context, t *set) (lasted time.Duration, err error) {
	if err := pause.For(ctx, pick(t.stage, time.Second, 3*time.Second)); err != nil {
		return 0, err
	}
	t.troupe.recorder.enter(during)
	began := time.Now()
	if err := f.breaks(ctx, t); err != nil {
		return 0, fmt.Errorf("break: %w", err)
	}
	if err := pause.For(ctx, pick(t.stage, 2500*time.Millisecond, 10*time.Second)); err != nil {
		return 0, err
	}
	if err := f.mends(ctx, t); err != nil {
		return 0, fmt.Errorf("mend: %w", err)
	}
	t.troupe.recorder.enter(after)
	return time.Since(began), nil
}

// awaitWell plays on until all is as before, and says how long that took.
func (t *set) awaitWell(ctx context.Context, r *row) {
	for deadline := time.Now().Add(wellIn); time.Now().Before(deadline); {
		well, last, known := t.troupe.recorder.well(lasting)
		switch {
		case known && last == "":
			r.Well = "at once"
			return
		case known:
			r.Well = fmt.Sprintf("%s (%s)", round(max(well, time.Millisecond)), last)
			return
		}
		if pause.For(ctx, 50*time.Millisecond) != nil {
			break
		}
	}
	r.Well = "never"
	r.check(false, "not well %s after it was mended: %s", wellIn, t.troupe.recorder.unwell())
}

func (f fault) judge(r *row, rec *recorder) {
	r.Saw = saw(rec.seen[during])
	r.Fails = append(r.Fails, never(rec)...)
	var noise time.Duration
	for _, seen := range rec.seen {
		noise = max(noise, rec.worst(seen, health))
	}
	asEver().keep(r, rec.seen[before], noise)
	f.during.keep(r, rec.seen[during], noise)
	// Until all is well again it is as if it lasted.
	f.during.and(promises{wait: {wokenLate, timedOut}}).keep(r, rec.seen[after], noise)
	r.Saw += fmt.Sprintf("; /healthz took %s at the worst", round(noise))
	prompt(r, rec.of(during, update), noise)
	prompt(r, rec.of(after, update), noise)
}

// breaker checks that the live store's breaker has opened, has let few calls
// through meanwhile, and is closed now.
func (f fault) breaker(ctx context.Context, t *set, r *row, lasted time.Duration) error {
	text, err := t.gateway.Metrics(ctx)
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
	// It is half open every half second at most, and lets three calls through
	// then. Twenty open it; a troupe has some ten more under way by that time.
	r.check(probed <= 2*lasted.Seconds()+4, "the breaker was half open %v times in %s", probed, round(lasted))
	r.check(waited <= 30*max(1, closed)+3*probed, "%v calls waited for the live store in vain", waited)
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

// leftovers is what a gateway holds.
type leftovers struct {
	goroutines float64
	fds        int
	rss        int64
}

func (t *set) leftovers(ctx context.Context) (leftovers, error) {
	n, err := t.gateway.Metric(ctx, "go_goroutines")
	if err != nil {
		return leftovers{}, err
	}
	u, err := rig.UsageOf(t.gateway.PID())
	return leftovers{n, u.FDs, u.RSS}, err
}

// What may be left after a fault more than there was before it: the 16 places
// of the database's pool may all have been taken, and some timers may run. One
// thing left by each call would be hundreds.
const (
	moreGoroutines = 24
	moreFDs        = 24
	moreRSS        = 96 << 20
)

// leftBehind waits for quiet and compares.
func (t *set) leftBehind(ctx context.Context, atRest leftovers, r *row) error {
	var now leftovers
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		var err error
		if now, err = t.leftovers(ctx); err != nil {
			return err
		}
		if now.goroutines <= atRest.goroutines+moreGoroutines && now.fds <= atRest.fds+moreFDs {
			break
		}
		if err := pause.For(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	r.check(now.goroutines <= atRest.goroutines+moreGoroutines, "goroutines went from %v to %v", atRest.goroutines, now.goroutines)
	r.check(now.fds <= atRest.fds+moreFDs, "open files went from %d to %d", atRest.fds, now.fds)
	r.check(now.rss <= atRest.rss+moreRSS, "memory went from %d to %d MB", atRest.rss>>20, now.rss>>20)
	return nil
}
