package api

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/cloudwego/hertz/pkg/protocol/consts"
)

// Why a connection was turned away: the closed list behind ServerEvents.ConnShed.
const (
	ShedMaxConns      = "max_conns"
	ShedMaxConnsPerIP = "max_conns_per_ip"
	ShedAcceptError   = "accept_error" // the kernel had none to give: EMFILE, ENFILE, ENOBUFS
)

const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
	lingerTime     = 500 * time.Millisecond
	lingerBytes    = 4 << 20
)

// guardedListener closes the holes that Hertz's standard transport leaves open
// (measured on v0.10.6): no read deadline on a connection's first request, no
// write deadline at all, no bound on connections, and an Accept error that
// ends the process with exit code 0.
//
// It knows every connection from Accept until its goroutine has returned, so
// "empty" means that nothing of a request is left running.
type guardedListener struct {
	opts   ServerOptions
	refuse func(status int) []byte // a whole response, for what Hertz refuses by itself

	draining chan struct{} // closed first
	empty    chan struct{} // closed when draining and the last connection is gone

	mu    sync.Mutex // before guardedConn.mu
	inner net.Listener
	conns map[*guardedConn]struct{}
	perIP map[netip.Prefix]int
}

func newGuardedListener(opts ServerOptions, refuse func(int) []byte) *guardedListener {
	return &guardedListener{
		opts: opts, refuse: refuse, inner: opts.Listener,
		draining: make(chan struct{}), empty: make(chan struct{}),
		conns: map[*guardedConn]struct{}{}, perIP: map[netip.Prefix]int{},
	}
}

// Accept returns the next admitted connection. It fails only once the listener
// is closed: every other error (accept(2) lists a dozen transient ones) is
// waited out, since a server that stops listening is worse than one that waits.
func (g *guardedListener) Accept() (net.Conn, error) {
	inner, pause := g.bound(), acceptPauseMin
	for {
		conn, err := inner.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !g.waitOut(err, pause) {
				return nil, net.ErrClosed // Hertz ends its loop without a word at "closed"
			}
			pause = min(2*pause, acceptPauseMax)
			continue
		}
		pause = acceptPauseMin
		c, why := g.admit(conn)
		if c != nil {
			return c, nil
		}
		if why != "" {
			g.opts.Events.ConnShed(why)
		}
		_ = conn.Close()
	}
}

// Close stops accepting; what is accepted already lives on.
func (g *guardedListener) Close() error { return g.bound().Close() }

// Addr is where the listener is bound.
func (g *guardedListener) Addr() net.Addr { return g.bound().Addr() }

func (g *guardedListener) bound() net.Listener {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inner
}

func (g *guardedListener) waitOut(err error, pause time.Duration) bool {
	g.opts.Events.ConnShed(ShedAcceptError)
	g.opts.Logger.Warn("accept failed, will retry", slog.Any("error", err), slog.Duration("pause", pause))
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-g.draining:
		return false
	}
}

// admit takes conn into the books, or says why not. The reason is empty when
// the server is draining: nobody is turned away for load then.
func (g *guardedListener) admit(conn net.Conn) (*guardedConn, string) {
	c := &guardedConn{Conn: conn, g: g, peer: peerOf(conn)}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case chanClosed(g.draining):
		return nil, ""
	case len(g.conns) >= g.opts.MaxConns:
		return nil, ShedMaxConns
	case g.opts.MaxConnsPerIP > 0 && c.peer.IsValid() && g.perIP[c.peer] >= g.opts.MaxConnsPerIP:
		return nil, ShedMaxConnsPerIP
	}
	g.conns[c] = struct{}{}
	g.perIP[c.peer]++
	c.await(g.opts.ReadTimeout)
	return c, ""
}

// release strikes c from the books; its goroutine has nothing left to do.
func (g *guardedListener) release(c *guardedConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
	if g.perIP[c.peer]--; g.perIP[c.peer] == 0 {
		delete(g.perIP, c.peer)
	}
	if chanClosed(g.draining) && len(g.conns) == 0 {
		close(g.empty)
	}
}

// drain stops accepting and gives connections that wait for a request the
// grace to send one more, which will be answered with Connection: close.
func (g *guardedListener) drain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if chanClosed(g.draining) {
		return
	}
	close(g.draining)
	if g.inner != nil {
		_ = g.inner.Close()
	}
	for c := range g.conns {
		c.hurry()
	}
	if len(g.conns) == 0 {
		close(g.empty)
	}
}

