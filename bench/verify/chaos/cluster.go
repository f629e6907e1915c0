package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"doorstep/internal/pause"

	"doorstep/internal/servers/valkeyserver"
)

// failover is a gateway on a replicated live store, with traffic that must go on
// by itself while the store fails over.
type failover struct {
	stage   *stage
	traffic *traffic
	slots   []int // of each lane's journey, in a cluster
	took    time.Duration
	played  chan []*journeyLog
}

// startFailover starts the gateway and the traffic, and returns when every
// journey's student has seen it move.
func startFailover(ctx context.Context, s *stage, storeURL string, cluster *valkeyserver.Cluster) (*failover, error) {
	g, err := s.gateway(ctx, "VALKEY_URL="+storeURL, "RATE_INTERVAL="+retryEvery.String(), "RATE_TOLERANCE=1s", "STEER=false")
	if err != nil {
		return nil, err
	}
	plan := pick(s,
		trafficPlan{lanes: 30, interval: time.Second, fixes: 5000, endless: true, stepM: 1, wait: 25, failover: true},
		trafficPlan{lanes: 1000, interval: 2 * time.Second, fixes: 5000, endless: true, stepM: 1, wait: 25, failover: true})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * plan.lanes}}
	s.ends.Add(func() error { client.CloseIdleConnections(); return nil })
	f := &failover{stage: s, played: make(chan []*journeyLog, 1)}
	if f.traffic, err = newTraffic(g.URL(), plan, client); err != nil {
		return nil, err
	}
	if cluster != nil {
		for _, l := range f.traffic.first {
			slot, err := cluster.Servers[0].Do(ctx, "CLUSTER", "KEYSLOT", string(l.Trainer.ID))
			if err != nil {
				return nil, err
			}
			n, _ := strconv.Atoi(slot)
			f.slots = append(f.slots, n)
		}
	}
	go func() { f.played <- f.traffic.run(ctx) }()
	_, _, err = f.untilAllMove(ctx)
	return f, err
}

// untilAllMove waits until every journey has had a fix stored since now and its
// student has seen it, and returns how long the last of each took.
func (f *failover) untilAllMove(ctx context.Context) (updates, waits time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	began := time.Now()
	before := make([]int64, len(f.traffic.first))
	for i, l := range f.traffic.first {
		before[i] = l.stored.Load()
	}
	until := func(version func(*journeyLog) int64) (time.Duration, error) {
		for i, l := range f.traffic.first {
			for version(l) <= before[i] {
				if err := pause.For(ctx, time.Millisecond); err != nil {
					return 0, fmt.Errorf("journey %d did not go on: %w", i, err)
				}
			}
		}
		return time.Since(began), nil
	}
	if updates, err = until(func(l *journeyLog) int64 { return l.stored.Load() }); err != nil {
		return 0, 0, err
	}
	waits, err = until(func(l *journeyLog) int64 { return l.seen.Load() })
	return updates, waits, err
}

// finish waits until all journeys go on, ends them and fills in the row. Updates
// may have these answers only; no read may fail.
func (f *failover) finish(ctx context.Context, r *row, fault string, allowed ...string) error {
	updates, waits, err := f.untilAllMove(ctx)
	close(f.traffic.over)
	logs := <-f.played
	v := judge(logs)
	v.report(r)
	r.Fault = fault
	// A journey sends its next fix within the interval, so that much of the time is
	// the phones' own. The promise is one second after the failover; the short form
	// is played on machines that do other work.
	limit := f.traffic.plan.interval + pick(f.stage, 5*time.Second, time.Second)
	r.Well = fmt.Sprintf("updates %s, waits %s", ms(updates), ms(waits))
	r.check(waits < limit, "a wait resumed %s after the failover, and not within %s", ms(waits), ms(limit))
	for label, n := range v.answers {
		ok := false
		for _, a := range allowed {
			ok = ok || a == label
		}
		r.check(ok, "%d updates were answered %s", n, label)
	}
	r.check(len(v.failed) == 0, "reads without an answer: %s", counted(v.failed))
	return err
}

// kill kills a primary and waits for its successor.
func (f *failover) kill(dead *valkeyserver.Server, successor func() (*valkeyserver.Server, error)) error {
	if err := dead.Kill(); err != nil {
		return err
	}
	began := time.Now()
	_, err := successor()
	f.took = time.Since(began)
	return err
}

// answersIn are the answers to updates that a failover may cause: not stored, or
// too soon after one whose answer was lost.
var answersIn = []string{"201", "202", "429 RATE_LIMITED"}

func onCluster(ctx context.Context, s *stage) (*valkeyserver.Cluster, *failover, error) {
	cluster, err := valkeyserver.StartCluster(ctx, valkeyserver.ClusterOptions{})
	if err != nil {
		return nil, nil, err
	}
	s.ends.Add(cluster.Stop)
	f, err := startFailover(ctx, s, cluster.URL(), cluster)
	return cluster, f, err
}

func playPrimaryKilled(ctx context.Context, s *stage) (r row, err error) {
	cluster, f, err := onCluster(ctx, s)
	if err != nil {
		return r, err
	}
	dead := cluster.Servers[0]
	if err := f.kill(dead, func() (*valkeyserver.Server, error) { return cluster.Successor(ctx, dead, 0) }); err != nil {
		return r, err
	}
	fault := fmt.Sprintf("one primary of three killed under %d journeys; failover %s", f.traffic.plan.lanes, ms(f.took))
	err = f.finish(ctx, &r, fault, answersIn...)
	const firstShare = 16384 / 3 // where the first primary's slots end
	affected := 0
	for i, l := range f.traffic.first {
		if f.slots[i] >= firstShare && (len(l.answers) > 1 || l.answers["201"] == 0) {
			affected++
		}
	}
	r.check(affected == 0, "%d journeys of the other two primaries had an update that was not stored", affected)
	return r, err
}

func playSlotsMoved(ctx context.Context, s *stage) (r row, err error) {
	cluster, f, err := onCluster(ctx, s)
	if err != nil {
		return r, err
	}
	began, moved := time.Now(), 0
	for i, slot := range f.slots {
		from, err := cluster.Owner(ctx, slot)
		if err != nil {
			return r, err
		}
		if to := cluster.Servers[i%3]; to != from {
			if err := cluster.Move(ctx, slot, from, to); err != nil {
				return r, err
			}
			moved++
		}
	}
	err = f.finish(ctx, &r, fmt.Sprintf("%d slots of %d journeys moved in %s", moved, len(f.slots), ms(time.Since(began))), "201")
	return r, err
}

func playSentinels(ctx context.Context, s *stage) (r row, err error) {
	watched, err := valkeyserver.StartWatched(ctx, "", time.Second)
	if err != nil {
		return r, err
	}
	s.ends.Add(watched.Stop)
	f, err := startFailover(ctx, s, watched.URL(), nil)
	if err != nil {
		return r, err
	}
	if err := f.kill(watched.Servers[0], func() (*valkeyserver.Server, error) { return watched.Successor(ctx) }); err != nil {
		return r, err
	}
	fault := fmt.Sprintf("the primary of three sentinels killed under %d journeys; failover %s, until all three name the new one", f.traffic.plan.lanes, ms(f.took))
	err = f.finish(ctx, &r, fault, answersIn...)
	return r, err
}
