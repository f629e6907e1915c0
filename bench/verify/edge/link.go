package edge

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"doorstep/internal/pause"
)

// Link is a long way between two regions, as a TCP proxy on loopback: what one end sends
// arrives at the other one trip later, in order. It does not delay the making of a
// connection, of which a busy way needs few. Safe for concurrent use.
type Link struct {
	trip   time.Duration
	to     string
	listen net.Listener
	conns  sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]struct{}
	// cut is closed when the way is whole again; nil while it is.
	cut chan struct{}

	carried atomic.Int64
}

// NewLink listens on a free port of loopback and passes on to an address, host:port or
// the path of a unix socket. trip is one way.
func NewLink(to string, trip time.Duration) (*Link, error) {
	var config net.ListenConfig
	listen, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &Link{trip: trip, to: to, listen: listen, open: map[net.Conn]struct{}{}}
	l.conns.Go(l.accept)
	return l, nil
}

// Addr is where the link listens.
func (l *Link) Addr() string { return l.listen.Addr().String() }

// Carried is how many bytes have arrived, both ways.
func (l *Link) Carried() int64 { return l.carried.Load() }

// Cut stops all that is under way and all that comes, without telling either end, until
// Heal.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut == nil {
		l.cut = make(chan struct{})
	}
}

// Heal ends the connections that were open during the cut; new ones are whole.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut == nil {
		return
	}
	for conn := range l.open {
		_ = conn.Close()
	}
	close(l.cut)
	l.cut = nil
}

// Close ends the link and its connections.
func (l *Link) Close() error {
	err := l.listen.Close()
	l.Heal()
	l.mu.Lock()
	for conn := range l.open {
		_ = conn.Close()
	}
	l.mu.Unlock()
	l.conns.Wait()
	return err
}

func (l *Link) accept() {
	for {
		from, err := l.listen.Accept()
		if err != nil {
			return
		}
		l.conns.Go(func() { l.carry(from) })
	}
}

func (l *Link) carry(from net.Conn) {
	defer l.forget(from)
	if !l.keep(from) {
		return
	}
	network, dialer := "tcp", net.Dialer{}
	if strings.HasPrefix(l.to, "/") {
		network = "unix"
	}
	to, err := dialer.DialContext(context.Background(), network, l.to)
	if err != nil {
		return
	}
	defer l.forget(to)
	if !l.keep(to) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.oneWay(to, from) })
	both.Go(func() { l.oneWay(from, to) })
	both.Wait()
}

// keep waits until the link is whole and notes a connection for Heal and Close.
func (l *Link) keep(c net.Conn) bool {
	l.mu.Lock()
	l.open[c] = struct{}{}
	cut := l.cut
	l.mu.Unlock()
	if cut == nil {
		return true
	}
	<-cut
	return false
}

func (l *Link) forget(c net.Conn) {
	_ = c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}

// piece is what one Read gave, and when it arrives.
type piece struct {
	bytes []byte
	at    time.Time
}

// inFlight is how many pieces of up to 16 KB may be under way in one direction.
const inFlight = 1024

func (l *Link) oneWay(to, from net.Conn) {
	way := make(chan piece, inFlight)
	go func() {
		defer close(way)
		for {
			b := make([]byte, 16<<10)
			n, err := from.Read(b)
			if n > 0 {
				way <- piece{b[:n], time.Now().Add(l.trip)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range way {
		_ = pause.For(context.Background(), time.Until(p.at))
		if !l.whole() {
			continue // lost
		}
		if n, err := to.Write(p.bytes); err == nil {
			l.carried.Add(int64(n))
		} else if !errors.Is(err, net.ErrClosed) {
			_ = from.Close()
		}
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

func (l *Link) whole() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut == nil
}
