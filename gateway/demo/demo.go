// Package demo shows the whole service without any set-up: it starts a gateway
// in this process and plays journeys, recorded or made up, through its HTTP API
// with package client, as apps do. A client.Reporter is each trainer's phone, a
// client.Follower each student's app. Time runs faster for all of them; see
// Clock.
//
// Where to read: Run, then journey.play, then phone and student, then report
// and screen.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"doorstep/sessions"
)

// ErrUnexplained says that the service gave an answer that it should not have.
var ErrUnexplained = errors.New("demo: the service gave answers that nothing explains")

// Run plays all journeys, until they have ended or ctx ends, and then stops
// what it started. The error is ErrUnexplained, or why something could not be
// started or stopped. The end of ctx is not an error.
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
	links   atomic.Pointer[[]string] // addresses of pages, for people
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
	_, err := d.journal.last()
	if d.log == nil {
		return err
	}
	return errors.Join(err, d.log.Close())
}

// stopWithin bounds the stop of the gateway.
const stopWithin = 5 * time.Second

func (d *demo) run(ctx context.Context) (err error) {
	d.clock = NewClock(time.Now().Truncate(time.Millisecond), d.opts.Speed)
	d.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2*d.opts.Parallel + 1, IdleConnTimeout: time.Minute}}
	d.backend, err = startBackend(ctx, d.opts, d.clock, d.journal, d.http)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		err = errors.Join(err, d.backend.stop(ctx))
	}()
	defer d.http.CloseIdleConnections() // or the gateway would wait for them
	for _, line := range d.about() {
		d.journal.sayf("", "%s", line)
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
	recent, _ := d.journal.last() // the error is reported at the end
	return frame{About: d.about(), Lines: d.board.now(), Totals: d.report.now(), Virtual: d.clock.Elapsed(), Recent: recent}
}

// about says what is played, and on what.
func (d *demo) about() []string {
	what := fmt.Sprintf("%s, made up (seed %d)", count(len(d.list.Plans), "journey"), d.opts.Seed)
	if d.list.Recordings > 0 {
		what = fmt.Sprintf("%s from %s", count(len(d.list.Plans), "journey"), count(d.list.Recordings, "recording"))
		if d.list.Dropped > 0 {
			what += fmt.Sprintf(" (without %s under a minute)", count(d.list.Dropped, "part"))
		}
	}
	lines := []string{fmt.Sprintf("%s, at %gx", what, d.opts.Speed), "live store: " + d.backend.gateways[0].store}
	for _, g := range d.backend.gateways {
		of := ""
		if g.region != "" {
			of = " of " + g.region
		}
		lines = append(lines, "gateway"+of+": "+g.base)
		if g.metrics != "" {
			lines = append(lines, "metrics"+of+": "+g.metrics)
		}
	}
	if len(d.backend.gateways) > 1 {
		lines = append(lines, "each student begins in another region than the trainer")
	}
	if links := d.links.Load(); links != nil && d.screen != nil {
		lines = append(lines, *links...)
	}
	return lines
}

func count(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}

// playAll plays every plan in order, Options.Parallel at once.
func (d *demo) playAll(ctx context.Context) error {
	staff := newID(randomness(d.opts.Seed, math.MaxUint64))
	admin, err := d.backend.user(sessions.Admin, staff, 0)
	if err != nil {
		return err
	}
	shared := &stage{
		clock: d.clock, board: d.board, report: d.report, journal: d.journal, admin: admin, pushes: d.backend.pushes, paints: &sends{}, opened: d.backend.opened,
	}
	if err := d.invite(ctx, shared, staff); err != nil {
		return err
	}
	free := make(chan struct{}, d.opts.Parallel)
	var playing sync.WaitGroup
	defer playing.Wait()
	for i := range d.list.Plans {
		j, err := d.journey(ctx, shared, i)
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
			j.run(ctx)
		})
	}
	return nil
}

// conclude prints the summary and judges.
func (d *demo) conclude(ctx context.Context, took time.Duration) error {
	totals := d.report.now()
	text := "\n" + totals.summary(d.about(), took)
	if ctx.Err() != nil {
		text += "  interrupted\n"
		left := 0
		for _, l := range d.board.now() {
			if l.State == Waiting {
				left++
			}
		}
		if left > 0 {
			text = strings.TrimSuffix(text, "\n") + "; " + count(left, "journey") + " not begun\n"
		}
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
