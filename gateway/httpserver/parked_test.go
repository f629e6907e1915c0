package httpserver_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloudwego/hertz/pkg/app"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"doorstep/gateway/httpserver"
)

// parked is a parked connection, and what ends when its peer leaves.
type parked struct {
	*httpserver.Parked
	gone <-chan struct{}
	path string // with its query, by which a test knows whose it is
}

// park is a handler that parks its connection, or answers "not parked".
func (g *guarded) park(_ context.Context, c *app.RequestContext) {
	path := string(c.Request.RequestURI())
	is := httpserver.Park(c, func(p *httpserver.Parked) {
		gone := make(chan struct{})
		p.OnLeave(func() { close(gone) })
		g.parked <- parked{p, gone, path}
	})
	if !is {
		c.String(200, "not parked")
	}
}

// text is an answer of this text, with a header of the reader's own.
func text(body string) func() (httpserver.Answer, []byte) {
	return func() (httpserver.Answer, []byte) {
		a := httpserver.NewAnswer(func(c *app.RequestContext) { c.String(200, body) })
		return a, []byte("X-Own: mine\r\n")
	}
}

func (c *rawClient) wantText(want string) {
	c.t.Helper()
	res := c.answer()
	body, err := io.ReadAll(res.Body)
	require.NoError(c.t, err)
	assert.Equal(c.t, want, string(body))
}

// Answers are made with contexts and buffers that are used again. Nothing of one may be left
// in the next, and none may change while it waits for its peer to read.
func TestParked_Answer_shares_nothing_with_the_next(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	first, second := dialRaw(t, g.Server), dialRaw(t, g.Server)
	long := func(letter string) string { return strings.Repeat(letter, 8<<20) } // more than a socket's buffers
	for _, c := range []*rawClient{first, second} {
		c.get("/park")
	}
	for range 2 {
		p := <-g.parked
		p.Answer(func() (httpserver.Answer, []byte) {
			return httpserver.NewAnswer(func(c *app.RequestContext) {
				c.Header("X-Of", "one")
				c.String(500, long("a"))
			}), nil
		})
	}
	third := dialRaw(t, g.Server)
	for range 20 {
		third.get("/park")
		(<-g.parked).Answer(text("b"))
		res := third.answer()
		assert.Equal(t, 200, res.StatusCode)
		assert.Empty(t, res.Header["X-Of"])
		assert.Equal(t, []string{"1"}, res.Header["Content-Length"])
	}
	first.wantText(long("a"))
	second.wantText(long("a"))
}

func TestParked_Answer(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	c := dialRaw(t, g.Server)
	for i := range 3 { // one connection, again and again
		c.get("/park?" + strconv.Itoa(i))
		p := <-g.parked
		assert.Equal(t, "/park?"+strconv.Itoa(i), p.path)
		p.Answer(text("woken"))
		p.Answer(text("a second answer"))
		res := c.answer()
		assert.Equal(t, []string{"mine"}, res.Header["X-Own"])
		assert.Equal(t, []string{"5"}, res.Header["Content-Length"])
		assert.Equal(t, []string{"text/plain; charset=utf-8"}, res.Header["Content-Type"])
		assert.NotEmpty(t, res.Header.Get("Date"))
		assert.False(t, res.Close)
		c.get("/ping")
		c.wantText("pong")
	}
}

// What a parked request is answered is what a handler's own response would be.
func TestParked_Answer_is_what_Hertz_writes(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	c := dialRaw(t, g.Server)
	c.get("/ping")
	own := c.answer()
	c.get("/park")
	(<-g.parked).Answer(func() (httpserver.Answer, []byte) {
		return httpserver.NewAnswer(func(c *app.RequestContext) { c.String(200, "pong") }), nil
	})
	woken := c.answer()
	own.Header.Del("Date")
	woken.Header.Del("Date")
	assert.Equal(t, own.Header, woken.Header)
	assert.Equal(t, []any{own.Status, own.Proto, own.ContentLength}, []any{woken.Status, woken.Proto, woken.ContentLength})
}

func TestParked_Answer_as_soon_as_it_is_parked(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	c := dialRaw(t, g.Server)
	for range 100 {
		c.get("/park-answered")
		c.wantText("at once")
	}
}

