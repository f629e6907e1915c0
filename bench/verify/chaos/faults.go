package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"doorstep/internal/pause"

	"github.com/jackc/pgx/v5"

	"doorstep/internal/servers/awstest"
	"doorstep/internal/servers/postgrestest"
)

// act does something to a system: breaks it, or mends it.
type act func(ctx context.Context, sys *system) error

// faultScenarios are the faults of the live store, the networks, PostgreSQL, the
// bus and the push service: the rows of docs/contract.md, section 5.
func faultScenarios() (list []scenario) {
	slow := normal().and(storeDown())
	for _, group := range []struct {
		start  func(ctx context.Context, s *stage) (*system, error)
		mend   act // of those that have none of their own
		faults []fault
	}{
		{start: onStores, faults: []fault{
			{name: "store-stopped", what: "live store stopped (SIGSTOP)", during: storeDown(), trips: true, breaks: pauseStore, mends: resumeStore},
			{name: "store-killed", what: "live store killed, empty when back", during: storeDown(), trips: true, breaks: killStore, mends: restartStore},
			{name: "store-restarted", what: "live store restarted twice, data and scripts lost", during: storeDown().and(storeLost()), breaks: restartStore, mends: restartStore},
			{name: "store-flushed", what: "live store flushed (FLUSHALL), twice", during: storeLost(), breaks: command("FLUSHALL"), mends: command("FLUSHALL")},
			{name: "store-scripts-lost", what: "script cache lost (SCRIPT FLUSH), twice", during: normal(), breaks: command("SCRIPT", "FLUSH"), mends: command("SCRIPT", "FLUSH")},
			{
				name: "store-full", what: "live store out of memory (maxmemory, noeviction)", during: slow,
				breaks: command("CONFIG", "SET", "maxmemory", "1"), mends: command("CONFIG", "SET", "maxmemory", "0"),
			},
			{
				name: "store-readonly", what: "live store demoted to a replica (READONLY)", during: storeDown().and(storeLost()),
				breaks: demote, mends: command("REPLICAOF", "NO", "ONE"),
			},
		}},
		{start: onSlowlyLoadingStore, mend: nothing, faults: []fault{
			{name: "store-loading", what: "live store killed, then loading its data (LOADING)", during: storeDown(), trips: true, breaks: reload},
		}},
		{start: onNetworks, mend: healNetworks, faults: []fault{
			{name: "store-latency", what: "100 ms more to the live store", during: normal().and(expectations{wait: {timedOut, wokenLate}}), breaks: toStore(latency(100, 0))},
			{
				name: "store-scripts-late", what: "script cache lost, 160 ms more to the live store", during: slow,
				breaks: both(toStore(latency(160, 0)), command("SCRIPT", "FLUSH")),
			},
			{name: "store-late", what: "1 s more to the live store", during: storeDown(), trips: true, breaks: toStore(latency(1000, 0))},
			{name: "store-jitter", what: "200 ± 200 ms more to the live store", during: slow, breaks: toStore(latency(200, 200))},
			{name: "store-narrow", what: "1 kB/s from the live store", during: slow, breaks: toStore(bandwidth(1))},
			{name: "store-resets", what: "each connection to the live store reset at its first answer", during: storeDown(), trips: true, breaks: toStore(resets())},
			{name: "store-half-open", what: "live store receives nothing, connections stay open", during: storeDown(), trips: true, breaks: toStore(silent("upstream"))},
			{name: "store-cut", what: "network to the live store cut, both ways silent", during: storeDown(), trips: true, breaks: toStore(cut()...)},
			{
				name: "store-refused", what: "live store's address refuses connections", during: storeDown(), trips: true,
				breaks: func(_ context.Context, sys *system) error { sys.toStore.Stop(); return nil },
				mends:  func(_ context.Context, sys *system) error { return sys.toStore.Start() },
			},
			{name: "database-slow", what: "200 ms more to PostgreSQL", during: normal(), breaks: toDatabase(latency(200, 0))},
			{name: "database-late", what: "5 s more to PostgreSQL", during: databaseDown(), breaks: toDatabase(latency(5000, 0))},
			{name: "database-cut", what: "network to PostgreSQL cut, both ways silent", during: databaseDown(), breaks: toDatabase(cut()...)},
			{name: "all-cut", what: "network to the live store and to PostgreSQL cut", during: bothDown(), trips: true, breaks: both(toStore(cut()...), toDatabase(cut()...))},
		}},
		{start: onOwnDatabase, faults: []fault{
			{name: "database-stopped", what: "PostgreSQL stopped (SIGSTOP)", during: databaseDown(), breaks: pauseDatabase, mends: resumeDatabase},
			{name: "database-killed", what: "PostgreSQL killed", during: databaseDown(), breaks: killDatabase, mends: restartDatabase},
			{name: "database-restarted", what: "PostgreSQL restarted twice", during: databaseDown(), breaks: restartDatabase, mends: restartDatabase},
			{name: "database-full", what: "PostgreSQL out of connections", during: databaseDown(), breaks: takeConnections, mends: releaseConnections},
		}},
		{start: onBus, mend: failBus(awstest.None), faults: []fault{
			{name: "bus-hang", what: "EventBridge and SQS hang", during: normal(), breaks: failBus(awstest.Stall), check: consumed},
			{name: "bus-fail", what: "EventBridge and SQS fail", during: normal(), breaks: failBus(awstest.Internal), check: consumed},
		}},
		{start: onPushService, faults: []fault{
			{name: "push-away", what: "push service answers nothing", during: normal(), breaks: stopPushes, mends: resumePushes, check: pushedLater},
		}},
	} {
		for _, f := range group.faults {
			f.start = group.start
			if f.mends == nil {
				f.mends = group.mend
			}
			list = append(list, scenario{name: f.name, play: f.play, parallel: true})
		}
	}
	return list
}

