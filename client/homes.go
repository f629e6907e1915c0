package client

import (
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// maxHomes is how many sessions of other regions are remembered. When it is full all are
	// forgotten, and learnt anew.
	maxHomes = 1024
	// awayFor is how long a region that did not answer is left alone: the gateway of BaseURL
	// then forwards the calls, or says what can be known without that region.
	awayFor = 30 * time.Second
)

// homes remembers where the sessions of other regions are called. The zero value is ready.
// Safe for concurrent use.
type homes struct {
	mu       sync.Mutex
	sessions map[string]home
}

type home struct {
	url       string
	awayUntil time.Time
}

// of is where a call about a session goes. direct asks for the right URL where that is not
// the one.
func (h *homes) of(session, base string) (to string, direct bool) {
	if session == "" {
		return base, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	at, moved := h.sessions[session]
	switch {
	case !moved:
		return base, true
	case time.Now().Before(at.awayUntil):
		return base, false
	}
	return at.url, true
}

// move notes where a session is called, as a gateway has told. It reports false for what is
// no such URL. The caller's token goes there: only over https, or over http where base is
// reached so, too.
func (h *homes) move(session, base, to string) bool {
	u, err := url.Parse(to)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		u.Scheme != "https" && (u.Scheme != "http" || !strings.HasPrefix(base, "http://")) {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.sessions) >= maxHomes {
		h.sessions = nil
	}
	if h.sessions == nil {
		h.sessions = map[string]home{}
	}
	h.sessions[session] = home{url: strings.TrimRight(u.String(), "/")}
	return true
}

// away notes that the session's region has not answered.
func (h *homes) away(session string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at, moved := h.sessions[session]; moved {
		at.awayUntil = time.Now().Add(awayFor)
		h.sessions[session] = at
	}
}
