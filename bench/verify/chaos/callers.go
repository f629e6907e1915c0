package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"doorstep/bench/rig"
	"doorstep/client"
	"doorstep/gateway/auth"
	"doorstep/geo"
	"doorstep/internal/pause"
	"doorstep/sessions"
)

// callers call one gateway all the time, in all roles: phones on their way,
// students who read and wait, trainers who start, stop and arrive, right and wrong
// codes, and callers that must be refused.
//
// Each pool holds sessions that wait for their next step. A step that is refused
// leaves its session in the pool, to be tried again.
type callers struct {
	base     string
	client   *http.Client
	admin    *rig.Caller
	devices  bool // students register a device
	recorder *recorder
	travels  []*travel

	unread, booked, running, doors, pending chan *lesson

	end  context.CancelFunc // nil until start
	work sync.WaitGroup

	mu   sync.Mutex
	done map[kind][]sessions.ID // steps that were answered as done
}

// travel is a journey to a home 20 km away, at 36 km/h.
type travel struct {
	*rig.Journey
	began time.Time
}

func (t *travel) at() geo.Point {
	return geo.Offset(t.Home, 0, 20_000-10*time.Since(t.began).Seconds())
}

// lesson is a session on its way through its states.
type lesson struct {
	*rig.Journey
	otp       string
	guesses   int
	uncertain bool // the last try had no clear answer
}

const (
	rate     = 200 * time.Millisecond // between the fixes of a journey
	tick     = 300 * time.Millisecond // between the steps of one kind
	departIn = 10 * time.Second
	spares   = 3 // sessions that wait for each step when a fault begins
)

// callerSettings let a gateway take the callers' fixes 25 times as often as
// usual, and a track that began anew arrive after 1 s instead of 60.
func callerSettings() []string {
	return []string{"RATE_INTERVAL=" + rate.String(), "RATE_TOLERANCE=1s", "APPROACH_FOR=1s"}
}

// newCallers makes callers with sessions in every state.
func newCallers(ctx context.Context, base string, devices bool) (*callers, error) {
	connections := &http.Client{
		Timeout:   15 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second},
	}
	admin, err := rig.NewCaller(sessions.Admin, connections)
	if err != nil {
		return nil, err
	}
	c := &callers{base: base, client: connections, admin: admin, devices: devices, recorder: newRecorder(), done: map[kind][]sessions.ID{}}
	pools := []*chan *lesson{&c.unread, &c.booked, &c.running, &c.doors, &c.pending}
	for _, pool := range pools {
		*pool = make(chan *lesson, 1024) // an hour does not fill it
	}
	for range travels {
		if err := c.depart(ctx); err != nil {
			return nil, err
		}
	}
	for _, s := range []struct {
		step  func(context.Context)
		times int
	}{{c.book, 18 * spares}, {c.startOne, 10 * spares}, {func(context.Context) { c.work.Wait() }, 1}, {c.arrive, spares}} {
		for range s.times {
			s.step(ctx)
		}
	}
	for _, pool := range pools {
		if len(*pool) < spares-1 {
			return nil, errors.New("the sessions could not be prepared: " + c.recorder.of(before, start).String())
		}
	}
	return c, nil
}

func (c *callers) journey() (*rig.Journey, error) {
	return rig.NewJourney(geo.MustPoint(52, 5), c.client)
}

// depart starts a journey and sends its first fix.
func (c *callers) depart(ctx context.Context) error {
	j, err := c.journey()
	if err != nil {
		return err
	}
	t := &travel{Journey: j, began: time.Now()}
	c.travels = append(c.travels, t)
	if err := begin(ctx, c.base, c.admin, j); err != nil {
		return err
	}
	// A gateway that is just up may not have reached its live store yet.
	for deadline := time.Now().Add(departIn); j.Update(ctx, c.base, t.at()).Label() != "201"; {
		if time.Now().After(deadline) {
			return errors.New("depart: no fix is stored")
		}
		if err := pause.For(ctx, rate); err != nil {
			return err
		}
	}
	return nil
}

