package valkeyconn

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	_ "doorstep/scripts/valkeyconn/flowbuffer" // before valkey-go reads its environment
)

// Options are the settings of a Conn. Zero means default.
type Options struct {
	// URL is unix:///path, redis://, valkey://, rediss:// or valkeys://. A Conn
	// asks the server whether it is part of a cluster. ?addr=host:port names
	// further nodes of the cluster to ask. ?master_set=name makes the hosts
	// sentinels.
	URL string
	// URLFile holds the URL, where it can change. It is read again for each new
	// connection, of which only user and password are taken. Empty: URL holds.
	URLFile string
	// Password makes the password of a new connection. Nil: that of the URL holds.
	Password func(ctx context.Context, user string) (string, error)
	// Secret makes user and password of a new connection, in place of the URL's; an empty
	// user is the URL's. Nil: none.
	Secret func(ctx context.Context) (user, password string, err error)
	// CA is the PEM of the authority that signed the servers' certificates.
	// Empty: the system's roots. All servers must have a certificate for the
	// URL's host name.
	CA []byte
	// Timeout of one call. Zero is 250 ms. In a process that is too busy to read
	// a reply a call may take up to 1.75 s more (docs/adr/0010).
	Timeout time.Duration
	// Probe is a channel of the callers' kind that nobody publishes on. A new connection
	// for wake-ups subscribes to it, to learn whether it may. Empty: it does not ask.
	Probe string
	// Rights are commands that the user of a new connection must be allowed. They are sent
	// before it is used, and what else the server answers does not matter. None: it does
	// not ask.
	Rights [][]string
	// Decode turns the text of a channel's message into Message.Value, once,
	// when the message arrives. It must not block. Nil: the value is the text
	// itself.
	Decode func(text string) any
	// Log is nil for no log.
	Log *slog.Logger
	// OnBreaker is called when a breaker changes its state. state is closed,
	// half-open or open, the worst of all servers in use. It is called under a
	// breaker's lock, so it must only set a gauge. Nil: no call.
	OnBreaker func(state string)
}

// maxInFlight is how many calls run at once. One more waits for a place, within
// its Timeout.
const maxInFlight = 4096

func (o Options) withDefaults() Options {
	if o.Timeout == 0 {
		o.Timeout = 250 * time.Millisecond
	}
	if o.Decode == nil {
		o.Decode = func(text string) any { return text }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.OnBreaker == nil {
		o.OnBreaker = func(string) {}
	}
	return o
}

// clientOption sets up valkey-go. There is one connection, and it always
// pipelines: on such a connection a caller's deadline does not close it for the
// others. valkey-go does not retry, because the breaker decides about that. A
// dead peer is noticed after a second.
func clientOption(o Options) (valkey.ClientOption, error) {
	opt, err := valkey.ParseURL(o.URL)
	if err != nil {
		// The parser's error repeats the URL, or the part of a password that it took for a port.
		return opt, errors.New("live store url: not redis://user:password@host:port/number; " +
			"in user and password all but letters and digits must be percent-encoded")
	}
	if err := trust(opt.TLSConfig, o.CA); err != nil {
		return opt, err
	}
	if o.URLFile != "" || o.Password != nil || o.Secret != nil {
		opt.AuthCredentialsFn = func(valkey.AuthCredentialsContext) (valkey.AuthCredentials, error) { return o.renew(opt) }
	}
	opt.PipelineMultiplex = -1
	opt.AlwaysPipelining = true
	opt.DisableCache = true
	opt.DisableRetry = true
	// Commands of many callers are sent together, at most this much later; a
	// single caller's command is sent at once. With 64 busy connections this
	// saves the gateway 15 % of its CPU and the store 10 %, measured with
	// bench/load; 20 µs saved 2 %.
	opt.MaxFlushDelay = 100 * time.Microsecond
	opt.ConnWriteTimeout = time.Second
	opt.Dialer.Timeout = time.Second
	opt.Dialer.KeepAlive = time.Second
	opt.ReadBufferEachConn, opt.WriteBufferEachConn = 64<<10, 64<<10
	opt.ClientName = "doorstep"
	opt.ClientSetInfo = valkey.DisableClientSetInfo // Redis 7.0 has no such command, and no ACL file can name it there
	// Sentinels are reached as the servers are, but without the servers' user.
	// Without the refresh interval, one missed announcement would leave us with
	// the old primary.
	opt.Sentinel.Dialer, opt.Sentinel.TLSConfig = opt.Dialer, opt.TLSConfig
	opt.Sentinel.TopologyRefreshInterval = 5 * time.Second
	return opt, nil
}

// reauthAfter is when a password that was made is made anew and sent on the connection.
// ElastiCache ends one that has signed in by IAM after 12 hours without that.
const reauthAfter = 6 * time.Hour

// passwordIn is what making a password may take; valkey-go gives no context.
const passwordIn = time.Second

// renew reads user and password from the file, and makes the password. While the file
// cannot be read, those of the start hold.
func (o Options) renew(first valkey.ClientOption) (c valkey.AuthCredentials, err error) {
	if text, err := os.ReadFile(o.URLFile); o.URLFile != "" && err == nil {
		if now, err := valkey.ParseURL(strings.TrimSpace(string(text))); err == nil {
			first = now
		}
	}
	c = valkey.AuthCredentials{Username: first.Username, Password: first.Password}
	ctx, cancel := context.WithTimeout(context.Background(), passwordIn)
	defer cancel()
	if o.Secret != nil {
		user, password, err := o.Secret(ctx)
		if err != nil {
			return c, err
		}
		c.Username, c.Password = cmp.Or(user, c.Username), password
	}
	if o.Password != nil {
		c.Password, err = o.Password(ctx, c.Username)
		c.RefreshAfter = time.Now().Add(reauthAfter)
	}
	return c, err
}

// trust makes ca the only authority of config, if there is a ca.
func trust(config *tls.Config, ca []byte) error {
	if len(ca) == 0 {
		return nil
	}
	if config == nil {
		return errors.New("live store ca: the url asks for no TLS: write rediss:// or valkeys://")
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(ca) {
		return errors.New("live store ca: no certificate in it")
	}
	return nil
}
