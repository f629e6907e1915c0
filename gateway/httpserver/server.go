// Package httpserver is what stands between a socket and a route: limits,
// deadlines, framing and the drain. It knows Hertz and knows no handler.
//
// It exists because Hertz v0.10.6 leaves these to its user (all measured): a
// connection's first request has no read deadline, a write has none at all,
// connections are not bounded, an Accept error ends the process with exit code
// 0, and a shutdown waits its full ExitWaitTime (8.0 s of 8) as soon as one
// keep-alive connection is idle.
//
// Read server.go first: a request is read by the connection of listener.go,
// parsed by Hertz, and passes Server.around on its way to the routes. The bodies of
// some paths are not read by Hertz but by their handlers (stream.go). With a certificate
// (certificate.go) the connection has TLS below it (tls.go), which nothing above sees.
package httpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/cloudwego/hertz/pkg/app"
	"github.com/cloudwego/hertz/pkg/app/server"
	"github.com/cloudwego/hertz/pkg/common/config"
	"github.com/cloudwego/hertz/pkg/common/hlog"
	"github.com/cloudwego/hertz/pkg/network"
	"github.com/cloudwego/hertz/pkg/protocol"
	"github.com/cloudwego/hertz/pkg/protocol/consts"
	"github.com/cloudwego/hertz/pkg/protocol/http1/resp"
)

// closeWait is how long Run waits, after Close, for handlers to notice that
// their context has ended.
const closeWait = time.Second

// ErrClosed is returned by Drain and Run when Close cut connections short, and
// by Listen on a server that was drained or closed before.
var ErrClosed = errors.New("httpserver: server closed")

// Server is Hertz behind a listener with limits. Call New, Listen and Run,
// then Drain or Close. It does not use Hertz's signal handling and shutdown.
// Safe for concurrent use.
type Server struct {
	opts     Options
	listener *listener
	hertz    *server.Hertz
	onData   network.OnData  // Hertz's, which serves one connection
	base     context.Context //nolint:containedctx // Run's, but for its end; the parent of every handler's, like http.Server.BaseContext

	closeOnce sync.Once
	closed    chan struct{}
}

// New makes a server; register adds its routes. It does no I/O. The error names
// the field of Options that is wrong.
func New(opts Options, register func(h *server.Hertz)) (*Server, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	bridgeHertzLog.Do(func() {
		hlog.SetSilentMode(true) // no line for a malformed request: a stranger could fill the disk. They are counted instead
		hlog.SetLevel(hlog.LevelWarn)
		hlog.SetOutput(hertzLog{opts.Logger})
	})
	s := &Server{opts: opts, closed: make(chan struct{})}
	s.listener = newListener(opts, s)
	s.hertz = server.New(s.hertzOptions()...)
	s.hertz.KeepHijackedConns, s.hertz.NoHijackConnPool = true, true // see Parked
	s.hertz.Use(s.around)
	register(s.hertz)
	return s, nil
}

func (s *Server) hertzOptions() []config.Option {
	return []config.Option{
		server.WithTransport(func(*config.Options) network.Transporter { return transport{s} }),
		server.WithIdleTimeout(s.opts.IdleTimeout), // Hertz keeps connections alive only if this is above 0; the connection's own deadline is what ends them
		server.WithMaxRequestBodySize(maxBodyBytes),
		server.WithMaxHeaderBytes(maxHeaderBytes),
		server.WithDisablePreParseMultipartForm(true), // otherwise Hertz parses or refuses a form before any handler
		server.WithRedirectTrailingSlash(false),
		server.WithHandleMethodNotAllowed(true),
		server.WithDisableDefaultContentType(true), // otherwise a 304 says text/plain
		server.WithDisablePrintRoute(true),
		{F: func(o *config.Options) { o.NoDefaultServerHeader = true }},
	}
}

// Listen binds the address. After it Addr is known, and a port that is taken
// has been reported. Run calls Listen if it was not called before.
func (s *Server) Listen(ctx context.Context) error { return s.listener.bind(ctx) }

// Addr is where the server listens; nil before Listen.
func (s *Server) Addr() net.Addr {
	if ln := s.listener.bound(); ln != nil {
		return ln.Addr()
	}
	return nil
}

// Conns is the number of open connections: idle, waiting or working.
func (s *Server) Conns() int { return s.listener.open() }

