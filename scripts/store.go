package scripts

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
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

// Store is sessions.Live on Valkey 8 or Redis 7 and later. Each call is one
// round trip with a deadline of its own, behind a bulkhead and a breaker, so a
// store that stalls costs a caller at most Options.Timeout and, soon, nothing.
//
// New connects to nothing; Run does, and keeps doing so: until it has, and
// whenever the store is away, every call fails with sessions.ErrUnavailable at
// once. Safe for concurrent use.
type Store struct {
	opts    Options
	client  atomic.Pointer[valkey.Client]
	breaker *gobreaker.CircuitBreaker[valkey.ValkeyResult]
	slots   chan struct{}
	watch   *watcher
	demoted atomic.Bool   // the server behind the connection has become a replica
	alive   atomic.Bool   // it answered the last probe
	retired valkey.Client // replaced, and closed a probe later, when its last calls are over; probe's own

	open, update, end, meta *valkey.Lua
}

var _ sessions.Live = (*Store)(nil)

// Options are a store's settings. Zero means default.
type Options struct {
	// URL is unix:///path, redis://, valkey://, rediss:// or valkeys://, with
	// ?addr=host:port for the other nodes of a cluster.
	URL  string
	Live sessions.LiveOptions
	// Now drives the scripts' clock, for tests and replays. Nil: the store's
	// own TIME, which is what production wants.
	Now func() time.Time
	// Timeout of one call. 250 ms.
	Timeout time.Duration
	// MaxInFlight calls at once; one more fails at once. 4096.
	MaxInFlight int
	Log         *slog.Logger
	Metrics     Metrics
}

// Metrics is told of every call and of the breaker.
type Metrics interface {
	// StoreCall: verb is one of Verbs, result one of Results.
	StoreCall(verb, result string, took time.Duration)
	// StoreBreaker: closed, half-open or open. Called under the breaker's
	// lock: it must only set a gauge.
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
	if _, err := clientOption(opts.URL); err != nil {
		return nil, err
	}
	s := &Store{
		opts: opts, slots: make(chan struct{}, opts.MaxInFlight),
		open: valkey.NewLuaScript(openLua), update: valkey.NewLuaScript(withSettings(updateLua, updateSettings(opts.Live))),
		end: valkey.NewLuaScript(endLua), meta: valkey.NewLuaScript(metaLua),
	}
	s.breaker = gobreaker.NewCircuitBreaker[valkey.ValkeyResult](s.breakerSettings())
	s.watch = newWatcher(opts.URL, opts.Log)
	return s, nil
}

// breakerSettings: a rolling ten seconds; half of at least twenty calls failed
// opens it, two seconds later three probes in a row close it. What the store
// refuses is an answer, and a caller that left says nothing about the store.
func (s *Store) breakerSettings() gobreaker.Settings {
	return gobreaker.Settings{
		Name: "live-store", MaxRequests: 3, Timeout: 2 * time.Second,
		Interval: 10 * time.Second, BucketPeriod: time.Second,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.Requests >= 20 && c.TotalFailures*2 >= c.Requests
		},
		IsSuccessful: answered,
		IsExcluded:   func(err error) bool { return errors.Is(err, context.Canceled) },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			s.opts.Metrics.StoreBreaker(to.String())
		},
	}
}

// answered reports whether a call says that the store is well. An error that the
// server itself gives is an answer: a store that is full still removes and
// reads, and must not be cut off from that. But not one that says that it cannot
// serve at all just now.
func answered(err error) bool {
	said, ok := valkey.IsValkeyErr(err)
	if err == nil || !ok {
		return err == nil
	}
	for _, unwell := range []string{"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY"} {
		if strings.HasPrefix(said.Error(), unwell) {
			return false
		}
	}
	return true
}

// clientOption is the settings that LIBRARIES measured: one connection that
// pipelines always, so that a caller's deadline never closes it; no retries of
// its own, the breaker owns that; a second to notice a dead peer.
func clientOption(url string) (valkey.ClientOption, error) {
	opt, err := valkey.ParseURL(url)
	if err != nil {
		return opt, fmt.Errorf("live store url: %w", err)
	}
	opt.PipelineMultiplex = -1
	opt.AlwaysPipelining = true
	opt.DisableCache = true
	opt.DisableRetry = true
	opt.ConnWriteTimeout = time.Second
	opt.Dialer.Timeout = time.Second
	opt.Dialer.KeepAlive = time.Second
	opt.ReadBufferEachConn, opt.WriteBufferEachConn = 64<<10, 64<<10
	opt.ClientName = "doorstep"
	return opt, nil
}

