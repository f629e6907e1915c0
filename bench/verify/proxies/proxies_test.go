package proxies

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
	"doorstep/gateway/app"
	"doorstep/geo"
	"doorstep/sessions"
)

// setup is a gateway in this process, with a journey that has begun.
type setup struct {
	*rig.Journey
	addr, url, metrics string
	fixes              int
}

var home = geo.MustPoint(52, 5)

func begun(t *testing.T, edit ...func(*app.Options)) *setup {
	t.Helper()
	opts := app.Options{
		Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0", JWTSecret: rig.Secret, RateInterval: 10 * time.Millisecond, RateTolerance: time.Hour,
	}
	for _, f := range edit {
		f(&opts)
	}
	g, err := app.New(opts)
	require.NoError(t, err)
	require.NoError(t, g.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		assert.NoError(t, g.Stop(ctx))
	})
	s := &setup{addr: g.Addr().String(), url: "http://" + g.Addr().String(), metrics: "http://" + g.MetricsAddr().String() + "/metrics"}
	admin, err := rig.NewCaller(sessions.Admin, nil)
	require.NoError(t, err)
	s.Journey, err = rig.NewJourney(home, nil)
	require.NoError(t, err)
	require.Equal(t, "201", s.Book(t.Context(), s.url, admin).Label())
	require.Equal(t, "201", s.Start(t.Context(), s.url).Label())
	s.fix(t)
	return s
}

// fix moves the trainer ten metres on.
func (s *setup) fix(t *testing.T) {
	t.Helper()
	s.fixes++
	require.Equal(t, "201", s.Update(t.Context(), s.url, geo.Offset(home, 0, 2000-10*float64(s.fixes))).Label())
}

func (s *setup) path() string {
	return "/api/v1/admin/location-tracking/journey/live?sessionId=" + string(s.ID)
}

func (s *setup) livePath(wait int) string { return s.path() + "&wait=" + strconv.Itoa(wait) }

// follower is an admin's screen that follows the journey as docs/integrate.md tells
// an app to, and counts what it costs.
type follower struct {
	token, accept string
	requests      int
	etags         []string
	encodings     map[string]bool // of the answers with a body
}

func newFollower(t *testing.T, accept string) *follower {
	t.Helper()
	token, err := rig.Token(sessions.NewID(), sessions.Admin)
	require.NoError(t, err)
	return &follower{token: token, accept: accept, encodings: map[string]bool{}}
}

// read polls once, and reports whether the journey still runs.
func (f *follower) read(ctx context.Context, url string) (active bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Authorization", "Bearer "+f.token)
	req.Header.Set("Accept-Encoding", f.accept) // set by hand, so the client does not decode
	if n := len(f.etags); n > 0 {
		req.Header.Set("If-None-Match", f.etags[n-1])
	}
	f.requests++
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return false, err
	case res.StatusCode == http.StatusNotModified:
		return true, nil
	case res.StatusCode != http.StatusOK:
		return false, errors.New(res.Status)
	}
	f.etags = append(f.etags, res.Header.Get("ETag"))
	f.encodings[res.Header.Get("Content-Encoding")] = true
	if res.Header.Get("Content-Encoding") != "" {
		return true, nil // the end is told by the caller
	}
	var live struct {
		Data struct {
			IsActive bool `json:"isActive"`
		} `json:"data"`
	}
	return live.Data.IsActive, json.Unmarshal(body, &live)
}

