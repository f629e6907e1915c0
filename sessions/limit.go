package sessions

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// callerLimit is a token bucket a caller, bounded in memory: two generations of
// at most limitGeneration callers, of which the older is dropped whole when the
// younger is full. Dropping one forgives a caller its past, no more.
type callerLimit struct {
	every rate.Limit
	burst int

	mu         sync.Mutex
	young, old map[ID]*rate.Limiter
}

const limitGeneration = 8192

func newCallerLimit(every time.Duration, burst int) *callerLimit {
	return &callerLimit{every: rate.Every(every), burst: burst, young: map[ID]*rate.Limiter{}}
}

// take spends one token of the caller's, or says how long until there is one.
func (l *callerLimit) take(id ID, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.of(id).ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

func (l *callerLimit) of(id ID) *rate.Limiter {
	if found, ok := l.young[id]; ok {
		return found
	}
	if len(l.young) >= limitGeneration {
		l.young, l.old = map[ID]*rate.Limiter{}, l.young
	}
	found, ok := l.old[id]
	if !ok {
		found = rate.NewLimiter(l.every, l.burst)
	}
	l.young[id] = found
	return found
}
