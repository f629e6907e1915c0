// Package retryafter keeps the pause that a service has asked for by Retry-After.
package retryafter

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Of is the header in either of its forms (RFC 9110, section 10.2.3); 0 without it.
func Of(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if n, err := strconv.ParseUint(text, 10, 20); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// Pause is until when a service wants no call. The zero value is no pause. Safe for
// concurrent use.
type Pause struct {
	mu    sync.Mutex
	until time.Time
}

// For makes the pause last for wait from now, or for longest where that is less. A
// pause that lasts longer already stays.
func (p *Pause) For(wait, longest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := time.Now().Add(min(wait, longest)); until.After(p.until) {
		p.until = until
	}
}

// Left is how long the pause still lasts; 0 or less for none.
func (p *Pause) Left() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Until(p.until)
}
