package httpserver_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudwego/hertz/pkg/app"
	"github.com/cloudwego/hertz/pkg/app/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"doorstep/gateway/httpserver"
	"doorstep/internal/servers/certtest"
	"doorstep/internal/testlog"
)

// patience bounds every wait in these tests. They assert what happens, not how
// soon, so a loaded machine cannot fail them.
const patience = 10 * time.Second

// guarded is a running server. Each of its routes does one thing.
type guarded struct {
	*httpserver.Server
	events  countedEvents
	log     lockedBuffer
	entered chan string   // a handler sends here before it waits
	release chan struct{} // what /hold waits for
	gone    chan error    // what /wait saw of its context
	smuggle atomic.Int32  // requests to /smuggled
	parked  chan parked   // what /park has parked
	ran     chan error    // what Run returned

	certificate    *httpserver.Certificate // of listenTLS
	certificateLog *lockedBuffer
}

// guardedServer starts a server; grace replaces how long a drain lets an idle
// connection send one more request.
func guardedServer(t *testing.T, opts httpserver.Options, grace ...time.Duration) *guarded {
	t.Helper()
	g := newGuarded(t, opts, grace...)
	require.NoError(t, g.Listen(t.Context()))
	g.run(t)
	return g
}

func newGuarded(t *testing.T, opts httpserver.Options, grace ...time.Duration) *guarded {
	t.Helper()
	g := &guarded{
		entered: make(chan string, 100), release: make(chan struct{}), gone: make(chan error, 100), ran: make(chan error, 1),
		parked: make(chan parked, 10_000),
	}
	if opts.Addr == "" && opts.Listener == nil {
		opts.Addr = "127.0.0.1:0"
	}
	if opts.Refuse == nil {
		opts.Refuse = refuse
	}
	opts.Events, opts.StreamPath = &g.events, "/stream/"
	opts.Logger = slog.New(slog.NewJSONHandler(&g.log, nil))
	var err error
	if overTLS && opts.Certificate == nil {
		files, _ := certtest.New(t)
		opts.Certificate, err = httpserver.LoadCertificate(files.Cert, files.Key, opts.Logger)
		require.NoError(t, err)
	}
	g.Server, err = httpserver.New(opts, g.routes)
	require.NoError(t, err)
	for _, d := range grace {
		g.SetDrainGrace(d)
	}
	return g
}

// refuse answers with a code that is made from the status.
func refuse(c *app.RequestContext, status int) {
	text, code := http.StatusText(status), strings.ToUpper(strings.ReplaceAll(http.StatusText(status), " ", "_"))
	if status == http.StatusInternalServerError {
		text, code = "internal error", "INTERNAL"
	}
	c.Response.Header.Set("X-Request-Id", "some-id")
	c.Data(status, "application/json; charset=utf-8",
		fmt.Appendf(nil, `{"success":false,"code":%q,"message":%q,"requestId":"some-id"}`, code, strings.ToLower(text)))
}

func (g *guarded) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.ran <- g.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