// Run connects, keeps the connection probed, and runs the watcher, until ctx
// ends; then it closes them. Call it once.
func (s *Store) Run(ctx context.Context) error {
	watched := make(chan struct{})
	go func() { defer close(watched); s.watch.run(ctx) }()
	s.probe(ctx)
	<-watched
	s.closeRetired()
	if c := s.client.Swap(nil); c != nil {
		(*c).Close()
	}
	return nil
}

// probe is what reconnects: while the breaker is open no caller's short
// deadline can spoil a dial, and this long one wins it. Without it a store
// that takes longer to dial than a call may last never comes back.
func (s *Store) probe(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		s.ping(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Store) ping(ctx context.Context) {
	s.closeRetired()
	if s.client.Load() == nil || s.demoted.Swap(false) {
		s.connect()
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c := *s.client.Load()
	err := c.Do(ctx, c.B().Ping().Build()).Error()
	s.alive.Store(err == nil)
	if err != nil && ctx.Err() == nil {
		s.opts.Log.DebugContext(ctx, "live store probe", slog.Any("error", err))
	}
}

func (s *Store) connect() {
	opt, err := clientOption(s.opts.URL)
	if err == nil {
		var c valkey.Client
		if c, err = valkey.NewClient(opt); err == nil {
			if old := s.client.Swap(&c); old != nil {
				s.retired = *old
			}
			s.alive.Store(true)
			s.opts.Log.Info("live store connected")
			return
		}
	}
	s.opts.Log.Warn("live store not reached", slog.Any("error", err))
}

func (s *Store) closeRetired() {
	if s.retired != nil {
		s.retired.Close()
		s.retired = nil
	}
}

// Ready reports whether the store answers: it did so to the last probe, and the
// breaker is not open. Half open counts: without traffic nothing would close it.
func (s *Store) Ready() bool {
	return s.client.Load() != nil && s.alive.Load() && s.breaker.State() != gobreaker.StateOpen
}

var (
	errNotConnected = errors.New("not connected yet")
	errTooMany      = errors.New("too many calls in flight")
)

// call runs one command, and tells the metrics.
func (s *Store) call(ctx context.Context, verb string, f func(context.Context, valkey.Client) valkey.ValkeyResult) (valkey.ValkeyResult, error) {
	began := time.Now()
	res, err := s.guarded(ctx, f)
	s.opts.Metrics.StoreCall(verb, resultOf(err), time.Since(began))
	if err != nil {
		return res, s.fault(ctx, verb, err)
	}
	return res, nil
}

// guarded runs one command under the bulkhead, the breaker and the deadline.
func (s *Store) guarded(ctx context.Context, f func(context.Context, valkey.Client) valkey.ValkeyResult) (valkey.ValkeyResult, error) {
	client := s.client.Load()
	if client == nil {
		return valkey.ValkeyResult{}, errNotConnected
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return valkey.ValkeyResult{}, errTooMany
	}
	return s.breaker.Execute(func() (valkey.ValkeyResult, error) {
		ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
		defer cancel()
		res := f(ctx, *client)
		return res, s.faultOf(ctx, res)
	})
}

// faultOf is nil for an answer. A nil reply is one.
//
// A server that has become a replica answers pings and refuses writes for ever:
// the one with the writes has another address by now, or will soon have, behind
// the same name. So the next probe connects anew.
func (s *Store) faultOf(ctx context.Context, res valkey.ValkeyResult) error {
	err := res.Error()
	if err == nil || valkey.IsValkeyNil(err) {
		return nil
	}
	// The caller's own cancellation must not count against the store; our
	// deadline must.
	if cause := context.Cause(ctx); errors.Is(cause, context.Canceled) {
		return cause
	}
	if refused, ok := valkey.IsValkeyErr(err); ok && strings.HasPrefix(refused.Error(), "READONLY") {
		s.demoted.Store(true)
	}
	return err
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
