package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"doorstep/internal/pause"

	"doorstep/bench/rig"
	"doorstep/client"
	"doorstep/geo"
	"doorstep/sessions"
)

// trafficPlan is how much traffic there is.
type trafficPlan struct {
	lanes    int           // journeys at a time
	fixes    int           // of a journey
	endless  bool          // a journey ends with the traffic, not with its fixes
	interval time.Duration // between stored fixes
	stepM    float64       // from fix to fix
	wait     int           // of a long poll, seconds
	failover bool          // the live store fails over, see judge
}

// traffic plays journeys against one address: a phone and a student's app each.
type traffic struct {
	base   string
	plan   trafficPlan
	client *http.Client
	first  []*journeyLog // of each lane
	over   chan struct{} // closed: no more journeys begin
}

func newTraffic(base string, plan trafficPlan, client *http.Client) (*traffic, error) {
	t := &traffic{base: base, plan: plan, client: client, over: make(chan struct{})}
	for lane := range plan.lanes {
		l, err := t.journey(lane, 0)
		if err != nil {
			return nil, err
		}
		t.first = append(t.first, l)
	}
	return t, nil
}

// journey makes the n-th journey of a lane. Its home is over 5 km from any other.
func (t *traffic) journey(lane, n int) (*journeyLog, error) {
	home := geo.MustPoint(-60+float64(lane%1200)*0.1, -170+float64(lane/1200+n)*0.5)
	j, err := rig.NewJourney(home, t.client)
	l := &journeyLog{Journey: j, plan: t.plan, base: t.base, answers: map[string]int{}, fixes: t.plan.fixes, arrive: !t.plan.endless && lane%2 == 0}
	if l.arrive {
		l.fixes = max(l.fixes, int(rig.Ride/max(t.plan.interval, leastNext))+1)
	}
	return l, err
}

// leastNext is the least nextUpdateMs.
const leastNext = time.Second

