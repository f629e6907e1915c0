package httpserver

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cloudwego/hertz/pkg/app"
	"github.com/cloudwego/hertz/pkg/network"
	"github.com/cloudwego/hertz/pkg/protocol/consts"

	"doorstep/internal/stack"
)

// Parked is a connection whose request is answered later, by Answer. Until then it
// has no goroutine, no request context, no context of its own and no buffers, only its
// socket and what describes it.
//
// It is given away by Hertz's own means: the response has a writer that writes
// nothing, and a hijack handler that does nothing. So Hertz gives its request context
// back, and closes the connection, which served.Close prevents. docs/adr/0014 has what
// that saves.
type Parked struct {
	conn   *conn
	closes bool        // the request asks to close the connection after it
	over   atomic.Bool // it has its answer, or must not get one
}

// Park parks the connection of a request that the handler leaves without an answer. The
// handler must not use c after Park. When it has returned, then is called; if that
// panics, the answer is 500. From then on Answer can be called, and must be at some time. The handler's
// context still ends when the peer leaves or the server is closed, unless OnLeave is
// called, which takes less memory. Then the request must be answered, too.
//
// It returns false where the handler must wait and answer by itself: when a byte of the
// next request is already read, with another method than GET, with HTTP/1.0 that keeps
// the connection, and without a connection, as in tests.
func Park(c *app.RequestContext, then func(p *Parked)) bool {
	on, _ := c.GetConn().(*served)
	h := &c.Request.Header
	if on == nil || !h.IsGet() || !h.IsHTTP11() && !h.ConnectionClose() || !skipEmptyLines(c) {
		return false
	}
	on.parked = &Parked{conn: on.conn, closes: h.ConnectionClose() || c.Response.ConnectionClose()}
	on.then = then
	c.Response.HijackWriter(unwritten{})
	c.Hijack(func(network.Conn) {})
	return true
}

// unwritten is the writer of a response that Answer writes.
type unwritten struct{}

func (unwritten) Write(p []byte) (int, error) { return len(p), nil }
func (unwritten) Flush() error                { return nil }
func (unwritten) Finalize() error             { return nil }

// Context is what remains of the contexts of the connection's requests: it does not
// end.
func (p *Parked) Context() context.Context { return p.conn.l.server.base }

// OnLeave has f called when the peer leaves or the server is closed, unless the request
// has its answer by then, instead of ending the handler's context. f is called at once if
// that has happened. It must have the request answered. Call it once.
func (p *Parked) OnLeave(f func()) { p.conn.callOnLeave(p, f) }

// Answer is a response, as far as it is the same for everybody who gets it.
type Answer struct {
	Status int
	Body   []byte
	head   []byte // the status line and the headers, without the empty line
}

// NewAnswer makes an answer of the response that write writes: the bytes that Hertz
// would send, with the present time as its Date. write must not keep c.
func NewAnswer(write func(c *app.RequestContext)) Answer {
	c, _ := drafts.Get().(*app.RequestContext)
	c.Response.Header.SetNoDefaultContentType(true)
	write(c)
	head, body, _ := bytes.Cut(written(&c.Response), []byte("\r\n\r\n"))
	a := Answer{Status: c.Response.StatusCode(), Body: body, head: head}
	c.Reset()
	drafts.Put(c)
	return a
}

// drafts are contexts to write answers with.
var drafts = sync.Pool{New: func() any { return app.NewContext(0) }}

// Answer answers the request by what write returns: an answer, and the whole header
// lines that are this reader's own. Then the connection is served again. Answer does
// not block: what the kernel does not take at once is written by a goroutine of this
// connection, within WriteTimeout. A panic of write is answered with 500. Only
// the first call counts.
func (p *Parked) Answer(write func() (a Answer, own []byte)) {
	c := p.conn
	a, own, sound := c.l.server.render(write)
	closes := p.closes || !sound || isClosed(c.l.draining)
	text := texts.Get().(*bytes.Buffer) //nolint:forcetypeassert // nothing else is in it
	defer texts.Put(text)
	text.Reset()
	_, _ = text.Write(a.head) // memory cannot fail
	_, _ = text.WriteString("\r\n")
	_, _ = text.Write(own)
	if closes {
		_, _ = text.WriteString(closing)
	}
	_, _ = text.WriteString("\r\n")
	_, _ = text.Write(a.Body)
	if !p.over.Swap(true) {
		c.resume(text.Bytes(), closes)
	}
}

// texts are buffers for answers on their way to the kernel.
var texts = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const closing = "Connection: close\r\n"

func (s *Server) render(write func() (Answer, []byte)) (a Answer, own []byte, sound bool) {
	defer func() {
		if rec := recover(); rec != nil {
			s.panicked(s.base, rec)
			a = s.internal()
		}
	}()
	a, own = write()
	return a, own, true
}

// internal is the answer after a panic.
func (s *Server) internal() Answer {
	return NewAnswer(func(c *app.RequestContext) { s.refuse(c, consts.StatusInternalServerError) })
}

// resume writes the answer of a parked connection, and serves the connection again unless
// it is to be closed.
func (c *conn) resume(text []byte, closes bool) {
	rest := bytes.Clone(text[c.tryWrite(text):])
	go func() {
		stack.Grow()
		c.requestEnds()
		c.answered, c.between = true, true
		var err error
		if len(rest) > 0 {
			_, err = c.Write(rest)
		}
		if err != nil || closes {
			_ = c.Close()
			c.l.release(c)
			return
		}
		c.l.server.serve(c)
	}()
}

// tryWrite writes what the kernel takes at once, and returns how much that was: with TLS
// nothing. What is wrong with the socket is found by the next write.
func (c *conn) tryWrite(text []byte) (n int) {
	raw, err := c.SyscallConn()
	if err != nil || c.l.tls != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { n, _ = syscall.Write(int(fd), text) })
	return max(n, 0)
}
