package demo

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"doorstep/client"
	"doorstep/internal/pause"
	"doorstep/sessions"
)

// journey is one Plan that is played: a booking, a phone, a student's app.
type journey struct {
	*stage
	plan    Plan
	index   int
	booking client.Booking
	phone   *phone
	student *student
	sends   sends
}

// stage is what all journeys share.
type stage struct {
	clock   *Clock
	board   *board
	report  *report
	journal *journal
	admin   *client.Client
	pushes  func(session string) (titles []string, ended bool)
	paints  *sends          // of the first journey, until a page in a browser has painted them
	opened  <-chan struct{} // closed when a page was opened in a browser; nil: never
}

// parties are a journey's ids, which follow from the seed.
type parties struct{ session, trainer, student sessions.ID }

func partiesOf(source *rand.ChaCha8) parties {
	return parties{newID(source), newID(source), newID(source)}
}

// journey makes the i-th journey with its parties; their ids follow from the
// seed.
func (d *demo) journey(ctx context.Context, shared *stage, i int) (*journey, error) {
	source := randomness(d.opts.Seed, uint64(i)) //nolint:gosec // an index is not negative
	plan, who := d.list.Plans[i], partiesOf(source)
	j := &journey{stage: shared, plan: plan, index: i, booking: client.Booking{
		SessionID: string(who.session), TrainerID: string(who.trainer), StudentID: string(who.student),
		StudentHome: client.Point{Latitude: plan.Home.Lat(), Longitude: plan.Home.Lng()}, TravelMode: client.TravelMode(plan.Mode),
	}}
	j.phone = &phone{journey: j, late: time.Duration(rand.New(source).Int64N(int64(cadence)))}
	j.student = &student{journey: j}
	var err, err2 error
	j.phone.Client, err = d.backend.user(sessions.Trainer, who.trainer, i)
	j.student.Client, err2 = d.backend.user(sessions.Student, who.student, i+1)
	if err = errors.Join(err, err2); err == nil && d.opts.As != "" {
		j.phone.stock, err = d.backend.stockApp(ctx, who.trainer, d.opts.As, i)
	}
	return j, err
}

// randomness is the i-th journey's own, so that a journey does not depend on
// how many are played beside it.
func randomness(seed, i uint64) *rand.ChaCha8 {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], i)
	return rand.NewChaCha8(key)
}