// Run serves until Drain, Close or the end of ctx, which acts as Close. It
// returns when the goroutine of every connection has returned. The result is nil
// if no connection was cut, ErrClosed if one was, or the error that broke the
// listener. Call it once.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(ctx); err != nil {
		if errors.Is(err, ErrClosed) {
			return nil // drained before it began
		}
		return fmt.Errorf("httpserver: listen: %w", err)
	}
	s.base = context.WithoutCancel(ctx) // each connection has an end of its own: a thousand children of one context wait for its lock
	defer context.AfterFunc(ctx, s.Close)()
	err := s.hertz.Run()
	if err == nil && !isClosed(s.listener.draining) {
		err = errors.New("the listener was closed from outside")
	}
	if err != nil {
		s.Close()
		err = fmt.Errorf("httpserver: serve: %w", err)
	}
	return errors.Join(err, s.await())
}

// await waits for the last connection. After Close it cancels the handlers'
// contexts and gives them closeWait.
func (s *Server) await() error {
	select {
	case <-s.listener.empty:
		return s.cut()
	case <-s.closed:
	}
	s.listener.leave()
	select {
	case <-s.listener.empty:
		return ErrClosed
	case <-time.After(closeWait):
		return fmt.Errorf("%w with %d handlers that ignore their context", ErrClosed, s.Conns())
	}
}

// Drain ends the server without cutting a request. It refuses new connections,
// lets every request in flight finish (with Connection: close), closes idle
// connections after drainGrace, and returns when no connection is left. If ctx
// ends first, Drain cuts the remaining connections and returns ctx's error. A
// second call joins the drain that runs, or returns at once after it.
func (s *Server) Drain(ctx context.Context) error {
	s.listener.drain()
	select {
	case <-s.listener.empty:
		return s.cut()
	default:
	}
	select {
	case <-s.listener.empty:
		return s.cut()
	case <-s.closed:
		return ErrClosed
	case <-ctx.Done():
		left := s.Conns()
		s.Close()
		return fmt.Errorf("httpserver: drain cut %d connections: %w", left, ctx.Err())
	}
}

// cut is ErrClosed if Close has cut connections. Whoever waits for the last one may see its
// end and Close at one time.
func (s *Server) cut() error {
	if isClosed(s.closed) {
		return ErrClosed
	}
	return nil
}

// Close ends the server at once: it cancels the handlers' context and cuts the
// connections. It does not wait; Run does. Idempotent.
func (s *Server) Close() {
	s.closeOnce.Do(func() {
		s.listener.drain()
		if isClosed(s.listener.empty) {
			return // no connection to cut, so Drain and Run report none
		}
		close(s.closed)
		s.listener.cut()
	})
}

// transport is Hertz's way to the listener. Hertz's own transports would make contexts
// and buffers for as long as a connection lasts (see served).
type transport struct{ s *Server }

// ListenAndServe implements network.Transporter. It returns when the listener is closed.
func (t transport) ListenAndServe(serve network.OnData) error {
	t.s.onData = serve
	for {
		c, err := t.s.listener.accept()
		if err != nil {
			return nil //nolint:nilerr // it is closed
		}
		go func() {
			if !c.handshake() {
				_ = c.Close()
				t.s.listener.release(c)
				return
			}
			c.watch()
			t.s.serve(c)
		}()
	}
}

// Close implements network.Transporter.
func (t transport) Close() error { return t.s.listener.bound().Close() }

// Shutdown implements network.Transporter. The server has its own Drain.
func (t transport) Shutdown(context.Context) error { return t.Close() }

// serve serves a connection until it ends or is parked.
func (s *Server) serve(c *conn) {
	ctx, on := c.serving(s.base)
	s.serveByHertz(ctx, on)
	_ = on.Release()
	if on.parked != nil {
		s.begin(ctx, on)
	} else {
		s.listener.release(c)
	}
}

// begin calls what Park was given. A panic there is answered with 500, as one in a handler
// is; nobody else would recover.
func (s *Server) begin(ctx context.Context, on *served) {
	defer func() {
		if rec := recover(); rec != nil {
			s.panicked(ctx, rec)
			on.parked.closes = true
			on.parked.Answer(func() (Answer, []byte) { return s.internal(), nil })
		}
	}()
	on.then(on.parked)
}

// serveByHertz lets Hertz serve a connection, which it closes unless it is parked. Hertz
// does not recover outside of handlers: a panic in its parser, for example, would end
// the process. Here it ends only its connection.
func (s *Server) serveByHertz(ctx context.Context, on *served) {
	defer func() {
		if rec := recover(); rec != nil {
			s.panicked(ctx, rec)
			if on.parked != nil {
				on.parked.closes = true
			}
		}
	}()
	_ = s.onData(ctx, on) // Hertz has logged it
}

