package scripts

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
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
	//go:embed updateall.lua
	updateAllLua string
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

	open, update, updateAll, move, end, meta *valkey.Lua
}

var _ sessions.Live = (*Store)(nil)

// Options are the settings of a Store. Zero means default.
type Options struct {
	// URL, URLFile and CA say which servers, as in valkeyconn.Options.
	URL     string
	URLFile string
	// Password makes the password of a new connection. Nil: that of the URL holds.
	Password func(ctx context.Context, user string) (string, error)
	// Secret makes its user and password. Nil: none.
	Secret func(ctx context.Context) (user, password string, err error)
	CA     []byte
	Live   sessions.LiveOptions
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
		URL: opts.URL, URLFile: opts.URLFile, Password: opts.Password, Secret: opts.Secret, CA: opts.CA, Timeout: opts.Timeout, Log: opts.Log, OnBreaker: opts.Metrics.StoreBreaker,
		Decode: func(text string) any { return parseMessage(text) }, Probe: liveChannel(sessions.Ref{}), Rights: rights(),
	})
	if err != nil {
		return nil, err
	}
	update := withSettings(updateLua, updateSettings(opts.Live))
	return &Store{
		opts: opts, conn: conn,
		open: valkey.NewLuaScript(openLua), update: valkey.NewLuaScript(update), updateAll: valkey.NewLuaScript(inUpdateAll(update)),
		move: valkey.NewLuaScript(moveLua), end: valkey.NewLuaScript(endLua), meta: valkey.NewLuaScript(metaLua),
	}, nil
}

// Run keeps the connections until ctx ends. Call it once.
func (s *Store) Run(ctx context.Context) error { return s.conn.Run(ctx) }

// Ready reports whether all of the store answers, as valkeyconn.Conn.Ready does.
func (s *Store) Ready() bool { return s.conn.Ready() }

// Denied reports whether the user lacks a right without which nothing works, as
// valkeyconn.Conn.Denied does.
func (s *Store) Denied() bool { return s.conn.Denied() }

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

// Verbs returns the closed list of calls to the live store, for Metrics.
func Verbs() []string { return []string{"open", "update", "latest", "move", "end", "meta", "set_meta"} }

// Results returns the closed list of how a call can end, for Metrics. "ok" is a
// reply with any verdict, "left" a caller that went away, "behind" a process too
// busy to read the reply. "no_writes" is a server that takes no writes, so that no call
// but the first is sent to it. The last three were not sent at all.
func Results() []string {
	return []string{"ok", "timeout", "error", "left", "behind", "no_writes", "busy", "breaker_open", "not_connected"}
}

func resultOf(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, valkeyconn.ErrTooManyCalls):
		return "busy"
	case errors.Is(err, valkeyconn.ErrNotConnected):
		return "not_connected"
	case errors.Is(err, valkeyconn.ErrBreakerOpen):
		return "breaker_open"
	case errors.Is(err, valkeyconn.ErrNoWrites):
		return "no_writes"
	case errors.Is(err, valkeyconn.ErrCallerLeft):
		return "left"
	case errors.Is(err, valkeyconn.ErrBehind):
		return "behind"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	default:
		return "error"
	}
}

// InFlight returns how many calls are under way, and how many may be.
func (s *Store) InFlight() (calls, limit int) { return s.conn.InFlight() }

