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
	"syscall"
	"time"

	"doorstep/internal/pause"

	"doorstep/bench/rig"
	"doorstep/geo"
	"doorstep/sessions"
)

const (
	// restAfter is when, after SIGTERM, a slow phone sends the rest of its fix.
	restAfter = 1500 * time.Millisecond
	slow      = 10 // phones that are in the middle of a fix
	setUpAt   = 32 // calls at a time while the journeys are started
)

// playDrain terminates a gateway while thousands wait and some are in the middle
// of a request: every caller is answered, none is cut.
func playDrain(ctx context.Context, s *stage) (row, error) {
	waiters := pick(s, 300, 10_000)
	r := row{Fault: fmt.Sprintf("SIGTERM with %d waiters and %d requests half sent", waiters, slow), Well: "–"}
	d, err := newDrain(ctx, s, waiters, "DRAIN_DELAY=1s")
	if err != nil {
		return r, err
	}
	watch := d.watch(ctx)
	began := time.Now()
	if err := d.gateway.Signal(syscall.SIGTERM); err != nil {
		return r, err
	}
	time.AfterFunc(restAfter, func() { close(d.finish) })
	took, err := d.gone(ctx, began)
	if err != nil {
		return r, err
	}
	seen := <-watch
	d.callers.Wait()
	r.check(d.gateway.Err() == nil, "it ended with %v", d.gateway.Err())
	r.check(took <= drainLimit, "it took %s", took)
	r.check(!seen.refusing.IsZero(), "/readyz never said 503")
	r.check(seen.refusing.Before(seen.closed), "the listener closed %s before /readyz said so", seen.refusing.Sub(seen.closed))
	d.check(&r, began, seen)
	r.Saw = fmt.Sprintf("%s; after SIGTERM: /readyz 503 at %s, waiters answered from %s to %s, listener closed at %s, exit at %s",
		counted(d.ends), since(began, seen.refusing), since(began, d.first), since(began, d.last), since(began, seen.closed), ms(took))
	r.Well = "gone in " + ms(took)
	return r, nil
}

// playSecondSignal sends SIGTERM twice: the second ends the gateway at once.
func playSecondSignal(ctx context.Context, s *stage) (row, error) {
	waiters := pick(s, 100, 1000)
	r := row{Fault: fmt.Sprintf("SIGTERM twice with %d waiters and %d requests half sent", waiters, slow), Well: "–"}
	d, err := newDrain(ctx, s, waiters, "DRAIN_DELAY=20s")
	if err != nil {
		return r, err
	}
	watch := d.watch(ctx)
	if err := d.gateway.Signal(syscall.SIGTERM); err != nil {
		return r, err
	}
	for d.gateway.Ready(ctx) { // until it has handled the first signal
		if pause.For(ctx, 10*time.Millisecond) != nil {
			return r, ctx.Err()
		}
	}
	began := time.Now()
	if err := d.gateway.Signal(syscall.SIGTERM); err != nil {
		return r, err
	}
	took, err := d.gone(ctx, began)
	if err != nil {
		return r, err
	}
	<-watch
	close(d.finish)
	d.callers.Wait()
	// A tenth of a second on an idle machine; the first signal alone would take 20 s.
	r.check(took < 5*time.Second, "it took %s", took)
	r.check(d.gateway.Err() != nil, "exit code 0, though it was cut short")
	r.Saw = fmt.Sprintf("%s; %v", counted(d.ends), d.gateway.Err())
	r.Well = "gone " + ms(took) + " after the second"
	return r, nil
}

func since(began, at time.Time) string { return ms(at.Sub(began)) }

// drain is a gateway with callers under way.
type drain struct {
	gateway *rig.Gateway
	finish  chan struct{} // closed: the slow phones send the rest
	callers sync.WaitGroup

	mu          sync.Mutex
	ends        map[string]int // how the callers' requests ended
	first, last time.Time      // waiters' answers
}

// newDrain starts a gateway and returns when all waiters wait and the slow phones
// have sent half of their requests.
func newDrain(ctx context.Context, s *stage, waiters int, settings ...string) (*drain, error) {
	sys, err := stores(ctx, s)
	if err != nil {
		return nil, err
	}
	settings = append(settings, "VALKEY_URL="+sys.store.URL(), "DATABASE_URL="+sys.dsn, "LOG_LEVEL=warn", "VALKEY_TIMEOUT=3s", "RATE_INTERVAL=100ms")
	d := &drain{finish: make(chan struct{}), ends: map[string]int{}}
	if d.gateway, err = s.gateway(ctx, settings...); err != nil {
		return nil, err
	}
	journeys, err := d.startJourneys(ctx, waiters)
	if err != nil {
		return nil, err
	}
	for i, j := range journeys {
		if err := d.wait(ctx, j); err != nil {
			return nil, err
		}
		if i < slow {
			if err := d.sendHalf(ctx, j); err != nil {
				return nil, err
			}
		}
	}
	return d, d.awaitWaiting(ctx, waiters)
}

