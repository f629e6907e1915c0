package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/valkey-io/valkey-go"

	"doorstep/internal/pause"
	"doorstep/internal/servers/valkeyserver"
)

// The faults of the live store itself: the first two rows of the contract's
// table.
func storeFaults() []scenario {
	var list []scenario
	for _, f := range []fault{
		{
			name: "store-stopped", what: "live store stopped (SIGSTOP)", during: storeGone(), trips: true,
			breaks: func(_ context.Context, t *set) error { return t.store.Pause() },
			mends:  func(_ context.Context, t *set) error { return t.store.Resume() },
		},
		{
			name: "store-killed", what: "live store killed, empty when back", during: storeGone(), trips: true,
			breaks: func(_ context.Context, t *set) error { return t.store.Kill() },
			mends:  func(ctx context.Context, t *set) error { return t.store.Restart(ctx) },
		},
		{
			name: "store-restarted", what: "live store restarted twice, data and scripts lost", during: storeGone().and(storeLost()),
			breaks: func(ctx context.Context, t *set) error { return t.store.Restart(ctx) },
			mends:  func(ctx context.Context, t *set) error { return t.store.Restart(ctx) },
		},
		{
			name: "store-flushed", what: "live store flushed (FLUSHALL), twice", during: storeLost(),
			breaks: command("FLUSHALL"), mends: command("FLUSHALL"),
		},
		{
			name: "store-scripts-lost", what: "script cache lost (SCRIPT FLUSH), twice", during: asEver(),
			breaks: command("SCRIPT", "FLUSH"), mends: command("SCRIPT", "FLUSH"),
		},
		{
			name: "store-full", what: "live store out of memory (maxmemory, noeviction)",
			during: asEver().and(storeGone()),
			breaks: command("CONFIG", "SET", "maxmemory", "1"), mends: command("CONFIG", "SET", "maxmemory", "0"),
		},
		{
			name: "store-readonly", what: "live store demoted to a replica (READONLY)", during: storeGone().and(storeLost()),
			breaks: demote, mends: command("REPLICAOF", "NO", "ONE"),
		},
		{
			name: "store-loading", what: "live store killed, then loading its data (LOADING)", during: storeGone(), trips: true,
			sets:   func(ctx context.Context, s *stage) (*set, error) { return onServers(ctx, s, loadsSlowly()) },
			breaks: reload, mends: func(context.Context, *set) error { return nil },
		},
	} {
		if f.sets == nil {
			f.sets = func(ctx context.Context, s *stage) (*set, error) { return onServers(ctx, s, nil) }
		}
		list = append(list, f.scenario())
	}
	return list
}

// onServers is a gateway on a live store of its own and on a database of its
// own in the common server, with nothing between. args are the store's.
func onServers(ctx context.Context, s *stage, args []string, settings ...string) (t *set, err error) {
	t = &set{stage: s}
	if t.store, err = s.valkey(ctx, args...); err != nil {
		return nil, err
	}
	if t.dsn, err = s.commons.database(ctx, s.program); err != nil {
		return nil, err
	}
	return t, t.open(ctx, t.store.URL(), t.dsn, settings...)
}

// open starts the gateway.
func (t *set) open(ctx context.Context, storeURL, dsn string, settings ...string) (err error) {
	settings = append(append(troupeSettings(), "VALKEY_URL="+storeURL, "DATABASE_URL="+dsn), settings...)
	t.gateway, err = t.stage.gateway(ctx, settings...)
	return err
}

// command sends the live store one command.
func command(words ...string) func(context.Context, *set) error {
	return func(ctx context.Context, t *set) error { return tell(ctx, t.store, words...) }
}

func tell(ctx context.Context, server *valkeyserver.Server, words ...string) error {
	client, err := valkey.NewClient(valkey.ClientOption{InitAddress: []string{server.Addr()}, DisableCache: true})
	if err != nil {
		return fmt.Errorf("live store: %w", err)
	}
	defer client.Close()
	return client.Do(ctx, client.B().Arbitrary(words...).Build()).Error()
}

// demote makes the store the replica of another one, as a fail-over does.
func demote(ctx context.Context, t *set) error {
	other, err := t.stage.valkey(ctx)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(other.Addr())
	if err != nil {
		return err
	}
	return tell(ctx, t.store, "REPLICAOF", host, port)
}

// loadsSlowly makes a server take 1 ms a key, and answer meanwhile that it is
// loading, as one with gigabytes does.
func loadsSlowly() []string {
	return []string{"--enable-debug-command", "yes", "--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"}
}

// reload saves and starts the store again, which then loads what it saved; it
// returns when that is done.
func reload(ctx context.Context, t *set) error {
	keys := pick(t.stage, 2000, 5000) // 1 ms each
	for _, words := range [][]string{{"DEBUG", "POPULATE", fmt.Sprint(keys), "ballast", "200"}, {"SAVE"}} {
		if err := tell(ctx, t.store, words...); err != nil {
			return err
		}
	}
	if err := t.store.Kill(); err != nil {
		return err
	}
	if err := pause.For(ctx, time.Second); err != nil {
		return err
	}
	return t.store.Restart(ctx)
}
