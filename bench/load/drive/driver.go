package drive

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"doorstep/internal/servers/process"
)

// Driver runs the generators that play one plan.
type Driver struct {
	plan       Plan
	generators []*generator
	progress   io.Writer
	what       string
}

// Result is what a run has measured, from the end of the warm-up to its own
// end. Counts also has the bookings and starts before it.
type Result struct {
	Accepted int64 // fixes answered 201
	// Unseen counts fixes that the next one overtook before a student was shown
	// them; no latency includes them.
	Unseen    int64
	Counts    map[string]int64 // answers by call and status
	Latencies map[string]*Histogram
	Seconds   []Second
}

type generator struct {
	process *process.Process
	stdin   *gob.Encoder
	setup   int64
	sent    chan message
}

// Start starts as many processes as the plan needs and returns when they have
// booked and started the journeys and each student has read once. Progress goes
// to a writer, as one line that is rewritten. Close the driver.
func Start(ctx context.Context, what string, plan Plan, progress io.Writer) (*Driver, error) {
	if err := plan.validate(); err != nil {
		return nil, err
	}
	d := &Driver{plan: plan, progress: progress, what: what}
	for _, part := range plan.Split() {
		g, err := newGenerator(part)
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		d.generators = append(d.generators, g)
	}
	if err := d.awaitReady(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func newGenerator(plan Plan) (*generator, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("drive: %w", err)
	}
	cmd := exec.Command(self) //nolint:gosec,noctx // this program; Close ends it
	cmd.Env = append(os.Environ(), childVariable+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("drive: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("drive: %w", err)
	}
	g := &generator{stdin: gob.NewEncoder(stdin), sent: make(chan message, 256)}
	if g.process, err = process.Start(cmd); err != nil {
		return nil, fmt.Errorf("drive: %w", err)
	}
	go g.read(stdout)
	if err := g.stdin.Encode(plan); err != nil {
		return nil, errors.Join(fmt.Errorf("drive: %w", err), g.process.Kill())
	}
	return g, nil
}

func (g *generator) read(stdout io.Reader) {
	defer close(g.sent)
	in := gob.NewDecoder(stdout)
	for {
		var m message
		if err := in.Decode(&m); err != nil {
			return
		}
		g.sent <- m
	}
}

// next is the generator's next message.
func (g *generator) next(ctx context.Context) (message, error) {
	select {
	case m, ok := <-g.sent:
		switch {
		case !ok:
			return m, errors.New("drive: a generator has ended early")
		case m.Err != "":
			return m, errors.New(m.Err)
		}
		return m, nil
	case <-ctx.Done():
		return message{}, ctx.Err()
	}
}

func (d *Driver) awaitReady(ctx context.Context) error {
	of := int64(d.plan.Journeys + d.plan.Watchers)
	for _, g := range d.generators {
		for ready := false; !ready; {
			m, err := g.next(ctx)
			if err != nil {
				return err
			}
			g.setup, ready = max(g.setup, m.Setup), m.Ready
			var done int64
			for _, each := range d.generators {
				done += each.setup
			}
			fmt.Fprintf(d.progress, "\r\033[K%s: set up %d of %d journeys and students", d.what, done, of)
		}
	}
	fmt.Fprint(d.progress, "\r\033[K")
	return nil
}

// PIDs are the generators', for /proc.
func (d *Driver) PIDs() (pids []int) {
	for _, g := range d.generators {
		pids = append(pids, g.process.OS().Pid)
	}
	return pids
}

// Close ends the generators.
func (d *Driver) Close() error {
	var errs []error
	for _, g := range d.generators {
		errs = append(errs, g.process.Kill())
	}
	return errors.Join(errs...)
}

// soon is how long before a run its beginning is sent: every generator must have
// it in time.
const soon = 200 * time.Millisecond

// Play plays the plan and returns what was measured. It calls measured as the
// warm-up ends. Call it once.
func (d *Driver) Play(ctx context.Context, measured func()) (Result, error) {
	at := time.Now().Add(soon)
	for _, g := range d.generators {
		if err := g.stdin.Encode(at); err != nil {
			return Result{}, fmt.Errorf("drive: %w", err)
		}
	}
	if !sleep(ctx, time.Until(at.Add(d.plan.Warmup))) {
		return Result{}, ctx.Err()
	}
	measured()
	r := Result{Counts: map[string]int64{}, Latencies: map[string]*Histogram{}}
	playing := slices.Clone(d.generators)
	for len(playing) > 0 {
		var err error
		if playing, err = d.second(ctx, playing, &r); err != nil {
			return r, err
		}
	}
	fmt.Fprint(d.progress, "\r\033[K")
	return r, nil
}

// second takes one message of each generator, which sends one a second and at
// the end its result, and returns the generators that go on.
func (d *Driver) second(ctx context.Context, playing []*generator, r *Result) (left []*generator, err error) {
	var now Second
	for _, g := range playing {
		m, err := g.next(ctx)
		if err != nil {
			return nil, err
		}
		if m.Result != nil {
			if err := r.add(m.Result); err != nil {
				return nil, err
			}
			continue
		}
		left = append(left, g)
		if m.Second != nil {
			now.At, now.Accepted = m.Second.At, now.Accepted+m.Second.Accepted
			now.P99, now.SightP99 = max(now.P99, m.Second.P99), max(now.SightP99, m.Second.SightP99)
		}
	}
	if len(left) == len(d.generators) {
		r.Seconds = append(r.Seconds, now)
		fmt.Fprintf(d.progress, "\r\033[K%s: %d s of %.0f: %d updates accepted, p99 %v; fix to eye p99 %v", d.what,
			now.At+1, d.plan.Duration.Seconds(), now.Accepted, now.P99.Round(10*time.Microsecond), now.SightP99.Round(10*time.Microsecond))
	}
	return left, nil
}

func (r *Result) add(p *part) error {
	r.Accepted += p.Accepted
	r.Unseen += p.Unseen
	for label, n := range p.Counts {
		r.Counts[label] += n
	}
	for name, text := range p.Latencies {
		h, err := hdrhistogram.Decode(text)
		if err != nil {
			return fmt.Errorf("drive: histogram: %w", err)
		}
		if have := r.Latencies[name]; have != nil {
			have.Merge(h)
		} else {
			r.Latencies[name] = h
		}
	}
	return nil
}

// Failures counts the answers that no run should have: to fixes all but 201, to
// students all but 200 and 304, and no answer at all.
func (r Result) Failures() (n int64) {
	fine := map[string]bool{
		Update + " 201": true, "live 200": true, "live 304": true, Booking + " 201": true,
		Starting + " 201": true, "arrived 200": true, "stop-journey 200": true,
	}
	for label, count := range r.Counts {
		if !fine[label] {
			n += count
		}
	}
	return n
}
