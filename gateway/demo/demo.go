// Package demo shows the whole service at work without any set-up: it starts a
// gateway in this process and plays journeys, recorded or made up, through its
// own HTTP API, as a phone would, while each student's app follows by long
// poll. Time runs faster for all of them alike; see Clock.
//
// A reader's walk: Run → journey.play, the story of one journey → phone and
// student, its two apps → report and screen, what came of it.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"doorstep/geo"
	"doorstep/sessions"
)

// Options are the demo's settings; the tags are its flags.
type Options struct {
	Trace    []string `sep:"none" placeholder:"FILE" help:"Play a recording (CSV: unix_ms,lat,lng,...), a folder of them or a pattern; may be repeated. None: made-up drives."`
	Journeys int      `default:"4" help:"How many drives to make up."`
	Mode     string   `default:"" enum:",car,bike,walk" help:"Travel mode. Empty: by the recording's file name, or taking turns."`
	Speed    float64  `default:"15" help:"How many times faster than life, 0.1 to 5000."`
	Parallel int      `default:"100" help:"Journeys at once; the others wait."`
	Seed     uint64   `default:"1" help:"Of the made-up drives; the same seed gives the same."`
	Store    string   `default:"auto" enum:"auto,memory" help:"Live store: auto (a private valkey-server or redis-server, if there is one) or memory."`
	Metrics  bool     `help:"Serve /metrics on a free port, and say where."`
	Log      string   `placeholder:"FILE" help:"Write what happens, a line each: refused fixes with the reason, starts, arrivals."`

	// Out is where it is shown: drawn on when it is a terminal, else written
	// line by line. Nil: standard output.
	Out io.Writer `kong:"-"`

	lengthM float64 // of a made-up drive by car; tests make it short
}

func (o Options) validate() error {
	switch {
	case !(o.Speed >= 0.1 && o.Speed <= 5000):
		return fmt.Errorf("speed: %v is not in [0.1, 5000]", o.Speed)
	case o.Parallel < 1:
		return fmt.Errorf("parallel: %d is under 1", o.Parallel)
	case len(o.Trace) == 0 && (o.Journeys < 1 || o.Journeys > 10_000):
		return fmt.Errorf("journeys: %d is not in [1, 10000]", o.Journeys)
	}
	return nil
}

func (o Options) playlist() (Playlist, error) {
	if len(o.Trace) > 0 {
		return Load(o.Trace, geo.Mode(o.Mode))
	}
	return Playlist{Plans: Generated(o.Seed, o.Journeys, geo.Mode(o.Mode), o.lengthM)}, nil
}

// ErrUnexplained says that the service gave an answer that it should not have.
var ErrUnexplained = errors.New("demo: the service gave answers that nothing explains")

// Run plays everything, or until ctx ends, and takes down what it started. The
// error is ErrUnexplained, or what kept it from starting or ending; an
// interruption is none.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.validate(); err != nil {
		return err
	}
	if o.Out == nil {
		o.Out = os.Stdout
	}
	list, err := o.playlist()
	if err != nil {
		return err
	}
	d := &demo{opts: o, list: list, board: newBoard(list.Plans), report: newReport()}
	if err := d.openJournal(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.closeJournal()) }()
	return d.run(ctx)
}

// demo is one run.
type demo struct {
	opts    Options
	list    Playlist
	board   *board
	report  *report
	journal *journal
	log     *os.File // nil: none
	screen  *screen  // nil: plain lines
	clock   *Clock
	backend *backend
	http    *http.Client
}

func (d *demo) openJournal() error {
	var to []io.Writer
	if d.opts.Log != "" {
		log, err := os.Create(d.opts.Log)
		if err != nil {
			return fmt.Errorf("log: %w", err)
		}
		d.log = log
		to = append(to, log)
	}
	if terminal, ok := terminalOf(d.opts.Out); ok {
		d.screen = newScreen(terminal, os.LookupEnv)
	} else {
		to = append(to, d.opts.Out)
	}
	d.journal = newJournal(to...)
	return nil
}

func (d *demo) closeJournal() error {
	if d.log == nil {
		return d.journal.err()
	}
	return errors.Join(d.journal.err(), d.log.Close())
}

// farewell bounds the taking down.
const farewell = 5 * time.Second

func (d *demo) run(ctx context.Context) (err error) {
	d.clock = NewClock(time.Now().Truncate(time.Millisecond), d.opts.Speed)
	d.backend, err = startBackend(ctx, d.opts, d.clock, d.journal)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		err = errors.Join(err, d.backend.stop(ctx))
	}()
	d.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2*d.opts.Parallel + 1, IdleConnTimeout: time.Minute}}
	defer d.http.CloseIdleConnections()
	for _, line := range d.about() {
		d.journal.say("", "%s", line)
	}
	began := time.Now()
	if err := d.show(ctx, d.playAll); err != nil {
		return err
	}
	return d.conclude(ctx, time.Since(began))
}

