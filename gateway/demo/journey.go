package demo

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// journey is one Plan being played: a booking, a phone, a student's app.
type journey struct {
	*stage
	plan      Plan
	index     int
	session   string
	sightings *sightings
	phone     *phone
	student   *student
}

// stage is what all journeys share.
type stage struct {
	clock   *Clock
	board   *board
	report  *report
	journal *journal
	admin   *client
	pushes  func(session string) []string // nil: none are kept
}

func (j *journey) line(f func(*Line))              { j.board.change(j.index, f) }
func (j *journey) sayf(format string, args ...any) { j.journal.sayf(j.plan.Name, format, args...) }

// odd notes an answer that nothing explains; the journey goes on.
func (j *journey) odd(what string) {
	j.sayf("UNEXPLAINED: %s", what)
	j.report.unexplained(j.plan.Name + ": " + what)
}

// run plays the journey and notes how it ended.
func (j *journey) run(ctx context.Context) {
	end, note, err := j.play(ctx)
	switch {
	case ctx.Err() != nil && err != nil:
		end, note = Interrupted, ""
	case err != nil:
		end, note = Failed, err.Error()
		j.odd(note)
	}
	j.line(func(l *Line) {
		l.State = end
		if note != "" {
			l.Note = note
		}
	})
	j.report.count(func(t *totals) { t.ended[end]++ })
}

// play is the story of a journey. end is how it ended, note why; an error is
// what nothing explains.
func (j *journey) play(ctx context.Context) (end State, note string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := j.book(ctx); err != nil {
		return "", "", err
	}
	if err := j.start(ctx); err != nil {
		return "", "", err
	}
	told := make(chan error, 1)
	go func() { told <- j.student.follow(ctx) }()
	end, note, err = j.travel(ctx)
	if err != nil {
		cancel()
		<-told //nolint:errcheck // it has been told to let go, and says no more than that
		return "", "", err
	}
	if err := j.heard(told, cancel); err != nil {
		return "", "", err
	}
	if end == Arrived {
		end, err = j.verify(ctx)
	}
	j.tellPushes()
	return end, note, err
}

// heard waits until the student's app knows that the journey is over.
func (j *journey) heard(told <-chan error, cancel func()) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case err := <-told:
		return err
	case <-late.C:
		cancel()
		<-told //nolint:errcheck // as above
		return fmt.Errorf("the student was not told of the end within %s", patience)
	}
}

// book is the booking side of the house.
func (j *journey) book(ctx context.Context) error {
	home := map[string]float64{"latitude": j.plan.Home.Lat(), "longitude": j.plan.Home.Lng()}
	_, err := j.insist(ctx, j.admin, "booking", "/admin/sessions", map[string]any{
		"sessionId": j.session, "trainerId": j.phone.user, "studentId": j.student.user,
		"studentHome": home, "travelMode": j.plan.Mode,
	}, http.StatusCreated, http.StatusOK)
	if err == nil {
		j.line(func(l *Line) { l.State = Booked })
	}
	return err
}

func (j *journey) start(ctx context.Context) error {
	a, err := j.insist(ctx, j.phone.client, "start", j.path("start-journey"), nil, http.StatusCreated, http.StatusConflict)
	if err != nil {
		return err
	}
	if a.Status == http.StatusConflict && a.Code != "JOURNEY_ALREADY_STARTED" {
		return unexpected{"start", a}
	}
	j.phone.began = j.clock.Now()
	j.line(func(l *Line) { l.State = OnTheWay })
	j.report.count(func(t *totals) { t.started++ })
	j.sayf("started by %s: %d fixes in %s", j.plan.Mode, len(j.plan.Fixes), j.plan.Length().Round(time.Second))
	return nil
}

// doorstep is how long a trainer takes from the last fix to the button, in
// virtual time.
const doorstep = 3 * time.Second

// travel drives to the door and says so there. Where the service does not
// believe that, and the phone can tell why, the journey is stopped instead.
func (j *journey) travel(ctx context.Context) (end State, note string, err error) {
	if err := j.phone.drive(ctx); err != nil {
		return "", "", err
	}
	if err := j.clock.Sleep(ctx, doorstep); err != nil {
		return "", "", err
	}
	a, err := j.insist(ctx, j.phone.client, "arrived", j.path("arrived"), nil, http.StatusOK, http.StatusBadRequest)
	switch {
	case err != nil:
		return "", "", err
	case a.Status == http.StatusOK:
		j.sayf("arrived")
		j.line(func(l *Line) { l.State = Arrived })
		return Arrived, "", nil
	}
	why, explained := j.phone.doubts(a)
	j.sayf("arrival refused, %s: %s", a.Code, why)
	if !explained {
		j.odd(unexpected{"arrived", a}.Error() + ", but " + why)
	}
	j.report.count(func(t *totals) { t.why[a.Code]++ })
	_, err = j.insist(ctx, j.phone.client, "stop", j.path("stop-journey"), nil, http.StatusOK)
	return Stopped, a.Code, err
}

// readOut is how long a student takes to read out the code, in virtual time.
const readOut = 5 * time.Second

// verify is the lesson's start: the student reads the code out, the trainer
// types it.
func (j *journey) verify(ctx context.Context) (State, error) {
	code, err := j.student.code(ctx)
	if err != nil {
		return "", err
	}
	j.line(func(l *Line) { l.Note = "code " + code })
	if err := j.clock.Sleep(ctx, readOut); err != nil {
		return "", err
	}
	_, err = j.insist(ctx, j.phone.client, "verify", j.path("verify-otp"), map[string]string{"otp": code}, http.StatusOK)
	if err != nil {
		return "", err
	}
	j.sayf("verified by the student's code: the lesson begins")
	return Verified, nil
}

func (j *journey) path(verb string) string { return "/admin/sessions/" + j.session + "/" + verb }

// insist makes a call until it is answered, as an app does: after a lost answer
// and after a 5xx it comes back. All the calls it is used for may be repeated.
// Any status but those wanted is an error.
func (j *journey) insist(ctx context.Context, c *client, call, path string, body any, want ...int) (answer, error) {
	for try := 1; ; try++ {
		a, err := c.post(ctx, path, body)
		switch {
		case err == nil && slices.Contains(want, a.Status):
			return a, nil
		case err == nil && a.Status < http.StatusInternalServerError:
			return a, unexpected{call, a}
		case ctx.Err() != nil:
			return a, ctx.Err()
		case err != nil:
			j.report.count(func(t *totals) { t.failures++ })
			j.sayf("no answer to %s, try %d: %v", call, try, err)
		default:
			j.odd(unexpected{call, a}.Error())
		}
		if try == tries {
			return a, fmt.Errorf("%s: given up after %d tries", call, try)
		}
		if err := j.clock.Sleep(ctx, j.phone.backOff(try)); err != nil {
			return a, err
		}
	}
}
