package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"doorstep/bench/rig"
	"doorstep/geo"
	"doorstep/internal/pause"
	"doorstep/sessions"
)

// convoy is many journeys at once through one gateway. Each travels east on a
// parallel of latitude of its own, so that another's fix would show, and a step
// back, too; its student long-polls with the last ETag, as the app does.
type convoy struct {
	base  string
	rides []*convoyRide
	every time.Duration

	mu      sync.Mutex
	answers map[string]int // to updates and reads, by label
	wrong   []string       // what no student may ever see
	worst   time.Duration  // the slowest update
}

type convoyRide struct {
	*rig.Journey
	lane int

	stored, seen atomic.Int64 // versions: of the last update, of the last read
	failed       atomic.Int64 // updates not stored
}

const (
	convoyLane = 0.001 // degrees between two lanes: 111 m
	convoyStep = 1e-5  // degrees from fix to fix: 1.1 m
	retryEvery = 250 * time.Millisecond
)

// newConvoy starts a gateway on a live store and journeys through it, a
// thousand in the long form, and returns when each has been seen to move.
func newConvoy(ctx context.Context, s *stage, storeURL string) (*convoy, error) {
	every := pick(s, time.Second, 2*time.Second)
	g, err := s.gateway(ctx, "VALKEY_URL="+storeURL, "RATE_INTERVAL="+retryEvery.String(), "RATE_TOLERANCE=1s")
	if err != nil {
		return nil, err
	}
	c := &convoy{base: g.URL(), every: every, rides: make([]*convoyRide, pick(s, 30, 1000)), answers: map[string]int{}}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * len(c.rides)}}
	s.onEnd(func() error { client.CloseIdleConnections(); return nil })
	if err := c.depart(ctx, client); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	s.onEnd(func() error { cancel(); running.Wait(); return nil })
	for _, r := range c.rides {
		running.Go(func() { c.drive(ctx, r) })
		running.Go(func() { c.follow(ctx, r) })
	}
	_, _, err = c.untilFlow(ctx)
	return c, err
}

func (c *convoy) depart(ctx context.Context, client *http.Client) error {
	admin, err := rig.NewCaller(sessions.Admin, client)
	if err != nil {
		return err
	}
	for i := range c.rides {
		j, err := rig.NewJourney(geo.MustPoint(10+float64(i)*convoyLane, 78), client)
		if err != nil {
			return err
		}
		c.rides[i] = &convoyRide{Journey: j, lane: i}
		booked, started := j.Book(ctx, c.base, admin), j.Start(ctx, c.base)
		if booked.Status != http.StatusCreated || started.Status != http.StatusCreated {
			return fmt.Errorf("journey %d: booked %s, started %s", i, booked.Label(), started.Label())
		}
	}
	return nil
}

// drive posts fixes. What was not stored is followed by the next one sooner.
func (c *convoy) drive(ctx context.Context, r *convoyRide) {
	_ = pause.For(ctx, time.Duration(r.lane)*c.every/time.Duration(len(c.rides)))
	for n := 0; ctx.Err() == nil; n++ {
		a := r.Update(ctx, c.base, geo.MustPoint(10+float64(r.lane)*convoyLane, 77+float64(n)*convoyStep))
		if ctx.Err() != nil {
			return
		}
		c.note("update", a)
		next := c.every
		var said struct {
			Seq int64 `json:"seq"`
		}
		if a.Status == http.StatusCreated && json.Unmarshal(a.Data, &said) == nil {
			r.stored.Store(said.Seq)
		} else {
			r.failed.Add(1)
			next = retryEvery
		}
		_ = pause.For(ctx, next)
	}
}

