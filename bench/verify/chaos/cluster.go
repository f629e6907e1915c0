package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"doorstep/internal/servers/valkeyserver"
)

// clusterScenarios break a cluster, and what sentinels watch, under journeys
// that must go on by themselves.
func clusterScenarios() []scenario {
	return []scenario{
		{name: "cluster-primary-killed", play: playPrimaryKilled},
		{name: "cluster-slots-moved", play: playSlotsMoved},
		{name: "sentinel-primary-killed", play: playSentinels},
	}
}

// resumeWithin is the promise: a second after the failover. The short form is
// played on machines that do something else besides.
func resumeWithin(s *stage) time.Duration { return pick(s, 5*time.Second, time.Second) }

// answersIn are the updates' answers that a failover may cause: not stored, or
// too soon after one whose answer was lost.
var answersIn = []string{"201", "202", "429 RATE_LIMITED"}

func (s *stage) cluster(ctx context.Context) (*valkeyserver.Cluster, error) {
	c, err := valkeyserver.StartCluster(ctx, valkeyserver.ClusterOptions{})
	if err == nil {
		s.onEnd(c.Stop)
	}
	return c, err
}

// sharded is a convoy on a cluster, with the slot of each of its journeys.
func (s *stage) sharded(ctx context.Context) (cluster *valkeyserver.Cluster, c *convoy, slots []int, err error) {
	if cluster, err = s.cluster(ctx); err != nil {
		return nil, nil, nil, err
	}
	if c, err = newConvoy(ctx, s, cluster.URL()); err != nil {
		return nil, nil, nil, err
	}
	slots, err = c.slots(ctx, cluster.Servers[0])
	return cluster, c, slots, err
}

func playPrimaryKilled(ctx context.Context, s *stage) (r row, err error) {
	cluster, c, slots, err := s.sharded(ctx)
	if err != nil {
		return r, err
	}
	dead := cluster.Servers[0]
	failover, err := c.failOver(dead, func() error {
		_, err := cluster.Successor(ctx, dead, 0)
		return err
	})
	if err != nil {
		return r, err
	}
	updates, waits, err := c.untilFlow(ctx)
	hurt := 0
	for i, journey := range c.rides {
		if slots[i] >= firstShare && journey.failed.Load() > 0 {
			hurt++
		}
	}
	r.check(hurt == 0, "%d journeys of the other two primaries had an update that was not stored", hurt)
	c.report(&r, fmt.Sprintf("one primary of three killed under %d journeys; failover %s", len(c.rides), ms(failover)))
	c.wellAfter(s, &r, updates, waits)
	c.checkAnswers(&r, answersIn...)
	return r, err
}

func playSlotsMoved(ctx context.Context, s *stage) (r row, err error) {
	cluster, c, slots, err := s.sharded(ctx)
	if err != nil {
		return r, err
	}
	began, moved := time.Now(), 0
	for i, slot := range slots {
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
	took := time.Since(began)
	updates, waits, err := c.untilFlow(ctx)
	c.report(&r, fmt.Sprintf("%d slots of %d journeys moved in %s", moved, len(c.rides), ms(took)))
	c.wellAfter(s, &r, updates, waits)
	c.checkAnswers(&r, "201")
	return r, err
}

func playSentinels(ctx context.Context, s *stage) (r row, err error) {
	watched, err := valkeyserver.StartWatched(ctx, "", time.Second)
	if err != nil {
		return r, err
	}
	s.onEnd(watched.Stop)
	c, err := newConvoy(ctx, s, watched.URL())
	if err != nil {
		return r, err
	}
	failover, err := c.failOver(watched.Servers[0], func() error {
		_, err := watched.Successor(ctx)
		return err
	})
	if err != nil {
		return r, err
	}
	updates, waits, err := c.untilFlow(ctx)
	c.report(&r, fmt.Sprintf("the primary of three sentinels killed under %d journeys; failover %s, until all three name the new one", len(c.rides), ms(failover)))
	c.wellAfter(s, &r, updates, waits)
	c.checkAnswers(&r, answersIn...)
	return r, err
}

// firstShare is where the first primary's slots end.
const firstShare = 16384 / 3

// slots asks a server for the slot of every journey's hash.
func (c *convoy) slots(ctx context.Context, server *valkeyserver.Server) ([]int, error) {
	slots := make([]int, len(c.rides))
	for i, r := range c.rides {
		said, err := server.Do(ctx, "CLUSTER", "KEYSLOT", string(r.Trainer.ID))
		if err != nil {
			return nil, err
		}
		if slots[i], err = strconv.Atoi(said); err != nil {
			return nil, err
		}
	}
	return slots, nil
}

// failOver kills a primary and waits for its successor.
func (c *convoy) failOver(dead *valkeyserver.Server, successor func() error) (time.Duration, error) {
	if err := dead.Kill(); err != nil {
		return 0, err
	}
	began := time.Now()
	err := successor()
	return time.Since(began), err
}
