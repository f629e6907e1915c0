package httpserver

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/cloudwego/gopkg/net/connstate"
	"github.com/cloudwego/hertz/pkg/protocol/consts"

	"doorstep/internal/stack"
)

// conn is a connection with absolute deadlines: one for the first byte of a
// request, ReadTimeout for the request from its first to its last byte (however
// slowly the bytes come), and WriteTimeout for each write. No read is under way
// while a handler runs, so no read deadline cuts a long poll.
//
// It embeds the interface and not *net.TCPConn, although Hertz needs only its
// SyscallConn. The concrete type would also promote net's unexported writev
// path; net.Buffers, through which Hertz writes, would then bypass Write and its
// deadline. The interface also allows unix sockets.
//
// A parked connection is no more than this, so its fields are in an order without gaps.
type conn struct {
	net.Conn
	l       *listener
	peer    netip.Prefix
	watched connstate.ConnStater // the look-out for the peer's leaving; nil: there is none
	at      int                  // where it is in listener.conns; guarded by listener.mu

	// Used only by the goroutine that serves the connection, or by the one that
	// answers it while it is parked.
	client   *netip.Prefix // whose open request is counted; nil: nobody's
	head     []byte        // of a streamed request: what Hertz has not read yet
	stream   *streamed     // of the request under way; nil: it is not streamed
	got      int           // bytes of this request, or more where the next one has come with them
	answered bool          // a handler has returned; the next read waits for another request
	between  bool          // nothing of the next request has been read
	slow     bool          // the request ran out of time
	crowded  bool          // the request was one large one too many
	large    bool          // this request is counted in listener.large
	refused  bool          // the last answer closes the connection, maybe with unread bytes

	proxied bool // peer is a trusted proxy

	// Guarded by mu, which orders the deadlines of that goroutine and of drain.
	waiting bool // for the first byte of a request
	isCut   bool
	hasLeft bool // the peer has left, or the server was closed
	mu      sync.Mutex
	onLeave func() // called when the peer leaves
}

// watch looks out for the peer's leaving.
func (c *conn) watch() {
	watched, err := connstate.ListenConnState(c, connstate.WithOnRemoteClosed(c.leave))
	if err != nil {
		c.l.opts.Logger.Warn("a peer's leaving will not be noticed", slog.Any("error", err))
		return
	}
	c.watched = watched
}

// leave is called when the peer has left, or the server was closed.
func (c *conn) leave() {
	c.mu.Lock()
	f := c.onLeave
	c.hasLeft, c.onLeave = true, nil
	c.mu.Unlock()
	if f != nil {
		f()
	}
}

// callOnLeave has f called when the peer leaves, or at once if it has left, instead of
// what was to be called before. For a parked request p that is over it does nothing: the
// connection may be serving the next one.
func (c *conn) callOnLeave(p *Parked, f func()) {
	c.mu.Lock()
	has := c.hasLeft
	if !has && (p == nil || !p.over.Load()) {
		c.onLeave = f
	}
	c.mu.Unlock()
	if has {
		f()
	}
}

// Read reads for Hertz. If the deadline passes before the first byte of a
// request, Read returns EOF and not a time-out. On a time-out Hertz would
// answer 408, and a client that reuses the connection would take that for the
// answer to its next request.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	if c.answered {
		c.answered = false
		c.awaitRequest(c.l.opts.IdleTimeout)
	}
	n, err := c.Conn.Read(p)
	start := c.between // else what is read may be the middle of a request
	for c.between && n > 0 {
		if n = copy(p, bytes.TrimLeft(p[:n], "\r\n")); n > 0 || err != nil { // empty lines before a request: RFC 9112, section 2.2
			c.between = n == 0
			fixExpect(p[:n])
			break
		}
		n, err = c.Conn.Read(p)
	}
	if n > 0 && c.waiting {
		stack.Grow()
		c.got = 0
		c.requestBegins()
		if start && c.beginStream(p[:n]) {
			fixExpect(c.head)
			return c.Read(p)
		}
	}
	if c.got += n; !c.admitLarge() {
		c.crowded = true
		return 0, errCrowded
	}
	if isTimeout(err) {
		if c.waiting {
			return n, io.EOF
		}
		c.slow = true
	}
	return n, err
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

var errCrowded = errors.New("too many large requests")

// admitLarge counts a request that turns out to be large, and reports whether
// there is room for it. A body is read before its token is checked, so without this
// limit a stranger could fill the memory.
func (c *conn) admitLarge() bool {
	if c.large || c.got <= usualRequest {
		return true
	}
	if c.l.large.Add(1) > maxLarge {
		c.l.large.Add(-1)
		return false
	}
	c.large = true
	return true
}

// requestEnds gives back what the request was counted as. It reports whether the
// connection can be used again.
func (c *conn) requestEnds() (usable bool) {
	usable = true
	if c.stream != nil {
		usable = c.stream.end()
		c.stream, c.refused = nil, c.refused || !usable
	}
	if c.large {
		c.large = false
		c.l.large.Add(-1)
	}
	if c.client != nil {
		c.l.endRequest(*c.client)
		c.client = nil
	}
	return usable
}

