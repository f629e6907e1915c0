package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"doorstep/bench/rig"
	"doorstep/geo"
	"doorstep/internal/pause"
)

// overload is an embedded gateway under an attack (the gateway is measured, not
// its stores), and a witness: one trainer and one student who were there before
// the attack and must not notice it.
type overload struct {
	*rig.Gateway
	*rig.Journey // the witness'
	admin        *rig.Caller
	before       rig.Usage
	began        time.Time

	mu    sync.Mutex
	saw   map[string]int // by the witness
	worst time.Duration  // of the witness
	got   map[string]int // by the attacker
}

func (s *stage) overload(ctx context.Context, settings ...string) (*overload, error) {
	g, err := s.gateway(ctx, append(settings, "RATE_INTERVAL=100ms", "RATE_TOLERANCE=1s")...)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	j, err := rig.NewJourney(geo.MustPoint(52, 5), client)
	if err != nil {
		return nil, err
	}
	admin, err := rig.NewCaller("admin", client)
	if err != nil {
		return nil, err
	}
	c := &overload{Gateway: g, Journey: j, admin: admin, saw: map[string]int{}, got: map[string]int{}, began: time.Now()}
	if err := begin(ctx, g.URL(), admin, j); err != nil {
		return nil, err
	}
	c.before, err = rig.UsageOf(g.PID())
	return c, err
}

// during makes an attack while the witness goes on, and returns when both have
// ended.
func (c *overload) during(ctx context.Context, attack func(ctx context.Context) error) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	var witness sync.WaitGroup
	witness.Go(func() {
		for ctx.Err() == nil {
			at := geo.Offset(c.Home, 0, 20_000-10*time.Since(c.began).Seconds())
			c.note(ctx, "update ", c.Update(ctx, c.URL(), at))
			c.note(ctx, "read ", c.Live(ctx, c.URL(), "", 0))
			_ = pause.For(ctx, 100*time.Millisecond)
		}
	})
	err := attack(ctx)
	end()
	witness.Wait()
	return err
}

func (c *overload) note(ctx context.Context, what string, a rig.Answer) {
	if ctx.Err() != nil {
		return // the end of the attack cut it off
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.saw[what+a.Label()]++
	c.worst = max(c.worst, a.Took)
}

// row returns what the witness saw and the gateway's memory, and checks both.
// mayGrow is how many bytes the attack may cost.
func (c *overload) row(fault, attacker string, mayGrow int64) (row, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, err := rig.UsageOf(c.PID())
	if err != nil {
		return row{}, err
	}
	r := row{Fault: fault, Well: "at once", Saw: fmt.Sprintf("%s; a witness: %s, worst %d ms; RSS %d MB before, %d MB at most",
		attacker, labels(c.saw), c.worst.Milliseconds(), c.before.RSS>>20, now.PeakRSS>>20)}
	for label := range c.saw {
		r.check(label == "update 201" || label == "read 200", "the witness saw %s", label)
	}
	r.check(c.saw["update 201"] > 0 && c.saw["read 200"] > 0, "the witness was not served")
	r.check(c.worst < 5*time.Second, "the witness waited %s", c.worst)
	r.check(now.PeakRSS-c.before.RSS < mayGrow, "memory grew by %d MB", (now.PeakRSS-c.before.RSS)>>20)
	return r, nil
}

func labels(of map[string]int) string {
	var parts []string
	for _, label := range slices.Sorted(maps.Keys(of)) {
		parts = append(parts, fmt.Sprintf("%d× %s", of[label], label))
	}
	return strings.Join(parts, ", ")
}

const (
	perConn = 40 << 10 // bytes: twice what was measured
	ground  = 96 << 20 // for the witness and the garbage collector
)

// slowLoris sends requests that never end, a byte at a time.
func slowLoris(ctx context.Context, s *stage) (row, error) {
	n, limit := pick(s, 200, 2000), 2*time.Second
	c, err := s.overload(ctx, "READ_TIMEOUT="+limit.String())
	if err != nil {
		return row{}, err
	}
	var longest atomic.Int64
	err = c.during(ctx, func(ctx context.Context) error {
		return each(ctx, n, n, func(ctx context.Context, i int) error {
			lived, err := drip(ctx, c.Listen, i)
			for old := longest.Load(); int64(lived) > old && !longest.CompareAndSwap(old, int64(lived)); old = longest.Load() {
				continue
			}
			return err
		})
	})
	if err != nil {
		return row{}, err
	}
	refused, err := c.Metric(ctx, `doorstep_requests_malformed_total{status="408"}`)
	if err != nil {
		return row{}, err
	}
	r, err := c.row(fmt.Sprintf("%d requests that drip a byte in 200 ms", n),
		fmt.Sprintf("attackers: %.0f× 408, cut after %.1f s at most", refused, time.Duration(longest.Load()).Seconds()), int64(n)*perConn+ground)
	r.check(int(refused) == n, "%.0f of %d were answered 408", refused, n)
	r.check(time.Duration(longest.Load()) < limit+10*time.Second, "one lived for %s", time.Duration(longest.Load()))
	return r, err
}

// drip sends a request that never ends, and returns how long the gateway kept it.
func drip(ctx context.Context, addr string, i int) (time.Duration, error) {
	conn, err := dialFrom(ctx, addr, i)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	began := time.Now()
	if _, err := io.WriteString(conn, "POST /api/v1/admin/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n"); err != nil {
		return 0, err
	}
	cut := make(chan struct{})
	go func() { defer close(cut); _, _ = io.Copy(io.Discard, conn) }()
	for {
		select {
		case <-cut:
			return time.Since(began), nil
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(200 * time.Millisecond):
			_, _ = io.WriteString(conn, "x") // an error shows in the reader
		}
	}
}

// idleConnections opens more connections than allowed and sends nothing on them.
func idleConnections(ctx context.Context, s *stage) (row, error) {
	offered, limit := pick(s, 2000, 100_000), pick(s, 200, 10_000)
	// A new connection that sends nothing is cut after READ_TIMEOUT, 10 s. Here it may
	// stay, or there would never be as many.
	c, err := s.overload(ctx, fmt.Sprintf("MAX_CONNS=%d", limit), "READ_TIMEOUT=4m")
	if err != nil {
		return row{}, err
	}
	var held []net.Conn
	defer func() {
		for _, conn := range held {
			_ = conn.Close()
		}
	}()
	var refused atomic.Int64
	var open, shed float64
	err = c.during(ctx, func(ctx context.Context) error {
		var mu sync.Mutex
		fill := func(ctx context.Context, i int) error {
			conn, err := dialFrom(ctx, c.Listen, i)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				held = append(held, conn)
			}
			return err
		}
		if err := each(ctx, limit, 64, fill); err != nil {
			return err
		}
		err := each(ctx, offered-limit, 64, func(ctx context.Context, i int) error {
			conn, err := dialFrom(ctx, c.Listen, i)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
			if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				refused.Add(1)
			}
			return nil
		})
		var failed error
		open, failed = c.Metric(ctx, "doorstep_connections_open")
		shed, err = 0, errors.Join(err, failed)
		if err == nil {
			shed, err = c.Metric(ctx, `doorstep_connections_shed_total{reason="max_conns"}`)
		}
		return err
	})
	if err != nil {
		return row{}, err
	}
	r, err := c.row(fmt.Sprintf("%d idle connections offered, MAX_CONNS %d", offered, limit),
		fmt.Sprintf("attackers: %.0f open, %.0f shed", open, shed), int64(limit)*perConn+ground)
	r.check(int(open) <= limit, "%.0f were open", open)
	r.check(int(shed) >= offered-limit, "%.0f were counted as shed", shed)
	r.check(int(refused.Load()) == offered-limit, "%d of %d were refused", refused.Load(), offered-limit)
	return r, err
}

