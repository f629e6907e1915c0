package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"doorstep/internal/pause"
	"doorstep/internal/servers/awstest"
	"doorstep/sessions"
	"doorstep/sessions/outbox/aws"
)

// The faults of PostgreSQL and of the bus: the third and fourth rows of the
// contract's table.
func databaseFaults() []scenario {
	var list []scenario
	for _, f := range []fault{
		{
			name: "database-stopped", what: "PostgreSQL stopped (SIGSTOP)", during: databaseAway(),
			breaks: func(_ context.Context, t *set) error { return t.database.Pause() },
			mends:  func(_ context.Context, t *set) error { return t.database.Resume() },
		},
		{
			name: "database-killed", what: "PostgreSQL killed", during: databaseAway(),
			breaks: func(_ context.Context, t *set) error { return t.database.Kill() },
			mends:  func(ctx context.Context, t *set) error { return t.database.Restart(ctx) },
		},
		{
			name: "database-restarted", what: "PostgreSQL restarted twice", during: databaseAway(),
			breaks: func(ctx context.Context, t *set) error { return t.database.Restart(ctx) },
			mends:  func(ctx context.Context, t *set) error { return t.database.Restart(ctx) },
		},
		databaseFull(),
	} {
		f.sets = onOwnDatabase
		list = append(list, f.scenario())
	}
	return append(list, busAway(awstest.Stall, "hang").scenario(), busAway(awstest.Internal, "fail").scenario(), pushAway().scenario())
}

// onOwnDatabase is a gateway on servers that are all its own.
func onOwnDatabase(ctx context.Context, s *stage) (t *set, err error) {
	t = &set{stage: s}
	if t.store, err = s.valkey(ctx); err != nil {
		return nil, err
	}
	// Nobody gets in over the limit: the gateway is a superuser here.
	if t.database, err = s.postgres(ctx, fmt.Sprintf("max_connections=%d", connections), "superuser_reserved_connections=0"); err != nil {
		return nil, err
	}
	t.dsn = t.database.DSN()
	return t, t.open(ctx, t.store.URL(), t.dsn)
}

const connections = 40

// databaseFull is another client that takes every connection there is, the
// gateway's, too.
func databaseFull() fault {
	var held []*pgx.Conn
	return fault{
		name: "database-full", what: "PostgreSQL out of connections", during: databaseAway(),
		breaks: func(ctx context.Context, t *set) (err error) {
			held, err = takeAll(ctx, t.dsn)
			return err
		},
		mends: func(ctx context.Context, _ *set) (err error) {
			for _, conn := range held {
				err = errors.Join(err, conn.Close(ctx))
			}
			return err
		},
	}
}

// takeAll connects until nobody else is: it ends the others' connections and
// takes their places, as often as it needs to.
func takeAll(ctx context.Context, dsn string) (held []*pgx.Conn, err error) {
	for deadline := time.Now().Add(10 * time.Second); len(held) < connections && time.Now().Before(deadline); {
		conn, err := pgx.Connect(ctx, dsn)
		if err == nil {
			held = append(held, conn)
			continue
		}
		if len(held) == 0 {
			return nil, err
		}
		_, err = held[0].Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'doorstep'`)
		if err != nil {
			return held, err
		}
	}
	if len(held) < connections {
		return held, fmt.Errorf("only %d of %d connections could be taken", len(held), connections)
	}
	return held, nil
}

// busAway: journeys do not notice, and the outbox drains.
func busAway(how awstest.Fault, does string) fault {
	return fault{
		name: "bus-" + does, what: "EventBridge and SQS " + does, during: asEver(),
		sets:   onBus,
		breaks: func(_ context.Context, t *set) error { t.aws.Fail(how); return nil },
		mends:  func(_ context.Context, t *set) error { t.aws.Fail(awstest.None); return nil },
		checks: []func(context.Context, *set, *row) error{published, consumed},
	}
}

const bus = "application-events"

// onBus is a gateway whose events go to EventBridge's double, and a worker that
// has them from SQS's.
func onBus(ctx context.Context, s *stage) (t *set, err error) {
	t = &set{stage: s, aws: awstest.Start()}
	s.onEnd(func() error { t.aws.Close(); return nil })
	t.aws.Bus(bus)
	if t.store, err = s.valkey(ctx); err != nil {
		return nil, err
	}
	if t.dsn, err = s.commons.database(ctx, s.program); err != nil {
		return nil, err
	}
	if err := t.openWorker(ctx); err != nil {
		return nil, err
	}
	settings := append(awstest.Env(), "EVENT_BUS="+bus, "EVENTBRIDGE_ENDPOINT="+t.aws.URL())
	return t, t.open(ctx, t.store.URL(), t.dsn, settings...)
}

// queues of the worker's consumers, by the settings that name them.
func queues() []string { return []string{"notify", "cleanup", "analytics"} }

func (t *set) openWorker(ctx context.Context) error {
	settings := append(awstest.Env(), "SQS_ENDPOINT="+t.aws.URL(), "DATABASE_URL="+t.dsn, "VALKEY_URL="+t.store.URL())
	for _, name := range queues() {
		url := t.aws.Queue(name, visibility, 100)
		t.aws.Rule(bus, aws.Source, name, string(sessions.JourneyStarted), string(sessions.JourneyEnded))
		settings = append(settings, "QUEUE_"+strings.ToUpper(name)+"="+url)
	}
	worker, err := t.stage.program.StartWorker(ctx, settings...)
	if worker != nil {
		t.stage.onEnd(worker.Kill)
	}
	return err
}

// visibility is after how long a message that was not dealt with comes again.
const visibility = 2 * time.Second

// consumed checks that the worker has dealt with every message.
func consumed(ctx context.Context, t *set, r *row) error {
	waiting := func() (n int) {
		for _, name := range queues() {
			n += t.aws.Waiting(name)
		}
		return n
	}
	for deadline := time.Now().Add(drainIn); waiting() > 0 && time.Now().Before(deadline); {
		if err := pause.For(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	r.check(waiting() == 0, "%d messages still wait in queues", waiting())
	for _, name := range queues() {
		r.check(len(t.aws.Messages(name+"-dlq")) == 0, "%s has dead letters", name)
	}
	return nil
}

// published checks that every event has reached the bus.
func published(ctx context.Context, t *set, r *row) error {
	return connected(ctx, t.dsn, func(conn *pgx.Conn) error {
		var written int
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM outbox").Scan(&written); err != nil {
			return err
		}
		distinct := map[string]bool{}
		for _, entry := range t.aws.Events() {
			distinct[entry.Detail] = true
		}
		r.check(len(distinct) == written, "%d of %d events are on the bus", len(distinct), written)
		r.Saw += fmt.Sprintf("; %d of %d events on the bus", len(distinct), written)
		return nil
	})
}

func addrOf(dsn string) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return "", err
	}
	return u.Host, nil
}

// withAddr is the same database at another address.
func withAddr(dsn, addr string) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return "", err
	}
	u.Host = addr
	return u.String(), nil
}
