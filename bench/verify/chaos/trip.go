package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"doorstep/bench/rig"
	"doorstep/geo"
	"doorstep/internal/pause"
	"doorstep/sessions"
)

// healIn bounds how long a caller repeats one call.
const healIn = 10 * time.Second

// trip is one journey as its callers saw it, written by them alone: the phone
// its part, the student's app its own, and read when both are done.
type trip struct {
	journey *rig.Journey
	plan    fleetPlan
	base    string

	// The trainer's phone.
	sent     []geo.Point // fix by fix
	accepted []acceptance
	answers  map[string]int // of updates, by label
	unsure   bool           // the last one was 202: perhaps it counts against the rate
	healed   []healing
	end      sessions.EndReason // empty: no end was answered
	endedAt  time.Time          // its answer
	odd      []string           // answers that cannot be, in words

	// The student's app.
	looks   []look
	cuts    []failure // reads without an answer
	endSeen time.Time
	strange []string // as odd
}

// acceptance is a fix that a gateway has taken.
type acceptance struct {
	fix     int
	version int64     // 0: the answer was lost, a retry says that it was taken
	sent    time.Time // the first attempt
	at      time.Time // the answer
}

// healing is a call that failed and was repeated until it was answered.
type healing struct {
	call     string
	failures []failure
	answer   string
	took     time.Duration // first failure to answer
}

// failure is a call without an answer from a gateway.
type failure struct {
	label string
	at    time.Time
}

// look is an answered read.
type look struct {
	asked, at time.Time
	wait      time.Duration
	etag      int64 // sent; 0: none
	status    int
	version   int64      // 0: degraded
	location  *geo.Point // nil: none
	active    bool
}

