package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"doorstep/bench/rig"
	"doorstep/internal/servers/awstest"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/process"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/sessions"
)

// stage holds what one scenario has started. All of it ends with the scenario.
type stage struct {
	program    *rig.Program
	shared     *sharedPostgres
	short      bool
	ends       rig.Ends
	gatewayLog string // of a scenario that did not hold
}

// pick is the short form's size, or the long one's.
func pick[T any](s *stage, short, long T) T {
	if s.short {
		return short
	}
	return long
}

// valkey starts a live store that also listens on TCP, for a proxy in front.
func (s *stage) valkey(ctx context.Context, args ...string) (*valkeyserver.Server, error) {
	server, err := valkeyserver.Start(ctx, valkeyserver.Options{TCP: true, Args: args})
	if err == nil {
		s.ends.Add(server.Stop)
	}
	return server, err
}

// gateway starts a gateway with these settings.
func (s *stage) gateway(ctx context.Context, settings ...string) (*rig.Gateway, error) {
	g, err := s.program.Start(ctx, settings...)
	if err == nil {
		s.ends.Add(g.Kill)
	}
	return g, err
}

// The event bus and the events' source, docs/contract.md, section 4.
const (
	bus    = "application-events"
	source = "admin-service"
)

// visibility is the time after which a message that was not handled comes again.
const visibility = 2 * time.Second

// queues are those of the worker's consumers, by the settings that name them.
func queues() []string { return []string{"notify", "cleanup", "analytics"} }

// aws starts the double of EventBridge and SQS, with the bus.
func (s *stage) aws() *awstest.Server {
	aws := awstest.Start()
	s.ends.Add(func() error { aws.Close(); return nil })
	aws.Bus(bus)
	return aws
}

// worker starts a `gateway worker` with a queue on the bus for each consumer.
func (s *stage) worker(ctx context.Context, aws *awstest.Server, stores ...string) (*rig.Gateway, error) {
	settings := append(append(awstest.Env(), "SQS_ENDPOINT="+aws.URL()), stores...)
	for _, name := range queues() {
		url := aws.Queue(name, visibility, 100)
		aws.Rule(bus, source, name, string(sessions.JourneyStarted), string(sessions.JourneyEnded))
		settings = append(settings, "QUEUE_"+strings.ToUpper(name)+"="+url)
	}
	worker, err := s.program.StartWorker(ctx, settings...)
	if err == nil {
		s.ends.Add(worker.Kill)
	}
	return worker, err
}

// sharedPostgres is the server of all scenarios that do not harm it; each has a
// database of its own there. A private server would cost a second.
type sharedPostgres struct {
	mu     sync.Mutex
	server *postgrestest.Server
	made   int
}

// database makes a database with the product's schema and returns its address.
// The server listens on TCP, so that a proxy can stand before it.
func (s *stage) database(ctx context.Context) (dsn string, err error) {
	p := s.shared
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server == nil {
		addr, err := process.FreeAddr()
		if err != nil {
			return "", err
		}
		host, port, _ := net.SplitHostPort(addr)
		if p.server, err = postgrestest.Start(ctx, "listen_addresses="+host, "port="+port); err != nil {
			return "", err
		}
	}
	p.made++
	name := fmt.Sprintf("chaos_%d", p.made)
	err = connected(ctx, p.server.DSN(), func(conn *pgx.Conn) error {
		dsn = fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", conn.Config().Port, name)
		_, err := conn.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE template0")
		return err
	})
	if err != nil {
		return "", err
	}
	return dsn, s.program.Run(ctx, []string{"DATABASE_URL=" + dsn}, "migrate")
}

func (p *sharedPostgres) close() error {
	if p.server == nil {
		return nil
	}
	return p.server.Close()
}

func connected(ctx context.Context, dsn string, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return errors.Join(do(conn), conn.Close(ctx))
}

// proxy is a network between a gateway and one server that can be made bad.
type proxy struct{ *toxiproxy.Proxy }

// proxy puts one before a server that listens on TCP.
func (s *stage) proxy(upstream string) (*proxy, error) {
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := &proxy{toxiproxy.NewProxy(api, "network", "127.0.0.1:0", upstream)}
	if err := p.Start(); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	s.ends.Add(func() error { p.Stop(); return nil })
	return p, nil
}

// before returns the address of a database as reached through the proxy.
func (p *proxy) before(dsn string) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return "", err
	}
	u.Host = p.Listen
	return u.String(), nil
}

// toxic is one thing that is wrong with the network, in toxiproxy's terms.
type toxic struct{ kind, stream, attributes string }

func latency(ms, jitterMS int) toxic {
	return toxic{"latency", "downstream", fmt.Sprintf(`{"latency":%d,"jitter":%d}`, ms, jitterMS)}
}

func bandwidth(kilobytes int) toxic {
	return toxic{"bandwidth", "downstream", fmt.Sprintf(`{"rate":%d}`, kilobytes)}
}

func resets() toxic { return toxic{"reset_peer", "downstream", `{"timeout":0}`} }

// silent: bytes in this direction are lost, and the connection stays open.
func silent(stream string) toxic { return toxic{"timeout", stream, `{"timeout":0}`} }

func cut() []toxic { return []toxic{silent("upstream"), silent("downstream")} }

// add makes the network worse.
func (p *proxy) add(toxics ...toxic) error {
	for _, t := range toxics {
		text := fmt.Sprintf(`{"name":"%s-%s","type":"%s","stream":"%s","toxicity":1,"attributes":%s}`,
			t.kind, t.stream, t.kind, t.stream, t.attributes)
		if _, err := p.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
			return fmt.Errorf("toxic %s: %w", t.kind, err)
		}
	}
	return nil
}

// heal removes all toxics. It closes connections that were silent, as a peer that
// comes back closes connections that it does not know any more.
func (p *proxy) heal(ctx context.Context) { p.Toxics.ResetToxics(ctx) }
