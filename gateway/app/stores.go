package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"doorstep/metrics"
	"doorstep/scripts"
	"doorstep/sessions"
	"doorstep/sessions/memory"
	"doorstep/sessions/outbox"
	"doorstep/sessions/outbox/aws"
	"doorstep/sessions/postgres"
)

// stores are the two stores of a process and the outbox of the first.
type stores struct {
	repo   sessions.Repository
	live   sessions.Live
	outbox outbox.Store
	old    sessions.OldRows

	database *postgres.Repository // repo, where it is PostgreSQL; else nil
	reader   *postgres.Reader     // of database, for reads that may be late; nil: none
	valkey   *scripts.Store       // live, where it is Valkey or Redis; else nil
}

// newStores makes the stores that the settings name, or else those in memory. It
// connects to nothing.
func newStores(o Options, p *process, m *metrics.Metrics) (stores, error) {
	var s stores
	by, err := o.signIn()
	if err != nil {
		return s, err
	}
	switch {
	case o.DatabaseURL == "" && o.DatabaseReaderURL != "":
		return s, errors.New("database-reader-url: there is no database that it could follow: set DOORSTEP_DATABASE_URL")
	case o.Beside != nil:
		s.repo, s.outbox, s.old = o.Beside.stores.repo, o.Beside.stores.outbox, o.Beside.stores.old
	case o.DatabaseURL == "":
		events := outbox.NewMemory(o.addressed()...)
		repo := memory.NewRepositoryAt(o.now(), events.Record)
		s.repo, s.outbox, s.old = repo, events, repo
	default:
		options := o.postgres(by)
		options.MaxConns = int32(min(o.DatabaseMaxConns, math.MaxInt32)) //nolint:gosec // a negative one is refused
		options.Deliveries, options.OnBreaker, options.Trace = o.addressed(), m.DatabaseBreaker, p.traces.calls("postgresql")
		database, err := postgres.New(options)
		if err != nil {
			return s, fmt.Errorf("database: %w", err)
		}
		s.repo, s.outbox, s.old, s.database = database, database.Outbox(), database, database
		if o.DatabaseReaderURL != "" {
			options.URL, options.URLFile = o.DatabaseReaderURL, o.DatabaseReaderURLFile
			if s.reader, err = postgres.NewReader(database, options, metrics.NewReader(p.registry, postgres.ReadOutcomes()...)); err != nil {
				return s, fmt.Errorf("database-reader-url: %w", err)
			}
		}
	}
	if o.ValkeyURL == "" {
		s.live = memory.NewLive(o.live(), o.now())
		return s, nil
	}
	valkey, err := scripts.New(scripts.Options{
		URL: o.ValkeyURL, URLFile: o.ValkeyURLFile, Password: by.valkey, Secret: by.valkeySecret, CA: o.ValkeyCA, Live: o.live(), Now: o.Now, Timeout: o.ValkeyTimeout,
		Log: p.log, Metrics: m, Trace: p.traces.calls("valkey"),
	})
	s.live, s.valkey = valkey, valkey
	return s, err
}

// signIn is what new connections sign in with; nil where the URL says it.
type signIn struct {
	database     func(ctx context.Context, address, user string) (password string, err error)
	secret       func(context.Context) (user, password string, err error) // of the database
	valkey       func(ctx context.Context, user string) (password string, err error)
	valkeySecret func(context.Context) (user, password string, err error)
}

func (o Options) signIn() (by signIn, err error) {
	if by.secret, err = secretOf("database", "database", o.DatabaseSecret, o.DatabaseURL, o.DatabaseIAM); err != nil {
		return by, err
	}
	if by.valkeySecret, err = secretOf("valkey", "live store", o.ValkeySecret, o.ValkeyURL, o.ValkeyIAM != ""); err != nil {
		return by, err
	}
	if !o.DatabaseIAM && o.ValkeyIAM == "" {
		return by, nil
	}
	iam, err := aws.NewIAM()
	if err != nil {
		return by, err
	}
	if o.DatabaseIAM {
		by.database = iam.Database
	}
	if o.ValkeyIAM != "" {
		by.valkey = func(ctx context.Context, user string) (string, error) { return iam.Cache(ctx, o.ValkeyIAM, user) }
	}
	return by, nil
}

// secretOf signs in to a store with the secret of that id; nil where that is empty. prefix
// begins the names of the store's settings.
func secretOf(prefix, store, id, url string, iam bool) (func(context.Context) (user, password string, err error), error) {
	switch {
	case id == "":
		return nil, nil //nolint:nilnil // none is no error
	case url == "":
		return nil, fmt.Errorf("%s-secret: there is no %s to sign in to: set DOORSTEP_%s_URL", prefix, store, strings.ToUpper(prefix))
	case iam:
		return nil, fmt.Errorf("%[1]s-secret, %[1]s-iam: both are set, and only one can say how to sign in", prefix)
	}
	secret, err := aws.NewSecret(id)
	if err != nil {
		return nil, fmt.Errorf("%s-secret: %w", prefix, err)
	}
	return secret.SignIn, nil
}

// lateReads are what answers reads that may be a second old. Nil: the repository.
func (s stores) lateReads() (sessions.LateReads, sessions.Outcomes) {
	if s.reader == nil {
		return nil, s.outbox
	}
	return s.reader, s.reader
}

// observe registers the metrics that are read from the stores themselves.
func (s stores) observe(p *process, m *metrics.Metrics) {
	if s.valkey != nil {
		m.ExpectStored(scripts.Verbs(), scripts.Results())
		metrics.NewInFlight(p.registry, s.valkey.InFlight)
		metrics.NewScripts(p.registry, func() (int64, time.Duration, bool) {
			// A collector gets no context; the store bounds the call.
			ran, took, err := s.valkey.ScriptTime(context.Background())
			return ran, took, err == nil
		})
	}
	if s.database != nil {
		metrics.NewPool(p.registry, func() metrics.PoolState { return metrics.PoolState(s.database.Pool()) })
	}
}

// start opens the stores. A schema older than this binary is refused. A database
// that cannot be reached is no reason not to start: updates and reads need none.
func (s stores) start(ctx context.Context, p *process) error {
	if s.database != nil {
		p.onStop("database", func(context.Context) error { s.database.Close(); return nil })
		err := s.database.CheckSchema(ctx)
		if sessions.Unavailable(err) {
			p.log.WarnContext(ctx, "database not reached", slog.Any("error", err))
			err = nil
		}
		if err != nil {
			return err
		}
	}
	if s.reader != nil {
		p.onStop("database reader", func(context.Context) error { s.reader.Close(); return nil })
		if err := s.reader.Ping(ctx); err != nil {
			p.log.WarnContext(ctx, "database reader not reached", slog.Any("error", err))
		}
		p.background(ctx, "database reader", s.reader.Run)
	}
	if s.valkey != nil {
		p.background(ctx, "live store", s.valkey.Run)
	}
	return nil
}
