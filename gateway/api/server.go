package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/cloudwego/hertz/pkg/app"
	"github.com/cloudwego/hertz/pkg/app/server"
	"github.com/cloudwego/hertz/pkg/common/config"
	"github.com/cloudwego/hertz/pkg/common/hlog"
	"github.com/cloudwego/hertz/pkg/network"
	"github.com/cloudwego/hertz/pkg/network/standard"
	"github.com/cloudwego/hertz/pkg/protocol/consts"
	"github.com/cloudwego/hertz/pkg/protocol/http1/resp"
)

// closeWait is how long Run waits, after Close, for handlers to notice that
// their context has ended.
const closeWait = time.Second

// ErrClosed is returned by Drain and Run when Close cut connections short, and
// by Listen on a server that was drained or closed before.
var ErrClosed = errors.New("api: server closed")

// ServerOptions are the limits of the listening side. Zero means the default.
type ServerOptions struct {
	Listener net.Listener // taken over; else Addr is bound
	Addr     string       // host:port or unix:/path; default 127.0.0.1:8080

	ReadTimeout  time.Duration // default 10 s: a whole request, first byte to last; also silence on a new connection
	WriteTimeout time.Duration // default 10 s: handing a response to the kernel
	IdleTimeout  time.Duration // default 75 s: between requests; must outlast the ALB's 60 s, or it reuses what we are closing: 502
	DrainGrace   time.Duration // default 500 ms: what an idle connection gets to send one last request in a drain

	MaxBodyBytes   int // default 16 KiB, then 413
	MaxHeaderBytes int // default 16 KiB, then 431
	MaxConns       int // default 60,000; newcomers over it are closed at once. About 20 kB each: 1.2 GB
	MaxConnsPerIP  int // default 0, off: behind a load balancer all peers are the balancer's few addresses

	// Refuse writes headers and body of an answer that no handler gives: 400,
	// 404, 405, 408, 413, 431, 500 for a panic, and any error that a handler
	// leaves without a body. For 400, 408, 413 and 431 there may have been no
	// readable request: c then holds none. Default: the house's envelope with a
	// code made from the status.
	Refuse func(c *app.RequestContext, status int)
	Events ServerEvents // default: none
	Logger *slog.Logger // default: discards. The first server's also gets Hertz's own warnings
}

// ServerEvents is what the server counts. Called from many goroutines.
type ServerEvents interface {
	ConnShed(why string)       // one of the Shed constants
	RequestRefused(status int) // malformed, oversized or too slow; before any handler
	Panicked()                 // a handler, or the parser on its connection
}

// withDefaults fills zeros and names the field that cannot be.
func (o ServerOptions) withDefaults() (ServerOptions, error) {
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"ReadTimeout", int64(o.ReadTimeout)},
		{"WriteTimeout", int64(o.WriteTimeout)},
		{"IdleTimeout", int64(o.IdleTimeout)},
		{"DrainGrace", int64(o.DrainGrace)},
		{"MaxBodyBytes", int64(o.MaxBodyBytes)},
		{"MaxHeaderBytes", int64(o.MaxHeaderBytes)},
		{"MaxConns", int64(o.MaxConns)},
		{"MaxConnsPerIP", int64(o.MaxConnsPerIP)},
	} {
		if f.value < 0 {
			return o, fmt.Errorf("api: ServerOptions.%s: %d is negative", f.name, f.value)
		}
	}
	if o.Listener != nil && o.Addr != "" {
		return o, errors.New("api: ServerOptions.Addr: set together with Listener")
	}
	o.Addr = cmp.Or(o.Addr, "127.0.0.1:8080")
	o.ReadTimeout = cmp.Or(o.ReadTimeout, 10*time.Second)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 10*time.Second)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 75*time.Second)
	o.DrainGrace = cmp.Or(o.DrainGrace, 500*time.Millisecond)
	o.MaxBodyBytes = cmp.Or(o.MaxBodyBytes, 16<<10)
	o.MaxHeaderBytes = cmp.Or(o.MaxHeaderBytes, 16<<10)
	o.MaxConns = cmp.Or(o.MaxConns, 60_000)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.Refuse == nil {
		o.Refuse = refuseByStatus
	}
	if o.Events == nil {
		o.Events = noEvents{}
	}
	return o, nil
}

// Server is Hertz behind a guarded listener, without Hertz's own signal
// handling and shutdown: that one waits its full ExitWaitTime as soon as one
// keep-alive connection is idle (measured: 8.0 s of 8).
type Server struct {
	opts  ServerOptions
	guard *guardedListener
	hertz *server.Hertz
	base  context.Context //nolint:containedctx // Run's; the parent of every handler's, as http.Server.BaseContext

	closeOnce sync.Once
	closed    chan struct{}
}

