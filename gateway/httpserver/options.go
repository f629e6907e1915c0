package httpserver

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/cloudwego/hertz/pkg/app"
)

// Defaults of Options. A test holds the settings of `gateway serve` to them.
const (
	DefaultAddr         = "127.0.0.1:8080"
	DefaultReadTimeout  = 10 * time.Second
	DefaultWriteTimeout = 10 * time.Second
	// DefaultIdleTimeout must outlast the load balancer's own idle time-out (AWS
	// ALB: 60 s). Otherwise the balancer reuses a connection that the server is
	// closing, and its client gets 502.
	DefaultIdleTimeout = 75 * time.Second
	DefaultMaxConns    = 60_000 // at about 4 kB each while parked: 0.24 GB; at 20 while idle or served: 1.2 GB
)

// Limits that are not settings.
const (
	maxBodyBytes   = 1 << 20  // a larger body is answered 413. Routes have lower limits of their own
	maxHeaderBytes = 16 << 10 // larger headers are answered 431
	usualRequest   = 64 << 10 // a larger request needs one of maxLarge places, else it is answered 503
	maxLarge       = 64
	// drainGrace is how long an idle connection may still send one last request
	// after a drain has begun.
	drainGrace = 500 * time.Millisecond
)

// Options are the limits of the listening side.
type Options struct {
	Listener net.Listener // the server takes it over. Nil: Addr is bound
	Addr     string       // host:port or unix:/path. Empty: DefaultAddr

	Certificate *Certificate // nil: HTTP in the clear, without TLS

	ReadTimeout  time.Duration // for a whole request, first byte to last, and for a new connection's TLS handshake and silence. 0: DefaultReadTimeout
	WriteTimeout time.Duration // for handing one write of a response to the kernel. 0: DefaultWriteTimeout
	IdleTimeout  time.Duration // for silence between two requests. 0: DefaultIdleTimeout

	MaxConns      int // open connections; one more is closed at once. 0: DefaultMaxConns
	MaxConnsPerIP int // the same by remote address. 0: no limit, because behind a load balancer all peers have the balancer's few addresses
	// TrustedProxies are the networks of the proxies whose X-Forwarded-For and
	// Forwarded are believed. Their connections are not bounded by MaxConnsPerIP,
	// which belong to many clients. Instead each client behind them may have as many
	// requests open at once, waits included; one more is answered 429.
	TrustedProxies []netip.Prefix

	// StreamPath is what the paths begin with whose handlers read the body themselves
	// (Body). Their bodies are not bounded here. Empty: none.
	StreamPath string

	// Refuse writes the headers and the body of an answer that no handler gives:
	// 400, 404, 405, 408, 413, 429, 431, 500 for a panic, 503 for one large request too
	// many, and every error status that a handler leaves without a body. For 400, 408,
	// 413, 431 and 503 there may have been no readable request; then c holds none. Required.
	Refuse func(c *app.RequestContext, status int)
	Events Events       // required
	Logger *slog.Logger // nil: discards. The first server's logger also gets Hertz's own warnings
}

// Events counts what no handler sees. The methods are called from many
// goroutines at once.
type Events interface {
	ConnShed(why string)       // why is one of ShedReasons
	RequestRefused(status int) // malformed, too large or too slow, before any handler; one of RefusedStatuses
	Panicked()                 // a handler panicked, or Hertz's parser did
}

// withDefaults fills in the defaults, or names the field that is wrong.
func (o Options) withDefaults() (Options, error) {
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"ReadTimeout", int64(o.ReadTimeout)},
		{"WriteTimeout", int64(o.WriteTimeout)},
		{"IdleTimeout", int64(o.IdleTimeout)},
		{"MaxConns", int64(o.MaxConns)},
		{"MaxConnsPerIP", int64(o.MaxConnsPerIP)},
	} {
		if f.value < 0 {
			return o, fmt.Errorf("httpserver: Options.%s: %d is negative", f.name, f.value)
		}
	}
	if o.Listener != nil && o.Addr != "" {
		return o, errors.New("httpserver: Options.Addr: set together with Listener")
	}
	if o.Refuse == nil || o.Events == nil {
		return o, errors.New("httpserver: Options.Refuse and Options.Events are required")
	}
	o.Addr = cmp.Or(o.Addr, DefaultAddr)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, DefaultReadTimeout)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, DefaultWriteTimeout)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, DefaultIdleTimeout)
	o.MaxConns = cmp.Or(o.MaxConns, DefaultMaxConns)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return o, nil
}
