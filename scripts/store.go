package scripts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/valkey-io/valkey-go"

	_ "doorstep/scripts/flowbuffer" // before valkey-go reads its environment
	"doorstep/sessions"
)

var (
	//go:embed open.lua
	openLua string
	//go:embed update.lua
	updateLua string
	//go:embed end.lua
	endLua string
	//go:embed meta.lua
	metaLua string
)

// Store is sessions.Live on Valkey 8 or Redis 7 and later: one server, the
// primary that sentinels name, or a cluster. Each call is one round trip with a
// deadline of its own, behind a bulkhead and the breaker of the server it goes
// to, so a server that stalls costs a caller at most Options.Timeout (more where
// this process is too busy to tell, see laps) and, soon, nothing; and a cluster's
// other servers notice nothing of it.
//
// New connects to nothing; Run does, and keeps doing so: until it has, and
// whenever the store is away, every call fails with sessions.ErrUnavailable at
// once. Safe for concurrent use.
type Store struct {
	opts  Options
	nodes *nodes
	slots chan struct{} // the bulkhead
	watch *watcher
	laps  *laps

	open, update, end, meta *valkey.Lua
}

var _ sessions.Live = (*Store)(nil)

// Options are a store's settings. Zero means default.
type Options struct {
	// URL is unix:///path, redis://, valkey://, rediss:// or valkeys://. A
	// cluster is told from a server by asking; ?addr=host:port names further
	// nodes of it to begin with. ?master_set=name makes the hosts sentinels.
	URL string
	// CA is the PEM of the authority that signed the servers' certificates.
	// Empty: the system's roots. All servers must answer to the URL's host name.
	CA   []byte
	Live sessions.LiveOptions
	// Now drives the scripts' clock, for tests and replays. Nil: the store's
	// own TIME, which is what production wants.
	Now func() time.Time
	// Timeout of one call. 250 ms; in a process that is behind with its own work
	// up to 1.75 s more, see laps.
	Timeout time.Duration
	// MaxInFlight calls at once; one more waits for a place, within its Timeout.
	// 4096.
	MaxInFlight int
	Log         *slog.Logger
	Metrics     Metrics
	// Trace begins a span for a call, by its verb; the function it returns ends
	// it. Nil: no traces.
	Trace func(ctx context.Context, verb string) (context.Context, func(err error))
}

// Metrics is told of every call and of the breaker.
type Metrics interface {
	// StoreCall: verb is one of Verbs, result one of Results.
	StoreCall(verb, result string, took time.Duration)
	// StoreBreaker: closed, half-open or open, the worst of a cluster's. Called
	// under a breaker's lock: it must only set a gauge.
	StoreBreaker(state string)
}

type noMetrics struct{}

func (noMetrics) StoreCall(string, string, time.Duration) {}
func (noMetrics) StoreBreaker(string)                     {}

func (o Options) withDefaults() Options {
	o.Live = o.Live.WithDefaults()
	if o.Timeout == 0 {
		o.Timeout = 250 * time.Millisecond
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = 4096
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = noMetrics{}
	}
	return o
}

// New checks the settings; it does no I/O.
func New(opts Options) (*Store, error) {
	opts = opts.withDefaults()
	option, err := clientOption(opts)
	if err != nil {
		return nil, err
	}
	s := &Store{
		opts: opts, slots: make(chan struct{}, opts.MaxInFlight), nodes: newNodes(opts, option), laps: newLaps(),
		open: valkey.NewLuaScript(openLua), update: valkey.NewLuaScript(withSettings(updateLua, updateSettings(opts.Live))),
		end: valkey.NewLuaScript(endLua), meta: valkey.NewLuaScript(metaLua),
	}
	s.watch = newWatcher(s.nodes, s.laps, opts.Log)
	return s, nil
}