// A poll costs no more requests through a proxy that compresses than without one.
// An hour of 25-second waits is played with waits of a second: what a proxy does to
// a validator does not depend on how long the wait is.
func TestProxies_cost_no_more_requests(t *testing.T) {
	t.Parallel()
	const fixes, every = 8, 1700 * time.Millisecond
	s := begun(t)
	type way struct {
		name, url, accept, encoding string
	}
	ways := []way{{"direct", s.url, "gzip, br", ""}}
	for _, p := range all {
		url := p.start(t, s.addr)
		ways = append(ways, way{p.name + " with gzip", url, "gzip", "gzip"}, way{p.name + " without compression", url, "identity", ""})
		if p.name == "apache" {
			ways = append(ways, way{p.name + " with brotli", url, "br", "br"})
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	followers, seen := make([]*follower, len(ways)), make([]atomic.Int64, len(ways))
	var polls sync.WaitGroup
	for i, w := range ways {
		followers[i] = newFollower(t, w.accept)
		_, err := followers[i].read(ctx, w.url+s.livePath(0))
		require.NoError(t, err, w.name)
		polls.Go(func() {
			for ctx.Err() == nil {
				if _, err := followers[i].read(ctx, w.url+s.livePath(1)); err != nil {
					if ctx.Err() == nil {
						t.Errorf("%s: %v", w.name, err)
					}
					return
				}
				seen[i].Store(int64(len(followers[i].etags)))
			}
		})
	}
	for n := range fixes {
		time.Sleep(every) // a wait of a second ends in between
		s.fix(t)
		for i, w := range ways {
			require.Eventually(t, func() bool { return seen[i].Load() >= int64(n)+2 }, 20*time.Second, 5*time.Millisecond, w.name)
		}
	}
	cancel()
	polls.Wait()
	for i, f := range followers {
		t.Logf("%-28s %d requests, %d answers, last ETag %s", ways[i].name, f.requests, len(f.etags), f.etags[len(f.etags)-1])
		assert.Len(t, f.etags, 1+fixes, "%s: every fix is seen, and nothing is sent twice", ways[i].name)
		assert.LessOrEqual(t, f.requests, followers[0].requests+1, ways[i].name)
		assert.Equal(t, map[string]bool{ways[i].encoding: true}, f.encodings, ways[i].name)
	}
}

// A phone that loses its network does not close its connections, and a proxy keeps
// the waits on them. Ten such losses leave the newest wait in place, and it is the
// one that is answered.
func TestProxies_newest_wait_of_a_phone_that_lost_its_network(t *testing.T) {
	t.Parallel()
	s := begun(t)
	for _, p := range all {
		t.Run(p.name, func(t *testing.T) { //nolint:paralleltest // they follow one journey, and each moves it on
			url := p.start(t, s.addr)
			for loss := 1; loss <= 10; loss++ {
				poll := s.abandonable(t, url)
				if loss%5 == 0 { // in between, nothing is answered and the dead waits pile up
					s.fix(t)
					res := poll.answer(t)
					assert.Equal(t, http.StatusOK, res.StatusCode, "loss %d", loss)
					continue
				}
				poll.silent(t, 100*time.Millisecond)
			}
		})
	}
}

// abandonable is a poll on a connection of its own, which is neither read nor
// closed when the network is lost. It is closed at the end of the test.
type abandonable struct {
	net.Conn
	r *bufio.Reader
}

func (s *setup) abandonable(t *testing.T, url string) abandonable {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	before := s.waits(t)
	_, err = io.WriteString(c, "GET "+s.livePath(30)+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+s.Student.Token+"\r\n\r\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.waits(t) > before }, 20*time.Second, 5*time.Millisecond, "it waits")
	return abandonable{c, bufio.NewReader(c)}
}

var waitsSeries = regexp.MustCompile(`(?m)^doorstep_(?:waits_open|wait_duration_seconds_count\{.*\}) (\d+)$`)

// waits is how many waits have begun: those that are open, and those that have ended.
func (s *setup) waits(t *testing.T) (n int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.metrics, nil)
	require.NoError(t, err)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	page, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	for _, found := range waitsSeries.FindAllSubmatch(page, -1) {
		count, err := strconv.Atoi(string(found[1]))
		require.NoError(t, err)
		n += count
	}
	return n
}

// silent asserts that nothing comes.
func (a abandonable) silent(t *testing.T, d time.Duration) {
	t.Helper()
	require.NoError(t, a.SetReadDeadline(time.Now().Add(d)))
	_, err := a.r.Peek(1)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func (a abandonable) answer(t *testing.T) *http.Response {
	t.Helper()
	require.NoError(t, a.SetReadDeadline(time.Now().Add(5*time.Second)))
	res, err := http.ReadResponse(a.r, nil)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res
}
