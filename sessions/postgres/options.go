package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Options are the settings of the pool and of a call. Zero means default.
type Options struct {
	// URL is a libpq connection string, in either form. For a server with a standby give
	// both hosts and target_session_attrs=read-write. Behind a PgBouncer that pools
	// transactions add default_query_exec_mode=exec and let it ignore the start-up
	// parameters statement_timeout, lock_timeout and idle_in_transaction_session_timeout.
	// These three in the URL win over the fields below.
	URL string

	// CallTimeout bounds one call of the Repository, with the wait for a connection. 3 s.
	CallTimeout time.Duration
	// ConnectTimeout bounds one attempt to connect. 2 s.
	ConnectTimeout time.Duration
	// StatementTimeout is the server's bound on one statement. 2 s.
	StatementTimeout time.Duration
	// LockTimeout is the server's bound on one wait for a row. 1 s: the
	// longest transition takes milliseconds.
	LockTimeout time.Duration
	// IdleInTransactionTimeout is the time after which the server ends a transaction
	// whose gateway sends nothing, and frees its rows. 5 s.
	IdleInTransactionTimeout time.Duration
	// MaxConns bounds the pool. 16: measured, more writers than that, one on each
	// connection, do not commit more transactions (8,400 a second).
	MaxConns int32
	// MaxConnLifetime and MaxConnIdleTime are when connections are replaced, with a tenth
	// of jitter, so that a server that has moved is found. 30 min, 5 min.
	MaxConnLifetime time.Duration
	MaxConnIdleTime time.Duration

	// Deliveries are consumers that each event is addressed to as it is written. Nil: none.
	Deliveries []string

	// OnBreaker is given the state of the breaker when it changes: closed, half-open or
	// open. It is called under the breaker's lock: it must only set a gauge. Nil: none.
	OnBreaker func(state string)

	// Trace begins a span for a statement, a batch or a wait for a connection; the
	// function it returns ends the span. Nil: no traces.
	Trace func(ctx context.Context, what string) (context.Context, func(err error))
}

func (o Options) withDefaults() Options {
	o.CallTimeout = cmp.Or(o.CallTimeout, 3*time.Second)
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 2*time.Second)
	o.StatementTimeout = cmp.Or(o.StatementTimeout, 2*time.Second)
	o.LockTimeout = cmp.Or(o.LockTimeout, time.Second)
	o.IdleInTransactionTimeout = cmp.Or(o.IdleInTransactionTimeout, 5*time.Second)
	o.MaxConns = cmp.Or(o.MaxConns, 16)
	o.MaxConnLifetime = cmp.Or(o.MaxConnLifetime, 30*time.Minute)
	o.MaxConnIdleTime = cmp.Or(o.MaxConnIdleTime, 5*time.Minute)
	return o
}

func (o Options) validate() error {
	for _, d := range []struct {
		field string
		value time.Duration
	}{
		{"CallTimeout", o.CallTimeout},
		{"ConnectTimeout", o.ConnectTimeout},
		{"StatementTimeout", o.StatementTimeout},
		{"LockTimeout", o.LockTimeout},
		{"IdleInTransactionTimeout", o.IdleInTransactionTimeout},
		{"MaxConnLifetime", o.MaxConnLifetime},
		{"MaxConnIdleTime", o.MaxConnIdleTime},
	} {
		// The server counts in milliseconds, and takes 0 for "never".
		if d.value < time.Millisecond {
			return fmt.Errorf("postgres: %s must be at least 1ms, is %s", d.field, d.value)
		}
	}
	if o.MaxConns < 1 {
		return fmt.Errorf("postgres: MaxConns must be at least 1, is %d", o.MaxConns)
	}
	return nil
}

// badURL is pgx's error without the URL and without what the parser stumbled over: with
// an odd character in it a password is not blanked, or is taken for another part.
func badURL(err error) error {
	text := err.Error()
	if at := strings.LastIndex(text, "`: "); at >= 0 {
		text = text[at+3:]
	}
	if strings.HasPrefix(text, "failed to parse") {
		text = "not postgres://user:password@host:port/database; in user and password all but letters and digits must be percent-encoded"
	}
	return errors.New("postgres: parse URL: " + text)
}

// pool makes the pool; it does not connect yet.
func (o Options) pool() (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		return nil, badURL(err)
	}
	config.MaxConns = o.MaxConns
	config.MaxConnLifetime, config.MaxConnLifetimeJitter = o.MaxConnLifetime, o.MaxConnLifetime/10
	config.MaxConnIdleTime = o.MaxConnIdleTime
	// A ping finds a connection to a host that is gone. Without its own bound the
	// first ping takes the whole call's time, and leaves none for a new connection.
	config.PingTimeout = o.CallTimeout / 6
	config.ConnConfig.ConnectTimeout = o.ConnectTimeout
	if o.Trace != nil {
		config.ConnConfig.Tracer = tracer{o.Trace}
	}
	parameters := config.ConnConfig.RuntimeParams
	setDefault(parameters, "application_name", "doorstep")
	setDefault(parameters, "statement_timeout", milliseconds(o.StatementTimeout))
	setDefault(parameters, "lock_timeout", milliseconds(o.LockTimeout))
	setDefault(parameters, "idle_in_transaction_session_timeout", milliseconds(o.IdleInTransactionTimeout))
	return pgxpool.NewWithConfig(context.Background(), config)
}

func setDefault(parameters map[string]string, name, value string) {
	if _, ok := parameters[name]; !ok {
		parameters[name] = value
	}
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