func (g *guarded) routes(h *server.Hertz) {
	h.GET("/ping", func(_ context.Context, c *app.RequestContext) { c.String(200, "pong") })
	h.POST("/echo", func(_ context.Context, c *app.RequestContext) { c.Data(200, "text/plain", c.Request.Body()) })
	echo := func(_ context.Context, c *app.RequestContext) {
		if c.Query("read") == "no" {
			c.String(200, "unread")
			return
		}
		body, err := io.ReadAll(httpserver.Body(c))
		if err != nil {
			g.gone <- err
			c.SetStatusCode(503)
			return
		}
		c.Data(200, "text/plain", body)
	}
	h.POST("/stream/echo", echo)
	h.PUT("/stream/echo", echo)
	h.PATCH("/stream/echo", echo)
	h.GET("/smuggled", func(_ context.Context, c *app.RequestContext) { g.smuggle.Add(1); c.String(200, "smuggled") })
	h.GET("/panic", func(_ context.Context, c *app.RequestContext) { c.String(200, "half an ans"); panic("boom") },
		func(context.Context, *app.RequestContext) { g.smuggle.Add(1) })
	h.GET("/hold", func(_ context.Context, c *app.RequestContext) {
		g.entered <- "hold"
		<-g.release
		c.String(200, "held")
	})
	h.GET("/wait", func(ctx context.Context, c *app.RequestContext) {
		g.entered <- "wait"
		select {
		case <-ctx.Done():
			g.gone <- ctx.Err()
		case <-g.Draining():
			c.SetStatusCode(304)
		case <-time.After(patience):
			g.gone <- errors.New("nobody told the handler")
		}
	})
	h.GET("/deaf", func(ctx context.Context, _ *app.RequestContext) { // it ignores a drain, but not the end of its context
		g.entered <- "deaf"
		<-ctx.Done()
	})
	h.GET("/slow", func(_ context.Context, c *app.RequestContext) { // outlasts every read deadline in these tests
		time.Sleep(3 * shortRead)
		c.String(200, "slept")
	})
	h.GET("/slot", func(_ context.Context, c *app.RequestContext) {
		slot := httpserver.Slot(c)
		c.String(200, fmt.Sprint(*slot))
		*slot = "of the request before"
	})
	h.GET("/park", g.park)
	h.HEAD("/park", g.park)
	h.GET("/park-answered", func(_ context.Context, c *app.RequestContext) {
		httpserver.Park(c, func(p *httpserver.Parked) { p.Answer(text("at once")) })
	})
	h.GET("/park-panic", func(_ context.Context, c *app.RequestContext) {
		httpserver.Park(c, func(p *httpserver.Parked) { p.Answer(text("too late")) })
		panic("after Park")
	})
	h.GET("/park-panic-twice", func(_ context.Context, c *app.RequestContext) {
		httpserver.Park(c, func(*httpserver.Parked) { panic("once it is parked") })
		panic("after Park")
	})
	h.GET("/parked-panic", func(_ context.Context, c *app.RequestContext) {
		httpserver.Park(c, func(*httpserver.Parked) { panic("once it is parked") })
	})
	h.GET("/big", func(_ context.Context, c *app.RequestContext) { c.Data(200, "text/plain", make([]byte, 8<<20)) })
}

type countedEvents struct {
	mu       sync.Mutex
	shed     map[string]int
	refused  map[int]int
	panicked int
}

func (e *countedEvents) ConnShed(why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.shed == nil {
		e.shed = map[string]int{}
	}
	e.shed[why]++
}

func (e *countedEvents) RequestRefused(status int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refused == nil {
		e.refused = map[int]int{}
	}
	e.refused[status]++
}

func (e *countedEvents) Panicked() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.panicked++
}

func (e *countedEvents) Shed(why string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.shed[why]
}

func (e *countedEvents) Refused(status int) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.refused[status]
}

func (e *countedEvents) Panics() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.panicked
}

type lockedBuffer = testlog.Buffer

// rawClient is a socket to the server and what came back on it.
type rawClient struct {
	t *testing.T
	net.Conn
	socket net.Conn // below TLS
	r      *bufio.Reader
}

func dialRaw(t *testing.T, s *httpserver.Server) *rawClient {
	t.Helper()
	return dialRawFrom(t, s, nil)
}

func dialRawFrom(t *testing.T, s *httpserver.Server, local net.Addr) *rawClient {
	t.Helper()
	socket := dialSocket(t, s, local)
	t.Cleanup(func() { _ = socket.Close() })
	require.NoError(t, socket.SetDeadline(time.Now().Add(patience)))
	conn := secured(socket)
	return &rawClient{t, conn, socket, bufio.NewReader(conn)}
}

func dialSocket(t *testing.T, s *httpserver.Server, local net.Addr) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: local}
	socket, err := d.DialContext(t.Context(), s.Addr().Network(), s.Addr().String())
	require.NoError(t, err)
	return socket
}

func (c *rawClient) send(s string) {
	c.t.Helper()
	_, err := io.WriteString(c, s)
	require.NoError(c.t, err)
}