// floodOfOneToken is a student's app in an endless loop.
func floodOfOneToken(ctx context.Context, s *stage) (row, error) {
	lasts := pick(s, 2*time.Second, 20*time.Second)
	c, err := s.overload(ctx)
	if err != nil {
		return row{}, err
	}
	flooder, err := rig.NewCaller("student", &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}})
	if err != nil {
		return row{}, err
	}
	began := time.Now()
	err = c.during(ctx, func(ctx context.Context) error {
		return each(ctx, 16, 16, func(ctx context.Context, _ int) error {
			for time.Since(began) < lasts && ctx.Err() == nil {
				c.attacked(flooder.Do(ctx, http.MethodGet, c.URL(), "/students/me/sessions", nil))
			}
			return ctx.Err()
		})
	})
	took := time.Since(began)
	if err != nil {
		return row{}, err
	}
	r, err := c.row(fmt.Sprintf("one token floods for %.0f s", took.Seconds()), "attacker: "+labels(c.got), ground)
	r.check(float64(c.got["200"]) <= 100+50*took.Seconds()+1, "the flooder was served %d times", c.got["200"])
	r.check(c.got["429 RATE_LIMITED"] > 0 && len(c.got) == 2, "the flooder saw other answers than 200 and 429")
	return r, err
}

// thousandWaits has one student open a thousand long polls at once.
func thousandWaits(ctx context.Context, s *stage) (row, error) {
	const n = 1000
	// Without a rate, so that the limit of waits is what refuses.
	c, err := s.overload(ctx, "CALLER_RATE=-1")
	if err != nil {
		return row{}, err
	}
	other, err := rig.NewJourney(c.Home, &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: n}})
	if err != nil {
		return row{}, err
	}
	if err := begin(ctx, c.URL(), c.admin, other); err != nil {
		return row{}, err
	}
	err = c.during(ctx, func(ctx context.Context) error {
		return each(ctx, n, n, func(ctx context.Context, _ int) error {
			c.attacked(other.Live(ctx, c.URL(), "", 10))
			return nil
		})
	})
	if err != nil {
		return row{}, err
	}
	r, err := c.row("one student opens 1,000 waits at once", "attacker: "+labels(c.got), int64(n)*perConn+ground)
	// On a slow machine some begin 5 s after the first was displaced, and are taken
	// for one that came back: up to 4 get a place beside the 4 that there are.
	waited := c.got["304"]
	r.check(waited >= 4 && waited <= 8 && c.got["429 TOO_MANY_WAITS"] == n-waited, "not 4 to 8 waits and refusals for the others")
	return r, err
}

// attacked counts an answer to the attacker.
func (c *overload) attacked(a rig.Answer) {
	label := a.Label()
	if a.Status == http.StatusTooManyRequests && a.RetryAfter == "" {
		label += withoutARetry
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got[label]++
}

// each calls f for 0 to n-1, atOnce at a time, and returns the first failure, after
// which no more calls begin.
func each(ctx context.Context, n, atOnce int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var next atomic.Int64
	var all sync.WaitGroup
	errs := make(chan error, atOnce)
	for range atOnce {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if err := f(ctx, int(i)); err != nil {
					errs <- err
					cancel()
					return
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// dialFrom connects from one of two hundred loopback addresses, because one has
// too few ports for a hundred thousand connections.
func dialFrom(ctx context.Context, addr string, i int) (net.Conn, error) {
	d := net.Dialer{Timeout: 30 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%200))}}
	return d.DialContext(ctx, "tcp", addr)
}