// begin books and starts a journey.
func begin(ctx context.Context, base string, admin *rig.Caller, j *rig.Journey) error {
	for _, call := range []func() rig.Answer{
		func() rig.Answer { return j.Book(ctx, base, admin) },
		func() rig.Answer { return j.Start(ctx, base) },
	} {
		if a := call(); a.Label() != "201" {
			return fmt.Errorf("begin a journey: %s: %w", a.Label(), a.Err)
		}
	}
	return nil
}

// start makes the calls until stop.
func (c *callers) start(ctx context.Context) error {
	ctx, c.end = context.WithCancel(ctx)
	refused, err := c.refused()
	if err != nil {
		return err
	}
	for _, t := range c.travels {
		c.every(ctx, rate, func(ctx context.Context) {
			c.call(ctx, update, fixLabel, func() rig.Answer { return t.Update(ctx, c.base, t.at()) })
		})
		c.every(ctx, rate, func(ctx context.Context) {
			c.call(ctx, live, liveLabel, func() rig.Answer { return t.Live(ctx, c.base, "", 0) })
		})
		c.work.Go(func() { c.poll(ctx, t) })
	}
	for _, step := range []func(context.Context){c.book, c.read, c.startOne, c.stopOne, c.arrive, c.verify} {
		c.every(ctx, tick, step)
	}
	for _, call := range refused {
		c.every(ctx, 2*tick, call)
	}
	c.every(ctx, rate/4, func(ctx context.Context) { c.call(ctx, health, plainLabel, func() rig.Answer { return c.ping(ctx) }) })
	return nil
}

// stop ends all calls and waits for that. Idempotent.
func (c *callers) stop() {
	if c.end != nil {
		c.end()
	}
	c.work.Wait()
	c.client.CloseIdleConnections()
}

// every calls f at most that often. Calls that are missed are not made up for.
func (c *callers) every(ctx context.Context, d time.Duration, f func(context.Context)) {
	c.work.Go(func() {
		for ctx.Err() == nil {
			next := time.Now().Add(d)
			f(ctx)
			_ = pause.For(ctx, time.Until(next))
		}
	})
}

// call makes one call and records its answer under a label.
func (c *callers) call(ctx context.Context, k kind, label func(rig.Answer) string, do func() rig.Answer) (rig.Answer, string) {
	began := c.recorder.now()
	a := do()
	text := label(a)
	if ctx.Err() == nil { // otherwise the end of the scenario cut it off
		c.recorder.note(k, began, text, a.Took)
	}
	return a, text
}

func plainLabel(a rig.Answer) string {
	if a.Status == http.StatusServiceUnavailable && a.RetryAfter == "" {
		return a.Label() + withoutARetry
	}
	return a.Label()
}

// fixLabel: 200 is a fix that is not newer than the live one, as when a store that
// was stalled takes two in one millisecond.
func fixLabel(a rig.Answer) string {
	if a.Status == http.StatusOK {
		return stale
	}
	return plainLabel(a)
}

// liveLabel says what a reader sees.
func liveLabel(a rig.Answer) string {
	var v client.View
	if a.Status != http.StatusOK || json.Unmarshal(a.Data, &v) != nil {
		return plainLabel(a)
	}
	switch {
	case v.Degraded && !v.Active:
		return degradedEnded
	case v.Degraded:
		return degraded
	case !v.Active:
		return "200 not active"
	case v.Location == nil:
		return noLocation
	default:
		return "200"
	}
}

// poll is a student's app: it always has one long poll open.
func (c *callers) poll(ctx context.Context, t *travel) {
	etag := ""
	for ctx.Err() == nil {
		a, _ := c.call(ctx, wait, waitLabel, func() rig.Answer { return t.Live(ctx, c.base, etag, int(waitFor/time.Second)) })
		switch {
		case a.ETag != "":
			etag = a.ETag
		case a.Status != http.StatusNotModified:
			_ = pause.For(ctx, tick)
		}
	}
}