// ScriptTime asks the servers how many scripts they have run since they started,
// and how long those took in all. This is the servers' own time, without the
// network, and includes the scripts of other clients. It fails if one server is
// away or does not allow INFO, because a sum without that server would look like
// a restart. It takes one round trip to each server, all within Options.Timeout.
// These are not calls for Metrics, nor for the bulkhead.
func (s *Store) ScriptTime(ctx context.Context) (ran int64, took time.Duration, err error) {
	err = s.conn.EachServer(ctx, func(ctx context.Context, c valkey.Client) error {
		info, err := c.Do(ctx, c.B().Info().Section("commandstats").Build()).ToString()
		if err != nil {
			return fmt.Errorf("script time: %w", err)
		}
		count, us := scriptTime(info)
		ran, took = ran+count, took+us
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	return ran, took, nil
}

// scriptTime reads the line of EVALSHA in the section; both are 0 before the
// first call.
func scriptTime(info string) (ran int64, took time.Duration) {
	for line := range strings.Lines(info) {
		if stats, ok := strings.CutPrefix(line, "cmdstat_evalsha:"); ok {
			var us int64
			if n, _ := fmt.Sscanf(stats, "calls=%d,usec=%d", &ran, &us); n == 2 {
				return ran, time.Duration(us) * time.Microsecond
			}
		}
	}
	return 0, 0
}

// withSettings returns a script with a value in place of each constant that it
// declares in lines of the form `local NAME, NAME = value, value`: the setting
// of that name, or else the default from the line. The script stays plain Lua
// that also runs as it is. So a constant costs a call nothing. As ARGV, the
// settings of update.lua would be sent, parsed and converted in every call. As
// Lua locals, its sixty constants cost 2 % of a call (callgrind). Line numbers
// stay as they are in the file. It panics for a setting that the script does not
// declare, which is a bug that every test would find.
func withSettings(script string, settings map[string]string) string {
	lines := strings.Split(script, "\n")
	values, used := map[string]string{}, 0
	for i, line := range lines {
		names, defaults, ok := declaration(line)
		if !ok {
			continue
		}
		for j, name := range names {
			values[name] = defaults[j]
			if v, set := settings[name]; set {
				values[name] = v
				used++
			}
		}
		lines[i] = ""
	}
	if used != len(settings) {
		panic(fmt.Sprintf("scripts: %d settings for a script that declares %d of them", len(settings), used))
	}
	for i, line := range lines {
		code, _, _ := strings.Cut(line, "--") // no script has that in a string
		lines[i] = constantName.ReplaceAllStringFunc(code, func(name string) string {
			return cmp.Or(values[name], name)
		})
	}
	return strings.Join(lines, "\n")
}

// inUpdateAll returns updateall.lua around the text of update.lua.
func inUpdateAll(update string) string {
	_, body, _ := strings.Cut(update, "\n") // without #!lua
	return strings.Replace(updateAllLua, "--[[update.lua]]", body, 1)
}

// constantName matches a constant in code. It also matches commands and flags in
// strings, whose names no constant has.
var constantName = regexp.MustCompile(`\b[A-Z][A-Z0-9_]+\b`)

// declaration reads `local NAME, NAME = value, value`, with names in capitals.
func declaration(line string) (names, defaults []string, ok bool) {
	left, right, found := strings.Cut(line, " = ")
	list, isLocal := strings.CutPrefix(left, "local ")
	if !found || !isLocal || list != strings.ToUpper(list) {
		return nil, nil, false
	}
	names, defaults = strings.Split(list, ", "), strings.Split(right, ", ")
	return names, defaults, len(names) == len(defaults)
}

// updateSettings are the rules of a live store, under the names of update.lua.
func updateSettings(o sessions.LiveOptions) map[string]string {
	return map[string]string{
		"RATE_MS": milliseconds(o.RateInterval), "TOLERANCE_MS": milliseconds(o.RateTolerance),
		"LOCATION_TTL_MS": milliseconds(o.LocationTTL), "JOURNEY_TTL_MS": milliseconds(o.JourneyTTL),
		"RADIUS_M": decimal(o.RadiusM), "STALE_MS": milliseconds(o.StaleAfter), "FUTURE_MS": integer(o.Rules.FutureMS),
		"LIMIT_CAR": decimal(o.LimitKMH.Car), "LIMIT_BIKE": decimal(o.LimitKMH.Bike), "LIMIT_WALK": decimal(o.LimitKMH.Walk),
		"CEILING_CAR": decimal(o.CeilingKMH.Car), "CEILING_BIKE": decimal(o.CeilingKMH.Bike), "CEILING_WALK": decimal(o.CeilingKMH.Walk),
		"DEFAULT_ACCURACY_DM": decimetres(o.Rules.DefaultAccuracyM), "MAX_ACCURACY_DM": decimetres(o.Rules.MaxAccuracyM),
		"VAGUE_DM": decimetres(o.Rules.VagueM), "JUMP_M": decimal(o.Rules.JumpM), "JUMP_MS": integer(o.Rules.JumpMS),
		"BANK_MS": integer(o.Rules.BankMS), "GRACE_MS": integer(o.Rules.GraceMS),
		"SHADOW_LOW_ACCURACY": strconv.FormatBool(o.Rules.Shadow.LowAccuracy),
		"SHADOW_SPEED":        strconv.FormatBool(o.Rules.Shadow.Speed),
		"SHADOW_CEILING":      strconv.FormatBool(o.Rules.Shadow.Ceiling),
	}
}

func milliseconds(d time.Duration) string { return integer(d.Milliseconds()) }
func integer(n int64) string              { return strconv.FormatInt(n, 10) }
func decimal(f float64) string            { return strconv.FormatFloat(f, 'f', -1, 64) }
func decimetres(m float64) string         { return integer(int64(m*10 + 0.5)) }
