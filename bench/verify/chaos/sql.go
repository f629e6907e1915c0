package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"doorstep/bench/rig"
	"doorstep/internal/pause"
	"doorstep/internal/servers/postgrestest"
)

// commons is the database server of all scenarios that do not harm it: each has
// a database of its own there. A server of one's own costs a second.
type commons struct {
	mu     sync.Mutex
	server *postgrestest.Server
	made   int
}

func (c *commons) database(ctx context.Context, program *rig.Program) (dsn string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil {
		addr, err := rig.FreeAddr()
		if err != nil {
			return "", err
		}
		if c.server, err = postgrestest.Start(ctx, tcp(addr)...); err != nil {
			return "", err
		}
	}
	c.made++
	name := fmt.Sprintf("chaos_%d", c.made)
	if err := execute(ctx, c.server.DSN(), "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		return "", err
	}
	dsn = c.server.DSN()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return "", err
	}
	dsn = fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", config.Port, name)
	return dsn, program.Run(ctx, []string{"DATABASE_URL=" + dsn}, "migrate")
}

// tcp are the settings of a server that a proxy can stand before.
func tcp(addr string) []string {
	host, port, _ := net.SplitHostPort(addr)
	return []string{"listen_addresses=" + host, "port=" + port}
}

func (c *commons) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil {
		return nil
	}
	return c.server.Close()
}

// execute runs one statement on a connection of its own.
func execute(ctx context.Context, dsn, statement string, args ...any) error {
	return connected(ctx, dsn, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, statement, args...)
		return err
	})
}

func connected(ctx context.Context, dsn string, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return errors.Join(do(conn), conn.Close(ctx))
}

// halfDone counts sessions whose state and whose events do not say the same.
const halfDone = `SELECT count(*) FROM tutoring_sessions s WHERE
	(SELECT count(*) FROM outbox o WHERE o.session_id = s.id AND o.type = 'TrainerJourneyStarted') <> (s.journey_started_at IS NOT NULL)::int
	OR (SELECT count(*) FROM outbox o WHERE o.session_id = s.id AND o.type = 'TrainerJourneyEnded') <> (s.journey_ended_at IS NOT NULL)::int`

// kept says of each step what has to be true of a session that was told so.
func kept() map[kind]string {
	return map[kind]string{
		book: "true", start: "journey_started_at IS NOT NULL", stop: "journey_end_reason = 'cancelled'",
		arrive: "journey_end_reason = 'arrived'", verify: "status IN ('in_progress', 'completed')",
	}
}

// consistent checks what the database holds once all is well: nothing half
// done, nothing lost that was answered as done, and an outbox that drains.
func (t *set) consistent(ctx context.Context, r *row) error {
	return connected(ctx, t.dsn, func(conn *pgx.Conn) error {
		var n int
		if err := conn.QueryRow(ctx, halfDone).Scan(&n); err != nil {
			return err
		}
		r.check(n == 0, "%d sessions are half done", n)
		for k, condition := range kept() {
			ids := t.troupe.done[k]
			if err := conn.QueryRow(ctx, "SELECT count(*) FROM tutoring_sessions WHERE "+condition+" AND id = ANY($1::uuid[])", ids).Scan(&n); err != nil {
				return err
			}
			r.check(n == len(ids), "%d of %d that were answered as done (%s) are not", len(ids)-n, len(ids), k)
		}
		return drained(ctx, conn, r, t.stage.short)
	})
}

// drainIn bounds the outbox's way out: what was claimed when the database went
// away is claimed again when the lease is over, by the bus's relay after 30 s
// and then by a consumer's after 50 s. The short form waits for neither.
const drainIn = 2 * time.Minute

// endClaims are the leases of all that has yet to be delivered.
func endClaims() []string {
	return []string{
		endLeases,
		"UPDATE outbox_deliveries SET locked_until = NULL WHERE published_at IS NULL",
		"UPDATE consumed_events SET locked_until = now() WHERE done_at IS NULL",
	}
}

// undelivered is what has yet to reach the bus, or a consumer in the gateway.
const undelivered = `SELECT count(*) FILTER (WHERE published_at IS NULL), count(dead_at)
	FROM (SELECT published_at, dead_at FROM outbox UNION ALL SELECT published_at, dead_at FROM outbox_deliveries) events`

func drained(ctx context.Context, conn *pgx.Conn, r *row, short bool) error {
	var waiting, dead int
	began, ended := time.Now(), false
	for deadline := time.Now().Add(drainIn); time.Now().Before(deadline); {
		err := conn.QueryRow(ctx, undelivered).Scan(&waiting, &dead)
		if err != nil {
			return err
		}
		if waiting == 0 {
			break
		}
		if short && !ended && time.Since(began) > 2*time.Second {
			ended = true
			for _, statement := range endClaims() {
				if _, err := conn.Exec(ctx, statement); err != nil {
					return err
				}
			}
		}
		if err := pause.For(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	if took := time.Since(began); took > time.Second {
		r.Well += fmt.Sprintf("; outbox drained %s later", round(took))
	}
	r.check(waiting == 0, "%d events still wait in the outbox or for a consumer", waiting)
	r.check(dead == 0, "%d events are dead letters", dead)
	return nil
}
