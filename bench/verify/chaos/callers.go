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
	"doorstep/gateway/auth"
	"doorstep/geo"
	"doorstep/internal/pause"
	"doorstep/sessions"
)

// troupe is everybody who calls a gateway, all the while: phones on their way,
// students who read and who wait, trainers who start, stop and arrive, codes
// right and wrong, and callers who must get nothing.
//
// Each pool holds sessions that wait for their next step. A step that is refused
// leaves its session where it was, to be tried again, as people do.
type troupe struct {
	base     string
	client   *http.Client
	admin    *rig.Caller
	devices  bool // students register a phone
	recorder *recorder
	travels  []*travel

	unread, booked, running, doors, pending chan *lesson

	end  context.CancelFunc
	work sync.WaitGroup

	mu   sync.Mutex
	done map[kind][]sessions.ID // steps that were answered as done
}

// travel is a journey on its way to a home 20 km away, at an honest 36 km/h.
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
	seen      bool // a fix was sent
	uncertain bool // the last try was not answered clearly
}

// The rate of the troupe, and what the gateway must be set to for it.
const (
	rate     = 200 * time.Millisecond
	tick     = 300 * time.Millisecond
	departIn = 10 * time.Second
	spares   = 3 // sessions that wait for each step when a fault begins
)

// troupeSettings make a gateway take the troupe's fixes 25 times as often as
// usual, and its tracks that begin anew 60 times as soon.
func troupeSettings() []string {
	return []string{"RATE_INTERVAL=" + rate.String(), "RATE_TOLERANCE=1s", "APPROACH_FOR=1s"}
}

// newTroupe makes callers with a session for every step.
func newTroupe(ctx context.Context, base string, travels int, devices bool) (*troupe, error) {
	client := &http.Client{
		Timeout:   15 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second},
	}
	admin, err := rig.NewCaller(sessions.Admin, client)
	if err != nil {
		return nil, err
	}
	t := &troupe{base: base, client: client, admin: admin, devices: devices, recorder: newRecorder(), done: map[kind][]sessions.ID{}}
	for _, pool := range []*chan *lesson{&t.unread, &t.booked, &t.running, &t.doors, &t.pending} {
		*pool = make(chan *lesson, 1024) // more than an hour fills
	}
	for range travels {
		if err := t.depart(ctx); err != nil {
			return nil, err
		}
	}
	return t, t.prepare(ctx)
}

func (t *troupe) journey() (*rig.Journey, error) {
	return rig.NewJourney(geo.MustPoint(52, 5), t.client)
}

func (t *troupe) depart(ctx context.Context) error {
	j, err := t.journey()
	if err != nil {
		return err
	}
	travel := &travel{Journey: j, began: time.Now()}
	t.travels = append(t.travels, travel)
	for _, do := range []func() rig.Answer{
		func() rig.Answer { return j.Book(ctx, t.base, t.admin) }, // its student has no phone
		func() rig.Answer { return j.Start(ctx, t.base) },
	} {
		if a := do(); a.Label() != "201" {
			return fmt.Errorf("depart: %s: %w", a.Label(), a.Err)
		}
	}
	// A gateway that has just begun to serve may have yet to reach its live store.
	for deadline := time.Now().Add(departIn); j.Update(ctx, t.base, travel.at()).Label() != "201"; {
		if time.Now().After(deadline) {
			return errors.New("depart: no fix is stored")
		}
		if err := pause.For(ctx, rate); err != nil {
			return err
		}
	}
	return nil
}

// prepare fills the pools by playing each step often enough.
func (t *troupe) prepare(ctx context.Context) error {
	for range 6 * spares {
		t.book(ctx)
	}
	for range 3 * spares {
		t.start(ctx)
	}
	for range spares {
		t.arrive(ctx)
	}
	for _, pool := range []chan *lesson{t.unread, t.booked, t.running, t.doors, t.pending} {
		if len(pool) < spares-1 {
			return errors.New("the troupe could not be prepared: " + t.recorder.of(before, start).String())
		}
	}
	return nil
}

