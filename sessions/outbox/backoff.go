package outbox

import (
	"math/rand/v2"
	"sync"
	"time"
)

// outage is something being down: since when, and until when nobody tries it.
type outage struct {
	mu           sync.Mutex
	failures     int
	since, until time.Time
}

// fail notes a failure and reports whether the outage begins with it. Those of
// calls that were under way already do not push the next try away.
func (o *outage) fail(opts RelayOptions) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := opts.Now()
	if o.failures > 0 && now.Before(o.until) {
		return false
	}
	if o.failures++; o.failures == 1 {
		o.since = now
	}
	o.until = now.Add(jitter(opts.DownBase, opts.DownCap, o.failures))
	return o.failures == 1
}

// end notes a success, and says since when there had been none.
func (o *outage) end() (since time.Time, was bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	since, was = o.since, o.failures > 0
	o.failures, o.since, o.until = 0, time.Time{}, time.Time{}
	return since, was
}

func (o *outage) left(now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.until.Sub(now)
}

func (o *outage) down() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failures > 0
}

// jitter is a back-off with full jitter: evenly spread over (0, base × 2^(n-1)],
// at most limit. Full, so that many rows or relays that failed together do not
// come back together.
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

// reasonLimit keeps a dead letter's line one line.
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
