// Package pause waits for a duration or for the end of a context.
package pause

import (
	"context"
	"time"
)

// For waits for d, or until ctx ends. It returns nil after d, and the context's
// error when ctx has ended first. A d of zero or less does not wait.
func For(ctx context.Context, d time.Duration) error {
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