// waitLabel: the phones report five times a second, so a wait that is woken takes
// a fifth of a second.
func waitLabel(a rig.Answer) string {
	switch {
	case a.Status == http.StatusNotModified && a.Took < early:
		return timedOutEarly
	case a.Status == http.StatusNotModified && a.Took > late:
		return timedOutLate
	case a.Status == http.StatusOK && a.Took >= early:
		return wokenLate
	case a.Status == http.StatusOK:
		return woken
	default:
		return plainLabel(a)
	}
}

// next takes a session out of a pool; nil when there is none to spare. Until the
// fault, every pool keeps some, so that the fault meets every step.
func (c *callers) next(pool chan *lesson) *lesson {
	if c.end != nil && c.recorder.now() == before && len(pool) <= spares {
		return nil
	}
	select {
	case l := <-pool:
		return l
	default:
		return nil
	}
}

// book makes a session; every third is for a first read.
func (c *callers) book(ctx context.Context) {
	j, err := c.journey()
	if err != nil {
		return
	}
	if _, label := c.call(ctx, book, plainLabel, func() rig.Answer { return j.Book(ctx, c.base, c.admin) }); label != "201" {
		return
	}
	if c.devices {
		j.Student.Do(ctx, http.MethodPut, c.base, "/me/push-tokens", map[string]string{"token": "phone-of-" + string(j.Student.ID), "platform": "android"})
	}
	if l := (&lesson{Journey: j}); c.count(book, j.ID)%3 == 0 {
		c.unread <- l
	} else {
		c.booked <- l
	}
}

// read is the first read of a session: nothing of it is cached.
func (c *callers) read(ctx context.Context) {
	l := c.next(c.unread)
	if l == nil {
		return
	}
	if _, label := c.call(ctx, uncached, plainLabel, func() rig.Answer { return l.Live(ctx, c.base, "", 0) }); label != "200" {
		c.unread <- l
	}
}

func (c *callers) startOne(ctx context.Context) {
	if l := c.next(c.booked); l != nil {
		c.step(ctx, start, l, "409 JOURNEY_ALREADY_STARTED", c.booked, func() rig.Answer { return l.Start(ctx, c.base) }, func(rig.Answer) {
			if c.count(start, l.ID)%3 == 0 {
				c.running <- l
			} else {
				c.ride(ctx, l)
			}
		})
	}
}

// ride asks for the code before any fix and sends one from the street. The session
// is at its door as soon as it may arrive.
func (c *callers) ride(ctx context.Context, l *lesson) {
	c.call(ctx, unseen, plainLabel, func() rig.Answer { return l.Arrive(ctx, c.base) })
	c.call(ctx, update, fixLabel, func() rig.Answer { return l.Update(ctx, c.base, l.Street()) })
	c.work.Go(func() {
		if pause.For(ctx, rig.Ride) == nil {
			c.doors <- l
		}
	})
}

func (c *callers) stopOne(ctx context.Context) {
	if l := c.next(c.running); l != nil {
		c.step(ctx, stop, l, "404 NO_ACTIVE_JOURNEY", c.running, func() rig.Answer { return l.Stop(ctx, c.base) }, func(rig.Answer) { c.count(stop, l.ID) })
	}
}

// step tries a session's next step: onward when it is done, else back into the
// pool. After an unclear answer, the refusal that says "done already" is a
// success.
func (c *callers) step(ctx context.Context, k kind, l *lesson, already string, pool chan *lesson, do func() rig.Answer, onward func(rig.Answer)) {
	label := func(a rig.Answer) string {
		if text := plainLabel(a); text != already || !l.uncertain {
			return text
		}
		return doneBefore
	}
	a, text := c.call(ctx, k, label, do)
	switch {
	case a.Status/100 == 2, text == doneBefore:
		l.uncertain = false
		onward(a)
	default:
		l.uncertain = l.uncertain || a.Status == 0 || a.Status >= http.StatusInternalServerError
		if ctx.Err() == nil {
			pool <- l
		}
	}
}