// fixExpect changes, in the bytes that a request begins with, an Expect that Hertz
// would read wrongly. Hertz knows 100-continue in lower case only, while RFC 9110,
// section 10.1.1, has it in any case: the client would wait for a 100 that never
// comes, and the server for the body. And in HTTP/1.0 it must be ignored, because
// such a client takes a 100 for the answer; there the header gets another name. A
// head that arrives in several pieces is left as it is: then the client sends
// its body after a while, as all do.
func fixExpect(request []byte) {
	i := bytes.Index(request, []byte("xpect:"))
	if i < 2 || request[i-2] != '\n' || bytes.Contains(request[:i], []byte("\r\n\r\n")) {
		return
	}
	line, _, _ := bytes.Cut(request, []byte("\r\n"))
	if bytes.HasSuffix(line, []byte(" HTTP/1.0")) {
		copy(request[i-1:], "Ignore")
		return
	}
	value, _, _ := bytes.Cut(request[i+len("xpect:"):], []byte("\r\n"))
	copy(value, bytes.ToLower(value))
}

// Write writes within WriteTimeout. Hertz answers what it cannot parse by
// itself, in plain text and without a hook; Write replaces those answers with
// Options.Refuse's.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.setDeadline(c.Conn.SetWriteDeadline, c.l.opts.WriteTimeout)
	c.mu.Unlock()
	status := hertzRefusal(p)
	if status == 0 {
		return c.Conn.Write(p)
	}
	if c.slow { // Hertz says 400 for a header that the deadline cut short
		status = consts.StatusRequestTimeout
	}
	if c.crowded {
		status = consts.StatusServiceUnavailable
	}
	c.refused = true
	if _, err := c.Conn.Write(c.l.refuse(status)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetReadDeadline ignores Hertz's own deadlines: Hertz sets none for the first
// request of a connection. For a later request it would still wait IdleTimeout
// after the first three bytes have come.
func (c *conn) SetReadDeadline(time.Time) error { return nil }

// SyscallConn gives Hertz the descriptor, on which it notices that the peer
// has disconnected.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	sc, ok := c.socket().(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return sc.SyscallConn()
}

// Close ends the look-out, and closes the connection. After a refusal it first closes the sending
// direction, and then reads for at most lingerTime and lingerBytes. A close with
// unread bytes would send a reset, and the reset would delete the answer from
// the receive buffer of a peer that is still sending a large body.
func (c *conn) Close() error {
	if c.watched != nil {
		_ = c.watched.Close()
	}
	if half, ok := c.Conn.(interface{ CloseWrite() error }); c.refused && ok && half.CloseWrite() == nil {
		c.mu.Lock()
		c.limitReads(lingerTime)
		c.mu.Unlock()
		_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
	}
	c.mu.Lock()
	isCut := c.isCut
	c.mu.Unlock()
	if isCut {
		return c.socket().Close() // TLS would take leave first, for up to five seconds
	}
	return c.Conn.Close()
}

func (c *conn) awaitRequest(limit time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = true
	if isClosed(c.l.draining) {
		limit = min(limit, c.l.drainGrace)
	}
	c.limitReads(limit)
}

func (c *conn) requestBegins() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
	c.limitReads(c.l.opts.ReadTimeout)
}

// hurry shortens the wait for a request to drainGrace.
func (c *conn) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting {
		c.limitReads(c.l.drainGrace)
	}
}

func (c *conn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = true
	_ = c.Conn.SetDeadline(time.Unix(1, 0))
}

// limitReads limits the reads from now on. TLS also writes while it reads: its handshake,
// and the answers to new keys. Call it with mu held.
func (c *conn) limitReads(limit time.Duration) {
	if c.l.tls != nil {
		c.setDeadline(c.Conn.SetDeadline, limit)
	} else {
		c.setDeadline(c.Conn.SetReadDeadline, limit)
	}
}

// setDeadline calls set for limit from now, unless the connection is cut. Call
// it with mu held.
func (c *conn) setDeadline(set func(time.Time) error, limit time.Duration) {
	if !c.isCut {
		_ = set(time.Now().Add(limit))
	}
}

// RefusedStatuses is the closed list of statuses that Events.RequestRefused is
// given: those of hertzRefusal, 400 for unsound framing, and 503 for one large request
// too many.
func RefusedStatuses() []string { return []string{"400", "408", "413", "431", "503"} }

// hertzRefusal returns the status of an answer that Hertz wrote by itself before
// any handler ran, else 0. It compares the text, because nothing else
// distinguishes such an answer when it is written, and no handler of ours sends
// these texts (they answer JSON). If an upgrade of Hertz rewords them,
// TestServer_Refusal fails.
func hertzRefusal(response []byte) int {
	head, body, ok := bytes.Cut(response, []byte("\r\n\r\n"))
	if !ok || len(head) < len("HTTP/1.1 400") || !bytes.HasPrefix(head, []byte("HTTP/1.1 4")) {
		return 0
	}
	status, err := strconv.Atoi(string(head[9:12]))
	if err != nil {
		return 0
	}
	var text string
	switch status {
	case consts.StatusBadRequest:
		text = "Error when parsing request"
	case consts.StatusRequestTimeout:
		text = "Request timeout"
	case consts.StatusRequestEntityTooLarge:
		text = "Request Entity Too Large"
	case consts.StatusRequestHeaderFieldsTooLarge:
		text = "Request Header Fields Too Large"
	}
	if text == "" || string(body) != text {
		return 0
	}
	return status
}