// startJourneys starts journeys with one fix each.
func (d *drain) startJourneys(ctx context.Context, n int) ([]*rig.Journey, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: setUpAt}}
	defer client.CloseIdleConnections()
	admin, err := rig.NewCaller(sessions.Admin, client)
	if err != nil {
		return nil, err
	}
	journeys := make([]*rig.Journey, n)
	return journeys, each(ctx, n, setUpAt, func(ctx context.Context, i int) error {
		j, err := rig.NewJourney(geo.MustPoint(52, 5), client)
		if err != nil {
			return err
		}
		journeys[i] = j
		if err := begin(ctx, d.gateway.URL(), admin, j); err != nil {
			return err
		}
		if a := j.Update(ctx, d.gateway.URL(), geo.Offset(j.Home, 0, 1000)); a.Label() != "201" {
			return fmt.Errorf("first fix: %s: %w", a.Label(), a.Err)
		}
		return nil
	})
}

// request opens a connection for one request, which nothing repeats.
func (d *drain) request(ctx context.Context, method, path string, by *rig.Caller, length int) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", d.gateway.Listen)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "%s /api/v1/admin/location-tracking/journey%s HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n",
		method, path, by.Token, length)
	return conn, err
}

// wait opens one student's long poll.
func (d *drain) wait(ctx context.Context, j *rig.Journey) error {
	conn, err := d.request(ctx, http.MethodGet, fmt.Sprintf("/live?sessionId=%s&wait=30", j.ID), j.Student, 0)
	if err != nil {
		return err
	}
	d.callers.Go(func() {
		label := answerOf(ctx, conn, http.MethodGet)
		now := time.Now()
		d.mu.Lock()
		defer d.mu.Unlock()
		d.ends["wait: "+label]++
		if d.first.IsZero() {
			d.first = now
		}
		d.last = now
	})
	return nil
}

// sendHalf posts the first half of a fix, and the rest when d.finish is closed.
func (d *drain) sendHalf(ctx context.Context, j *rig.Journey) error {
	body := fmt.Sprintf(`{"sessionId":%q,"latitude":52.0089,"longitude":5,"accuracy":8}`, j.ID)
	conn, err := d.request(ctx, http.MethodPost, "/updates", j.Trainer, len(body))
	if err == nil {
		_, err = io.WriteString(conn, body[:len(body)/2])
	}
	if err != nil {
		return err
	}
	d.callers.Go(func() {
		select {
		case <-d.finish:
		case <-ctx.Done():
		}
		_, _ = io.WriteString(conn, body[len(body)/2:]) // if it is refused, the answer says so
		label := answerOf(ctx, conn, http.MethodPost)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.ends["half sent: "+label]++
	})
	return nil
}

// answerOf reads a whole answer and returns its status, or how it was cut.
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

// awaitWaiting returns when the gateway reports so many open waits.
func (d *drain) awaitWaiting(ctx context.Context, want int) error {
	for {
		n, err := d.gateway.Metric(ctx, "doorstep_waits_open")
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

// readiness is when a new connection saw what.
type readiness struct{ refusing, closed time.Time }

// watch asks /readyz, each time on a new connection, until connections are
// refused.
func (d *drain) watch(ctx context.Context) <-chan readiness {
	watched := make(chan readiness, 1)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	go func() {
		var seen readiness
		defer func() { watched <- seen }()
		for {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.gateway.URL()+"/readyz", nil)
			if err != nil {
				return
			}
			res, err := client.Do(req)
			if errors.Is(err, syscall.ECONNREFUSED) || ctx.Err() != nil {
				seen.closed = time.Now()
				return
			}
			if err == nil {
				_ = res.Body.Close()
				if res.StatusCode == http.StatusServiceUnavailable && seen.refusing.IsZero() {
					seen.refusing = time.Now()
				}
			}
			_ = pause.For(ctx, 5*time.Millisecond)
		}
	}()
	return watched
}

// gone waits until the process has ended.
func (d *drain) gone(ctx context.Context, since time.Time) (time.Duration, error) {
	select {
	case <-d.gateway.Done():
		return time.Since(since), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// check checks that every caller was answered, and no waiter before the balancer
// had its DRAIN_DELAY to send no more requests.
func (d *drain) check(r *row, began time.Time, seen readiness) {
	for label, n := range d.ends {
		answered := label == "wait: 200" || label == "wait: 304" || strings.HasPrefix(label, "half sent: 2") || label == "half sent: 429"
		r.check(answered, "%d × %s", n, label)
	}
	r.check(d.first.Sub(began) >= time.Second, "a waiter was sent away after %s, before the delay was over", since(began, d.first))
	r.check(d.first.After(seen.refusing), "a waiter was sent away before /readyz said 503")
}