func (c *rawClient) get(path string) {
	c.t.Helper()
	c.send("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
}

// answer reads one response, body included.
func (c *rawClient) answer() *http.Response {
	c.t.Helper()
	res, err := http.ReadResponse(c.r, nil)
	require.NoError(c.t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(c.t, err)
	require.NoError(c.t, res.Body.Close())
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res
}

func (c *rawClient) wantStatus(status int) {
	c.t.Helper()
	assert.Equal(c.t, status, c.answer().StatusCode)
}

// wantEnd asserts that the server closes, after nothing more than rest.
func (c *rawClient) wantEnd(rest string) {
	c.t.Helper()
	got, err := io.ReadAll(c.r)
	var timeout net.Error
	require.False(c.t, errors.As(err, &timeout) && timeout.Timeout(), "still open")
	assert.Equal(c.t, rest, string(got))
}

// drip sends s byte by byte until the server closes or s is through.
func (c *rawClient) drip(s string, every time.Duration) {
	go func() {
		for i := range len(s) {
			if _, err := io.WriteString(c.Conn, s[i:i+1]); err != nil {
				return
			}
			time.Sleep(every)
		}
	}()
}

func eventually(t *testing.T, cond func() bool, msg string) {
	t.Helper()
	assert.Eventually(t, cond, patience, 2*time.Millisecond, msg)
}

func wantRefusal(t *testing.T, res *http.Response, status int, code string) {
	t.Helper()
	assert.Equal(t, status, res.StatusCode)
	assert.Equal(t, "application/json; charset=utf-8", res.Header.Get("Content-Type"))
	var body struct {
		Success                  *bool
		Code, Message, RequestID string
	}
	require.NoError(t, json.NewDecoder(res.Body).Decode(&body))
	require.NotNil(t, body.Success)
	assert.False(t, *body.Success)
	assert.Equal(t, code, body.Code)
	assert.NotEmpty(t, body.Message)
	assert.NotEmpty(t, body.RequestID)
	assert.Equal(t, body.RequestID, res.Header.Get("X-Request-Id"))
}

// Every answer that Hertz or the server gives without a handler comes from
// Options.Refuse.
func TestServer_Refusal(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, send string
		status     int
		code       string
		closes     bool
	}{
		{"not_found", "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404, "NOT_FOUND", false},
		{"trailing_slash_is_another_path", "GET /ping/ HTTP/1.1\r\nHost: x\r\n\r\n", 404, "NOT_FOUND", false},
		{"method_not_allowed", "DELETE /ping HTTP/1.1\r\nHost: x\r\n\r\n", 405, "METHOD_NOT_ALLOWED", false},
		{"no_host", "GET /ping HTTP/1.1\r\n\r\n", 400, "BAD_REQUEST", false},
		{"not_http", "\x16\x03\x01\x02\x00\x01\x00\r\n", 400, "BAD_REQUEST", true},
		{"panic", "GET /panic HTTP/1.1\r\nHost: x\r\n\r\n", 500, "INTERNAL", true},
		{"body_too_large", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n", 413, "REQUEST_ENTITY_TOO_LARGE", true},
		{"chunk_too_large", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n", 413, "REQUEST_ENTITY_TOO_LARGE", true},
		{"chunk_of_2^60", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n", 413, "REQUEST_ENTITY_TOO_LARGE", true},
		{"header_too_large", "GET /ping HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", httpserver.MaxHeaderBytes), 431, "REQUEST_HEADER_FIELDS_TOO_LARGE", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			g := guardedServer(t, httpserver.Options{})
			c := dialRaw(t, g.Server)
			c.send(tc.send)
			res := c.answer()
			wantRefusal(t, res, tc.status, tc.code)
			assert.Equal(t, tc.closes, res.Close, "Connection: close")
			if tc.closes {
				c.wantEnd("")
			} else {
				c.get("/ping")
				c.wantStatus(200)
			}
		})
	}
}

func TestServer_Refusal_body_too_large_reaches_a_client_that_still_sends(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	c := dialRaw(t, g.Server)
	c.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2097152\r\n\r\n")
	c.send(strings.Repeat("x", 2<<20))
	wantRefusal(t, c.answer(), 413, "REQUEST_ENTITY_TOO_LARGE")
	c.wantEnd("")
	assert.Equal(t, 1, g.events.Refused(413))
}

// A body is read before its token is checked, so strangers share a few places for
// large ones.
func TestServer_Refusal_one_large_request_too_many(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	const head, most = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n", 1 << 20
	large := make([]*rawClient, httpserver.MaxLarge)
	for i := range large {
		large[i] = dialRaw(t, g.Server)
		large[i].send(head + strings.Repeat("x", httpserver.UsualRequest))
	}
	eventually(t, func() bool { return g.Large() == httpserver.MaxLarge }, "every place is taken")
	c := dialRaw(t, g.Server)
	c.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + strings.Repeat("x", 1000))
	c.wantStatus(200)
	c.send(head + strings.Repeat("x", most))
	wantRefusal(t, c.answer(), 503, "SERVICE_UNAVAILABLE")
	c.wantEnd("")
	assert.Equal(t, 1, g.events.Refused(503))

	large[0].send(strings.Repeat("x", most-httpserver.UsualRequest))
	large[0].wantStatus(200)
	require.NoError(t, large[1].Conn.Close())
	eventually(t, func() bool { return g.Large() == httpserver.MaxLarge-2 }, "places are given back by an answer and by a close")
	c = dialRaw(t, g.Server)
	c.send(head + strings.Repeat("x", most))
	c.wantStatus(200)
}

func TestServer_Refusal_by_the_given_hook(t *testing.T) {
	t.Parallel()
	hook := func(c *app.RequestContext, status int) { c.String(status, "mine") }
	g := guardedServer(t, httpserver.Options{Refuse: hook})
	for _, send := range []string{"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", "GET /panic HTTP/1.1\r\nHost: x\r\n\r\n", "?\r\n\r\n"} {
		c := dialRaw(t, g.Server)
		c.send(send)
		body, err := io.ReadAll(c.answer().Body)
		require.NoError(t, err)
		assert.Equal(t, "mine", string(body))
	}
}

func TestServer_Panic_is_logged_with_its_stack_and_ends_one_connection(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	c := dialRaw(t, g.Server)
	c.get("/panic")
	c.wantStatus(500)
	c.wantEnd("")
	assert.Equal(t, 1, g.events.Panics())
	assert.Contains(t, g.log.String(), "server_test.go", "the stack")
	assert.Zero(t, g.smuggle.Load(), "the handler after the one that panicked must not run")
}

// Hertz's standard transport does not recover. Without our recover this test would
// end the test binary.
func TestServer_Panic_outside_a_handler_ends_one_connection(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{Refuse: func(*app.RequestContext, int) { panic("in the hook") }})
	c := dialRaw(t, g.Server)
	c.send("?\r\n\r\n")
	c.wantEnd("")
	eventually(t, func() bool { return g.events.Panics() == 1 && g.Conns() == 0 }, "counted, and nothing left behind")
	c = dialRaw(t, g.Server)
	c.get("/ping")
	c.wantStatus(200)
}

func TestServer_KeepAlive(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	t.Run("pipelined_requests_are_answered_in_order", func(t *testing.T) {
		t.Parallel()
		c := dialRaw(t, g.Server)
		c.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n2")
		for _, want := range []string{"1", "2"} {
			body, err := io.ReadAll(c.answer().Body)
			require.NoError(t, err)
			assert.Equal(t, want, string(body))
		}
	})
	t.Run("100_continue", func(t *testing.T) {
		t.Parallel()
		c := dialRaw(t, g.Server)
		c.send("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
		c.wantStatus(100)
		c.send("ok")
		c.wantStatus(200)
	})
	t.Run("multipart_is_left_to_the_handler", func(t *testing.T) {
		t.Parallel()
		c := dialRaw(t, g.Server)
		c.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 4\r\n\r\noops")
		c.wantStatus(200)
	})
	t.Run("what_handlers_keep_with_a_request_ends_with_it", func(t *testing.T) {
		t.Parallel()
		c := dialRaw(t, g.Server)
		for range 2 {
			c.get("/slot")
			c.wantText("<nil>")
		}
	})
	t.Run("does_not_name_its_server", func(t *testing.T) {
		t.Parallel()
		c := dialRaw(t, g.Server)
		c.get("/ping")
		assert.Empty(t, c.answer().Header.Get("Server"))
	})
}

func TestServer_Unix(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{Addr: "unix:" + filepath.Join(t.TempDir(), "s"), MaxConnsPerIP: 1})
	for range 2 { // a unix peer has no address, so no limit by address
		c := dialRaw(t, g.Server)
		c.get("/ping")
		c.wantStatus(200)
	}
	c := dialRaw(t, g.Server)
	c.get("/wait")
	assert.Equal(t, "wait", <-g.entered)
	require.NoError(t, c.Close())
	assert.ErrorIs(t, <-g.gone, context.Canceled)
}

func TestServer_Options(t *testing.T) {
	t.Parallel()
	for field, opts := range map[string]httpserver.Options{
		"ReadTimeout": {ReadTimeout: -1}, "WriteTimeout": {WriteTimeout: -1}, "IdleTimeout": {IdleTimeout: -1},
		"MaxConns": {MaxConns: -1}, "MaxConnsPerIP": {MaxConnsPerIP: -1},
		"Addr": {Addr: "127.0.0.1:0", Listener: failingListener(0)}, "Refuse": {},
	} {
		_, err := httpserver.New(opts, func(*server.Hertz) {})
		assert.ErrorContains(t, err, "Options."+field)
	}
}

func TestServer_Listen(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, httpserver.Options{})
	assert.Nil(t, g.Addr())
	require.NoError(t, g.Listen(t.Context()))
	taken := newGuarded(t, httpserver.Options{Addr: g.Addr().String()})
	assert.Error(t, taken.Run(t.Context()), "the port is taken")
	g.Close()
	assert.ErrorIs(t, g.Listen(t.Context()), httpserver.ErrClosed)
	assert.NoError(t, g.Run(t.Context()), "drained before it began")
}

