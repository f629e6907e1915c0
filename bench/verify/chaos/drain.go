package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"doorstep/bench/rig"
	"doorstep/geo"
	"doorstep/internal/pause"
	"doorstep/sessions"
)

// drainScenarios are the ends of one gateway that has its hands full.
func drainScenarios() []scenario {
	return []scenario{{"drain", playDrain, true}, {"drain-cut-short", playCutShort, true}}
}

const (
	// bodyLast is when, after SIGTERM, a slow phone sends the rest of its fix.
	bodyLast = 1500 * time.Millisecond
	slow     = 10 // phones that are in the middle of a fix
	setUpAt  = 32 // calls at a time while the journeys are started
)

// playDrain asks a gateway to go while thousands wait and some are in the
// middle of a request: everybody is answered, nobody is cut.
func playDrain(ctx context.Context, s *stage) (row, error) {
	waiters := pick(s, 300, 10_000)
	r := row{Fault: fmt.Sprintf("SIGTERM with %d waiters and %d requests half sent", waiters, slow), Well: "–"}
	h, err := newHouse(ctx, s, waiters, "DRAIN_DELAY=1s")
	if err != nil {
		return r, err
	}
	watch := h.watch(ctx)
	began := time.Now()
	if err := h.gateway.Signal(syscall.SIGTERM); err != nil {
		return r, err
	}
	time.AfterFunc(bodyLast, func() { close(h.finish) })
	took, err := h.gone(ctx, began)
	if err != nil {
		return r, err
	}
	door := <-watch
	h.callers.Wait()
	r.check(h.gateway.Err() == nil, "it ended with %v", h.gateway.Err())
	r.check(took <= drainLimit, "it took %s", took)
	r.check(!door.refusing.IsZero(), "/readyz never said 503")
	r.check(door.refusing.Before(door.closed), "the listener closed %s before /readyz said so", door.refusing.Sub(door.closed))
	h.check(&r, began, door)
	r.Saw = fmt.Sprintf("%s; after SIGTERM: /readyz 503 at %s, waiters answered from %s to %s, listener closed at %s, exit at %s",
		counts(h.ends), since(began, door.refusing), since(began, h.first), since(began, h.last), since(began, door.closed), ms(took))
	r.Well = "gone in " + ms(took)
	return r, nil
}

// playCutShort says SIGTERM twice: the second ends it at once, whatever waits.
func playCutShort(ctx context.Context, s *stage) (row, error) {
	waiters := pick(s, 100, 1000)
	r := row{Fault: fmt.Sprintf("SIGTERM twice with %d waiters and %d requests half sent", waiters, slow), Well: "–"}
	h, err := newHouse(ctx, s, waiters, "DRAIN_DELAY=20s")
	if err != nil {
		return r, err
	}
	watch := h.watch(ctx)
	if err := h.gateway.Signal(syscall.SIGTERM); err != nil {
		return r, err
	}
	for h.gateway.Ready(ctx) { // until it has heard the first
		if pause.For(ctx, 10*time.Millisecond) != nil {
			return r, ctx.Err()
		}
	}
	began := time.Now()
	if err := h.gateway.Signal(syscall.SIGTERM); err != nil {
		return r, err
	}
	took, err := h.gone(ctx, began)
	if err != nil {
		return r, err
	}
	<-watch
	close(h.finish)
	h.callers.Wait()
	// A tenth of a second where nobody else wants the machine; the first signal alone would take 20 s.
	r.check(took < 5*time.Second, "it took %s", took)
	r.check(h.gateway.Err() != nil, "exit code 0, though it was cut short")
	r.Saw = fmt.Sprintf("%s; %v", counts(h.ends), h.gateway.Err())
	r.Well = "gone " + ms(took) + " after the second"
	return r, nil
}

func since(began, at time.Time) string { return ms(at.Sub(began)) }

// house is a gateway with everybody in it.
type house struct {
	gateway *rig.Gateway
	finish  chan struct{} // closed: the slow phones send the rest
	callers sync.WaitGroup

	mu          sync.Mutex
	ends        map[string]int // how the callers' requests ended
	first, last time.Time      // waiters' answers
}

// newHouse starts a gateway and returns when all its waiters wait and the slow
// phones are half through.
func newHouse(ctx context.Context, s *stage, waiters int, settings ...string) (*house, error) {
	live, err := s.valkey(ctx)
	if err != nil {
		return nil, err
	}
	database, err := s.commons.database(ctx, s.program)
	if err != nil {
		return nil, err
	}
	settings = append(settings, "VALKEY_URL="+live.URL(), "DATABASE_URL="+database, "LOG_LEVEL=warn", "VALKEY_TIMEOUT=3s", "RATE_INTERVAL=100ms")
	h := &house{finish: make(chan struct{}), ends: map[string]int{}}
	if h.gateway, err = s.gateway(ctx, settings...); err != nil {
		return nil, err
	}
	journeys, err := h.startJourneys(ctx, waiters)
	if err != nil {
		return nil, err
	}
	for i, j := range journeys {
		if err := h.wait(ctx, j); err != nil {
			return nil, err
		}
		if i < slow {
			if err := h.sendHalf(ctx, j); err != nil {
				return nil, err
			}
		}
	}
	return h, h.awaitWaiting(ctx, waiters)
}