// NewServer makes a server whose routes register adds. No I/O yet.
func NewServer(opts ServerOptions, register func(h *server.Hertz)) (*Server, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	bridgeHertzLog.Do(func() {
		hlog.SetSilentMode(true) // a line for each malformed request would be the sender's to multiply; they are counted
		hlog.SetLevel(hlog.LevelWarn)
		hlog.SetOutput(hertzLog{opts.Logger})
	})
	s := &Server{opts: opts, closed: make(chan struct{})}
	s.guard = newGuardedListener(opts, s.refusal)
	s.hertz = server.New(s.hertzOptions()...)
	s.hertz.Use(s.around)
	register(s.hertz)
	return s, nil
}

func (s *Server) hertzOptions() []config.Option {
	return []config.Option{
		server.WithTransport(s.transport),
		server.WithSenseClientDisconnection(true),
		server.WithIdleTimeout(s.opts.IdleTimeout), // above 0, else Hertz has no keep-alive; the clock is the guard's
		server.WithMaxRequestBodySize(s.opts.MaxBodyBytes),
		server.WithMaxHeaderBytes(s.opts.MaxHeaderBytes),
		server.WithDisablePreParseMultipartForm(true), // it would parse, or refuse, before any handler
		server.WithRedirectTrailingSlash(false),
		server.WithHandleMethodNotAllowed(true),
		server.WithDisableDefaultContentType(true), // it would call a 304 text/plain
		server.WithDisablePrintRoute(true),
		{F: func(o *config.Options) { o.NoDefaultServerHeader = true }},
	}
}

// Listen binds the address, so that Addr is known and a taken port is an error
// here. Run does it where it was not done.
func (s *Server) Listen(ctx context.Context) error {
	s.guard.mu.Lock()
	defer s.guard.mu.Unlock()
	if chanClosed(s.guard.draining) {
		return ErrClosed
	}
	if s.guard.inner != nil {
		return nil
	}
	network, addr := "tcp", s.opts.Addr
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	var err error
	s.guard.inner, err = new(net.ListenConfig).Listen(ctx, network, addr)
	return err
}

// Addr is where the server listens; nil before Listen.
func (s *Server) Addr() net.Addr {
	if ln := s.guard.bound(); ln != nil {
		return ln.Addr()
	}
	return nil
}

// Conns is how many connections are open: idle, waiting or working.
func (s *Server) Conns() int { return s.guard.open() }

// Run serves until Drain or Close has ended it, or ctx, which is as Close. It
// returns when the goroutine of every connection has: nil if nothing had to be
// cut, ErrClosed if it had, or what broke the listener. Once per server.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(ctx); err != nil {
		if errors.Is(err, ErrClosed) {
			return nil // drained before it began
		}
		return fmt.Errorf("api: listen: %w", err)
	}
	base, cancel := context.WithCancel(ctx)
	defer cancel()
	s.base = base
	defer context.AfterFunc(ctx, s.Close)()
	err := s.hertz.Run()
	if err == nil && !chanClosed(s.guard.draining) {
		err = errors.New("somebody else closed the listener")
	}
	if err != nil {
		s.Close()
		err = fmt.Errorf("api: serve: %w", err)
	}
	return errors.Join(err, s.await(cancel))
}

// await waits for the last connection. When they were cut, it ends the
// handlers' context and gives them closeWait.
func (s *Server) await(cancel context.CancelFunc) error {
	select {
	case <-s.guard.empty:
		return nil
	case <-s.closed:
	}
	cancel()
	select {
	case <-s.guard.empty:
		return ErrClosed
	case <-time.After(closeWait):
		return fmt.Errorf("%w with %d handlers that ignore their context", ErrClosed, s.Conns())
	}
}

// Drain ends the server gently: it refuses new connections, lets every request
// in flight finish (its answer says Connection: close), lets idle connections go
// after DrainGrace, and returns when none is left.
// When ctx ends first the rest is cut and its error returned. Calling it again
// joins the drain under way, or returns at once after it.
func (s *Server) Drain(ctx context.Context) error {
	s.guard.drain()
	select {
	case <-s.guard.empty:
		return nil
	default:
	}
	select {
	case <-s.guard.empty:
		return nil
	case <-s.closed:
		return ErrClosed
	case <-ctx.Done():
		left := s.Conns()
		s.Close()
		return fmt.Errorf("api: drain cut %d connections: %w", left, ctx.Err())
	}
}

// Close ends the server at once: handlers see the end of their context,
// connections are cut. It does not wait; Run does. Idempotent.
func (s *Server) Close() {
	s.closeOnce.Do(func() {
		s.guard.drain()
		if chanClosed(s.guard.empty) {
			return // nothing to cut, so nobody need hear of it
		}
		close(s.closed)
		s.guard.cut()
	})
}

