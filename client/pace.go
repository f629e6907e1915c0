package client

import (
	"context"
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

// backOff is the pause after so many failures in a row: 1 s, doubled up to
// 30 s, and scattered over half of it to one and a half, so that the phones
// that lost one gateway do not come back together.
func backOff(failures int) time.Duration {
	d := min(firstBackOff<<min(failures-1, 5), maxBackOff)
	return d/2 + rand.N(d)
}