// startJourneys books and starts them, with one fix each.
func (h *house) startJourneys(ctx context.Context, n int) ([]*rig.Journey, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: setUpAt}}
	defer client.CloseIdleConnections()
	admin, err := rig.NewCaller(sessions.Admin, client)
	if err != nil {
		return nil, err
	}
	journeys := make([]*rig.Journey, n)
	var failed atomic.Pointer[error]
	var next atomic.Int64
	var hands sync.WaitGroup
	for range setUpAt {
		hands.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && failed.Load() == nil; i = next.Add(1) - 1 {
				j, err := startJourney(ctx, h.gateway.URL(), admin, client)
				if err != nil {
					failed.Store(&err)
					return
				}
				journeys[i] = j
			}
		})
	}
	hands.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	return journeys, nil
}

func startJourney(ctx context.Context, base string, admin *rig.Caller, client *http.Client) (*rig.Journey, error) {
	home := geo.MustPoint(52, 5)
	j, err := rig.NewJourney(home, client)
	if err != nil {
		return nil, err
	}
	for _, a := range []rig.Answer{j.Book(ctx, base, admin), j.Start(ctx, base), j.Update(ctx, base, geo.Offset(home, 0, 1000))} {
		if a.Status != http.StatusCreated {
			return nil, fmt.Errorf("set up: %s: %w", a.Label(), a.Err)
		}
	}
	return j, nil
}

// request is one on a connection of its own, that nothing repeats.
func (h *house) request(ctx context.Context, method, path string, by *rig.Caller, length int) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", h.gateway.Listen)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "%s /api/v1/admin/location-tracking/journey%s HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n",
		method, path, by.Token, length)
	return conn, err
}

// wait opens one student's long poll.
func (h *house) wait(ctx context.Context, j *rig.Journey) error {
	conn, err := h.request(ctx, http.MethodGet, fmt.Sprintf("/live?sessionId=%s&wait=30", j.ID), j.Student, 0)
	if err != nil {
		return err
	}
	h.callers.Go(func() {
		label := answerOf(ctx, conn, http.MethodGet)
		now := time.Now()
		h.mu.Lock()
		defer h.mu.Unlock()
		h.ends["wait: "+label]++
		if h.first.IsZero() {
			h.first = now
		}
		h.last = now
	})
	return nil
}

// sendHalf posts the first half of a fix, and the rest when h.finish is closed.
func (h *house) sendHalf(ctx context.Context, j *rig.Journey) error {
	body := fmt.Sprintf(`{"sessionId":%q,"latitude":52.0089,"longitude":5,"accuracy":8}`, j.ID)
	conn, err := h.request(ctx, http.MethodPost, "/updates", j.Trainer, len(body))
	if err == nil {
		_, err = io.WriteString(conn, body[:len(body)/2])
	}
	if err != nil {
		return err
	}
	h.callers.Go(func() {
		select {
		case <-h.finish:
		case <-ctx.Done():
		}
		_, _ = io.WriteString(conn, body[len(body)/2:]) // refused: the answer says so
		label := answerOf(ctx, conn, http.MethodPost)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.ends["half sent: "+label]++
	})
	return nil
}

// answerOf reads a whole answer, and that nothing follows it: its status, or
// how it was cut.
func answerOf(ctx context.Context, conn net.Conn, method string) string {
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		return "cut"
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return "cut in the body"
	}
	return fmt.Sprint(res.StatusCode)
}

// awaitWaiting returns when so many wait, by the gateway's own count.
func (h *house) awaitWaiting(ctx context.Context, want int) error {
	for {
		n, err := h.gateway.Metric(ctx, "doorstep_waits_open")
		if err != nil {
			return err
		}
		if int(n) == want {
			return nil
		}
		if pause.For(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("%v of %d wait: %w", n, want, ctx.Err())
		}
	}
}

// door is when a newcomer saw what.
type door struct{ refusing, closed time.Time }

// watch asks /readyz, each time on a new connection, until none is had.
func (h *house) watch(ctx context.Context) <-chan door {
	seen := make(chan door, 1)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	go func() {
		var d door
		for {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.gateway.URL()+"/readyz", nil)
			if err != nil {
				break
			}
			res, err := client.Do(req)
			if errors.Is(err, syscall.ECONNREFUSED) || ctx.Err() != nil {
				d.closed = time.Now()
				break
			}
			if err == nil {
				_ = res.Body.Close()
				if res.StatusCode == http.StatusServiceUnavailable && d.refusing.IsZero() {
					d.refusing = time.Now()
				}
			}
			_ = pause.For(ctx, 5*time.Millisecond)
		}
		seen <- d
	}()
	return seen
}

// gone waits for the process's end.
func (h *house) gone(ctx context.Context, since time.Time) (time.Duration, error) {
	select {
	case <-h.gateway.Done():
		return time.Since(since), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// check holds the callers' ends against the promise: an answer to everybody, to
// the waiters not before the balancer had its time to send no more.
func (h *house) check(r *row, began time.Time, d door) {
	for label, n := range h.ends {
		answered := label == "wait: 200" || label == "wait: 304" || strings.HasPrefix(label, "half sent: 2") || label == "half sent: 429"
		r.check(answered, "%d × %s", n, label)
	}
	r.check(h.first.Sub(began) >= time.Second, "a waiter was sent away after %s, before the delay was over", since(began, h.first))
	r.check(h.first.After(d.refusing), "a waiter was sent away before /readyz said 503")
}
