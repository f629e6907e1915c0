package released

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"syscall"
	"time"

	"doorstep/bench/rig"
	"doorstep/client"
	"doorstep/geo"
	"doorstep/internal/pause"
	"doorstep/sessions"
)

const (
	patience = 20 * time.Second       // bounds every wait for what must happen
	pace     = 200 * time.Millisecond // between two fixes of a journey
	fixes    = 6                      // of a journey that is not to last through all phases
	waitS    = 30                     // seconds of a long poll; longer than patience, so that no time-out hides a wake-up that was lost
	speed    = 15.0                   // metres a second
)

// trip is one journey and its reader. Each call goes to the next gateway in turn, where
// it does not hand over.
type trip struct {
	*rolling
	*rig.Journey
	turn             int
	through, arrives bool       // lasts through all phases; ends at the door
	handsOver        bool       // all calls but the arrival go to the oldest gateway, and that to the newest
	began            time.Time  // when the start was answered
	news             chan int64 // versions that the reader has seen; closed when the reader has ended
	readerErr        error      // how; nil: after it was shown the end
	stored           int64      // fixes that were answered 201
}

// lane plays one journey after the other. A quarter of the lanes have one journey through
// all phases; the journeys of another quarter are stopped, the others arrive: as many
// in each second, because their lanes begin one after the other.
func (r *rolling) lane(lane int) error {
	if lane%4 > 1 {
		_ = pause.For(r.ctx, rig.Ride*time.Duration(lane)/time.Duration(*journeys))
	}
	for n := lane; !r.closed(); n++ {
		j, err := rig.NewJourney(geo.MustPoint(52+float64(lane)/100, 5), r.http)
		if err != nil {
			return err
		}
		t := &trip{rolling: r, Journey: j, turn: n, through: lane%4 == 0, arrives: lane%4 > 1, handsOver: lane%4 == 2, news: make(chan int64, 1)}
		if err := t.play(); err != nil {
			return fmt.Errorf("journey %s of lane %d: %w", j.ID, lane, err)
		}
	}
	return nil
}

// try makes a call until its answer is want or, as the answer to a repeat, repeated: the
// first answer was lost then. What a phone would repeat is repeated: no answer, 202, 304, 502
// and 503. Any other answer is an error, and a wait that was cut.
func (t *trip) try(what, want, repeated string, call func(base string) rig.Answer) (rig.Answer, error) {
	for n, began := 0, time.Now(); ; n++ {
		serving := t.gateways()
		t.mu.Lock()
		t.turn++
		base := serving[t.turn%len(serving)].URL()
		t.mu.Unlock()
		switch {
		case t.handsOver && what == "arrived":
			base = serving[len(serving)-1].URL()
		case t.handsOver:
			base = serving[0].URL()
		}
		a := call(base)
		if label := a.Label(); a.Took < patience && (label == want || n > 0 && label == repeated) {
			return a, nil
		}
		again := slices.Contains([]int{0, http.StatusAccepted, http.StatusNotModified, http.StatusBadGateway, http.StatusServiceUnavailable}, a.Status)
		if what == "live" && a.Status == 0 && !errors.Is(a.Err, syscall.ECONNREFUSED) { // the listener of a gateway that ends is closed
			again = false
		}
		if err := t.ctx.Err(); err != nil {
			return a, err
		}
		if !again || time.Since(began) > patience {
			return a, fmt.Errorf("%s: call %d was answered %q in %s, want %s: %w", what, n+1, a.Label(), a.Took, want, a.Err)
		}
		t.mu.Lock()
		t.repeated[what+": "+a.Label()]++
		t.mu.Unlock()
		_ = pause.For(t.ctx, 20*time.Millisecond)
	}
}

func (t *trip) play() error {
	if _, err := t.try("book", "201", "200", func(base string) rig.Answer { return t.Book(t.ctx, base, t.admin) }); err != nil {
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
		if err := pause.For(t.ctx, pace); err != nil {
			return err
		}
	}
	return t.end()
}

// at is where the trainer is.
func (t *trip) at() geo.Point {
	from := 10_000.0 // metres; all phases are over long before one is at the door from there
	if t.arrives {
		from = geo.DistanceM(t.Street(), t.Home)
	}
	return geo.Offset(t.Home, 0, max(20, from-speed*time.Since(t.began).Seconds()))
}

// rode reports whether the journey may arrive.
func (t *trip) rode() bool { return time.Since(t.began) > rig.Ride }

// fix sends a fix. The reader must see it, and all gateways answer with it, before the next
// is sent, so none is passed over.
func (t *trip) fix(at geo.Point) error {
	a, err := t.try("update", "201", "", func(base string) rig.Answer { return t.Update(t.ctx, base, at) })
	if err != nil {
		return err
	}
	var receipt struct{ Seq int64 }
	if err := json.Unmarshal(a.Data, &receipt); err != nil {
		return err
	}
	t.stored++
	if err := t.await(receipt.Seq); err != nil {
		return err
	}
	t.seen.Add(1)
	return t.inspect(fmt.Sprintf("version %d", receipt.Seq), func(a rig.Answer, v client.View) bool {
		return a.Version() == receipt.Seq && v.Active && v.Location != nil &&
			math.Abs(v.Location.Latitude-at.Lat())+math.Abs(v.Location.Longitude-at.Lng()) < 1e-6 // it is stored to 1e-7 degrees
	})
}

func (t *trip) end() error {
	reason := sessions.EndCancelled
	if t.arrives && t.rode() {
		reason = sessions.EndArrived
		a, err := t.try("arrived", "200", "", func(base string) rig.Answer { return t.Arrive(t.ctx, base, t.at()) }) // v0.1.0 ignores the fix
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
	etag, last, wait := "", int64(0), 0
	for {
		var v client.View
		a, err := t.try("live", "200", "", func(base string) rig.Answer { return read(t.Live(t.ctx, base, etag, wait), &v) })
		if err != nil {
			return err
		}
		version := a.Version()
		if version <= last {
			return fmt.Errorf("the reader of version %d was shown %s", last, a.ETag)
		}
		if !v.Active {
			return nil
		}
		etag, last, wait = a.ETag, version, waitS
		select {
		case t.news <- version:
		case <-t.ctx.Done():
			return t.ctx.Err()
		}
	}
}

// read reads a live read's answer. A degraded one becomes a 503, to be repeated.
func read(a rig.Answer, v *client.View) rig.Answer {
	*v = client.View{}
	if a.Status == http.StatusOK && (json.Unmarshal(a.Data, v) != nil || v.Degraded) {
		a.Status, a.Code = http.StatusServiceUnavailable, "degraded"
	}
	return a
}

// inspect reads the journey's hash through each gateway.
func (t *trip) inspect(want string, is func(rig.Answer, client.View) bool) error {
	for _, g := range t.gateways() {
		var v client.View
		a, err := t.try("read", "200", "", func(base string) rig.Answer {
			if slices.Contains(t.gateways(), g) { // not stopped meanwhile
				base = g.URL()
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
