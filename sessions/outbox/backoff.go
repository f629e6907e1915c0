package outbox

import (
	"math/rand/v2"
	"sync"
	"time"
)

// outage is the state of something that may be away: since when it has been, and
// until when it is not tried. Safe for concurrent use.
type outage struct {
	mu           sync.Mutex
	failures     int
	since, until time.Time
}

// fail records a failure and reports whether the outage begins with it. Failures of
// calls that were already running do not move the next try.
func (o *outage) fail(base, limit time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if o.failures > 0 && now.Before(o.until) {
		return false
	}
	if o.failures++; o.failures == 1 {
		o.since = now
	}
	o.until = now.Add(jitter(base, limit, o.failures))
	return o.failures == 1
}

// end records a success. was says whether that ends an outage, which began at since.
func (o *outage) end() (since time.Time, was bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	since, was = o.since, o.failures > 0
	o.failures, o.since, o.until = 0, time.Time{}, time.Time{}
	return since, was
}

// left is the time to the next try; zero or less when it may be made now.
func (o *outage) left() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Until(o.until)
}

func (o *outage) down() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failures > 0
}

// jitter is a back-off with full jitter: uniform over (0, Backoff]. Full, so that
// rows or relays that failed together do not come back together.
func jitter(base, limit time.Duration, n int) time.Duration {
	return 1 + rand.N(Backoff(base, limit, n)) //nolint:gosec // jitter needs no secrecy
}

// Backoff is base × 2^(n-1), at most limit: the upper bound of the wait after the
// n-th failure. The caller adds jitter.
func Backoff(base, limit time.Duration, n int) time.Duration {
	top := base
	for range n - 1 {
		if top *= 2; top >= limit {
			break
		}
	}
	return min(top, limit)
}

// reasonLimit is the longest reason of a dead letter, in characters.
const reasonLimit = 300

// Reason is err as one short printable line, as dead letters and logs keep it.
func Reason(err error) string {
	reason := []rune(err.Error())
	if len(reason) > reasonLimit {
		reason = append(reason[:reasonLimit-1], '…')
	}
	for i, c := range reason {
		if c < ' ' || c == 0x7f {
			reason[i] = ' '
		}
	}
	return string(reason)
}