// play has everybody call until close.
func (t *troupe) play(ctx context.Context) error {
	ctx, t.end = context.WithCancel(ctx)
	outsiders, err := t.outsiders()
	if err != nil {
		return err
	}
	for _, travel := range t.travels {
		t.every(ctx, rate, func(ctx context.Context) {
			t.call(ctx, update, fixLabel, func() rig.Answer { return travel.Update(ctx, t.base, travel.at()) })
		})
		t.every(ctx, rate, func(ctx context.Context) {
			t.call(ctx, live, liveLabel, func() rig.Answer { return travel.Live(ctx, t.base, "", 0) })
		})
		t.work.Go(func() { t.await(ctx, travel) })
	}
	for _, step := range []func(context.Context){t.book, t.read, t.start, t.stop, t.arrive, t.guess} {
		t.every(ctx, tick, step)
	}
	for _, outsider := range outsiders {
		t.every(ctx, 2*tick, outsider)
	}
	t.every(ctx, rate/4, func(ctx context.Context) {
		t.call(ctx, health, nil, func() rig.Answer { return t.ping(ctx) })
	})
	return nil
}

// close ends all calls and waits for that.
func (t *troupe) close() {
	if t.end != nil {
		t.end()
	}
	t.work.Wait()
	t.client.CloseIdleConnections()
}

// every acts at most that often. What took longer is not made up for.
func (t *troupe) every(ctx context.Context, d time.Duration, act func(context.Context)) {
	t.work.Go(func() {
		for ctx.Err() == nil {
			next := time.Now().Add(d)
			act(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(time.Until(next)):
			}
		}
	})
}

// call makes one call and records it. A nil label names the answer by status
// and code.
func (t *troupe) call(ctx context.Context, k kind, label func(rig.Answer) string, do func() rig.Answer) (rig.Answer, string) {
	began := t.recorder.now()
	a := do()
	if label == nil {
		label = plainLabel
	}
	text := label(a)
	if ctx.Err() == nil { // else it was cut off by the end of the play
		t.recorder.note(k, began, text, a.Took)
	}
	return a, text
}

func plainLabel(a rig.Answer) string {
	if a.Status == http.StatusServiceUnavailable && a.RetryAfter == "" {
		return a.Label() + withoutARetry
	}
	return a.Label()
}

// fixLabel: 200 is for a fix that is not newer than the live one, as when a store
// that was stalled takes two in one millisecond.
func fixLabel(a rig.Answer) string {
	if a.Status == http.StatusOK {
		return stale
	}
	return plainLabel(a)
}

// liveLabel tells apart what a reader sees.
func liveLabel(a rig.Answer) string {
	var body struct {
		Location json.RawMessage `json:"location"`
		IsActive bool            `json:"isActive"`
		Degraded bool            `json:"degraded"`
	}
	if a.Status != http.StatusOK || json.Unmarshal(a.Data, &body) != nil {
		return plainLabel(a)
	}
	switch {
	case body.Degraded && !body.IsActive:
		return degradedEnded
	case body.Degraded:
		return degraded
	case !body.IsActive:
		return "200 not active"
	case string(body.Location) == "null":
		return noLocation
	default:
		return "200"
	}
}

// await is a student's app: always one long poll open.
func (t *troupe) await(ctx context.Context, j *travel) {
	etag := ""
	for ctx.Err() == nil {
		a, _ := t.call(ctx, wait, waitLabel, func() rig.Answer {
			return j.Live(ctx, t.base, etag, int(waitFor/time.Second))
		})
		switch {
		case a.ETag != "":
			etag = a.ETag
		case a.Status != http.StatusNotModified:
			select {
			case <-ctx.Done():
			case <-time.After(tick):
			}
		}
	}
}

