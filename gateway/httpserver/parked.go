package httpserver

import (
	"bytes"
	"context"
	"sync"
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
	conn *conn
	last bool // the request asks to close the connection after it

	// Guarded by conn.mu.
	settled bool   // Hertz has returned, so Answer resumes the connection
	over    bool   // it has its answer, or must not get one
	text    []byte // the answer that came before Hertz had returned
	closes  bool   // the connection is closed after it
}

// Park parks the connection of a request that the handler leaves without an answer.
// Answer must then be called, before the handler returns or at any time after that.
// The handler must not use c after Park. ctx is the handler's, or derived from it. It
// still ends when the peer leaves or the server is closed, unless OnLeave is called, which
// takes less memory. Then the request must be answered, too.
//
// It returns nil where the handler must wait and answer by itself: when a byte of the
// next request is already read, with another method than GET, with HTTP/1.0 that keeps
// the connection, and without a connection, as in tests.
func Park(ctx context.Context, c *app.RequestContext) *Parked {
	on, _ := ctx.Value(connKey{}).(*conn)
	if on == nil || !on.parkable(c) {
		return nil
	}
	on.parked = &Parked{conn: on, last: c.Request.Header.ConnectionClose() || c.Response.ConnectionClose()}
	c.Response.HijackWriter(unwritten{})
	c.Hijack(func(network.Conn) {})
	return on.parked
}

func (c *conn) parkable(rc *app.RequestContext) bool {
	h := &rc.Request.Header
	return h.IsGet() && (h.IsHTTP11() || h.ConnectionClose()) && skipEmptyLines(rc)
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
// has its answer by then, instead of ending the handler's context. f is called at once if that has happened. It must have the
// request answered. Call it once.
func (p *Parked) OnLeave(f func()) {
	c := p.conn
	c.mu.Lock()
	has := c.hasLeft
	if !has && !p.over {
		c.onLeave = f
	}
	c.mu.Unlock()
	if has {
		f()
	}
}

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
	a, own, sound := c.l.server.render(c.l.server.base, write)
	closes := p.last || !sound || isClosed(c.l.draining)
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

	c.mu.Lock()
	first, settled := !p.over, p.settled
	if first {
		p.over, p.closes = true, closes
	}
	if first && !settled {
		p.text = bytes.Clone(text.Bytes())
	}
	c.mu.Unlock()
	if first && settled {
		c.resume(p, text.Bytes())
	}
}

// texts are buffers for answers on their way to the kernel.
var texts = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const closing = "Connection: close\r\n"

func (s *Server) render(ctx context.Context, write func() (Answer, []byte)) (a Answer, own []byte, sound bool) {
	defer func() {
		if rec := recover(); rec != nil {
			s.panicked(ctx, rec)
			a = NewAnswer(func(c *app.RequestContext) { s.refuse(c, consts.StatusInternalServerError) })
		}
	}()
	a, own = write()
	return a, own, true
}

// resume writes the answer of a connection that nobody serves, and serves it again.
func (c *conn) resume(p *Parked, text []byte) {
	rest := bytes.Clone(text[c.tryWrite(text):])
	go func() {
		stack.Grow()
		if c.unpark(p, rest) {
			c.l.server.serve(c)
		}
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

// settle is called when Hertz has returned. It reports whether the answer is there
// already; otherwise the connection is parked from now on.
func (c *conn) settle(p *Parked) (answered bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.settled = !p.over
	return p.over
}

// unpark writes the rest of the answer, and reports whether the connection can be
// served again; otherwise it is closed.
func (c *conn) unpark(p *Parked, rest []byte) bool {
	c.parked = nil
	c.requestEnds()
	c.answered, c.between = true, true
	var err error
	if len(rest) > 0 {
		_, err = c.Write(rest)
	}
	if err != nil || p.closes {
		_ = c.Close()
		c.l.release(c)
		return false
	}
	return true
}

// abandon takes a parked connection back whose handler has panicked.
func (c *conn) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parked.over = true
	c.parked = nil
}
