package main

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/cloudwego/hertz/pkg/app"
)

// watched are the sessions that somebody looks at, in this process's memory: who
// posts and who polls have to come to the same one.
type watched struct {
	mu  sync.Mutex
	all map[string]*latest
}

// latest is a session's last fix, as it is answered, and what is closed when the
// next one has come.
type latest struct {
	version int
	body    []byte
	next    chan struct{}
}

// longest is a wait's limit, whatever was asked for.
const longest = 25 * time.Second

func (w *watched) of(session string) *latest {
	l := w.all[session]
	if l == nil {
		l = &latest{body: []byte(`{"location":null}`), next: make(chan struct{})}
		w.all[session] = l
	}
	return l
}

// put makes a fix the latest and wakes who waits for it.
func (w *watched) put(f *fix) {
	body := []byte(`{"latitude":` + degrees(f.Latitude) + `,"longitude":` + degrees(f.Longitude) + `}`)
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.of(f.SessionID)
	w.all[f.SessionID] = &latest{version: l.version + 1, body: body, next: make(chan struct{})}
	close(l.next)
}

func (w *watched) get(session string) *latest {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.of(session)
}

// live answers a long poll: no token, nobody's session, no limit.
func (w *watched) live(ctx context.Context, c *app.RequestContext) {
	session := c.Query("sessionId")
	l := w.get(session)
	if c.Query("wait") != "" && string(c.GetHeader("If-None-Match")) == strconv.Itoa(l.version) {
		timer := time.NewTimer(longest)
		defer timer.Stop()
		select {
		case <-l.next:
			l = w.get(session)
		case <-timer.C:
			c.SetStatusCode(http.StatusNotModified)
			return
		case <-ctx.Done():
			return
		}
	}
	c.Header("ETag", strconv.Itoa(l.version))
	c.Data(http.StatusOK, "application/json", l.body)
}