// waitLabel: while phones report five times a second a wait that is woken takes
// a fifth of one.
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
// fault every pool keeps some, so that it meets every step.
func (t *troupe) next(pool chan *lesson) *lesson {
	if t.end != nil && t.recorder.now() == before && len(pool) <= spares {
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
func (t *troupe) book(ctx context.Context) {
	j, err := t.journey()
	if err != nil {
		return
	}
	_, label := t.call(ctx, book, nil, func() rig.Answer { return j.Book(ctx, t.base, t.admin) })
	if label != "201" {
		return
	}
	if t.devices {
		j.Student.Do(ctx, http.MethodPut, t.base, "/me/push-tokens", map[string]string{"token": "phone-of-" + string(j.Student.ID), "platform": "android"})
	}
	if l := (&lesson{Journey: j}); t.count(book, j.ID)%3 == 0 {
		t.unread <- l
	} else {
		t.booked <- l
	}
}

// read is the first look at a session: nothing of it is cached.
func (t *troupe) read(ctx context.Context) {
	l := t.next(t.unread)
	if l == nil {
		return
	}
	_, label := t.call(ctx, uncached, nil, func() rig.Answer { return l.Live(ctx, t.base, "", 0) })
	if label != "200" {
		t.unread <- l
	}
}

func (t *troupe) start(ctx context.Context) {
	t.step(ctx, start, t.booked, "409 JOURNEY_ALREADY_STARTED", (*rig.Journey).Start, func(l *lesson) {
		if t.count(start, l.ID)%3 == 0 {
			t.running <- l
		} else {
			t.doors <- l
		}
	})
}

func (t *troupe) stop(ctx context.Context) {
	t.step(ctx, stop, t.running, "404 NO_ACTIVE_JOURNEY", (*rig.Journey).Stop, func(l *lesson) { t.count(stop, l.ID) })
}

// step tries a session's next step. After an unclear answer the refusal that
// says "done already" is a success.
func (t *troupe) step(ctx context.Context, k kind, from chan *lesson, already string,
	do func(*rig.Journey, context.Context, string) rig.Answer, onward func(*lesson),
) {
	l := t.next(from)
	if l == nil {
		return
	}
	a, _ := t.call(ctx, k, l.once(already), func() rig.Answer { return do(l.Journey, ctx, t.base) })
	t.settle(ctx, l, a, already, from, onward)
}

// once names a refusal that says that the step was done before, when that can
// be.
func (l *lesson) once(already string) func(rig.Answer) string {
	return func(a rig.Answer) string {
		if label := plainLabel(a); label != already || !l.uncertain {
			return label
		}
		return afterAllItWas
	}
}

func (t *troupe) settle(ctx context.Context, l *lesson, a rig.Answer, already string, back chan *lesson, onward func(*lesson)) {
	switch {
	case a.Status/100 == 2, l.uncertain && a.Label() == already:
		l.uncertain = false
		onward(l)
	default:
		l.uncertain = l.uncertain || a.Status == 0 || a.Status >= http.StatusInternalServerError
		if ctx.Err() == nil {
			back <- l
		}
	}
}

// arrive asks for the code before any fix, sends one from the door and asks
// again; and somebody on the way asks for one, too.
func (t *troupe) arrive(ctx context.Context) {
	if len(t.travels) > 0 && t.end != nil {
		t.call(ctx, afar, nil, func() rig.Answer { return t.travels[0].Arrive(ctx, t.base) })
	}
	l := t.next(t.doors)
	if l == nil {
		return
	}
	if !l.seen {
		t.call(ctx, unseen, nil, func() rig.Answer { return l.Arrive(ctx, t.base) })
	}
	l.seen = true
	t.call(ctx, update, fixLabel, func() rig.Answer { return l.Update(ctx, t.base, l.Home) })
	a, _ := t.call(ctx, arrive, nil, func() rig.Answer { return l.Arrive(ctx, t.base) })
	t.settle(ctx, l, a, "", t.doors, func(l *lesson) {
		var body struct {
			OTP string `json:"otp"`
		}
		if json.Unmarshal(a.Data, &body) == nil && body.OTP != "" {
			l.otp = body.OTP
			t.count(arrive, l.ID)
			t.pending <- l
		}
	})
}

// guess types a wrong code and then the right one.
func (t *troupe) guess(ctx context.Context) {
	l := t.next(t.pending)
	if l == nil {
		return
	}
	if l.guesses < 3 && !l.uncertain {
		l.guesses++
		t.call(ctx, wrong, nil, func() rig.Answer { return t.verify(ctx, l, another(l.otp)) })
	}
	const already = "409 NOT_PENDING_VERIFICATION"
	a, _ := t.call(ctx, verify, l.once(already), func() rig.Answer { return t.verify(ctx, l, l.otp) })
	t.settle(ctx, l, a, already, t.pending, func(l *lesson) { t.count(verify, l.ID) })
}

func (t *troupe) verify(ctx context.Context, l *lesson, otp string) rig.Answer {
	return l.Trainer.Do(ctx, http.MethodPost, t.base, fmt.Sprintf("/admin/sessions/%s/verify-otp", l.ID), map[string]string{"otp": otp})
}

// another code than this one.
func another(otp string) string { return string('0'+(otp[0]-'0'+1)%10) + otp[1:] }

// ping asks /healthz, which asks nobody.
func (t *troupe) ping(ctx context.Context) rig.Answer {
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.base+"/healthz", nil)
	if err != nil {
		return rig.Answer{Err: err}
	}
	res, err := t.client.Do(req)
	if err != nil {
		return rig.Answer{Err: err, Took: time.Since(began)}
	}
	_ = res.Body.Close()
	return rig.Answer{Status: res.StatusCode, Took: time.Since(began)}
}

// outsiders call for what is not theirs.
func (t *troupe) outsiders() ([]func(context.Context), error) {
	other, err := rig.NewJourney(geo.MustPoint(52, 5), t.client)
	if err != nil {
		return nil, err
	}
	forger := func(of *rig.Caller, role sessions.Role) (*rig.Caller, error) {
		token, err := auth.Options{Secret: []byte(strings.Repeat("another key ", 4))}.Mint(sessions.Caller{ID: of.ID, Role: role}, time.Hour)
		return &rig.Caller{ID: of.ID, Token: token, HTTP: t.client}, err
	}
	theirs := t.travels[0].Journey
	trainer, err1 := forger(theirs.Trainer, sessions.Trainer)
	student, err2 := forger(theirs.Student, sessions.Student)
	posing := func(trainer, student *rig.Caller) *rig.Journey {
		return &rig.Journey{ID: theirs.ID, Home: theirs.Home, Trainer: trainer, Student: student}
	}
	stolen, forged := posing(other.Trainer, other.Student), posing(trainer, student)
	return []func(context.Context){
		func(ctx context.Context) {
			t.call(ctx, foreign, nil, func() rig.Answer { return stolen.Live(ctx, t.base, "", 0) })
			t.call(ctx, foreign, nil, func() rig.Answer { return stolen.Live(ctx, t.base, `"1"`, 1) })
		},
		func(ctx context.Context) {
			t.call(ctx, intruder, nil, func() rig.Answer { return stolen.Update(ctx, t.base, theirs.Home) })
		},
		func(ctx context.Context) {
			t.call(ctx, stranger, nil, func() rig.Answer { return forged.Live(ctx, t.base, "", 0) })
			t.call(ctx, stranger, nil, func() rig.Answer { return forged.Update(ctx, t.base, theirs.Home) })
			t.call(ctx, stranger, nil, func() rig.Answer { return forged.Arrive(ctx, t.base) })
			t.call(ctx, stranger, nil, func() rig.Answer { return forged.Stop(ctx, t.base) })
		},
	}, errors.Join(err1, err2)
}

// count keeps that a step was answered as done, and returns how many were.
func (t *troupe) count(k kind, id sessions.ID) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done[k] = append(t.done[k], id)
	return len(t.done[k])
}