// clientOption is the settings that LIBRARIES measured: one connection that
// pipelines always, so that a caller's deadline never closes it; no retries of
// its own, the breaker owns that; a second to notice a dead peer.
func clientOption(o Options) (valkey.ClientOption, error) {
	opt, err := valkey.ParseURL(o.URL)
	if err != nil {
		return opt, fmt.Errorf("live store url: %w", err)
	}
	if err := trust(opt.TLSConfig, o.CA); err != nil {
		return opt, err
	}
	opt.PipelineMultiplex = -1
	opt.AlwaysPipelining = true
	opt.DisableCache = true
	opt.DisableRetry = true
	// Commands of many callers go out together, at most so much later; a single
	// caller's at once. Under a flood of 64 connections that spares the gateway 15 %
	// of its CPU and the store 10 %, by bench/load; 20 µs spared 2 %.
	opt.MaxFlushDelay = 100 * time.Microsecond
	opt.ConnWriteTimeout = time.Second
	opt.Dialer.Timeout = time.Second
	opt.Dialer.KeepAlive = time.Second
	opt.ReadBufferEachConn, opt.WriteBufferEachConn = 64<<10, 64<<10
	opt.ClientName = "doorstep"
	opt.ClientSetInfo = valkey.DisableClientSetInfo // Redis 7.0 has no such command, and no ACL file can name it there
	// Sentinels are reached as the servers are, but take no user of theirs.
	// Without the interval one missed announcement binds us to the old primary.
	opt.Sentinel.Dialer, opt.Sentinel.TLSConfig = opt.Dialer, opt.TLSConfig
	opt.Sentinel.TopologyRefreshInterval = 5 * time.Second
	return opt, nil
}

// trust makes an authority of the caller's own the only one.
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

// Run finds out what the URL leads to, keeps a connection to every server of it
// that takes our calls, and the wake-ups, until ctx ends; then it closes them.
// Call it once.
func (s *Store) Run(ctx context.Context) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	laps := s.laps
	lapping, end := context.WithCancel(context.WithoutCancel(ctx)) // calls of the last moment wait for them, too
	var running sync.WaitGroup
	running.Go(func() { laps.run(lapping, r, w) })
	s.nodes.run(ctx, s.watch.feed)
	end()
	running.Wait()
	return errors.Join(r.Close(), w.Close())
}

// Ready reports whether the store answers, all of it: every server did so to
// its last probe, and no breaker is open. Half open counts: without traffic
// nothing would close it.
func (s *Store) Ready() bool { return s.nodes.ready() }

var (
	errNotConnected = errors.New("not connected yet")
	errTooMany      = errors.New("too many calls in flight")
)

// call runs one command on the server that holds key, and tells the metrics.
func (s *Store) call(ctx context.Context, verb, key string, f exchange) (valkey.ValkeyResult, error) {
	began, end := time.Now(), func(error) {}
	if s.opts.Trace != nil {
		ctx, end = s.opts.Trace(ctx, verb)
	}
	res, err := s.guarded(ctx, key, f)
	end(err)
	s.opts.Metrics.StoreCall(verb, resultOf(err), time.Since(began))
	if err != nil {
		return res, s.fault(ctx, verb, err)
	}
	return res, nil
}

// exchange is one round trip on a connection; what fails for a missing script is
// sent once more with it.
type exchange func(context.Context, valkey.Client) valkey.ValkeyResult

// guarded runs one command under the bulkhead and the deadline, which the
// redirections of a cluster share.
func (s *Store) guarded(ctx context.Context, key string, f exchange) (valkey.ValkeyResult, error) {
	n := s.nodes.of(key)
	if n == nil {
		return valkey.ValkeyResult{}, errNotConnected
	}
	ctx, stop := s.laps.within(ctx, s.opts.Timeout)
	defer stop()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return valkey.ValkeyResult{}, leftOr(ctx, errTooMany)
	}
	res, err := n.do(ctx, f)
	for range maxRedirections {
		to, asking, redirected := s.nodes.redirection(key, n, err)
		if !redirected {
			break
		}
		if asking {
			res, err = to.do(ctx, func(ctx context.Context, c valkey.Client) valkey.ValkeyResult { return f(ctx, asker{c}) })
		} else {
			res, err = to.do(ctx, f)
		}
		n = to
	}
	return res, err
}

func (s *Store) fault(ctx context.Context, verb string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", verb, ctx.Err())
	}
	return unavailable(verb, err)
}

// unreadable is a reply of a shape that no script of ours gives: somebody else
// has written to the key. To a caller that is a store that cannot be had.
func unreadable(verb string, err error) error {
	return unavailable(verb, fmt.Errorf("reply: %w", err))
}

func unavailable(verb string, err error) error {
	return fmt.Errorf("%s: %w: %w", verb, sessions.ErrUnavailable, err)
}

// clock is the scripts' clock argument: empty for the store's own.
func (s *Store) clock() string {
	if s.opts.Now == nil {
		return ""
	}
	return strconv.FormatInt(s.opts.Now().UnixMilli(), 10)
}

// Watch keeps the contract of sessions.Live.
func (s *Store) Watch(ctx context.Context, ref sessions.Ref, wake func()) (func(), error) {
	stop, err := s.watch.add(ctx, liveChannel(ref), wake)
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err) // the context's
	}
	return stop, nil
}
