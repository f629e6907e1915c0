package drive

import (
	"bufio"
	"context"
	"encoding/gob"
	"fmt"
	"io"
	"maps"
	"os"
	"time"
)

// childVariable makes a program that calls Child a generator.
const childVariable = "DOORSTEP_BENCH_GENERATOR"

// message is what a generator tells who started it, as a gob; one field is set.
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
	Tally            map[string]int64
	Latencies        map[string][]byte
}

// Child plays a plan and ends the process, if Start started this process; else
// it returns at once. First thing in main, or in TestMain.
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

// generate reads a plan and, once it has said that it is ready, the instant at
// which to begin.
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
	p.narrate(out, done)
	result, err := p.result()
	if err != nil {
		return err
	}
	if err := out.Encode(message{Result: result}); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, stdin) // until Close: what this process took can still be read
	return nil
}

// ready prepares, and says how far it is.
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

// narrate tells of each measured second until the run is done.
func (p *play) narrate(out *gob.Encoder, done <-chan struct{}) {
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
	// A copy: a student's last answer may still be on its way.
	r := &part{Accepted: p.accepted.Load(), Unseen: p.unseen.Load(), Tally: maps.Clone(p.tally), Latencies: map[string][]byte{}}
	for name, l := range p.latencies {
		var err error
		if r.Latencies[name], err = l.encode(); err != nil {
			return nil, err
		}
	}
	return r, nil
}
