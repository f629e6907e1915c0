package rig

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	// quiet is how long no event may have been delivered: relays look every 0.75 s
	// at least.
	quiet = 3 * time.Second
	// carriedIn bounds the wait.
	carriedIn = 3 * time.Minute
)

// AwaitCarried returns once these gateways' relays have delivered all events: none
// waits, and none was delivered for some seconds. It returns false if that takes
// over three minutes, or ctx ends. The gateways' count of waiting events is up to
// 15 s old, so the wait may be as much longer.
func AwaitCarried(ctx context.Context, gateways ...*Gateway) (carried bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, carriedIn)
	defer cancel()
	var before float64
	for since := time.Now(); ; {
		var waiting, taken float64
		for _, g := range gateways {
			text, err := g.Metrics(ctx)
			if ctx.Err() != nil {
				return false, nil
			}
			if err != nil {
				return false, fmt.Errorf("rig: events: %w", err)
			}
			waiting += sum(text, "doorstep_outbox_waiting")
			taken += sum(text, "doorstep_event_publish_delay_seconds_count")
		}
		if waiting > 0 || taken != before {
			before, since = taken, time.Now()
		}
		if time.Since(since) >= quiet {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-time.After(quiet / 10):
		}
	}
}

// sum adds up all series of a name.
func sum(text, name string) (total float64) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' ')+1:], &v); err == nil {
			total += v
		}
	}
	return total
}