type connKey struct{}

// transport is the standard one on the guarded listener. Its goroutines
// have no recover: a panic outside a handler, say in the parser, would end the
// process; here it ends its connection.
func (s *Server) transport(o *config.Options) network.Transporter {
	o.Listener = s.guard
	o.OnAccept = func(conn net.Conn) context.Context { return context.WithValue(s.base, connKey{}, conn) }
	return guardedTransport{standard.NewTransporter(o), s}
}

type guardedTransport struct {
	network.Transporter
	s *Server
}

func (t guardedTransport) ListenAndServe(serve network.OnData) error {
	return t.Transporter.ListenAndServe(func(ctx context.Context, conn any) error {
		if c, ok := ctx.Value(connKey{}).(*guardedConn); ok {
			defer t.s.guard.release(c)
		}
		defer func() {
			if rec := recover(); rec != nil {
				t.s.panicked(ctx, rec)
			}
		}()
		return serve(ctx, conn)
	})
}

// around is the outermost middleware of every request, routed or not.
func (s *Server) around(ctx context.Context, c *app.RequestContext) {
	conn, _ := ctx.Value(connKey{}).(*guardedConn)
	if conn == nil {
		conn = new(guardedConn) // ut.PerformRequest has no connection
	}
	defer s.finish(ctx, c, conn)
	if !soundFraming(&c.Request.Header) {
		s.opts.Events.RequestRefused(consts.StatusBadRequest)
		conn.refused = true
		s.refuse(c, consts.StatusBadRequest)
		c.SetConnectionClose() // where the body ends is in doubt
		return
	}
	c.Next(ctx)
}

func (s *Server) finish(ctx context.Context, c *app.RequestContext, conn *guardedConn) {
	if rec := recover(); rec != nil {
		s.panicked(ctx, rec)
		c.Response.Reset() // nothing half made leaves
		s.refuse(c, consts.StatusInternalServerError)
		c.SetConnectionClose()
	}
	if c.Response.StatusCode() >= consts.StatusBadRequest && !c.Response.HasBodyBytes() && !c.Response.IsBodyStream() {
		s.refuse(c, c.Response.StatusCode()) // Hertz's own 400, 404 and 405
	}
	if chanClosed(s.guard.draining) {
		c.SetConnectionClose()
	}
	conn.answered = true
}

func (s *Server) panicked(ctx context.Context, rec any) {
	s.opts.Events.Panicked()
	s.opts.Logger.ErrorContext(ctx, "panic", slog.Any("panic", rec), slog.String("stack", string(debug.Stack())))
}

func (s *Server) refuse(c *app.RequestContext, status int) {
	c.SetStatusCode(status)
	s.opts.Refuse(c, status)
	c.Abort() // after a panic Hertz would go on with the next handler
}

// refusal is a whole response for a request that never became one.
func (s *Server) refusal(status int) []byte {
	s.opts.Events.RequestRefused(status)
	c := app.NewContext(0)
	s.refuse(c, status)
	c.SetConnectionClose()
	var out bytes.Buffer
	w := network.NewWriter(&out)
	_ = resp.Write(&c.Response, w) // a bytes.Buffer cannot fail
	_ = w.Flush()
	return out.Bytes()
}

func refuseByStatus(c *app.RequestContext, status int) {
	text, code := http.StatusText(status), strings.ToUpper(strings.ReplaceAll(http.StatusText(status), " ", "_"))
	if status == consts.StatusInternalServerError {
		text, code = "internal error", "INTERNAL"
	}
	id := rand.Text()
	c.Response.Header.Set("X-Request-Id", id)
	c.Data(status, "application/json; charset=utf-8",
		fmt.Appendf(nil, `{"success":false,"code":%q,"message":%q,"requestId":%q}`, code, strings.ToLower(text), id))
}

type noEvents struct{}

func (noEvents) ConnShed(string)    {}
func (noEvents) RequestRefused(int) {}
func (noEvents) Panicked()          {}

// bridgeHertzLog guards the one global that is not ours to avoid: Hertz logs
// through a package variable, unsynchronised, so it is set once, by the first
// server, before Hertz runs.
var bridgeHertzLog sync.Once

// hertzLog turns Hertz's lines ("date file [Warn] HERTZ: text") into records.
type hertzLog struct{ log *slog.Logger }

func (l hertzLog) Write(line []byte) (int, error) {
	_, text, _ := strings.Cut(string(line), "HERTZ: ")
	l.log.Warn("hertz", slog.String("detail", strings.TrimSpace(text)))
	return len(line), nil
}
