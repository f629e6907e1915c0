package scripts

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"

	"doorstep/scripts/valkeyconn"
	"doorstep/sessions"
)

var (
	//go:embed open.lua
	openLua string
	//go:embed update.lua
	updateLua string
	//go:embed move.lua
	moveLua string
	//go:embed end.lua
	endLua string
	//go:embed meta.lua
	metaLua string
)

// Store is sessions.Live on Valkey 8 or Redis 7 and later: on one server, on the
// primary that sentinels name, or on a cluster. Each call is one round trip, with
// the deadline, bulkhead and breakers of valkeyconn.Conn.
//
// New connects to nothing; Run does, and connects again after every loss. Until
// Run has connected, and whenever the store is away, every call fails at once
// with sessions.ErrUnavailable. Safe for concurrent use.
type Store struct {
	opts Options
	conn *valkeyconn.Conn

	open, update, move, end, meta *valkey.Lua
}

var _ sessions.Live = (*Store)(nil)

// Options are the settings of a Store. Zero means default.
type Options struct {
	// URL and CA say which servers, as in valkeyconn.Options.
	URL  string
	CA   []byte
	Live sessions.LiveOptions
	// Now is the scripts' clock, for tests and replays. Nil, as in production:
	// the server's own TIME.
	Now func() time.Time
	// Timeout of one call, as in valkeyconn.Options.
	Timeout time.Duration
	// Log is nil for no log.
	Log     *slog.Logger
	Metrics Metrics
	// Trace begins a span for a call, by its verb. The function that it returns
	// ends the span. Nil: no traces.
	Trace func(ctx context.Context, verb string) (context.Context, func(err error))
}

// Metrics counts the calls and shows the breakers.
type Metrics interface {
	// StoreCall is called after every call. verb is one of Verbs, result one of
	// Results.
	StoreCall(verb, result string, took time.Duration)
	// StoreBreaker is called when a breaker changes its state. state is closed,
	// half-open or open: the worst among a cluster's servers. It is called under a
	// breaker's lock, so it must only set a gauge.
	StoreBreaker(state string)
}

type noMetrics struct{}

func (noMetrics) StoreCall(string, string, time.Duration) {}
func (noMetrics) StoreBreaker(string)                     {}

// New checks the settings. It does no I/O.
func New(opts Options) (*Store, error) {
	opts.Live = opts.Live.WithDefaults()
	if opts.Metrics == nil {
		opts.Metrics = noMetrics{}
	}
	conn, err := valkeyconn.New(valkeyconn.Options{
		URL: opts.URL, CA: opts.CA, Timeout: opts.Timeout, Log: opts.Log, OnBreaker: opts.Metrics.StoreBreaker,
		Decode: func(text string) any { return parseMessage(text) },
	})
	if err != nil {
		return nil, err
	}
	return &Store{
		opts: opts, conn: conn,
		open: valkey.NewLuaScript(openLua), update: valkey.NewLuaScript(withSettings(updateLua, updateSettings(opts.Live))),
		move: valkey.NewLuaScript(moveLua), end: valkey.NewLuaScript(endLua), meta: valkey.NewLuaScript(metaLua),
	}, nil
}

// Run keeps the connections until ctx ends. Call it once.
func (s *Store) Run(ctx context.Context) error { return s.conn.Run(ctx) }

// Ready reports whether all of the store answers, as valkeyconn.Conn.Ready does.
func (s *Store) Ready() bool { return s.conn.Ready() }

// call runs one exchange on the server that holds key, in a span, and counts it.
func (s *Store) call(ctx context.Context, verb, key string, e valkeyconn.Exchange) (valkey.ValkeyResult, error) {
	began, end := time.Now(), func(error) {}
	if s.opts.Trace != nil {
		ctx, end = s.opts.Trace(ctx, verb)
	}
	res, err := s.conn.Do(ctx, key, e)
	end(err)
	s.opts.Metrics.StoreCall(verb, resultOf(err), time.Since(began))
	if err != nil {
		return res, fault(ctx, verb, err)
	}
	return res, nil
}

// fault returns the context's error if the caller has left, and otherwise
// sessions.ErrUnavailable with the cause.
func fault(ctx context.Context, verb string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", verb, ctx.Err())
	}
	return unavailable(verb, err)
}

// unreadable is the error for a reply whose shape none of our scripts
// produces: another program has written to the key. The caller gets it as
// sessions.ErrUnavailable.
func unreadable(verb string, err error) error {
	return unavailable(verb, fmt.Errorf("reply: %w", err))
}

func unavailable(verb string, err error) error {
	return fmt.Errorf("%s: %w: %w", verb, sessions.ErrUnavailable, err)
}

// clock is the scripts' clock argument: empty for the server's own.
func (s *Store) clock() string {
	if s.opts.Now == nil {
		return ""
	}
	return strconv.FormatInt(s.opts.Now().UnixMilli(), 10)
}

// Watch implements sessions.Live.
func (s *Store) Watch(ctx context.Context, ref sessions.Ref, wake func()) (func(), error) {
	stop, err := s.conn.Subscribe(ctx, liveChannel(ref), wake)
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err) // the context's
	}
	return stop, nil
}

// The keys and the channel of docs/contract.md, section 2. The braces are the
// hash tag, so all keys of one trainer are in one slot. A sessions.ID is a
// canonical UUID, so nothing in it can close a brace. No key is built in Lua.

// journeyKey is the hash of one journey.
func journeyKey(ref sessions.Ref) string {
	return "location:trainer:{" + string(ref.TrainerID) + "}:session:" + string(ref.SessionID)
}

// liveChannel is the sharded channel on which the scripts publish a change.
func liveChannel(ref sessions.Ref) string {
	return "location:live:{" + string(ref.TrainerID) + "}:" + string(ref.SessionID)
}

// metaKey is the hash of a session's parties.
func metaKey(id sessions.ID) string { return "session:meta:" + string(id) }