// arrive asks for the code with a fix from the door. A trainer who is far away asks,
// too.
func (c *callers) arrive(ctx context.Context) {
	if c.end != nil {
		c.call(ctx, afar, plainLabel, func() rig.Answer { return c.travels[0].Arrive(ctx, c.base) })
	}
	l := c.next(c.doors)
	if l == nil {
		return
	}
	c.step(ctx, arrive, l, "", c.doors, func() rig.Answer { return l.Arrive(ctx, c.base, l.Home) }, func(a rig.Answer) {
		var arrival client.Arrival
		if json.Unmarshal(a.Data, &arrival) == nil && arrival.OTP != "" {
			l.otp = arrival.OTP
			c.count(arrive, l.ID)
			c.pending <- l
		}
	})
}

// verify enters a wrong code and then the right one.
func (c *callers) verify(ctx context.Context) {
	l := c.next(c.pending)
	if l == nil {
		return
	}
	enter := func(otp string) rig.Answer {
		return l.Trainer.Do(ctx, http.MethodPost, c.base, fmt.Sprintf("/admin/sessions/%s/verify-otp", l.ID), map[string]string{"otp": otp})
	}
	if l.guesses < 3 && !l.uncertain {
		l.guesses++
		other := string('0'+(l.otp[0]-'0'+1)%10) + l.otp[1:]
		c.call(ctx, wrong, plainLabel, func() rig.Answer { return enter(other) })
	}
	c.step(ctx, verify, l, "409 NOT_PENDING_VERIFICATION", c.pending, func() rig.Answer { return enter(l.otp) }, func(rig.Answer) { c.count(verify, l.ID) })
}

// ping asks /healthz, which asks no store.
func (c *callers) ping(ctx context.Context) rig.Answer {
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/healthz", nil)
	if err != nil {
		return rig.Answer{Err: err}
	}
	res, err := c.client.Do(req)
	if err != nil {
		return rig.Answer{Err: err, Took: time.Since(began)}
	}
	_ = res.Body.Close()
	return rig.Answer{Status: res.StatusCode, Took: time.Since(began)}
}

// refused are the calls that must be refused: with another user's token, and with
// a forged one.
func (c *callers) refused() ([]func(context.Context), error) {
	other, err := c.journey()
	if err != nil {
		return nil, err
	}
	target := c.travels[0].Journey
	forge := func(of *rig.Caller, role sessions.Role) (*rig.Caller, error) {
		token, err := auth.Issuer{Secret: []byte(strings.Repeat("another key ", 4))}.Mint(sessions.Caller{ID: of.ID, Role: role}, time.Now(), time.Hour)
		return &rig.Caller{ID: of.ID, Token: token, HTTP: c.client}, err
	}
	trainer, err1 := forge(target.Trainer, sessions.Trainer)
	student, err2 := forge(target.Student, sessions.Student)
	stolen := &rig.Journey{ID: target.ID, Home: target.Home, Trainer: other.Trainer, Student: other.Student}
	forged := &rig.Journey{ID: target.ID, Home: target.Home, Trainer: trainer, Student: student}
	call := func(ctx context.Context, k kind, do func() rig.Answer) { c.call(ctx, k, plainLabel, do) }
	return []func(context.Context){
		func(ctx context.Context) {
			call(ctx, foreign, func() rig.Answer { return stolen.Live(ctx, c.base, "", 0) })
			call(ctx, foreign, func() rig.Answer { return stolen.Live(ctx, c.base, `"1"`, 1) })
		},
		func(ctx context.Context) {
			call(ctx, intruder, func() rig.Answer { return stolen.Update(ctx, c.base, target.Home) })
		},
		func(ctx context.Context) {
			call(ctx, stranger, func() rig.Answer { return forged.Live(ctx, c.base, "", 0) })
			call(ctx, stranger, func() rig.Answer { return forged.Update(ctx, c.base, target.Home) })
			call(ctx, stranger, func() rig.Answer { return forged.Arrive(ctx, c.base) })
			call(ctx, stranger, func() rig.Answer { return forged.Stop(ctx, c.base) })
		},
	}, errors.Join(err1, err2)
}

// count records that a step was answered as done, and returns how many were.
func (c *callers) count(k kind, id sessions.ID) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done[k] = append(c.done[k], id)
	return len(c.done[k])
}
