package httpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Why a connection was closed on arrival: the reasons of Events.ConnShed.
const (
	shedMaxConns      = "max_conns"
	shedMaxConnsPerIP = "max_conns_per_ip"
	shedAcceptError   = "accept_error"  // the kernel had no descriptor or buffer: EMFILE, ENFILE, ENOBUFS
	shedTLSHandshake  = "tls_handshake" // it failed, or took too long
)

// ShedReasons is the closed list of reasons that Events.ConnShed is given.
func ShedReasons() []string {
	return []string{shedMaxConns, shedMaxConnsPerIP, shedAcceptError, shedTLSHandshake}
}

const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
	lingerTime     = 500 * time.Millisecond
	lingerBytes    = 4 << 20
)

// listener admits connections within the limits and knows each of them from
// Accept until its goroutine has returned. So "empty" means that nothing of any
// request is still running. Safe for concurrent use.
type listener struct {
	opts       Options
	tls        *tls.Config // nil: in the clear
	server     *Server
	refuse     func(status int) []byte // a whole response, to replace one that Hertz wrote by itself
	drainGrace time.Duration           // the constant of that name; shorter in tests

	draining chan struct{} // closed first
	empty    chan struct{} // closed when draining and the last connection is gone

	large   atomic.Int64 // requests under way that are larger than usualRequest
	streams atomic.Int64 // streamed bodies under way that are

	mu    sync.Mutex // locked before conn.mu
	inner net.Listener
	conns []*conn              // in no order; a map of them takes six times as much
	perIP map[netip.Prefix]int // connections and requests of an address; empty without MaxConnsPerIP
}

func newListener(opts Options, s *Server) *listener {
	l := &listener{
		opts: opts, server: s, refuse: s.refusal, drainGrace: drainGrace, inner: opts.Listener,
		draining: make(chan struct{}), empty: make(chan struct{}),
		perIP: map[netip.Prefix]int{},
	}
	if opts.Certificate != nil {
		l.tls = opts.Certificate.config()
	}
	return l
}

// bind listens on the address, unless it does already.
func (l *listener) bind(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if isClosed(l.draining) {
		return ErrClosed
	}
	if l.inner != nil {
		return nil
	}
	network, addr := "tcp", l.opts.Addr
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	var err error
	l.inner, err = new(net.ListenConfig).Listen(ctx, network, addr)
	return err
}

// accept returns the next admitted connection. It fails only after the listener
// was closed. After any other error (accept(2) lists a dozen transient ones) it
// pauses and tries again: a server that stops listening does more harm than one
// that accepts late.
func (l *listener) accept() (*conn, error) {
	inner, pause := l.bound(), acceptPauseMin
	for {
		accepted, err := inner.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !l.waitOut(err, pause) {
				return nil, net.ErrClosed
			}
			pause = min(2*pause, acceptPauseMax)
			continue
		}
		pause = acceptPauseMin
		c, why := l.admit(accepted)
		if c != nil {
			return c, nil
		}
		if why != "" {
			l.opts.Events.ConnShed(why)
		}
		_ = accepted.Close()
	}
}

func (l *listener) bound() net.Listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inner
}

// waitOut pauses after an Accept error; false when a drain has begun.
func (l *listener) waitOut(err error, pause time.Duration) bool {
	l.opts.Events.ConnShed(shedAcceptError)
	l.opts.Logger.Warn("accept failed, will retry", slog.Any("error", err), slog.Duration("pause", pause))
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.draining:
		return false
	}
}

// admit registers a connection, or returns why it is refused. The reason is
// empty during a drain, because that is not load.
func (l *listener) admit(accepted net.Conn) (*conn, string) {
	c := &conn{Conn: accepted, l: l, peer: peerOf(accepted), proxied: l.proxied(accepted), between: true}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case isClosed(l.draining):
		return nil, ""
	case len(l.conns) >= l.opts.MaxConns:
		return nil, shedMaxConns
	case l.opts.MaxConnsPerIP > 0 && c.peer.IsValid() && !c.proxied && l.perIP[c.peer] >= l.opts.MaxConnsPerIP:
		return nil, shedMaxConnsPerIP
	}
	if l.tls != nil {
		c.Conn = tls.Server(accepted, l.tls)
	}
	c.at = len(l.conns)
	l.conns = append(l.conns, c)
	if l.opts.MaxConnsPerIP > 0 && !c.proxied {
		l.perIP[c.peer]++
	}
	c.awaitRequest(l.opts.ReadTimeout)
	return c, ""
}

// release forgets a connection whose goroutine is about to return.
func (l *listener) release(c *conn) {
	c.requestEnds()
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.conns[len(l.conns)-1]
	l.conns[c.at], last.at = last, c.at
	l.conns = slices.Delete(l.conns, len(l.conns)-1, len(l.conns))
	if l.opts.MaxConnsPerIP > 0 && !c.proxied {
		l.uncount(c.peer)
	}
	if isClosed(l.draining) && len(l.conns) == 0 {
		close(l.empty)
	}
}

// drain stops accepting. A connection that waits for a request may send one more
// within drainGrace; it is answered with Connection: close.
func (l *listener) drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if isClosed(l.draining) {
		return
	}
	close(l.draining)
	if l.inner != nil {
		_ = l.inner.Close()
	}
	for _, c := range l.conns {
		c.hurry()
	}
	if len(l.conns) == 0 {
		close(l.empty)
	}
}

// cut makes every read and write fail from now on. It does not close the
// sockets. Only the goroutine that serves a socket may close it: Hertz takes
// the descriptor out of its epoll set by number, and after a close from
// elsewhere the number could belong to another connection.
func (l *listener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.cut()
	}
}

// leave ends the contexts of all requests, and the waits of parked ones.
func (l *listener) leave() {
	l.mu.Lock()
	all := slices.Clone(l.conns)
	l.mu.Unlock()
	for _, c := range all {
		c.leave()
	}
}

func (l *listener) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// peerOf is the address that a connection is counted under: an IPv4 address, or
// the /64 network that one IPv6 subscriber gets. A unix socket has none; it is
// invalid and not limited.
func peerOf(c net.Conn) netip.Prefix {
	addr, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	return networkOf(addr.AddrPort().Addr().Unmap().WithZone(""))
}

// proxied reports whether a connection comes from a trusted proxy.
func (l *listener) proxied(c net.Conn) bool {
	addr, ok := c.RemoteAddr().(*net.TCPAddr)
	return ok && contains(l.opts.TrustedProxies, addr.AddrPort().Addr().Unmap().WithZone(""))
}

// beginRequest counts a request of a trusted proxy under the client's address,
// beside the connections that come from there directly. It returns false if there
// are too many.
func (l *listener) beginRequest(client netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.perIP[client] >= l.opts.MaxConnsPerIP {
		return false
	}
	l.perIP[client]++
	return true
}

func (l *listener) endRequest(client netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.uncount(client)
}

// uncount forgets one connection or request of an address. Call it with mu held.
func (l *listener) uncount(peer netip.Prefix) {
	if l.perIP[peer]--; l.perIP[peer] == 0 {
		delete(l.perIP, peer)
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
