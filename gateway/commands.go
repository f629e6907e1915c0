package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"doorstep/gateway/app"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

type serveCommand struct {
	app.Options
	LogLevel  slog.Level `default:"info" env:"DOORSTEP_LOG_LEVEL" help:"Lowest level that is logged: debug, info, warn or error."`
	LogFormat string     `default:"json" enum:"json,text" env:"DOORSTEP_LOG_FORMAT" help:"Format of the log: json or text."`
}

// Run serves until a signal, then drains. A second signal ends it at once.
func (s *serveCommand) Run(ctx context.Context) error {
	s.Log, s.Version = logger(s.LogFormat, s.LogLevel), version
	a, err := app.New(s.FitMemory(ctx, os.DirFS("/")))
	if err != nil {
		return err
	}
	if err := a.Start(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-a.Failed():
		s.Log.Error("the api has ended by itself")
	}
	s.Log.Info("draining", slog.Duration("at_most", s.DrainTimeout))
	return drain(a, s.DrainTimeout)
}

// stopper is an app.App or an app.Worker.
type stopper interface {
	Stop(ctx context.Context) error
}

// drain stops a within limit, or at once at a second signal.
func drain(a stopper, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	again, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return a.Stop(again)
}

func logger(format string, level slog.Level) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if format == "text" {
		return slog.New(app.Sampled(slog.NewTextHandler(os.Stderr, opts)))
	}
	return slog.New(app.Sampled(slog.NewJSONHandler(os.Stderr, opts)))
}

type migrateCommand struct {
	app.DatabaseOptions // DatabasePooled changes nothing here: a migration needs no start-up parameters and no prepared statements
}

// Run brings the schema up. A newer schema is no error: the job of the version before
// may run once more during a rolling update or after a roll-back.
func (m *migrateCommand) Run(ctx context.Context) error {
	database, err := m.Postgres()
	if err != nil {
		return err
	}
	applied := 0
	err = database.Migrate(ctx, func(p postgres.Progress) {
		if p.Note != "" {
			fmt.Println(strings.TrimPrefix(p.Name+": "+p.Note, ": "))
			return
		}
		applied++
		fmt.Printf("applied %s in %s\n", p.Name, p.Took.Round(time.Millisecond))
	})
	if errors.Is(err, postgres.ErrNewerSchema) {
		fmt.Printf("nothing to do: %v\n", err)
		return nil
	}
	if err == nil {
		fmt.Printf("schema is up to date (%d applied)\n", applied)
	}
	return err
}

type tokenCommand struct {
	JWTSecret string `required:"" secret:"" env:"DOORSTEP_JWT_SECRET" help:"Secret of HS256 tokens, 32 bytes or more."`
	app.TokenOptions
	Role    string        `required:"" enum:"trainer,student,admin" help:"Role of the user: trainer, student or admin."`
	Subject string        `required:"" help:"The user's id, a UUID."`
	TTL     time.Duration `default:"1h" help:"How long the token is valid."`
}

// Run prints the token and nothing else, for use in a shell's $().
func (t *tokenCommand) Run(context.Context) error {
	id, ok := sessions.ParseID(t.Subject)
	if !ok {
		return errors.New("subject must be a UUID")
	}
	issuer, err := t.Issuer()
	if err != nil {
		return err
	}
	issuer.Secret = []byte(t.JWTSecret)
	token, err := issuer.Mint(sessions.Caller{ID: id, Role: sessions.Role(t.Role)}, time.Now(), t.TTL)
	if err == nil {
		fmt.Println(token)
	}
	return err
}

type healthCommand struct {
	Listen        string `default:"127.0.0.1:8080" env:"DOORSTEP_LISTEN" help:"Address of the gateway, host:port."`
	Worker        bool   `help:"Ask a worker, on its metrics address."`
	MetricsListen string `default:"127.0.0.1:9090" env:"DOORSTEP_METRICS_LISTEN" help:"Address of the worker's metrics, host:port."`
	TLSCert       string `env:"DOORSTEP_TLS_CERT" help:"As for serve: if it is not empty, the gateway is asked over HTTPS."`
}

// Run asks /healthz once: the container's health check, whose image has no
// other HTTP client.
func (h *healthCommand) Run(ctx context.Context) error {
	name, address := "listen", h.Listen
	if h.Worker {
		name, address = "metrics-listen", h.MetricsListen
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	scheme := "http://"
	if h.TLSCert != "" && !h.Worker {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+net.JoinHostPort(host, port)+"/healthz", nil)
	if err != nil {
		return err
	}
	// The certificate is for the name that clients use, and not for this address. Whether it is good is a metric.
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // see above
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("healthz answered %s", res.Status)
	}
	return nil
}