func newID(source *rand.ChaCha8) sessions.ID {
	id, _ := uuid.NewRandomFromReader(source) // ChaCha8 never fails
	return sessions.ID(id.String())
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
	// Phones are not in step: else all of them would report in the same instant.
	if j.clock.Sleep(ctx, j.phone.late) != nil {
		return
	}
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

// patience is how long the student's app may take to see the end, in real time.
const patience = 10 * time.Second

// play books, starts, travels, arrives and verifies. end is how the journey
// ended and note why; an error is what nothing explains.
func (j *journey) play(ctx context.Context) (end State, note string, err error) {
	if err := j.begin(ctx); err != nil {
		return "", "", err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	followed := make(chan error, 1)
	go func() { followed <- j.student.follow(watching) }()
	end, note, err = j.travel(ctx)
	if err != nil {
		stop()
		<-followed //nolint:errcheck // its error is that of stop
		return "", "", err
	}
	late := time.AfterFunc(patience, stop)
	defer late.Stop()
	if err := <-followed; err != nil {
		return "", "", fmt.Errorf("the student did not see the end within %s: %w", patience, err)
	}
	if end == Arrived {
		end, err = j.verify(ctx)
	}
	j.tellPushes(ctx)
	return end, note, err
}

func (j *journey) begin(ctx context.Context) error {
	_, err := insist(ctx, j, "booking", func(ctx context.Context, _ string) (client.Session, error) { return j.admin.Book(ctx, j.booking) })
	if err != nil {
		return err
	}
	j.line(func(l *Line) { l.State = Booked })
	_, err = insist(ctx, j, "start", func(ctx context.Context, session string) (client.Journey, error) {
		return j.phone.StartJourney(ctx, session, "")
	})
	if err != nil && client.CodeOf(err) != client.JourneyAlreadyStarted { // the answer to a repeat
		return err
	}
	j.phone.began = j.clock.Now()
	j.line(func(l *Line) { l.State = OnTheWay })
	j.report.count(func(t *totals) { t.started++ })
	j.sayf("started by %s: %d fixes in %s", j.plan.Mode, len(j.plan.Fixes), j.plan.Length().Round(time.Second))
	return nil
}

const (
	// toTheDoor is how long a trainer takes from the last fix to the button, and
	// readOut a student to read out the code, both in virtual time.
	toTheDoor, readOut = 3 * time.Second, 5 * time.Second
	// tries is how often a call, and the last fix, are sent.
	tries = 8
)

// travel reports the way and says that the trainer has arrived, again while the
// service wants more of a track. Where it refuses that, and the phone can tell why,
// the journey is stopped instead.
func (j *journey) travel(ctx context.Context) (end State, note string, err error) {
	if err := j.phone.drive(ctx); err != nil {
		return "", "", err
	}
	if err := errors.Join(j.clock.Sleep(ctx, toTheDoor), j.linger(ctx, toNotice, fixLeft)); err != nil {
		return "", "", err
	}
	_, err = insist(ctx, j, "arrived", j.phone.arrive)
	if err == nil {
		j.sayf("arrived")
		j.line(func(l *Line) { l.State = Arrived })
		return Arrived, "", nil
	}
	code := client.CodeOf(err)
	switch code {
	case client.NotWithinRadius, client.NoFreshLocation, client.SuspiciousLocation, client.ImplausibleSpeed, client.ImplausibleJump:
	default:
		return "", "", err
	}
	why, explained := j.phone.doubts(code)
	j.sayf("arrival refused, %s: %s", code, why)
	if !explained {
		j.odd(err.Error() + ", but " + why)
	}
	j.report.count(func(t *totals) { t.why[string(code)]++ })
	_, err = insist(ctx, j, "stop", j.phone.StopJourney)
	return Stopped, string(code), err
}

// verify begins the lesson: the student reads the code out, the trainer types
// it.
func (j *journey) verify(ctx context.Context) (State, error) {
	session, err := insist(ctx, j, "session", j.student.Session)
	if err != nil {
		return "", err
	}
	if session.Status != client.PendingVerification || session.OTP == "" {
		return "", fmt.Errorf("the student was shown no code: the session is %s", session.Status)
	}
	j.line(func(l *Line) { l.Note = "code " + session.OTP })
	if err := errors.Join(j.clock.Sleep(ctx, readOut), j.linger(ctx, toLook, codeLeft)); err != nil {
		return "", err
	}
	_, err = insist(ctx, j, "verify", func(ctx context.Context, id string) (time.Time, error) { return j.phone.Verify(ctx, id, session.OTP) })
	if err == nil {
		j.sayf("verified by the student's code: the lesson begins")
		err = j.linger(ctx, toLook, codeLeft)
	}
	return Verified, err
}

const (
	// toLook is how long somebody at a page may look at what has come, in real time;
	// toNotice is how long a page takes to wait for news again, which reads once a second.
	toLook, toNotice = 6 * time.Second, 3500 * time.Millisecond
	// codeLeft and fixLeft are how much that may take of the life of a code, and of a fix
	// at the door, in virtual time.
	codeLeft, fixLeft = 5 * time.Minute, 50 * time.Second
)

// linger lets people see where the journey stands, if a page is open in a browser.
func (j *journey) linger(ctx context.Context, take, atMost time.Duration) error {
	select {
	case <-j.opened:
		if j.index == 0 {
			return pause.For(ctx, min(take, j.clock.Real(atMost)))
		}
	default:
	}
	return nil
}

// tellPushes says what the student's phone would have shown. The last push is
// sent while the journey ends, so it may take a moment. Only titles: a body
// holds the code.
func (j *journey) tellPushes(ctx context.Context) {
	titles, ended := j.pushes(j.booking.SessionID)
	for range 20 {
		if ended || pause.For(ctx, 50*time.Millisecond) != nil {
			break
		}
		titles, ended = j.pushes(j.booking.SessionID)
	}
	for _, title := range titles {
		j.sayf("pushed to the student: %s", title)
	}
	j.report.count(func(t *totals) { t.pushed += len(titles) })
}

// insist makes a call for the journey's session until it is answered, as an app
// does, and as long as an arrival needs more of a track. A 5xx is repeated, too,
// but nothing explains it.
func insist[T any](ctx context.Context, j *journey, name string, call func(ctx context.Context, session string) (T, error)) (T, error) {
	return client.Repeat(ctx, tries, j.clock.Sleep, func(try int, err error) {
		switch code := client.CodeOf(err); {
		case noAnswer(err):
			j.report.count(func(t *totals) { t.failures++ })
			j.sayf("no answer to %s, try %d: %v", name, try, err)
		case code == client.SuspiciousLocation, code == client.NoFreshLocation:
			j.sayf("%s not yet, try %d: %v", name, try, err)
		default:
			j.odd(err.Error())
		}
	}, func(ctx context.Context) (T, error) { return call(ctx, j.booking.SessionID) })
}

func noAnswer(err error) bool {
	var refusal *client.Error
	return err != nil && !errors.As(err, &refusal)
}

// sends times fixes from the phone's request to the student's answer. A fix is
// known by its RecordedAt, which the live read repeats. Safe for concurrent use;
// the zero value is ready.
type sends struct {
	mu   sync.Mutex
	when map[int64]time.Time
}

// note keeps the start of a request; a repeat replaces it.
func (s *sends) note(recorded, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.when == nil {
		s.when = map[int64]time.Time{}
	}
	s.when[recorded.UnixMilli()] = now
}

// seen returns how long the fix took; false for one that was seen before. Those
// before it were overtaken and are forgotten.
func (s *sends) seen(recorded, now time.Time) (took time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.when[recorded.UnixMilli()]
	for ms := range s.when {
		if ms <= recorded.UnixMilli() {
			delete(s.when, ms)
		}
	}
	return now.Sub(at), ok
}
