package released

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"doorstep/bench/rig"
	"doorstep/client"
	"doorstep/geo"
	"doorstep/internal/pause"
	"doorstep/sessions"
)

const (
	patience = 20 * time.Second // bounds every wait for what must happen
	fixes    = 10               // of a journey that is not to last through all phases
	waitS    = 30               // seconds of a long poll; longer than patience, so that no time-out hides a wake-up that was lost
	speed    = 15.0             // metres a second
	oneFix   = 5 * time.Second  // the pause that asks for one more fix
	degraded = "degraded"       // the code of a live read that says so
)

// logged is what the gateways have logged of a session.
func (r *rolling) logged(id sessions.ID) string {
	var found strings.Builder
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, g := range r.all {
		for line := range strings.Lines(g.Log()) {
			if strings.Contains(line, string(id)) {
				fmt.Fprintf(&found, "\ngateway %d: %s", i, strings.TrimSpace(line))
			}
		}
	}
	return found.String()
}

// pace is the time between two fixes of a journey: 200 fixes a second in all.
func pace() time.Duration {
	return max(200*time.Millisecond, time.Duration(*journeys)*5*time.Millisecond)
}

// trip is one journey and its reader. HAProxy sends each call to the next gateway in turn,
// where the journey does not hand over.
type trip struct {
	*rolling
	*rig.Journey
	pace             time.Duration
	through, arrives bool       // lasts through all phases; ends at the door
	handsOver        bool       // all calls but the arrival go to the oldest gateway, and that to the newest
	began            time.Time  // when the start was answered
	news             chan int64 // versions that the reader has seen; closed when the reader has ended
	readerErr        error      // how; nil: after it was shown the end
	stored           int64      // fixes that were answered 201
}

// lane plays one journey after the other. A quarter of the lanes have one journey through
// all phases; the journeys of another quarter are stopped, the others arrive: as many
// in each second, because the lanes begin one after the other.
func (r *rolling) lane(lane int) error {
	through, arrives := lane%4 == 0, lane%4 > 1
	apart := pace()
	if through {
		apart = cmp.Or(*quiet, apart)
	}
	lasts := apart // between two beginnings; of a journey through all phases: between two fixes
	if !through {
		lasts = fixes * apart
	}
	if arrives {
		lasts = max(lasts, rig.Ride)
	}
	_ = pause.For(r.ctx, lasts*time.Duration(lane)/time.Duration(*journeys))
	for !r.closed() {
		j, err := rig.NewJourney(geo.MustPoint(52+float64(lane%400)/100, 5), r.http)
		if err != nil {
			return err
		}
		t := &trip{rolling: r, Journey: j, pace: apart, through: through, arrives: arrives, handsOver: lane%4 == 2, news: make(chan int64, 1)}
		if err := t.play(); err != nil {
			return fmt.Errorf("journey %s of lane %d: %w; logged of it: %s", j.ID, lane, err, r.logged(j.ID))
		}
	}
	return nil
}