// drive has every lane play trips until over is closed, and returns all.
func (f *fleet) drive(ctx context.Context, over <-chan struct{}) []*trip {
	// A connection a call: on a second one both HAProxy and net/http would keep
	// quiet about a gateway's cut, and send a read again.
	client := &http.Client{
		Timeout:   time.Duration(f.plan.wait)*time.Second + healIn,
		Transport: &http.Transport{DisableKeepAlives: true},
	}
	var mu sync.Mutex
	var trips []*trip
	var lanes sync.WaitGroup
	for lane := range f.plan.lanes {
		lanes.Go(func() {
			// Spread over one interval, as phones are.
			_ = pause.For(ctx, f.plan.interval*time.Duration(lane)/time.Duration(f.plan.lanes))
			for n := 0; !closed(over) && ctx.Err() == nil; n++ {
				t, err := newTrip(f, lane, n, client)
				if err != nil {
					return // no randomness or no key: nothing would work
				}
				t.play(ctx, lane%2 == 0)
				mu.Lock()
				trips = append(trips, t)
				mu.Unlock()
			}
		})
	}
	lanes.Wait()
	return trips
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// newTrip gives the journey a home that is no other's, by over 5 km.
func newTrip(f *fleet, lane, n int, client *http.Client) (*trip, error) {
	home := geo.MustPoint(-60+float64(lane%1200)*0.1, -170+float64(lane/1200+n)*0.5)
	j, err := rig.NewJourney(home, client)
	return &trip{journey: j, plan: f.plan, base: f.front.URL(), answers: map[string]int{}}, err
}

// play books, starts, drives and ends the journey, and has the student follow.
func (t *trip) play(ctx context.Context, arrive bool) {
	admin, err := rig.NewCaller(sessions.Admin, t.journey.Trainer.HTTP)
	if err != nil {
		t.odd = append(t.odd, err.Error())
		return
	}
	if _, ok := t.persist(ctx, "book", func() rig.Answer { return t.journey.Book(ctx, t.base, admin) }, "201", "~200"); !ok {
		return
	}
	if _, ok := t.persist(ctx, "start", func() rig.Answer { return t.journey.Start(ctx, t.base) }, "201", "~409 JOURNEY_ALREADY_STARTED"); !ok {
		return
	}
	var student sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	student.Go(func() { t.follow(ctx) })
	if t.travel(ctx); arrive {
		t.arrive(ctx)
	} else if _, ok := t.persist(ctx, "stop", func() rig.Answer { return t.journey.Stop(ctx, t.base) }, "200", "~404 NO_ACTIVE_JOURNEY"); ok {
		t.end, t.endedAt = sessions.EndCancelled, time.Now()
	}
	// The end of a journey ends the following, one wait later at worst.
	timer := time.AfterFunc(time.Duration(t.plan.wait)*time.Second+healIn, cancel)
	defer timer.Stop()
	student.Wait()
}

// persist repeats a call until a gateway has answered it. expected are the
// labels that it may answer; with a tilde: only to a repetition.
func (t *trip) persist(ctx context.Context, call string, do func() rig.Answer, expected ...string) (rig.Answer, bool) {
	began, h := time.Time{}, healing{call: call}
	for {
		a := do()
		if !unanswered(a) {
			if h.answer = a.Label(); len(h.failures) > 0 {
				h.took = time.Since(began)
				t.healed = append(t.healed, h)
			}
			return a, t.expect(call, h.answer, len(h.failures) > 0, expected)
		}
		if len(h.failures) == 0 {
			began = time.Now()
		}
		h.failures = append(h.failures, failure{a.Label(), time.Now()})
		if time.Since(began) > healIn || pause.For(ctx, 50*time.Millisecond) != nil {
			t.odd = append(t.odd, fmt.Sprintf("%s: not healed after %d tries: %s", call, len(h.failures), a.Label()))
			return a, false
		}
	}
}

// unanswered is what a phone repeats.
func unanswered(a rig.Answer) bool {
	return a.Status == 0 || a.Status >= http.StatusInternalServerError
}

func (t *trip) expect(call, answer string, repeated bool, expected []string) bool {
	for _, e := range expected {
		if label, onlyRepeated := strings.CutPrefix(e, "~"); label == answer && (!onlyRepeated || repeated) {
			return true
		}
	}
	t.odd = append(t.odd, fmt.Sprintf("%s was answered %s, repeated: %t", call, answer, repeated))
	return false
}

// travel posts the fixes, each at the time that the last answer named.
func (t *trip) travel(ctx context.Context) {
	for k := range t.plan.fixes {
		at := geo.Offset(t.journey.Home, 0, 20+t.plan.stepM*float64(t.plan.fixes-1-k))
		t.sent = append(t.sent, at)
		if next := t.post(ctx, k, at); pause.For(ctx, next) != nil {
			return
		}
	}
}

// post reports one fix until it is taken, and returns when the next may come.
func (t *trip) post(ctx context.Context, fix int, at geo.Point) time.Duration {
	sent := time.Now()
	body := map[string]any{
		"sessionId": t.journey.ID, "latitude": at.Lat(), "longitude": at.Lng(), "accuracy": 8.5,
		"recordedAt": sent.UTC().Format("2006-01-02T15:04:05.000Z"),
	}
	expected := []string{"201", "202", "~200", "~429 RATE_LIMITED"}
	if t.unsure {
		expected = append(expected, "429 RATE_LIMITED")
	}
	a, ok := t.persist(ctx, "update", func() rig.Answer {
		a := t.journey.Trainer.Do(ctx, http.MethodPost, t.base, "/admin/location-tracking/journey/updates", body)
		t.answers[a.Label()]++
		return a
	}, expected...)
	t.unsure = a.Status == http.StatusAccepted
	var receipt struct {
		Seq          int64 `json:"seq"`
		NextUpdateMS int64 `json:"nextUpdateMs"`
	}
	_ = json.Unmarshal(a.Data, &receipt) // none: zeros
	if ok && a.Status != http.StatusAccepted {
		taken := acceptance{fix: fix, sent: sent, at: time.Now()}
		if a.Status == http.StatusCreated {
			taken.version = receipt.Seq
		}
		t.accepted = append(t.accepted, taken)
	}
	next := max(receipt.NextUpdateMS, a.RetryAfterMS)
	if next == 0 {
		return t.plan.interval
	}
	return time.Duration(next) * time.Millisecond
}

// arrive ends the journey at the door, with the code that the student reads.
func (t *trip) arrive(ctx context.Context) {
	if _, ok := t.persist(ctx, "arrive", func() rig.Answer { return t.journey.Arrive(ctx, t.base) }, "200"); !ok {
		return
	}
	t.end, t.endedAt = sessions.EndArrived, time.Now()
	path := fmt.Sprintf("/admin/sessions/%s", t.journey.ID)
	a, ok := t.persist(ctx, "read code", func() rig.Answer { return t.journey.Student.Do(ctx, http.MethodGet, t.base, path, nil) }, "200")
	if !ok {
		return
	}
	var session struct {
		OTP string `json:"otp"`
	}
	_ = json.Unmarshal(a.Data, &session) // no code is refused below
	t.persist(ctx, "verify", func() rig.Answer {
		return t.journey.Trainer.Do(ctx, http.MethodPost, t.base, path+"/verify-otp", map[string]string{"otp": session.OTP})
	}, "200", "~409 NOT_PENDING_VERIFICATION")
}

// follow keeps one long poll open until the journey is over, and asks again at
// once whatever happens to it.
func (t *trip) follow(ctx context.Context) {
	var etag int64
	for ctx.Err() == nil {
		l := look{asked: time.Now(), etag: etag}
		header, wait := "", 0
		if etag != 0 {
			header, wait = fmt.Sprintf("%q", strconv.FormatInt(etag, 10)), t.plan.wait
		}
		a := t.journey.Live(ctx, t.base, header, wait)
		l.at, l.wait, l.status = time.Now(), time.Duration(wait)*time.Second, a.Status
		if unanswered(a) {
			if ctx.Err() == nil {
				t.cuts = append(t.cuts, failure{a.Label(), l.at})
				_ = pause.For(ctx, 50*time.Millisecond)
			}
			continue
		}
		t.see(&l, a)
		t.looks = append(t.looks, l)
		if l.version != 0 {
			etag = l.version
		}
		if l.status == http.StatusOK && !l.active {
			t.endSeen = l.at
			return
		}
	}
}

// see reads an answer.
func (t *trip) see(l *look, a rig.Answer) {
	l.version, _ = strconv.ParseInt(strings.Trim(a.ETag, `"`), 10, 64) // 0: degraded
	if a.Status == http.StatusNotModified {
		l.active = true
		return
	}
	var body struct {
		IsActive bool `json:"isActive"`
		Location *struct {
			Latitude  float64 `json:"latitude"`
			Longitude float64 `json:"longitude"`
		} `json:"location"`
	}
	if err := json.Unmarshal(a.Data, &body); err != nil || a.Status != http.StatusOK {
		t.strange = append(t.strange, "a read was answered "+a.Label())
	}
	l.active = body.IsActive
	if body.Location != nil {
		at, err := geo.NewPoint(body.Location.Latitude, body.Location.Longitude)
		if err != nil {
			t.strange = append(t.strange, err.Error())
		}
		l.location = &at
	}
}
