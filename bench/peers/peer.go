package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"doorstep/bench/load/drive"
	"doorstep/bench/load/figures"
	"doorstep/bench/rig"
	"doorstep/internal/servers/process"
)

// peer is one server that takes the same updates.
type peer struct {
	name  string
	what  string
	eye   drive.Eye // empty: nobody can look
	begin func(ctx context.Context, valkeyURL string, rate time.Duration) (*served, error)
}

// served is a running peer.
type served struct {
	listen string
	pid    int
	stop   func() error
	settle func(ctx context.Context) error // after the starts, before the play; nil: at once
}

// pids are its processes of now.
func (s *served) pids() []int { return figures.Descendants(s.pid, "") }

const doorstep, reviewed, inGo = "Doorstep", "(a) Express", "(b) net/http"

// The floor, and what of the distance to it is the script's.
const floor, scripted = "(c) floor", "(e) script's floor"

// peers are all that can be had here. What is left out is said to skipped.
func (b *bench) peers(skipped func(why string)) []peer {
	all := []peer{
		{doorstep, "everything on; long poll", drive.LongPoll, b.doorstep},
		{inGo, "the review's design in Go with go-redis; short polling", drive.Poll, b.program("gosimple", nil)},
		// valkey-go's own queue, as before the script's store chose another for the whole program.
		{floor, "Hertz, JSON, one HSET", "", b.program("floor", nil, "RUEIDIS_QUEUE_TYPE=ring")},
		{scripted, "Hertz, JSON, update.lua through the same store; no token, no metrics", "", b.program("floor", []string{"script"})},
	}
	if why := b.withoutNode(); why != "" {
		skipped(why)
		return all
	}
	return append(all,
		peer{reviewed, "the review's design, Express and ioredis, one process; short polling", drive.Poll, b.node("server.js", 1)},
		peer{reviewed + " ×2", "the same, two workers by node's cluster", drive.Poll, b.node("server.js", 2)},
		peer{"(d) WebSocket", "Express and ws, in memory, no checks; push", drive.Push, b.node("push.js", 1)})
}

// withoutNode says why the peers on node cannot run, if so.
func (b *bench) withoutNode() string {
	if _, err := exec.LookPath("node"); err != nil {
		return "there is no node: peers (a) and (d) are left out"
	}
	if _, err := os.Stat(filepath.Join(b.nodeDir, "node_modules", "express")); err != nil {
		return "npm has not installed their packages (make bench-peers does): peers (a) and (d) are left out"
	}
	return ""
}

func (b *bench) doorstep(ctx context.Context, valkeyURL string, rate time.Duration) (*served, error) {
	settings := []string{"VALKEY_URL=" + valkeyURL, "LOG_LEVEL=warn", "RATE_INTERVAL=" + max(rate, time.Millisecond).String()}
	if rate == 0 { // one caller stands for many; the limits are at work all the same
		settings = append(settings, "CALLER_RATE=1000000", "CALLER_BURST=1000000")
	}
	if b.databaseURL != "" {
		settings = append(settings, "DATABASE_URL="+b.databaseURL)
	}
	g, err := b.gateway.Start(ctx, settings...)
	if err != nil {
		return nil, err
	}
	settle := func(ctx context.Context) error {
		carried, err := rig.AwaitCarried(ctx, g)
		if err == nil && !carried {
			fmt.Fprintln(b.progress, "Doorstep: events of the starts are still being carried")
		}
		return err
	}
	return &served{listen: g.Listen, pid: g.PID(), stop: g.Kill, settle: settle}, nil
}

// program is a peer in Go.
func (b *bench) program(name string, args []string, env ...string) func(context.Context, string, time.Duration) (*served, error) {
	return func(ctx context.Context, valkeyURL string, rate time.Duration) (*served, error) {
		path := filepath.Join(b.dir, name)
		if _, err := os.Stat(path); err != nil {
			build := exec.CommandContext(ctx, "go", "build", "-o", path, "doorstep/bench/peers/"+name) //nolint:gosec // a path of our own
			if out, err := build.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("go build: %w: %s", err, out)
			}
		}
		cmd := exec.Command(path, args...) //nolint:gosec,noctx // ours; stop ends it
		cmd.Env = env
		return serve(ctx, cmd, valkeyURL, rate)
	}
}

// node is a peer in JavaScript.
func (b *bench) node(script string, workers int) func(context.Context, string, time.Duration) (*served, error) {
	return func(ctx context.Context, valkeyURL string, rate time.Duration) (*served, error) {
		cmd := exec.Command("node", script) //nolint:gosec,noctx // ours; stop ends it
		cmd.Dir = b.nodeDir
		cmd.Env = []string{"NODE_ENV=production", fmt.Sprintf("WORKERS=%d", workers)}
		return serve(ctx, cmd, valkeyURL, rate)
	}
}

// readyIn bounds a start.
const readyIn = 30 * time.Second

// serve starts a peer and returns once it answers.
func serve(ctx context.Context, cmd *exec.Cmd, valkeyURL string, rate time.Duration) (*served, error) {
	listen, err := rig.FreeAddr()
	if err != nil {
		return nil, err
	}
	cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"), "HOME="+os.TempDir(), "LISTEN="+listen, "REDIS_URL="+valkeyURL,
		"JWT_SECRET="+rig.Secret, fmt.Sprintf("RATE_MS=%d", rate.Milliseconds()))
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	process, err := process.Start(cmd)
	if err != nil {
		return nil, err
	}
	s := &served{listen: listen, pid: process.OS().Pid, stop: process.Kill}
	ctx, cancel := context.WithTimeout(ctx, readyIn)
	defer cancel()
	for !answers(ctx, listen) {
		select {
		case <-process.Done():
			return nil, fmt.Errorf("it has ended: %w: %s", process.Err(), said.String())
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), process.Kill())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return s, nil
}

func answers(ctx context.Context, listen string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listen+"/readyz", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return res.Body.Close() == nil && res.StatusCode == http.StatusOK
}