// follow is the student's app.
func (c *convoy) follow(ctx context.Context, r *convoyRide) {
	etag, east := "", 0.0
	for ctx.Err() == nil {
		a := r.Live(ctx, c.base, etag, 25)
		if ctx.Err() != nil {
			return
		}
		c.note("read", a)
		switch {
		case a.Status == http.StatusOK && a.ETag != "":
			etag, east = a.ETag, c.see(r, a, east)
		case a.Status != http.StatusNotModified:
			_ = pause.For(ctx, retryEvery)
		}
	}
}

// see looks at what a student was shown.
func (c *convoy) see(r *convoyRide, a rig.Answer, east float64) float64 {
	var body struct {
		Location *struct {
			Latitude  float64 `json:"latitude"`
			Longitude float64 `json:"longitude"`
		} `json:"location"`
	}
	version, err := strconv.ParseInt(strings.Trim(a.ETag, `"`), 10, 64)
	if err = errors.Join(err, json.Unmarshal(a.Data, &body)); err != nil {
		c.wrongf("unreadable: %v", err)
		return east
	}
	if before := r.seen.Swap(version); version < before {
		c.wrongf("a version went back by %d ms", before-version)
	}
	if body.Location == nil {
		return east
	}
	if lane := int(math.Round((body.Location.Latitude - 10) / convoyLane)); lane != r.lane {
		c.wrongf("a student saw another's trainer")
	}
	if body.Location.Longitude < east {
		c.wrongf("a pin moved back by %.0f steps", (east-body.Location.Longitude)/convoyStep)
	}
	return body.Location.Longitude
}

func (c *convoy) wrongf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

func (c *convoy) note(what string, a rig.Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[what+" "+a.Label()]++
	if what == "update" {
		c.worst = max(c.worst, a.Took)
	}
}

// untilFlow waits until every journey has had an update stored since now, and
// its student has seen it, and says how long the last ones took.
func (c *convoy) untilFlow(ctx context.Context) (updates, waits time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	began := time.Now()
	before := make([]int64, len(c.rides))
	for i, r := range c.rides {
		before[i] = r.stored.Load()
	}
	flows := func(version func(*convoyRide) int64) (time.Duration, error) {
		for i, r := range c.rides {
			for version(r) <= before[i] {
				if err := pause.For(ctx, time.Millisecond); err != nil {
					return 0, fmt.Errorf("journey %d did not go on: %w", i, err)
				}
			}
		}
		return time.Since(began), nil
	}
	if updates, err = flows(func(r *convoyRide) int64 { return r.stored.Load() }); err != nil {
		return 0, 0, err
	}
	waits, err = flows(func(r *convoyRide) int64 { return r.seen.Load() })
	return updates, waits, err
}

// report fills in what was broken and what was seen of it.
func (c *convoy) report(r *row, fault string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.Fault = fault
	var said []string
	for label, n := range c.answers {
		said = append(said, fmt.Sprintf("%s ×%d", label, n))
	}
	slices.Sort(said)
	r.Saw = strings.Join(said, ", ") + "; slowest update " + ms(c.worst)
	for i, line := range c.wrong[:min(3, len(c.wrong))] {
		r.check(false, "%s (%d of %d)", line, i+1, len(c.wrong))
	}
}

// wellAfter: each journey sends its next fix within the interval, so that much
// of a time to well is the phones' own. Those that were refused ask four times
// a second.
func (c *convoy) wellAfter(s *stage, r *row, updates, waits time.Duration) {
	r.Well = fmt.Sprintf("updates %s, waits %s", ms(updates), ms(waits))
	limit := c.every + resumeWithin(s)
	r.check(waits < limit, "a wait resumed %s after the failover, and not within %s", ms(waits), ms(limit))
}

// checkAnswers: no update had another answer than these, no read failed.
func (c *convoy) checkAnswers(r *row, allowed ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for label, n := range c.answers {
		what, answer, _ := strings.Cut(label, " ")
		ok := slices.Contains(allowed, answer)
		if what == "read" {
			ok = answer == "200" || answer == "304"
		}
		r.check(ok, "%d times %s", n, label)
	}
}