// show plays with the screen on, where there is one.
func (d *demo) show(ctx context.Context, play func(context.Context) error) error {
	if d.screen == nil {
		return play(ctx)
	}
	done, drawn := make(chan struct{}), make(chan struct{})
	go func() { defer close(drawn); d.screen.draw(done, d.frame) }()
	err := play(ctx)
	close(done)
	<-drawn
	return err
}

func (d *demo) frame() frame {
	return frame{
		About: d.about(), Lines: d.board.now(), Totals: d.report.now(),
		Virtual: d.clock.Elapsed(), Speed: d.opts.Speed, Recent: d.journal.last(),
	}
}

// about says what is played, and on what.
func (d *demo) about() []string {
	what := fmt.Sprintf("%d made-up journeys (seed %d)", len(d.list.Plans), d.opts.Seed)
	if d.list.Recordings > 0 {
		what = fmt.Sprintf("%d journeys from %d recordings", len(d.list.Plans), d.list.Recordings)
		if d.list.Dropped > 0 {
			what += fmt.Sprintf(" (%d stretches under a minute left out)", d.list.Dropped)
		}
	}
	lines := []string{fmt.Sprintf("%s at %gx, on %s", what, d.opts.Speed, d.backend.store), "gateway at " + d.backend.base}
	if d.backend.metrics != "" {
		lines[1] += ", metrics at " + d.backend.metrics
	}
	return lines
}

// playAll plays every plan, so many at once, in their order.
func (d *demo) playAll(ctx context.Context) error {
	admin, err := d.client(sessions.Admin, sessions.NewID())
	if err != nil {
		return err
	}
	shared := &stage{clock: d.clock, board: d.board, report: d.report, journal: d.journal, admin: admin}
	free := make(chan struct{}, d.opts.Parallel)
	var playing sync.WaitGroup
	defer playing.Wait()
	for i := range d.list.Plans {
		j, err := d.journey(shared, i)
		if err != nil {
			return err
		}
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		playing.Go(func() {
			defer func() { <-free }()
			// Phones are not in step: without this all of them would report in
			// the same instant, for ever.
			if d.clock.Sleep(ctx, time.Duration(j.phone.rng.Int64N(int64(cadence)))) == nil {
				j.run(ctx)
			}
		})
	}
	return nil
}

// journey makes the i-th journey with its parties; their ids follow from the
// seed.
func (d *demo) journey(shared *stage, i int) (*journey, error) {
	rng := rand.New(rand.NewPCG(d.opts.Seed, uint64(i)))
	trainer, err := d.client(sessions.Trainer, newID(rng))
	if err != nil {
		return nil, err
	}
	pupil, err := d.client(sessions.Student, newID(rng))
	if err != nil {
		return nil, err
	}
	j := &journey{stage: shared, plan: d.list.Plans[i], index: i, session: string(newID(rng)), sightings: newSightings()}
	j.phone = &phone{client: trainer, journey: j, rng: rng}
	j.student = &student{client: pupil, journey: j}
	return j, nil
}

// tokenTTL outlasts any demo: tokens expire on the real clock.
const tokenTTL = 24 * time.Hour

func (d *demo) client(role sessions.Role, id sessions.ID) (*client, error) {
	token, err := d.backend.app.Token(sessions.Caller{ID: id, Role: role}, tokenTTL)
	return &client{base: d.backend.base, http: d.http, user: id, token: token}, err
}

func newID(rng *rand.Rand) sessions.ID {
	var b [16]byte
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // version 4, RFC 9562
	return sessions.ID(uuid.UUID(b).String())
}

// conclude prints the summary and judges.
func (d *demo) conclude(ctx context.Context, took time.Duration) error {
	totals := d.report.now()
	text := "\n" + totals.summary(d.about(), took)
	if ctx.Err() != nil {
		text += "  interrupted\n"
	}
	if totals.refused() > 0 && d.screen != nil && d.log == nil {
		text += "  (--log FILE writes down each refused fix with the reason)\n"
	}
	if _, err := io.WriteString(d.opts.Out, text); err != nil {
		return fmt.Errorf("summary: %w", err)
	}
	if d.log != nil {
		if _, err := d.log.WriteString(strings.TrimLeft(text, "\n")); err != nil {
			return fmt.Errorf("log: %w", err)
		}
	}
	if totals.oddCount > 0 {
		return ErrUnexplained
	}
	return nil
}
