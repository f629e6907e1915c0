package valkeyserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// slotCount is the number of slots of a cluster.
const slotCount = 16384

// ClusterOptions says what cluster to start. Zero means default.
type ClusterOptions struct {
	Path string // the server's program; empty: what Find finds
	// Primaries share the slots evenly; 0 is 3. Each has this many Replicas; 0 is
	// 1, a negative number is none.
	Primaries, Replicas int
	Args                []string // further settings of every server
}

// nodeTimeout is the silence after which a server is taken for dead. A replica
// is elected some hundred milliseconds later.
const nodeTimeout = time.Second

func (o ClusterOptions) withDefaults() ClusterOptions {
	if o.Primaries == 0 {
		o.Primaries = 3
	}
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	o.Replicas = max(0, o.Replicas)
	return o
}

// Cluster is a running cluster on loopback. At first, server i < Primaries owns
// the i-th share of the slots; the others are replicas of the primaries in turn.
type Cluster struct {
	Servers   []*Server
	primaries int
}

// StartCluster starts a cluster and returns when every server reports the state
// ok and every replica has its primary's data: after two to three seconds. A
// shard without an owner leaves the others working (cluster-require-full-coverage
// no, as in managed clusters). ctx bounds the start, to 30 s at most.
func StartCluster(ctx context.Context, options ClusterOptions) (*Cluster, error) {
	options = options.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c := &Cluster{primaries: options.Primaries}
	args := append([]string{
		"--cluster-node-timeout", strconv.FormatInt(nodeTimeout.Milliseconds(), 10),
		"--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0",
	}, options.Args...)
	for range options.Primaries * (1 + options.Replicas) {
		s, err := Start(ctx, Options{Path: options.Path, Cluster: true, Args: args})
		if err != nil {
			return nil, errors.Join(err, c.Stop())
		}
		c.Servers = append(c.Servers, s)
	}
	if err := c.join(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// join makes a cluster of the servers. Each primary gets an epoch of its own at
// once, so that the cluster need not resolve collisions of epochs.
func (c *Cluster) join(ctx context.Context) error {
	first := c.Servers[0]
	for i, s := range c.Servers[:c.primaries] {
		low, high := i*slotCount/c.primaries, (i+1)*slotCount/c.primaries-1
		if err := s.all(ctx, [][]string{
			{"CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i + 1)},
			{"CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(low), strconv.Itoa(high)},
		}); err != nil {
			return err
		}
	}
	for _, s := range c.Servers[1:] {
		if _, err := s.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(first.port), strconv.Itoa(first.busPort)); err != nil {
			return err
		}
	}
	known := fmt.Sprintf("cluster_known_nodes:%d\r", len(c.Servers))
	if err := c.untilEach(ctx, "CLUSTER INFO", "cluster_state:ok", known); err != nil {
		return err
	}
	for i, s := range c.Servers[c.primaries:] {
		id, err := c.Servers[i%c.primaries].Do(ctx, "CLUSTER", "MYID")
		if err != nil {
			return err
		}
		if _, err := s.Do(ctx, "CLUSTER", "REPLICATE", id); err != nil {
			return err
		}
	}
	return c.untilReplicated(ctx)
}

func (s *Server) all(ctx context.Context, commands [][]string) error {
	for _, words := range commands {
		if _, err := s.Do(ctx, words...); err != nil {
			return err
		}
	}
	return nil
}

// untilEach waits until every server answers the question with all the wanted texts.
func (c *Cluster) untilEach(ctx context.Context, question string, wants ...string) error {
	return until(ctx, question, func() bool {
		for _, s := range c.Servers {
			said, err := s.Do(ctx, strings.Fields(question)...)
			for _, want := range wants {
				if err != nil || !strings.Contains(said, want) {
					return false
				}
			}
		}
		return true
	})
}

// untilReplicated waits until every replica has its primary's writes and every
// server knows which replica belongs to which primary. A primary that dies
// earlier has no successor.
func (c *Cluster) untilReplicated(ctx context.Context) error {
	for i, s := range c.Servers[c.primaries:] {
		if err := s.untilFollowing(ctx, c.Servers[i%c.primaries]); err != nil {
			return err
		}
	}
	return until(ctx, "gossip", func() bool {
		for _, s := range c.Servers {
			said, err := s.Do(ctx, "CLUSTER", "NODES")
			if err != nil || strings.Count(said, "slave ") != len(c.Servers)-c.primaries {
				return false
			}
		}
		return true
	})
}

// URL names every server, so that a client connects whichever of them is dead.
func (c *Cluster) URL() string {
	others := make([]string, 0, len(c.Servers))
	for _, s := range c.Servers[1:] {
		others = append(others, "addr="+s.Addr())
	}
	return c.Servers[0].URL() + "?" + strings.Join(others, "&")
}

// Owner returns the owner of a slot, as the first server that answers says.
func (c *Cluster) Owner(ctx context.Context, slot int) (*Server, error) {
	return c.ownerBut(ctx, slot, nil)
}

// ownerBut does not ask the dead server: one that stalls would answer after five
// seconds only.
func (c *Cluster) ownerBut(ctx context.Context, slot int, dead *Server) (*Server, error) {
	for _, asked := range c.Servers {
		if asked == dead {
			continue
		}
		said, err := asked.Do(ctx, "CLUSTER", "SLOTS")
		if err != nil {
			continue
		}
		if port := ownerIn(strings.Split(said, "\n"), slot); port != "" {
			for _, s := range c.Servers {
				if strconv.Itoa(s.port) == port {
					return s, nil
				}
			}
		}
	}
	return nil, fmt.Errorf("valkeyserver: nobody owns slot %d", slot)
}

// ownerIn reads CLUSTER SLOTS, one value a line: first slot, last slot, and the
// primary's host, port, id, …; the rows of its replicas begin with a host.
func ownerIn(lines []string, slot int) (port string) {
	for i := 0; i+3 < len(lines); i++ {
		first, err1 := strconv.Atoi(lines[i])
		last, err2 := strconv.Atoi(lines[i+1])
		isRow := err1 == nil && err2 == nil && net.ParseIP(lines[i+2]) != nil
		if isRow && first <= slot && slot <= last {
			return lines[i+3]
		}
	}
	return ""
}

// Successor waits until a server other than the dead one owns the slot and
// reports itself as a primary.
func (c *Cluster) Successor(ctx context.Context, dead *Server, slot int) (*Server, error) {
	var next *Server
	err := until(ctx, "successor", func() bool {
		owner, err := c.ownerBut(ctx, slot, dead)
		if err != nil || owner == dead {
			return false
		}
		primary, err := owner.Primary(ctx)
		next = owner
		return err == nil && primary
	})
	return next, err
}

// Move moves a slot with all its keys from one server to another, in the steps of
// a resharding; both servers serve meanwhile.
func (c *Cluster) Move(ctx context.Context, slot int, from, to *Server) error {
	source, err1 := from.Do(ctx, "CLUSTER", "MYID")
	target, err2 := to.Do(ctx, "CLUSTER", "MYID")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	n := strconv.Itoa(slot)
	if _, err := to.Do(ctx, "CLUSTER", "SETSLOT", n, "IMPORTING", source); err != nil {
		return err
	}
	if _, err := from.Do(ctx, "CLUSTER", "SETSLOT", n, "MIGRATING", target); err != nil {
		return err
	}
	if err := migrate(ctx, n, from, to); err != nil {
		return err
	}
	return c.settle(ctx, n, target, to, from)
}

// settle makes a slot's new owner known: first to the new owner, because in the
// other order nobody owns the slot in between; then to the old one; then to the
// other primaries, as valkey-cli does. If that were left to gossip, an old owner
// that has since got another slot would be believed again, because its epoch is
// the newer one.
func (c *Cluster) settle(ctx context.Context, slot, owner string, to, from *Server) error {
	told := []*Server{to, from}
	for _, s := range c.Servers {
		if primary, err := s.Primary(ctx); err == nil && primary && !slices.Contains(told, s) {
			told = append(told, s)
		}
	}
	for _, s := range told {
		if _, err := s.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", owner); err != nil {
			return err
		}
	}
	return until(ctx, "epoch", func() bool { return agreedOnEpoch(ctx, owner, told) })
}

// agreedOnEpoch reports whether the servers know the owner's present epoch. A
// server that does not know it, and is given a slot of that owner next, takes no
// newer epoch for itself; the owner's gossip, which still claims the slot, then
// takes the slot back.
func agreedOnEpoch(ctx context.Context, owner string, servers []*Server) bool {
	var epochs []string
	for _, s := range servers {
		said, err := s.Do(ctx, "CLUSTER", "NODES")
		if err != nil {
			return false
		}
		for line := range strings.Lines(said) { // id address flags primary pinged ponged epoch …
			if fields := strings.Fields(line); len(fields) > 6 && fields[0] == owner {
				epochs = append(epochs, fields[6])
			}
		}
	}
	return len(epochs) == len(servers) && len(slices.Compact(epochs)) == 1
}

// migrate sends a slot's keys to its new owner until none is left.
func migrate(ctx context.Context, slot string, from, to *Server) error {
	for {
		said, err := from.Do(ctx, "CLUSTER", "GETKEYSINSLOT", slot, "100")
		if err != nil || said == "" {
			return err
		}
		words := append([]string{"MIGRATE", "127.0.0.1", strconv.Itoa(to.port), "", "0", "5000", "KEYS"}, strings.Split(said, "\n")...)
		if _, err := from.Do(ctx, words...); err != nil {
			return err
		}
	}
}

// Stop ends every server. Idempotent.
func (c *Cluster) Stop() error {
	var errs []error
	for _, s := range c.Servers {
		errs = append(errs, s.Stop())
	}
	return errors.Join(errs...)
}
