package postgres

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Options are the settings of the pool and of a call. Zero means default.
type Options struct {
	// URL is a libpq connection string, in either form. With several hosts, or the address
	// of an Aurora cluster, target_session_attrs is read-write unless it says otherwise. The
	// parameters statement_timeout, lock_timeout, idle_in_transaction_session_timeout,
	// connect_timeout, pool_max_conn_lifetime, pool_max_conn_idle_time and
	// default_query_exec_mode in it win over the fields below, and pool_max_conns stands for
	// MaxConns.
	URL string
	// URLFile holds the URL, where it can change. It is read again for each new
	// connection, of which only user and password are taken. Empty: URL holds.
	URLFile string
	// Password makes the password of a new connection to host:port. Nil: that of the URL
	// holds.
	Password func(ctx context.Context, address, user string) (string, error)
	// Secret makes user and password of a new connection, in place of the URL's; an empty
	// user is the URL's. Nil: none.
	Secret func(ctx context.Context) (user, password string, err error)
	// CA is the PEM of the authority that signed the server's certificate. The URL must
	// then say sslmode=verify-full or verify-ca. Empty: the system's roots.
	CA []byte
	// Pooled says that the URL leads to a pooler that hands a connection to another client
	// after each transaction, such as PgBouncer or RDS Proxy. Then no start-up parameter is
	// sent and no statement is prepared: the role must have the time-outs.
	Pooled bool

	// CallTimeout bounds one call of the Repository, with the wait for a connection; of
	// EraseUser only that wait. 3 s.
	CallTimeout time.Duration
	// ConnectTimeout bounds one attempt to connect. 2 s.
	ConnectTimeout time.Duration
	// StatementTimeout is the server's bound on one statement, but not of EraseUser. 2 s.
	StatementTimeout time.Duration
	// LockTimeout is the server's bound on one wait for a row. 1 s: the
	// longest transition takes milliseconds.
	LockTimeout time.Duration
	// IdleInTransactionTimeout is the time after which the server ends a transaction
	// whose gateway sends nothing, and frees its rows. 5 s.
	IdleInTransactionTimeout time.Duration
	// MaxConns bounds the pool. Zero is the URL's pool_max_conns, or else 16: measured,
	// more writers than that, one on each connection, do not commit more transactions
	// (8,400 a second).
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

	anyServer bool // the server need not write: of a Reader
}

func (o Options) withDefaults() Options {
	o.CallTimeout = cmp.Or(o.CallTimeout, 3*time.Second)
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 2*time.Second)
	o.StatementTimeout = cmp.Or(o.StatementTimeout, 2*time.Second)
	o.LockTimeout = cmp.Or(o.LockTimeout, time.Second)
	o.IdleInTransactionTimeout = cmp.Or(o.IdleInTransactionTimeout, 5*time.Second)
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
	if o.MaxConns < 0 {
		return fmt.Errorf("postgres: MaxConns must not be negative, is %d", o.MaxConns)
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
	if !says(o.URL, "pool_max_conns") || o.MaxConns != 0 {
		config.MaxConns = cmp.Or(o.MaxConns, 16)
	}
	if !says(o.URL, "pool_max_conn_lifetime") {
		config.MaxConnLifetime = o.MaxConnLifetime
	}
	if !says(o.URL, "pool_max_conn_lifetime_jitter") {
		config.MaxConnLifetimeJitter = config.MaxConnLifetime / 10
	}
	if !says(o.URL, "pool_max_conn_idle_time") {
		config.MaxConnIdleTime = o.MaxConnIdleTime
	}
	// A ping finds a connection to a host that is gone. Without its own bound the
	// first ping takes the whole call's time, and leaves none for a new connection.
	config.PingTimeout = o.CallTimeout / 6
	if !says(o.URL, "connect_timeout") {
		config.ConnConfig.ConnectTimeout = o.ConnectTimeout
	}
	if o.Trace != nil {
		config.ConnConfig.Tracer = tracer{o.Trace}
	}
	if err := trust(config.ConnConfig, o.CA); err != nil {
		return nil, err
	}
	if o.anyServer {
		takeAny(config.ConnConfig, o.URL)
	} else {
		followWriter(config.ConnConfig, o.URL)
	}
	if err := o.oneHost(config.ConnConfig); err != nil {
		return nil, err
	}
	config.BeforeConnect = o.renew
	if o.Pooled {
		if !says(o.URL, "default_query_exec_mode") {
			config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
		}
		return pgxpool.NewWithConfig(context.Background(), config)
	}
	parameters := config.ConnConfig.RuntimeParams
	setDefault(parameters, "application_name", "doorstep")
	setDefault(parameters, "statement_timeout", milliseconds(o.StatementTimeout))
	setDefault(parameters, "lock_timeout", milliseconds(o.LockTimeout))
	setDefault(parameters, "idle_in_transaction_session_timeout", milliseconds(o.IdleInTransactionTimeout))
	return pgxpool.NewWithConfig(context.Background(), config)
}