// try makes a call until its answer is want or, as the answer to a repeat, repeated: the
// first answer was lost then. A poll may also end without news. What a phone would repeat
// is repeated; judge decides whether it may have been necessary.
func (t *trip) try(what, want, repeated string, call func(base string) rig.Answer) (rig.Answer, error) {
	var failing time.Time // since when; zero: not yet
	var tries []string
	for {
		base := t.front.URL()
		if serving := t.members(); t.handsOver && len(serving) > 0 {
			m := serving[0]
			if what == "arrived" {
				m = serving[len(serving)-1]
			}
			base = t.front.Via(m.place)
		}
		a := call(base)
		if err := t.ctx.Err(); err != nil {
			return a, err
		}
		label, now := a.Label(), time.Now()
		poll := what == "poll"
		well := label == want || len(tries) > 0 && label == repeated || poll && label == "304" ||
			what == "arrived" && label == "400 SUSPICIOUS_LOCATION" && t.whyLater(a) != ""
		t.answered(what, label)
		if well {
			t.healed(tries, now.Sub(failing))
			if a.Took > patience && !poll {
				return a, fmt.Errorf("%s: answered %s after %s", what, label, a.Took)
			}
			return a, nil
		}
		if failing.IsZero() {
			failing = now
		}
		again := a.Code == degraded || slices.Contains([]int{0, http.StatusAccepted, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, a.Status) ||
			len(tries) > 0 && a.Status == http.StatusTooManyRequests
		if !again || now.Sub(failing) > patience {
			unwanted := fmt.Errorf("%s: call %d was answered %q (retry after %d ms) in %s, want %s", what, len(tries)+1, label, a.RetryAfterMS, a.Took, want)
			return a, errors.Join(unwanted, a.Err)
		}
		tries = append(tries, t.failed(what, label, t.cause(now)))
		_ = pause.For(t.ctx, t.rest())
	}
}

// whyLater is why a journey may have to go on before it arrives; empty: it must not. Where
// the live store's primary was killed while it ran, or right before, its start may not have
// reached the new one. And v0.1.0 does not count its fixes as evidence: where this version
// took the first, it asks for another one that it sees itself.
func (t *trip) whyLater(a rig.Answer) string {
	if a.RetryAfterMS > 0 && a.RetryAfterMS <= oneFix.Milliseconds() {
		return sideBySide
	}
	return t.during(func(f fault) bool { return f.name == storeDied && (f.to.IsZero() || f.to.After(t.began)) })
}

// rest is an app's pause before it repeats a call.
func (t *trip) rest() time.Duration { return pace()/10 + rand.N(pace()/5) }

func (t *trip) play() error {
	if _, err := t.try("book", "201", "200", func(base string) rig.Answer { return t.Book(t.ctx, base, t.caller) }); err != nil {
		return err
	}
	if _, err := t.try("start", "201", "409 JOURNEY_ALREADY_STARTED", func(base string) rig.Answer { return t.Start(t.ctx, base) }); err != nil {
		return err
	}
	go func() {
		defer close(t.news)
		t.readerErr = t.follow()
	}()
	t.began = time.Now()
	for t.stored < fixes || !t.closed() && (t.through || t.arrives && !t.rode()) {
		if err := t.fix(t.at()); err != nil {
			return err
		}
		for wait := time.Now().Add(t.pace); time.Now().Before(wait) && (!t.through || !t.closed()); {
			if err := pause.For(t.ctx, min(time.Until(wait), pace())); err != nil {
				return err
			}
		}
	}
	return t.end()
}

// at is where the trainer is.
func (t *trip) at() geo.Point {
	from := 50_000.0 // metres; almost an hour, which is as long as a journey may last
	if t.arrives {
		from = geo.DistanceM(t.Street(), t.Home)
	}
	return geo.Offset(t.Home, 0, max(20, from-speed*time.Since(t.began).Seconds()))
}

// rode reports whether the journey may arrive.
func (t *trip) rode() bool { return time.Since(t.began) > rig.Ride }

// fix sends a fix. The reader must see it, and all gateways answer with it, before the next
// is sent, so none is passed over. One that the live store's primary has taken and not
// passed on when it is killed is lost; the next one follows.
func (t *trip) fix(at geo.Point) error {
	began := time.Now()
	a, err := t.try("update", "201", "", func(base string) rig.Answer { return t.Update(t.ctx, base, at) })
	if err != nil {
		return err
	}
	var receipt struct{ Seq int64 }
	if err := json.Unmarshal(a.Data, &receipt); err != nil {
		return err
	}
	if err = t.await(receipt.Seq); err == nil {
		err = t.inspect(fmt.Sprintf("version %d", receipt.Seq), func(a rig.Answer, v client.View) bool {
			return a.Version() == receipt.Seq && v.Active && v.Location != nil &&
				math.Abs(v.Location.Latitude-at.Lat())+math.Abs(v.Location.Longitude-at.Lng()) < 1e-6 // it is stored to 1e-7 degrees
		})
	}
	switch {
	case err == nil:
		t.stored++
		t.seen.Add(1)
	case t.during(func(f fault) bool { return f.name == storeDied && f.from.After(began) }) != "":
		t.lost.Add(1)
		t.Logf("lost with the primary: %v", err)
		err = nil
	}
	return err
}

func (t *trip) end() error {
	reason := sessions.EndCancelled
	if t.arrives && t.rode() {
		reason = sessions.EndArrived
		a, err := t.arrive()
		if err != nil {
			return err
		}
		var arrival client.Arrival
		if err := json.Unmarshal(a.Data, &arrival); err != nil {
			return err
		}
		if _, err = t.try("verify", "200", "409 NOT_PENDING_VERIFICATION", func(base string) rig.Answer {
			return t.Trainer.Do(t.ctx, http.MethodPost, base, "/admin/sessions/"+string(t.ID)+"/verify-otp", map[string]string{"otp": arrival.OTP})
		}); err != nil {
			return err
		}
	} else if _, err := t.try("stop", "200", "404 NO_ACTIVE_JOURNEY", func(base string) rig.Answer { return t.Stop(t.ctx, base) }); err != nil {
		return err
	}
	if err := t.await(math.MaxInt64); err != nil {
		return err
	}
	if reason == sessions.EndArrived {
		t.arrived.Add(1)
	}
	t.mu.Lock()
	t.finished[t.ID] = finished{reason, t.stored}
	t.mu.Unlock()
	return t.inspect("the end", func(_ rig.Answer, v client.View) bool { return !v.Active && v.Location == nil })
}

// arrive arrives. It goes on where it is told to (whyLater): for a fix or two, or for 60 s
// after a fault of the live store.
func (t *trip) arrive() (rig.Answer, error) {
	var refused []string
	for began := time.Now(); ; {
		a, err := t.try("arrived", "200", "", func(base string) rig.Answer { return t.Arrive(t.ctx, base, t.at()) }) // v0.1.0 ignores the fix
		if err != nil || a.Status == http.StatusOK {
			t.healed(refused, time.Since(began))
			return a, err
		}
		if time.Since(began) > time.Minute+patience {
			return a, fmt.Errorf("arrived: answered %s for %s", a.Label(), time.Since(began))
		}
		refused = append(refused, t.failed("arrived", a.Label(), t.whyLater(a)))
		for until := time.Now().Add(time.Duration(a.RetryAfterMS) * time.Millisecond); ; {
			_ = pause.For(t.ctx, t.pace)
			if err := t.fix(t.at()); err != nil {
				return a, err
			}
			if time.Now().After(until) {
				break
			}
		}
	}
}

// await returns when the reader has seen a version; math.MaxInt64 is the end.
func (t *trip) await(version int64) error {
	timeout := time.After(patience)
	for {
		select {
		case seen, open := <-t.news:
			switch {
			case !open && (version < math.MaxInt64 || t.readerErr != nil):
				return fmt.Errorf("the reader has ended before version %d: %w", version, t.readerErr)
			case !open || seen == version:
				return nil
			case seen > version:
				return fmt.Errorf("the reader saw version %d and not %d", seen, version)
			}
		case <-timeout:
			return fmt.Errorf("the reader has not seen version %d in %s", version, patience)
		case <-t.ctx.Done():
			return t.ctx.Err()
		}
	}
}

// follow is the student's app: long polls until the end, each answered in time and with a
// newer version than the one before.
func (t *trip) follow() error {
	what, etag, last, wait := "read", "", int64(0), 0
	for {
		var v client.View
		a, err := t.try(what, "200", "", func(base string) rig.Answer { return read(t.Live(t.ctx, base, etag, wait), &v) })
		if err != nil {
			return err
		}
		if a.Status == http.StatusNotModified { // the time was up, or the gateway drains or cannot ask the store
			if a.Took < time.Second {
				_ = pause.For(t.ctx, t.rest())
			}
			continue
		}
		version := a.Version()
		if version <= last {
			return fmt.Errorf("the reader of version %d was shown %s", last, a.ETag)
		}
		if !v.Active {
			return nil
		}
		what, etag, last, wait = "poll", a.ETag, version, waitS
		select {
		case t.news <- version:
		case <-t.ctx.Done():
			return t.ctx.Err()
		}
	}
}

// read reads a live read's answer.
func read(a rig.Answer, v *client.View) rig.Answer {
	*v = client.View{}
	if a.Status == http.StatusOK && (json.Unmarshal(a.Data, v) != nil || v.Degraded) {
		a.Code = degraded
	}
	return a
}

// inspect reads the journey's hash through each gateway.
func (t *trip) inspect(want string, is func(rig.Answer, client.View) bool) error {
	for _, m := range t.members() {
		var v client.View
		a, err := t.try("read", "200", "", func(base string) rig.Answer {
			if slices.Contains(t.members(), m) { // not stopped meanwhile
				base = t.front.Via(m.place)
			}
			return read(t.Live(t.ctx, base, "", 0), &v)
		})
		if err != nil {
			return err
		}
		if !is(a, v) {
			return fmt.Errorf("a gateway shows %s %s, want %s", a.ETag, a.Data, want)
		}
	}
	return nil
}
