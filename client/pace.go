package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	// minGap is the least time between the starts of two requests of a Reporter or
	// a Follower, whatever the gateway or a proxy answers: no answer makes them
	// loop hot.
	minGap = time.Second
	// firstBackOff doubles with each failure, up to maxBackOff.
	firstBackOff = time.Second
	maxBackOff   = 30 * time.Second
)

// Sleep waits for d or until ctx ends, and returns ctx's error then.
type Sleep func(ctx context.Context, d time.Duration) error

// sleep is the Sleep of the wall clock.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// backOff is the pause after a number of failures in a row: 1 s, doubled up
// to 30 s, and multiplied by a random factor from 0.5 to 1.5, so that the
// phones that lost one gateway do not all come back at one time.
func backOff(failures int) time.Duration {
	d := min(firstBackOff<<min(failures-1, 5), maxBackOff)
	return d/2 + rand.N(d) //nolint:gosec // jitter needs no secrecy
}

// Repeat makes a call until it succeeds or its error is not temporary (see
// Temporary), as an app should. It pauses after each failure: as long as
// RetryAfter asks for, but at least as long as the back-off, which is 1 s,
// doubled up to 30 s, with jitter. It gives up after tries calls, and when ctx
// ends; the error is the last call's or ctx's. failed, if not nil, is called
// after each temporary failure. pauses is nil for the wall clock. Do not use it
// for Update and Live, which Reporter and Follower repeat, nor for Verify.
func Repeat[T any](ctx context.Context, tries int, pauses Sleep, failed func(try int, err error), call func(context.Context) (T, error)) (T, error) {
	if pauses == nil {
		pauses = sleep
	}
	for try := 1; ; try++ {
		v, err := call(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return v, ctx.Err()
		case !Temporary(err):
			return v, err
		}
		if failed != nil {
			failed(try, err)
		}
		if try >= tries {
			return v, fmt.Errorf("given up after %d tries: %w", try, err)
		}
		pause := backOff(try)
		if e, ok := errors.AsType[*Error](err); ok {
			pause = max(pause, e.RetryAfter)
		}
		if err := pauses(ctx, pause); err != nil {
			return v, err
		}
	}
}