// cut makes every read and write fail from now on. It does not close the
// sockets: only the goroutine that serves one may, because Hertz takes the
// descriptor out of its epoll set by number, and by then the number could be
// somebody else's.
func (g *guardedListener) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		c.cut()
	}
}

func (g *guardedListener) open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.conns)
}

// guardedConn is a connection with absolute deadlines per request: waiting
// for the first byte has one, the request from its first to its last byte has
// ReadTimeout however slowly it drips, and each write has WriteTimeout. While a
// handler runs nobody reads, so a long poll is not cut.
//
// It embeds the interface and not *net.TCPConn, though Hertz needs only
// SyscallConn of that: the concrete type would also promote net's unexported
// writev path, and net.Buffers, through which Hertz writes, would then bypass
// Write and with it the write deadline. Unix sockets fit, too.
type guardedConn struct {
	net.Conn
	g    *guardedListener
	peer netip.Prefix

	// Touched only by the goroutine that serves the connection.
	answered bool // a handler is done; the next read waits for another request
	slow     bool // the request ran out of its time
	refused  bool // the last answer closes the connection, maybe with bytes unread

	mu      sync.Mutex // orders deadlines between that goroutine and drain
	waiting bool       // for the first byte of a request
	isCut   bool
}

// Read reads for Hertz. Silence until the deadline is an EOF and no time-out:
// nothing was asked, and an unasked-for 408 on a reused connection would be
// taken as the answer to the next request.
func (c *guardedConn) Read(p []byte) (int, error) {
	if c.answered {
		c.answered = false
		c.await(c.g.opts.IdleTimeout)
	}
	n, err := c.Conn.Read(p)
	if n > 0 && c.waiting {
		c.begin()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if c.waiting {
			return n, io.EOF
		}
		c.slow = true
	}
	return n, err
}

// Write writes within WriteTimeout. Hertz answers what it cannot parse by
// itself, in plain text and without a hook; those answers are exchanged here
// for the house's own.
func (c *guardedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.arm(c.Conn.SetWriteDeadline, c.g.opts.WriteTimeout)
	c.mu.Unlock()
	status := hertzRefusal(p)
	if status == 0 {
		return c.Conn.Write(p)
	}
	if c.slow { // Hertz says 400 where the header was cut short by the clock
		status = consts.StatusRequestTimeout
	}
	c.refused = true
	if _, err := c.Conn.Write(c.g.refuse(status)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetReadDeadline ignores Hertz's own deadlines: it sets none for the first
// request, and would let three bytes of a later one sit for IdleTimeout.
func (c *guardedConn) SetReadDeadline(time.Time) error { return nil }

// SyscallConn is what Hertz watches for the peer's leaving.
func (c *guardedConn) SyscallConn() (syscall.RawConn, error) {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return sc.SyscallConn()
}

// Close closes. After a refusal it first says so and reads on for a moment:
// closing with bytes unread sends a reset, which would destroy the answer in
// the peer's buffer while it is still sending its 2 MB.
func (c *guardedConn) Close() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); c.refused && ok && half.CloseWrite() == nil {
		c.mu.Lock()
		c.arm(c.Conn.SetReadDeadline, lingerTime)
		c.mu.Unlock()
		_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
	}
	return c.Conn.Close()
}

func (c *guardedConn) await(limit time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = true
	if chanClosed(c.g.draining) {
		limit = min(limit, c.g.opts.DrainGrace)
	}
	c.arm(c.Conn.SetReadDeadline, limit)
}

func (c *guardedConn) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
	c.arm(c.Conn.SetReadDeadline, c.g.opts.ReadTimeout)
}

func (c *guardedConn) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting {
		c.arm(c.Conn.SetReadDeadline, c.g.opts.DrainGrace)
	}
}

func (c *guardedConn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = true
	_ = c.Conn.SetDeadline(time.Unix(1, 0))
}

// arm sets a deadline with mu held; none is set any more on a cut connection.
func (c *guardedConn) arm(set func(time.Time) error, limit time.Duration) {
	if !c.isCut {
		_ = set(time.Now().Add(limit))
	}
}

// peerOf is whom a connection is counted for: an IPv4 address, or the /64 that
// one IPv6 subscriber gets. Invalid, and so not limited, for a unix socket.
func peerOf(conn net.Conn) netip.Prefix {
	addr, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := addr.AddrPort().Addr().Unmap().WithZone("")
	p, _ := ip.Prefix(min(ip.BitLen(), 64))
	return p
}

func chanClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