// says reports whether an address has that parameter. It may be a URL, or words such as
// host=localhost or host = localhost.
func says(address, parameter string) bool {
	return regexp.MustCompile(`(^|[\s?&])` + parameter + `\s*=`).MatchString(address)
}

// trust makes ca the only authority, if there is a ca.
func trust(config *pgx.ConnConfig, ca []byte) error {
	if len(ca) == 0 {
		return nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return errors.New("postgres: CA: no certificate in it")
	}
	all := []*tls.Config{config.TLSConfig}
	for _, other := range config.Fallbacks {
		all = append(all, other.TLSConfig)
	}
	for _, one := range all {
		if one == nil || one.InsecureSkipVerify && one.VerifyPeerCertificate == nil && one.VerifyConnection == nil {
			return errors.New("postgres: CA: the URL asks for no proof of the server: write sslmode=verify-full")
		}
		one.RootCAs = roots
	}
	return nil
}

// followWriter makes sure that a server which becomes a standby is left. A connection that
// is told that it cannot write (class 25) is closed at once, and where the URL leads to more
// than one server, a new one is only taken to a server that writes.
func followWriter(config *pgx.ConnConfig, address string) {
	next := config.OnPgError
	config.OnPgError = func(c *pgconn.PgConn, err *pgconn.PgError) bool {
		return !strings.HasPrefix(err.Code, readOnly) && next(c, err)
	}
	several := strings.Contains(config.Host, ".cluster-") // Aurora's address of a cluster
	for _, other := range config.Fallbacks {
		several = several || other.Host != config.Host || other.Port != config.Port
	}
	if several && !says(address, "target_session_attrs") && os.Getenv("PGTARGETSESSIONATTRS") == "" {
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
}

// renew sets user and password of a new connection. While the file cannot be read, the
// last ones hold.
func (o Options) renew(ctx context.Context, next *pgx.ConnConfig) (err error) {
	if text, unread := os.ReadFile(o.URLFile); o.URLFile != "" && unread == nil {
		now, err := pgx.ParseConfig(strings.TrimSpace(string(text)))
		if err != nil {
			return badURL(err)
		}
		next.User, next.Password = now.User, now.Password
	}
	if o.Secret != nil {
		user, password, err := o.Secret(ctx)
		if err != nil {
			return err
		}
		next.User, next.Password = cmp.Or(user, next.User), password
	}
	if o.Password != nil {
		next.Password, err = o.Password(ctx, net.JoinHostPort(next.Host, strconv.Itoa(int(next.Port))), next.User)
	}
	return err
}

// oneHost checks that a password of one server is asked for at no other.
func (o Options) oneHost(config *pgx.ConnConfig) error {
	for _, other := range config.Fallbacks {
		if o.Password != nil && (other.Host != config.Host || other.Port != config.Port) {
			return errors.New("postgres: the URL names several servers, and the password is made for one: name the cluster's address")
		}
	}
	return nil
}

func setDefault(parameters map[string]string, name, value string) {
	if _, ok := parameters[name]; !ok {
		parameters[name] = value
	}
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