// around is the outermost middleware of every request, with or without a route.
func (s *Server) around(ctx context.Context, c *app.RequestContext) {
	on, _ := c.GetConn().(*served)
	if on == nil {
		on = &served{conn: new(conn)} // ut.PerformRequest has no connection
	}
	defer s.finish(ctx, c, on)
	sound, closes := readHead(&c.Request.Header)
	if closes {
		c.SetConnectionClose()
	}
	if !sound {
		s.opts.Events.RequestRefused(consts.StatusBadRequest)
		on.refused = true
		s.refuse(c, consts.StatusBadRequest)
		c.SetConnectionClose() // it is not known where the body ends
		return
	}
	if on.proxied && s.opts.MaxConnsPerIP > 0 {
		client := clientOf(&c.Request.Header, s.opts.TrustedProxies, on.peer)
		if !s.listener.beginRequest(client) {
			s.opts.Events.ConnShed(shedMaxConnsPerIP)
			s.refuse(c, consts.StatusTooManyRequests)
			return
		}
		on.client = &client
	}
	c.Next(ctx)
}

func (s *Server) finish(ctx context.Context, c *app.RequestContext, on *served) {
	if rec := recover(); rec != nil {
		s.panicked(ctx, rec)
		if on.parked != nil {
			on.parked.over.Store(true) // what was begun for it is ended as ever, without an answer
			s.begin(ctx, on)
			on.parked = nil
			c.SetHijackHandler(nil)
		}
		c.Response.Reset() // a half-written answer must not be sent
		s.refuse(c, consts.StatusInternalServerError)
		c.SetConnectionClose()
	}
	if on.parked != nil {
		return // Answer does the rest
	}
	if c.Response.StatusCode() >= consts.StatusBadRequest && !c.Response.HasBodyBytes() && !c.Response.IsBodyStream() {
		s.refuse(c, c.Response.StatusCode()) // Hertz's own 400, 404 and 405
	}
	on.slot = nil // an idle connection must not keep it, and the next request must not see it
	if isClosed(s.listener.draining) {
		c.SetConnectionClose()
	}
	if !on.requestEnds() {
		c.SetConnectionClose()
	}
	on.answered, on.between = true, skipEmptyLines(c)
}

// skipEmptyLines drops the empty lines that some clients send after a body (RFC
// 9112, section 2.2), as far as they have been read. It reports whether nothing of
// the next request has been read yet; then conn.Read drops those that come.
func skipEmptyLines(c *app.RequestContext) bool {
	r := c.GetReader()
	if r == nil { // no connection, as in tests
		return true
	}
	for r.Len() > 0 {
		if b, err := r.Peek(1); err != nil || b[0] != '\r' && b[0] != '\n' {
			return false
		}
		_ = r.Skip(1) // it is there: Peek has seen it
	}
	return true
}

func (s *Server) panicked(ctx context.Context, rec any) {
	s.opts.Events.Panicked()
	s.opts.Logger.ErrorContext(ctx, "panic", slog.Any("panic", rec), slog.String("stack", string(debug.Stack())))
}

func (s *Server) refuse(c *app.RequestContext, status int) {
	c.SetStatusCode(status)
	s.opts.Refuse(c, status)
	c.Abort() // after a panic Hertz would run the next handler
}

// refusal is a whole response to a request that Hertz could not parse.
func (s *Server) refusal(status int) []byte {
	s.opts.Events.RequestRefused(status)
	c := app.NewContext(0)
	s.refuse(c, status)
	c.SetConnectionClose()
	return written(&c.Response)
}

// written is a response as Hertz writes it.
func written(r *protocol.Response) []byte {
	out := make(inMemory, 0, usualHead+len(r.BodyBytes()))
	_ = resp.Write(r, &out) // memory cannot fail
	return out
}

// usualHead is more than the status line and headers of most answers take, in bytes.
const usualHead = 384

// inMemory is a network.Writer to memory.
type inMemory []byte

// Malloc implements network.Writer.
func (m *inMemory) Malloc(n int) ([]byte, error) {
	*m = append(*m, make([]byte, n)...)
	return (*m)[len(*m)-n:], nil
}

// WriteBinary implements network.Writer.
func (m *inMemory) WriteBinary(p []byte) (int, error) {
	*m = append(*m, p...)
	return len(p), nil
}

// Flush implements network.Writer.
func (m *inMemory) Flush() error { return nil }

// bridgeHertzLog is the one unavoidable global. Hertz logs through a package
// variable that is not synchronized, so it is set once, by the first server,
// before Hertz runs.
var bridgeHertzLog sync.Once

// hertzLog turns Hertz's lines ("date file [Warn] HERTZ: text") into records.
type hertzLog struct{ log *slog.Logger }

func (l hertzLog) Write(line []byte) (int, error) {
	_, text, _ := strings.Cut(string(line), "HERTZ: ")
	l.log.Warn("hertz", slog.String("detail", strings.TrimSpace(text)))
	return len(line), nil
}