// onStores is a gateway on a live store of its own and a database of its own in
// the shared server.
func onStores(ctx context.Context, s *stage) (*system, error) {
	sys, err := stores(ctx, s)
	if err != nil {
		return nil, err
	}
	return sys, sys.open(ctx, sys.store.URL(), sys.dsn)
}

// stores starts those of onStores. args are the live store's.
func stores(ctx context.Context, s *stage, args ...string) (sys *system, err error) {
	sys = &system{stage: s}
	if sys.store, err = s.valkey(ctx, args...); err != nil {
		return nil, err
	}
	sys.dsn, err = s.database(ctx)
	return sys, err
}

// open starts the gateway.
func (sys *system) open(ctx context.Context, storeURL, dsn string, settings ...string) (err error) {
	settings = append(append(callerSettings(), "VALKEY_URL="+storeURL, "DATABASE_URL="+dsn), settings...)
	sys.gateway, err = sys.stage.gateway(ctx, settings...)
	return err
}

// onSlowlyLoadingStore has a live store that takes 1 ms to load a key, and
// answers meanwhile that it is loading, as a server with gigabytes does.
func onSlowlyLoadingStore(ctx context.Context, s *stage) (*system, error) {
	sys, err := stores(ctx, s, "--enable-debug-command", "yes", "--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
	if err != nil {
		return nil, err
	}
	return sys, sys.open(ctx, sys.store.URL(), sys.dsn)
}

// onNetworks is a gateway with a proxy before each server.
func onNetworks(ctx context.Context, s *stage) (*system, error) {
	sys, err := stores(ctx, s)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(sys.dsn)
	if err != nil {
		return nil, err
	}
	if sys.toStore, err = s.proxy(sys.store.Addr()); err != nil {
		return nil, err
	}
	if sys.toDatabase, err = s.proxy(u.Host); err != nil {
		return nil, err
	}
	dsn, err := sys.toDatabase.before(sys.dsn)
	if err != nil {
		return nil, err
	}
	return sys, sys.open(ctx, "redis://"+sys.toStore.Listen, dsn)
}

// connections is what PostgreSQL takes, the gateway's included: no connection is
// reserved for superusers, because the gateway is one here.
const connections = 40

// onOwnDatabase is a gateway on a PostgreSQL server of its own.
func onOwnDatabase(ctx context.Context, s *stage) (sys *system, err error) {
	sys = &system{stage: s}
	if sys.store, err = s.valkey(ctx); err != nil {
		return nil, err
	}
	if sys.database, err = postgrestest.Start(ctx, fmt.Sprintf("max_connections=%d", connections), "superuser_reserved_connections=0"); err != nil {
		return nil, err
	}
	s.ends.Add(sys.database.Close)
	sys.dsn = sys.database.DSN()
	if err := s.program.Run(ctx, []string{"DATABASE_URL=" + sys.dsn}, "migrate"); err != nil {
		return nil, err
	}
	return sys, sys.open(ctx, sys.store.URL(), sys.dsn)
}

// onBus is a gateway whose events go to the double of EventBridge, and a worker
// that has them from SQS.
func onBus(ctx context.Context, s *stage) (*system, error) {
	sys, err := stores(ctx, s)
	if err != nil {
		return nil, err
	}
	sys.aws = s.aws()
	if _, err := s.worker(ctx, sys.aws, "DATABASE_URL="+sys.dsn, "VALKEY_URL="+sys.store.URL()); err != nil {
		return nil, err
	}
	settings := append(awstest.Env(), "EVENT_BUS="+bus, "EVENTBRIDGE_ENDPOINT="+sys.aws.URL())
	return sys, sys.open(ctx, sys.store.URL(), sys.dsn, settings...)
}

func nothing(context.Context, *system) error { return nil }

func both(one, two act) act {
	return func(ctx context.Context, sys *system) error { return errors.Join(one(ctx, sys), two(ctx, sys)) }
}

func pauseStore(_ context.Context, sys *system) error      { return sys.store.Pause() }
func resumeStore(_ context.Context, sys *system) error     { return sys.store.Resume() }
func killStore(_ context.Context, sys *system) error       { return sys.store.Kill() }
func restartStore(ctx context.Context, sys *system) error  { return sys.store.Restart(ctx) }
func pauseDatabase(_ context.Context, sys *system) error   { return sys.database.Pause() }
func resumeDatabase(_ context.Context, sys *system) error  { return sys.database.Resume() }
func killDatabase(_ context.Context, sys *system) error    { return sys.database.Kill() }
func restartDatabase(ctx context.Context, s *system) error { return s.database.Restart(ctx) }
func failBus(how awstest.Fault) act {
	return func(_ context.Context, sys *system) error { sys.aws.Fail(how); return nil }
}

// command sends the live store one command.
func command(words ...string) act {
	return func(ctx context.Context, sys *system) error {
		_, err := sys.store.Do(ctx, words...)
		return err
	}
}

// demote makes the store the replica of another one, as a failover does.
func demote(ctx context.Context, sys *system) error {
	other, err := sys.stage.valkey(ctx)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(other.Addr())
	if err != nil {
		return err
	}
	return command("REPLICAOF", host, port)(ctx, sys)
}

// reload saves the store and starts it again, which loads the data; it returns
// when they are loaded.
func reload(ctx context.Context, sys *system) error {
	keys := fmt.Sprint(pick(sys.stage, 2000, 5000)) // 1 ms each
	if err := both(command("DEBUG", "POPULATE", keys, "ballast", "200"), command("SAVE"))(ctx, sys); err != nil {
		return err
	}
	if err := sys.store.Kill(); err != nil {
		return err
	}
	if err := pause.For(ctx, time.Second); err != nil {
		return err
	}
	return sys.store.Restart(ctx)
}

func toStore(toxics ...toxic) act {
	return func(_ context.Context, sys *system) error { return sys.toStore.add(toxics...) }
}

func toDatabase(toxics ...toxic) act {
	return func(_ context.Context, sys *system) error { return sys.toDatabase.add(toxics...) }
}

func healNetworks(ctx context.Context, sys *system) error {
	sys.toStore.heal(ctx)
	sys.toDatabase.heal(ctx)
	return nil
}

// takeConnections connects until PostgreSQL has no connection left. It ends the
// gateway's connections and takes their places, as often as it needs to.
func takeConnections(ctx context.Context, sys *system) error {
	for deadline := time.Now().Add(10 * time.Second); len(sys.held) < connections; {
		conn, err := pgx.Connect(ctx, sys.dsn)
		if err == nil {
			sys.held = append(sys.held, conn)
			continue
		}
		if len(sys.held) == 0 || time.Now().After(deadline) {
			return fmt.Errorf("only %d of %d connections could be taken: %w", len(sys.held), connections, err)
		}
		if _, err = sys.held[0].Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'doorstep'`); err != nil {
			return err
		}
	}
	return nil
}

func releaseConnections(ctx context.Context, sys *system) (err error) {
	for _, conn := range sys.held {
		err = errors.Join(err, conn.Close(ctx))
	}
	return err
}

// consumed checks that every event has reached the bus and that the worker has
// handled every message.
func consumed(ctx context.Context, sys *system, r *row) error {
	err := published(ctx, sys.dsn, sys.aws, r)
	for deadline := time.Now().Add(drainIn); waitingIn(sys.aws) > 0 && time.Now().Before(deadline); {
		if err := pause.For(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	r.check(waitingIn(sys.aws) == 0, "%d messages still wait in queues", waitingIn(sys.aws))
	checkDeadMessages(sys.aws, r)
	return err
}

func waitingIn(aws *awstest.Server) (n int) {
	for _, name := range queues() {
		n += aws.Waiting(name)
	}
	return n
}

func checkDeadMessages(aws *awstest.Server, r *row) {
	for _, name := range queues() {
		n := len(aws.Messages(name + "-dlq"))
		r.check(n == 0, "%d dead letters of %s", n, name)
	}
}
