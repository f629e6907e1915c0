package drive

import (
	"bufio"
	"context"
	"encoding/gob"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"time"
)

// Main is the main of a program that plays loads. In a process that Start has
// started it generates. Else run gets the arguments and a context that an
// interrupt ends, and its error ends the process with 1.
func Main(name string, run func(ctx context.Context, args []string, stdout, stderr io.Writer) error) {
	Child()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// childVariable makes a program that calls Child a generator.
const childVariable = "DOORSTEP_BENCH_GENERATOR"

// message is what a generator sends to the process that started it, as a gob;
// one field is set.
type message struct {
	Setup  int64 // journeys begun, and students waiting
	Ready  bool
	Second *Second
	Result *part
	Err    string
}

// Second is one second of the measured time.
type Second struct {
	At       int // seconds since the measuring began
	Accepted int64
	P99      time.Duration // of Update
	SightP99 time.Duration
}

// part is one generator's Result.
type part struct {
	Accepted, Unseen int64
	Counts           map[string]int64
	Latencies        map[string][]byte
}

// Child plays a plan and ends the process, if Start started this process; else
// it returns at once. Call it first in main, or in TestMain.
func Child() {
	if os.Getenv(childVariable) == "" {
		return
	}
	out := gob.NewEncoder(os.Stdout)
	if err := generate(context.Background(), os.Stdin, out); err != nil {
		_ = out.Encode(message{Err: err.Error()})
		os.Exit(1)
	}
	os.Exit(0)
}

// generate reads a plan, prepares it, reports that it is ready, and then reads
// the instant at which to begin.
func generate(ctx context.Context, stdin io.Reader, out *gob.Encoder) error {
	in := gob.NewDecoder(bufio.NewReader(stdin))
	var plan Plan
	if err := in.Decode(&plan); err != nil {
		return fmt.Errorf("drive: read the plan: %w", err)
	}
	p, err := newPlay(plan)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := p.ready(ctx, out); err != nil {
		return err
	}
	var at time.Time
	if err := in.Decode(&at); err != nil {
		return fmt.Errorf("drive: read the beginning: %w", err)
	}
	p.schedule(at)
	done := make(chan struct{})
	go func() { defer close(done); p.run(ctx, at) }()
	p.reportSeconds(out, done)
	result, err := p.result()
	if err != nil {
		return err
	}
	if err := out.Encode(message{Result: result}); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, stdin) // until Close: what this process used can be read until then
	return nil
}

// ready prepares the journeys and the students, and reports its progress.
func (p *play) ready(ctx context.Context, out *gob.Encoder) error {
	prepared := make(chan error, 1)
	go func() {
		err := p.prepare(ctx)
		if err == nil {
			err = p.watch(ctx)
		}
		prepared <- err
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-prepared:
			if err != nil {
				return err
			}
			return out.Encode(message{Setup: p.setup.Load(), Ready: true})
		case <-tick.C:
			if err := out.Encode(message{Setup: p.setup.Load()}); err != nil {
				return err
			}
		}
	}
}

// reportSeconds reports each measured second until the run is done.
func (p *play) reportSeconds(out *gob.Encoder, done <-chan struct{}) {
	var before int64
	for n, over := 0, false; !over; n++ {
		end := p.from.Add(time.Duration(n+1) * time.Second)
		select {
		case <-done:
			if over = true; time.Now().Before(end) {
				return // its last second was not a whole one
			}
		case <-time.After(time.Until(end)):
		}
		now := p.accepted.Load()
		_ = out.Encode(message{Second: &Second{
			At: n, Accepted: now - before, P99: p.latencies[Update].next(), SightP99: p.latencies[Sight].next(),
		}})
		before = now
	}
}

func (p *play) result() (*part, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// A copy: a student's last answer may still come.
	r := &part{Accepted: p.accepted.Load(), Unseen: p.unseen.Load(), Counts: maps.Clone(p.counts), Latencies: map[string][]byte{}}
	for name, l := range p.latencies {
		var err error
		if r.Latencies[name], err = l.encode(); err != nil {
			return nil, err
		}
	}
	return r, nil
}