// A drain ends everything that a phone or a student can have open.
func TestServer_Drain(t *testing.T) {
	t.Parallel()
	t.Run("answers_what_is_in_flight_and_refuses_the_rest", func(t *testing.T) {
		t.Parallel()
		g := guardedServer(t, httpserver.Options{}, 20*time.Millisecond)
		idle, fresh, wait, hold := dialRaw(t, g.Server), dialRaw(t, g.Server), dialRaw(t, g.Server), dialRaw(t, g.Server)
		idle.get("/ping")
		idle.wantStatus(200)
		wait.get("/wait")
		<-g.entered
		hold.get("/hold")
		<-g.entered
		eventually(t, func() bool { return g.Conns() == 4 }, "all admitted")

		drained := make(chan error, 1)
		go func() { drained <- g.Drain(context.Background()) }()

		res := wait.answer()
		assert.Equal(t, 304, res.StatusCode)
		assert.True(t, res.Close, "Connection: close")
		assert.Empty(t, res.Header.Get("Content-Type"))
		wait.wantEnd("")
		idle.wantEnd("")
		fresh.wantEnd("")
		_, err := net.DialTimeout("tcp", g.Addr().String(), patience)
		assert.Error(t, err, "new connections are refused")

		select {
		case err := <-drained:
			t.Fatalf("drained (%v) with a request in flight", err)
		default:
		}
		close(g.release)
		res = hold.answer()
		assert.Equal(t, 200, res.StatusCode)
		assert.True(t, res.Close, "Connection: close")
		assert.NoError(t, <-drained)
		assert.NoError(t, <-g.ran, "Run ends with the drain")
		assert.NoError(t, g.Drain(context.Background()), "again")
		g.Close()
	})
	t.Run("lets_an_idle_connection_send_one_last_request", func(t *testing.T) {
		t.Parallel()
		g := guardedServer(t, httpserver.Options{}, patience)
		idle, fresh := dialRaw(t, g.Server), dialRaw(t, g.Server)
		idle.get("/ping")
		idle.wantStatus(200)
		eventually(t, func() bool { return g.Conns() == 2 }, "both admitted")
		drained := make(chan error, 1)
		go func() { drained <- g.Drain(context.Background()) }()
		<-g.Draining()
		for _, c := range []*rawClient{idle, fresh} {
			c.get("/ping")
			res := c.answer()
			assert.Equal(t, 200, res.StatusCode)
			assert.True(t, res.Close)
			c.wantEnd("")
		}
		assert.NoError(t, <-drained)
	})
	t.Run("cuts_what_is_left_when_its_time_is_up", func(t *testing.T) {
		t.Parallel()
		g := guardedServer(t, httpserver.Options{})
		c := dialRaw(t, g.Server)
		c.get("/hold")
		<-g.entered
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		assert.ErrorIs(t, g.Drain(ctx), context.DeadlineExceeded)
		assert.ErrorContains(t, <-g.ran, "1 handlers that ignore their context")
		close(g.release)
		c.wantEnd("")
	})
	t.Run("lets_go_of_an_answer_that_was_on_its_way_when_it_began", func(t *testing.T) {
		t.Parallel()
		g := guardedServer(t, httpserver.Options{}, time.Millisecond)
		c := dialRaw(t, g.Server)
		c.get("/big")
		_, err := c.r.Peek(1)
		require.NoError(t, err)
		drained := make(chan error, 1)
		go func() { drained <- g.Drain(context.Background()) }()
		<-g.Draining()
		assert.False(t, c.answer().Close, "its header was made before")
		c.wantEnd("")
		assert.NoError(t, <-drained)
	})
	t.Run("ends_at_once_when_closed", func(t *testing.T) {
		t.Parallel()
		g := guardedServer(t, httpserver.Options{})
		c := dialRaw(t, g.Server)
		c.get("/deaf")
		<-g.entered
		drained := make(chan error, 1)
		go func() { drained <- g.Drain(context.Background()) }()
		<-g.Draining()
		g.Close()
		g.Close()
		assert.ErrorIs(t, <-drained, httpserver.ErrClosed)
		assert.EqualError(t, <-g.ran, httpserver.ErrClosed.Error(), "and the handler ended")
		assert.ErrorIs(t, g.Drain(t.Context()), httpserver.ErrClosed, "however late it is asked")
	})
	t.Run("without_a_connection_is_immediate", func(t *testing.T) {
		t.Parallel()
		g := guardedServer(t, httpserver.Options{}, time.Hour)
		assert.NoError(t, g.Drain(t.Context()))
		assert.NoError(t, <-g.ran)
	})
	t.Run("before_it_ran", func(t *testing.T) {
		t.Parallel()
		g := newGuarded(t, httpserver.Options{})
		assert.NoError(t, g.Drain(t.Context()))
		assert.NoError(t, g.Drain(t.Context()))
	})
}