// The next request waits in the socket, and is read after the answer.
func TestParked_Answer_with_the_next_request_in_the_socket(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	c := dialRaw(t, g.Server)
	c.get("/park?1")
	p := <-g.parked
	c.send("\r\nGET /park?2 HTTP/1.1\r\nHost: x\r\n\r\nGET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
	p.Answer(text("first"))
	c.wantText("first")
	c.wantText("not parked") // /ping came with it
	c.wantText("pong")
}

func TestPark_refused(t *testing.T) {
	t.Parallel()
	const host = " HTTP/1.1\r\nHost: x\r\n"
	for name, tc := range map[string]struct{ send, want string }{
		"another_request_behind":   {"GET /park" + host + "\r\nGET /ping" + host + "\r\n", "pong"},
		"part_of_a_request_behind": {"GET /park" + host + "\r\nG", ""},
		"http_1.0_kept_alive":      {"GET /park HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := guardedServer(t, httpserver.Options{})
			c := dialRaw(t, g.Server)
			c.send(tc.send)
			c.wantText("not parked")
			if tc.want != "" {
				c.wantText(tc.want)
			}
			assert.Empty(t, g.parked)
		})
	}
	t.Run("head", func(t *testing.T) {
		t.Parallel()
		g := guardedServer(t, httpserver.Options{})
		c := dialRaw(t, g.Server)
		c.send("HEAD /park HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		all, err := io.ReadAll(c.r)
		require.NoError(t, err)
		assert.Contains(t, string(all), "Content-Length: 10\r\n")
	})
	for name, send := range map[string]string{
		"close":           "GET /park" + host + "Connection: close\r\n\r\n",
		"close_in_a_list": "GET /park" + host + "Connection: TE, Close\r\n\r\n",
		"http_1.0":        "GET /park HTTP/1.0\r\n\r\n", // as nginx sends by default
	} {
		t.Run(name+"_is_closed_after_the_answer", func(t *testing.T) {
			t.Parallel()
			g := guardedServer(t, httpserver.Options{})
			c := dialRaw(t, g.Server)
			c.send(send)
			(<-g.parked).Answer(text("woken"))
			assert.True(t, c.answer().Close)
			c.wantEnd("")
		})
	}
	t.Run("empty_lines_behind_are_no_request", func(t *testing.T) {
		t.Parallel()
		g := guardedServer(t, httpserver.Options{})
		c := dialRaw(t, g.Server)
		c.send("GET /park HTTP/1.1\r\nHost: x\r\n\r\n\r\n\r\n")
		(<-g.parked).Answer(text("woken"))
		c.wantText("woken")
	})
}

// While it is parked no deadline of a read ends a connection, and after its answer
// the deadline for an idle one does.
func TestParked_outlasts_the_read_deadline(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{ReadTimeout: shortRead, IdleTimeout: shortRead})
	c := dialRaw(t, g.Server)
	c.get("/park")
	p := <-g.parked
	time.Sleep(3 * shortRead)
	p.Answer(text("woken"))
	c.wantText("woken")
	c.wantEnd("")
}

func TestParked_peer_leaves(t *testing.T) {
	t.Parallel()
	for how, leave := range map[string]func(*net.TCPConn) error{
		"close": (*net.TCPConn).Close,
		"reset": func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() },
		"half":  (*net.TCPConn).CloseWrite,
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			g := guardedServer(t, httpserver.Options{})
			c := dialRaw(t, g.Server)
			c.get("/park")
			p := <-g.parked
			require.NoError(t, leave(c.socket.(*net.TCPConn)))
			<-p.gone
			assert.Equal(t, 1, g.Conns(), "it is there until it is answered")
			p.Answer(text("too late"))
			if how == "half" {
				c.wantText("too late") // it still reads
				c.wantEnd("")
			}
			eventually(t, func() bool { return g.Conns() == 0 }, "released")
		})
	}
}

// A peer that does not read holds up neither Answer nor the other connections, and
// is cut after WriteTimeout.
func TestParked_peer_that_never_reads(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{WriteTimeout: 3 * shortRead})
	deaf, other := dialRaw(t, g.Server), dialRaw(t, g.Server)
	deaf.get("/park")
	p := <-g.parked
	other.get("/park")
	q := <-g.parked
	p.Answer(text(strings.Repeat("x", 32<<20)))
	assert.Equal(t, 2, g.Conns(), "Answer has not waited for the deadline")
	q.Answer(text("woken"))
	other.wantText("woken")
	eventually(t, func() bool { return g.Conns() == 1 }, "the writer gave up")
}

// An answer that the kernel takes in pieces is whole.
func TestParked_large_answer(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	c := dialRaw(t, g.Server)
	c.get("/park")
	large := strings.Repeat("0123456789", 1<<20)
	(<-g.parked).Answer(text(large))
	c.wantText(large)
	c.get("/ping")
	c.wantText("pong")
}

func TestParked_panic(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	t.Run("of_the_answer", func(t *testing.T) {
		t.Parallel()
		c := dialRaw(t, g.Server)
		c.get("/park")
		(<-g.parked).Answer(func() (httpserver.Answer, []byte) { panic("encoding") })
		wantRefusal(t, c.answer(), 500, "INTERNAL")
		c.wantEnd("")
	})
	for name, path := range map[string]string{"of_the_handler": "/park-panic", "once_it_is_parked": "/parked-panic", "of_both": "/park-panic-twice"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dialRaw(t, g.Server)
			c.get(path)
			wantRefusal(t, c.answer(), 500, "INTERNAL")
			c.wantEnd("")
		})
	}
	t.Cleanup(func() {
		assert.Equal(t, 5, g.events.Panics())
		eventually(t, func() bool { return g.Conns() == 0 }, "no connection is left")
	})
}