// run has every lane play journeys until over is closed, and returns them all.
func (t *traffic) run(ctx context.Context) []*journeyLog {
	var mu sync.Mutex
	var all []*journeyLog
	var lanes sync.WaitGroup
	for lane, l := range t.first {
		lanes.Go(func() {
			// Spread over one interval, as phones are.
			_ = pause.For(ctx, t.plan.interval*time.Duration(lane)/time.Duration(t.plan.lanes))
			for n := 0; !closed(t.over) && ctx.Err() == nil; n++ {
				if n > 0 {
					l, _ = t.journey(lane, n) // the first one worked
				}
				l.play(ctx, t.over)
				mu.Lock()
				all = append(all, l)
				mu.Unlock()
			}
		})
	}
	lanes.Wait()
	return all
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// healIn bounds how long a caller repeats one call.
const healIn = 10 * time.Second

// journeyLog is one journey as its callers saw it. The phone writes its part and
// the student's app its own; both are read when both are done.
type journeyLog struct {
	*rig.Journey
	plan   trafficPlan
	base   string
	fixes  int  // at most
	arrive bool // ends at the door
	began  time.Time

	stored, seen atomic.Int64 // versions: of the last stored fix, of the last read

	// The trainer's phone.
	sent     []geo.Point // fix by fix
	accepted []acceptance
	answers  map[string]int // to updates, by label
	slowest  time.Duration  // update
	unsure   bool           // the last answer was 202: the fix may count against the rate
	retries  []retried
	end      sessions.EndReason // empty: no end was answered
	endedAt  time.Time          // when it was answered
	odd      []string           // unexpected answers, in words

	// The student's app.
	reads   []read
	failed  []failure // reads without an answer
	endSeen time.Time
	strange []string // as odd
}

// acceptance is a fix that a gateway has taken.
type acceptance struct {
	fix     int
	version int64     // 0: the answer was lost, and a retry says that it was taken
	sent    time.Time // the first attempt
	at      time.Time // the answer
}

// retried is a call that failed and was repeated until it was answered.
type retried struct {
	call     string
	failures []failure
	answer   string
	took     time.Duration // from the first failure to the answer
}

// failure is a call without an answer from a gateway.
type failure struct {
	label string
	at    time.Time
}

// read is an answered read.
type read struct {
	asked, at time.Time
	wait      time.Duration
	etag      int64 // sent; 0: none
	status    int
	version   int64      // 0: degraded
	location  *geo.Point // nil: none
	active    bool
}

// play books, starts, drives and ends the journey while the student follows.
func (l *journeyLog) play(ctx context.Context, over <-chan struct{}) {
	admin, err := rig.NewCaller(sessions.Admin, l.Trainer.HTTP)
	if err != nil {
		l.odd = append(l.odd, err.Error())
		return
	}
	if _, ok := l.persist(ctx, "book", func() rig.Answer { return l.Book(ctx, l.base, admin) }, "201", "~200"); !ok {
		return
	}
	if _, ok := l.persist(ctx, "start", func() rig.Answer { return l.Start(ctx, l.base) }, "201", "~409 JOURNEY_ALREADY_STARTED"); !ok {
		return
	}
	l.began = time.Now()
	var student sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	student.Go(func() { l.follow(ctx) })
	if l.travel(ctx, over); l.arrive {
		l.atDoor(ctx)
	} else if _, ok := l.persist(ctx, "stop", func() rig.Answer { return l.Stop(ctx, l.base) }, "200", "~404 NO_ACTIVE_JOURNEY"); ok {
		l.end, l.endedAt = sessions.EndCancelled, time.Now()
	}
	// The student sees the end one wait later at the latest.
	timer := time.AfterFunc(time.Duration(l.plan.wait)*time.Second+healIn, cancel)
	defer timer.Stop()
	student.Wait()
}

// persist repeats a call until a gateway has answered it. expected are the labels
// that it may answer; with a tilde: only to a repetition.
func (l *journeyLog) persist(ctx context.Context, call string, do func() rig.Answer, expected ...string) (rig.Answer, bool) {
	began, h := time.Now(), retried{call: call}
	for {
		a := do()
		if !unanswered(a) {
			if h.answer = a.Label(); len(h.failures) > 0 {
				h.took = time.Since(h.failures[0].at)
				l.retries = append(l.retries, h)
			}
			return a, l.expect(call, h.answer, len(h.failures) > 0, expected)
		}
		h.failures = append(h.failures, failure{a.Label(), time.Now()})
		if time.Since(began) > healIn || pause.For(ctx, 50*time.Millisecond) != nil {
			l.odd = append(l.odd, fmt.Sprintf("%s: not answered after %d tries: %s", call, len(h.failures), a.Label()))
			return a, false
		}
	}
}

// unanswered is a call that a phone repeats.
func unanswered(a rig.Answer) bool {
	return a.Status == 0 || a.Status >= http.StatusInternalServerError
}

func (l *journeyLog) expect(call, answer string, repeated bool, expected []string) bool {
	for _, e := range expected {
		if label, onlyRepeated := strings.CutPrefix(e, "~"); label == answer && (!onlyRepeated || repeated) {
			return true
		}
	}
	l.odd = append(l.odd, fmt.Sprintf("%s was answered %s, repeated: %t", call, answer, repeated))
	return false
}

// travel posts the fixes, each at the time that the last answer named.
func (l *journeyLog) travel(ctx context.Context, over <-chan struct{}) {
	for k := range l.fixes {
		if l.plan.endless && closed(over) {
			return
		}
		at := geo.Offset(l.Home, 0, 20+l.plan.stepM*float64(l.fixes-1-k))
		l.sent = append(l.sent, at)
		if next := l.post(ctx, k, at); pause.For(ctx, next) != nil {
			return
		}
	}
}

// post reports one fix until it is taken, and returns when the next may come.
func (l *journeyLog) post(ctx context.Context, fix int, at geo.Point) time.Duration {
	sent := time.Now()
	body := l.Fix(at, sent)
	expected := []string{"201", "202", "~200", "~429 RATE_LIMITED"}
	if l.unsure {
		expected = append(expected, "429 RATE_LIMITED")
	}
	a, ok := l.persist(ctx, "update", func() rig.Answer {
		body["sentAt"] = time.Now().UTC() // of each try
		a := l.Report(ctx, l.base, body)
		l.answers[a.Label()]++
		l.slowest = max(l.slowest, a.Took)
		return a
	}, expected...)
	l.unsure = a.Status == http.StatusAccepted
	var receipt struct {
		Seq          int64 `json:"seq"`
		NextUpdateMS int64 `json:"nextUpdateMs"`
	}
	_ = json.Unmarshal(a.Data, &receipt) // a failure leaves zeros
	next := time.Duration(max(receipt.NextUpdateMS, a.RetryAfterMS)) * time.Millisecond
	if !ok || a.Status == http.StatusAccepted {
		return max(next, retryEvery)
	}
	taken := acceptance{fix: fix, sent: sent, at: time.Now()}
	if a.Status == http.StatusCreated {
		taken.version = receipt.Seq
		l.stored.Store(receipt.Seq)
		next = max(next, l.plan.interval)
	}
	l.accepted = append(l.accepted, taken)
	return next
}

// retryEvery is how soon a phone tries again after a 202, and a student after a
// degraded read.
const retryEvery = 250 * time.Millisecond

// atDoor ends the journey, with the code that the student reads.
func (l *journeyLog) atDoor(ctx context.Context) {
	_ = pause.For(ctx, rig.Ride-time.Since(l.began))
	if _, ok := l.persist(ctx, "arrive", func() rig.Answer { return l.Arrive(ctx, l.base) }, "200"); !ok {
		return
	}
	l.end, l.endedAt = sessions.EndArrived, time.Now()
	path := fmt.Sprintf("/admin/sessions/%s", l.ID)
	a, ok := l.persist(ctx, "read code", func() rig.Answer { return l.Student.Do(ctx, http.MethodGet, l.base, path, nil) }, "200")
	if !ok {
		return
	}
	var session client.Session
	_ = json.Unmarshal(a.Data, &session) // without a code, verify is refused
	l.persist(ctx, "verify", func() rig.Answer {
		return l.Trainer.Do(ctx, http.MethodPost, l.base, path+"/verify-otp", map[string]string{"otp": session.OTP})
	}, "200", "~409 NOT_PENDING_VERIFICATION")
}

// follow keeps one long poll open until the journey is over. Whatever happens to
// it, the next one follows at once.
func (l *journeyLog) follow(ctx context.Context) {
	var etag int64
	for ctx.Err() == nil {
		r := read{asked: time.Now(), etag: etag}
		header, wait := "", 0
		if etag != 0 {
			header, wait = rig.ETag(etag), l.plan.wait
		}
		a := l.Live(ctx, l.base, header, wait)
		r.at, r.wait, r.status = time.Now(), time.Duration(wait)*time.Second, a.Status
		if ctx.Err() != nil {
			return
		}
		if unanswered(a) {
			l.failed = append(l.failed, failure{a.Label(), r.at})
			_ = pause.For(ctx, 50*time.Millisecond)
			continue
		}
		l.see(&r, a)
		l.reads = append(l.reads, r)
		switch {
		case r.status == http.StatusOK && !r.active:
			l.endSeen = r.at
			return
		case r.version != 0:
			etag = r.version
			l.seen.Store(etag)
		default:
			_ = pause.For(ctx, retryEvery)
		}
	}
}

// see parses an answer.
func (l *journeyLog) see(r *read, a rig.Answer) {
	r.version = a.Version() // 0: degraded
	if a.Status == http.StatusNotModified {
		r.active = true
		return
	}
	var v client.View
	if err := json.Unmarshal(a.Data, &v); err != nil || a.Status != http.StatusOK {
		l.strange = append(l.strange, "a read was answered "+a.Label())
	}
	r.active = v.Active
	if v.Location != nil {
		at, err := geo.NewPoint(v.Location.Latitude, v.Location.Longitude)
		if err != nil {
			l.strange = append(l.strange, err.Error())
		}
		r.location = &at
	}
}