func TestServer_Run_ends_with_its_context(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, httpserver.Options{})
	require.NoError(t, g.Listen(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- g.Run(ctx) }()
	c := dialRaw(t, g.Server)
	c.get("/wait")
	<-g.entered
	cancel()
	if err := <-ran; err != nil { // nil if the connection had ended before it could be cut
		require.ErrorIs(t, err, httpserver.ErrClosed)
	}
	assert.Zero(t, g.Conns())
}

func TestServer_Run_fails_when_somebody_else_closes_the_listener(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := guardedServer(t, httpserver.Options{Listener: ln})
	require.NoError(t, ln.Close())
	assert.Error(t, <-g.ran)
}

// Not parallel: goleak sees the goroutines of every test that runs beside it.
func TestServer_Drain_leaves_no_goroutine(t *testing.T) { //nolint:paralleltest // see above
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(),
		// Hertz starts these once a process, at the first connection, and cannot stop them.
		goleak.IgnoreAnyFunction("github.com/cloudwego/gopkg/net/connstate.createPoller.func1"),    // departed peers
		goleak.IgnoreAnyFunction("github.com/cloudwego/hertz/pkg/protocol.UpdateServerDate.func1")) // Date
	g := newGuarded(t, httpserver.Options{}, time.Millisecond)
	require.NoError(t, g.Listen(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- g.Run(context.Background()) }()
	for i := range 50 {
		c := dialRaw(t, g.Server)
		switch i % 3 {
		case 0:
			c.get("/wait")
			<-g.entered
		case 1:
			c.get("/ping")
			c.wantStatus(200)
		default:
			c.send("?")
		}
	}
	require.NoError(t, g.Drain(t.Context()))
	require.NoError(t, <-ran)
	assert.Zero(t, g.Conns())
}
