package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"doorstep/bench/load/drive"
	"doorstep/bench/load/figures"
	"doorstep/bench/rig"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeyserver"
)

// stage is the servers of one run. close stops all of them.
type stage struct {
	gateways  []*rig.Gateway
	processes figures.Processes
	ends      rig.Ends
	store     string // the live store's URL
	settled   string // how the run waited for the events of the starts, for the report
}

// raise starts a Valkey, a PostgreSQL with -database, and the gateways.
func raise(ctx context.Context, o options, settings ...string) (*stage, error) {
	s := &stage{processes: figures.Processes{}}
	if err := s.raise(ctx, o, settings); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *stage) raise(ctx context.Context, o options, settings []string) error {
	url, err := s.raiseStore(ctx, o.shards)
	if err != nil {
		return err
	}
	s.store = url
	settings = append(settings, "VALKEY_URL="+url, "LOG_LEVEL=warn")
	if o.profile {
		settings = append(settings, "PPROF=true")
	}
	if o.database {
		database, err := postgrestest.Start(ctx, "max_connections=200")
		if err != nil {
			return err
		}
		s.ends.Add(database.Close)
		settings = append(settings, "DATABASE_URL="+database.DSN())
		if err := o.program.Run(ctx, settings, "migrate"); err != nil {
			return err
		}
	}
	for range o.gateways {
		g, err := o.program.Start(ctx, settings...)
		if err != nil {
			return err
		}
		s.gateways = append(s.gateways, g)
		s.ends.Add(g.Kill)
		s.processes["gateway"] = append(s.processes["gateway"], g.PID())
	}
	return nil
}

// raiseStore starts the live store. Each primary of a cluster has a line of its
// own in the report, besides the line of all. With no shard there is none: the url is
// empty, and the store is in the gateway's memory.
func (s *stage) raiseStore(ctx context.Context, shards int) (url string, err error) {
	if shards == 0 {
		return "", nil
	}
	args := []string{"--maxclients", "1000"}
	if shards < 2 {
		server, err := valkeyserver.Start(ctx, valkeyserver.Options{TCP: true, Args: args})
		if err != nil {
			return "", err
		}
		s.ends.Add(server.Stop)
		s.processes["valkey"] = []int{server.Process().Pid}
		return server.URL(), nil
	}
	cluster, err := valkeyserver.StartCluster(ctx, valkeyserver.ClusterOptions{Primaries: shards, Replicas: -1, Args: args})
	if err != nil {
		return "", err
	}
	s.ends.Add(cluster.Stop)
	for i, server := range cluster.Servers {
		pid := server.Process().Pid
		s.processes["valkey"] = append(s.processes["valkey"], pid)
		s.processes[fmt.Sprintf("of that shard %d", i+1)] = []int{pid}
	}
	return cluster.URL(), nil
}

func (s *stage) close() error { return s.ends.Close() }

// addresses are the gateways', host:port.
func (s *stage) addresses() (addrs []string) {
	for _, g := range s.gateways {
		addrs = append(addrs, g.Listen)
	}
	return addrs
}

// measure plays a plan and returns its result and what it cost.
func (s *stage) measure(ctx context.Context, o options, plan drive.Plan, progress io.Writer) (drive.Result, []figures.Cost, error) {
	if o.opened {
		plan.Store = s.store
	}
	profiled := make(chan error, 1)
	result, costs, err := figures.Measure(ctx, o.mode, plan, s.processes, progress, figures.Moments{
		SetUp: func(ctx context.Context) error { return s.settle(ctx, o, progress) },
		Begun: func() { go func() { profiled <- s.profile(ctx, o) }() },
	})
	if err != nil {
		return result, nil, errors.Join(err, s.lastLogs())
	}
	return result, costs, <-profiled
}

// settle waits until the events of the starts have been published, so that the
// thousands of starts just before are not part of what is measured.
func (s *stage) settle(ctx context.Context, o options, progress io.Writer) error {
	if o.opened {
		s.settled = "Journeys were opened in the live store itself, without booking and start"
		return nil
	}
	fmt.Fprintf(progress, "\r\033[K%s: waiting for the events of the starts to be published", o.mode)
	began := time.Now()
	carried, err := rig.AwaitCarried(ctx, s.gateways...)
	took := time.Since(began).Round(time.Second)
	s.settled = fmt.Sprintf("The events of the starts were waited for, %v, before the play began", took)
	if !carried {
		s.settled = fmt.Sprintf("The events of the starts were still being published %v after the last start, when the play began", took)
	}
	return err
}

// lastLogs is the last lines that each gateway has logged.
func (s *stage) lastLogs() error {
	var lines []string
	for _, g := range s.gateways {
		all := strings.Split(strings.TrimSpace(g.Log()), "\n")
		lines = append(lines, all[max(0, len(all)-5):]...)
	}
	return fmt.Errorf("the gateways' last log lines: %s", strings.Join(lines, "\n"))
}

// profile takes the first gateway's CPU profile while the run is measured.
func (s *stage) profile(ctx context.Context, o options) error {
	if !o.profile || o.out == "" {
		return nil
	}
	seconds := max(1, int(o.duration/time.Second))
	url := strings.TrimSuffix(s.gateways[0].MetricsURL, "/metrics") + fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds)
	res, err := rig.Get(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	file, err := os.Create(filepath.Join(o.out, o.mode+".prof"))
	if err != nil {
		return err
	}
	_, err = io.Copy(file, res.Body)
	return errors.Join(err, file.Close())
}