// A client behind a trusted proxy has its request open until the answer.
func TestParked_counts_for_its_client(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{MaxConnsPerIP: 1, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	const of = " HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"
	c, second := dialRaw(t, g.Server), dialRaw(t, g.Server)
	c.send("GET /park" + of)
	p := <-g.parked
	second.send("GET /ping" + of)
	second.wantStatus(429)
	p.Answer(text("woken"))
	c.wantText("woken")
	second.send("GET /ping" + of)
	second.wantText("pong")
}

func TestParked_drain(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	c := dialRaw(t, g.Server)
	c.get("/park")
	p := <-g.parked
	drained := make(chan error, 1)
	go func() { drained <- g.Drain(context.Background()) }()
	<-g.Draining()
	assert.Equal(t, 1, g.Conns(), "a parked request is in flight")
	p.Answer(text("woken"))
	res := c.answer()
	assert.True(t, res.Close, "Connection: close")
	c.wantEnd("")
	require.NoError(t, <-drained)
	require.NoError(t, <-g.ran)
}

func TestParked_close(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	c := dialRaw(t, g.Server)
	c.get("/park")
	p := <-g.parked
	g.Close()
	<-p.gone
	p.Answer(text("cut"))
	require.ErrorIs(t, <-g.ran, httpserver.ErrClosed)
	assert.Zero(t, g.Conns())
}

// Answers race with one another, with peers that leave, with time-outs of theirs and
// with a drain. Nothing is left, and who stays is answered.
func TestParked_races(t *testing.T) { //nolint:paralleltest // goleak, and descriptors are counted
	defer leftNothing(t)()
	for range 20 {
		g := newGuarded(t, httpserver.Options{}, time.Millisecond)
		require.NoError(t, g.Listen(t.Context()))
		ran := make(chan error, 1)
		go func() { ran <- g.Run(context.Background()) }()
		var all sync.WaitGroup
		over := make(chan struct{})
		for i := range 60 {
			c := dialRaw(t, g.Server)
			c.get("/park")
			p := <-g.parked
			all.Go(func() { // two that answer
				time.Sleep(rand.N(time.Millisecond))
				p.Answer(text("one"))
			})
			all.Go(func() {
				select {
				case <-p.gone:
					p.Answer(text("gone"))
				case <-over: // it had its answer before
				}
			})
			all.Go(func() {
				defer func() { _ = c.Conn.Close() }()
				if i%3 == 0 { // it leaves, at about that time
					time.Sleep(rand.N(time.Millisecond))
					return
				}
				c.wantText("one")
			})
		}
		time.Sleep(rand.N(time.Millisecond))
		require.NoError(t, g.Drain(t.Context()))
		require.NoError(t, <-ran)
		close(over)
		all.Wait()
		assert.Zero(t, g.Conns())
	}
}

// As many as the process may have files for, half of them the clients': no
// goroutine each, all answered, nothing left.
func TestParked_many(t *testing.T) { //nolint:paralleltest // goroutines and descriptors are counted
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	n := int(min(20_000, (limit.Cur-500)/2))
	if testing.Short() || overTLS {
		n = min(n, 500)
	}
	defer leftNothing(t)()
	g := newGuarded(t, httpserver.Options{Addr: "unix:" + filepath.Join(t.TempDir(), "s"), MaxConns: n}, time.Millisecond)
	require.NoError(t, g.Listen(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- g.Run(context.Background()) }()
	before := runtime.NumGoroutine()
	conns, waits := make([]net.Conn, n), make([]parked, n)
	for round := range 2 {
		for i := range conns {
			if round == 0 {
				conns[i] = secured(dialSocket(t, g.Server, nil))
			}
			_, err := fmt.Fprintf(conns[i], "GET /park?%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
			require.NoError(t, err)
		}
		for i := range waits {
			waits[i] = <-g.parked
		}
		eventually(t, func() bool { return runtime.NumGoroutine() < before+50 }, "no goroutine each")
		for _, p := range waits {
			p.Answer(text(p.path))
		}
		for i, conn := range conns {
			c := rawClient{t, conn, conn, bufio.NewReader(conn)}
			c.wantText("/park?" + strconv.Itoa(i))
		}
	}
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
	require.NoError(t, g.Drain(t.Context()))
	require.NoError(t, <-ran)
	assert.Zero(t, g.Conns())
}

// leftNothing returns a check that no goroutine and no descriptor is left that was
// not there when it was called.
func leftNothing(t *testing.T) func() {
	t.Helper()
	warm := guardedServer(t, httpserver.Options{}) // Hertz opens its epoll set once a process
	c := dialRaw(t, warm.Server)
	c.get("/ping")
	c.wantText("pong")
	require.NoError(t, c.Conn.Close())
	require.NoError(t, warm.Drain(t.Context()))
	require.NoError(t, <-warm.ran)
	ignore, files := goleak.IgnoreCurrent(), descriptors(t)
	return func() {
		goleak.VerifyNone(t, ignore)
		eventually(t, func() bool { return descriptors(t) <= files }, "descriptors are left")
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc")
	}
	return len(list)
}
