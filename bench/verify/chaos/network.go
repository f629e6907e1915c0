package main

import (
	"context"
	"errors"
)

// The faults of the network between a gateway and its servers.
func networkFaults() []scenario {
	worsenStore := func(toxics ...toxic) func(context.Context, *set) error {
		return func(_ context.Context, t *set) error { return t.toStore.worsen(toxics...) }
	}
	slow := asEver().and(storeGone())
	var list []scenario
	for _, f := range []fault{
		{
			name: "store-latency", what: "100 ms more to the live store", during: asEver().and(promises{wait: {timedOut, wokenLate}}),
			breaks: worsenStore(latency(100, 0)),
		},
		{
			name: "store-scripts-late", what: "script cache lost, 160 ms more to the live store", during: slow,
			breaks: func(ctx context.Context, t *set) error {
				return errors.Join(t.toStore.worsen(latency(160, 0)), tell(ctx, t.store, "SCRIPT", "FLUSH"))
			},
		},
		{
			name: "store-late", what: "1 s more to the live store", during: storeGone(), trips: true,
			breaks: worsenStore(latency(1000, 0)),
		},
		{
			name: "store-jitter", what: "200 ± 200 ms more to the live store", during: slow,
			breaks: worsenStore(latency(200, 200)),
		},
		{
			name: "store-narrow", what: "1 kB/s from the live store", during: slow,
			breaks: worsenStore(bandwidth(1)),
		},
		{
			name: "store-resets", what: "each connection to the live store reset at its first answer", during: storeGone(), trips: true,
			breaks: worsenStore(resets(0)),
		},
		{
			name: "store-half-open", what: "live store hears nothing, connections stay open", during: storeGone(), trips: true,
			breaks: worsenStore(silence("upstream")),
		},
		{
			name: "store-cut", what: "network to the live store cut, both ways silent", during: storeGone(), trips: true,
			breaks: worsenStore(silence("upstream"), silence("downstream")),
		},
		{
			name: "store-refused", what: "live store's address refuses connections", during: storeGone(), trips: true,
			breaks: func(_ context.Context, t *set) error { t.toStore.Stop(); return nil },
			mends:  func(_ context.Context, t *set) error { return t.toStore.Start() },
		},
		{
			name: "database-slow", what: "200 ms more to PostgreSQL", during: asEver(),
			breaks: func(_ context.Context, t *set) error { return t.toData.worsen(latency(200, 0)) },
		},
		{
			name: "database-late", what: "5 s more to PostgreSQL", during: databaseAway(),
			breaks: func(_ context.Context, t *set) error { return t.toData.worsen(latency(5000, 0)) },
		},
		{
			name: "database-cut", what: "network to PostgreSQL cut, both ways silent", during: databaseAway(),
			breaks: func(_ context.Context, t *set) error { return t.toData.worsen(cut()...) },
		},
		{
			name: "all-cut", what: "network to the live store and to PostgreSQL cut", during: allAway(), trips: true,
			breaks: func(_ context.Context, t *set) error {
				return errors.Join(t.toStore.worsen(cut()...), t.toData.worsen(cut()...))
			},
		},
	} {
		f.sets = onNetworks
		if f.mends == nil {
			f.mends = healNetworks
		}
		list = append(list, f.scenario())
	}
	return list
}

func cut() []toxic { return []toxic{silence("upstream"), silence("downstream")} }

func healNetworks(ctx context.Context, t *set) error {
	t.toStore.heal(ctx)
	t.toData.heal(ctx)
	return nil
}

// onNetworks is a gateway with a network of its own to each server.
func onNetworks(ctx context.Context, s *stage) (t *set, err error) {
	t = &set{stage: s}
	if t.store, err = s.valkey(ctx); err != nil {
		return nil, err
	}
	if t.dsn, err = s.commons.database(ctx, s.program); err != nil {
		return nil, err
	}
	addr, err := addrOf(t.dsn)
	if err != nil {
		return nil, err
	}
	if t.toStore, err = s.proxy(t.store.Addr()); err != nil {
		return nil, err
	}
	if t.toData, err = s.proxy(addr); err != nil {
		return nil, err
	}
	behind, err := withAddr(t.dsn, t.toData.Listen)
	if err != nil {
		return nil, err
	}
	return t, t.open(ctx, "redis://"+t.toStore.Listen, behind)
}
