package valkeyserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// MasterSet is the name under which the sentinels watch the servers.
const MasterSet = "doorstep"

// Watched is one primary with one replica, and three sentinels that make the
// replica the primary when two of them agree that the primary is dead.
type Watched struct {
	Servers   [2]*Server // first primary, then replica
	Sentinels [3]*Server
}

// StartWatched starts all five and returns when every sentinel knows the
// others and the replica has the primary's data: one to three seconds. A
// primary counts as dead after a silence of deadAfter. ctx bounds the start, to
// 30 s at most.
func StartWatched(ctx context.Context, path string, deadAfter time.Duration) (*Watched, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	w := &Watched{}
	err := w.start(ctx, path, deadAfter)
	if err != nil {
		return nil, errors.Join(err, w.Stop())
	}
	return w, nil
}

func (w *Watched) start(ctx context.Context, path string, deadAfter time.Duration) (err error) {
	for i := range w.Servers {
		if w.Servers[i], err = Start(ctx, Options{Path: path, TCP: true, Args: []string{"--repl-diskless-sync-delay", "0"}}); err != nil {
			return err
		}
	}
	primary, replica := w.Servers[0], w.Servers[1]
	if _, err := replica.Do(ctx, "REPLICAOF", "127.0.0.1", strconv.Itoa(primary.port)); err != nil {
		return err
	}
	if err := replica.untilFollowing(ctx, primary); err != nil {
		return err
	}
	for i := range w.Sentinels {
		if w.Sentinels[i], err = Start(ctx, Options{Path: path, TCP: true, sentinel: monitor(primary, deadAfter)}); err != nil {
			return err
		}
	}
	return until(ctx, "sentinels", func() bool { return w.agreed(ctx) })
}

// monitor is the task in a sentinel's file: two of three sentinels decide.
func monitor(primary *Server, deadAfter time.Duration) string {
	return fmt.Sprintf("sentinel monitor %[1]s 127.0.0.1 %[2]d 2\nsentinel down-after-milliseconds %[1]s %[3]d\nsentinel failover-timeout %[1]s 10000\n",
		MasterSet, primary.port, deadAfter.Milliseconds())
}

// agreed reports whether each sentinel knows the two others and the replica.
func (w *Watched) agreed(ctx context.Context) bool {
	for _, s := range w.Sentinels {
		said, err := s.Do(ctx, "INFO", "sentinel")
		if err != nil || !strings.Contains(said, "slaves=1,sentinels=3") {
			return false
		}
	}
	return true
}

// URL names the sentinels.
func (w *Watched) URL() string {
	return fmt.Sprintf("%s?addr=%s&addr=%s&master_set=%s", w.Sentinels[0].URL(), w.Sentinels[1].Addr(), w.Sentinels[2].Addr(), MasterSet)
}

// Successor waits until every sentinel names the replica as the primary. The
// sentinel that led the election does so up to a second after the replica's
// promotion, the others up to two seconds later.
func (w *Watched) Successor(ctx context.Context) (*Server, error) {
	next := w.Servers[1]
	return next, until(ctx, "successor", func() bool {
		for _, s := range w.Sentinels {
			said, err := s.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterSet)
			if err != nil || said != "127.0.0.1\n"+strconv.Itoa(next.port) {
				return false
			}
		}
		primary, err := next.Primary(ctx)
		return err == nil && primary
	})
}

// Stop ends all five. Idempotent.
func (w *Watched) Stop() error {
	var errs []error
	for _, s := range append(w.Sentinels[:], w.Servers[:]...) {
		if s != nil {
			errs = append(errs, s.Stop())
		}
	}
	return errors.Join(errs...)
}

// sentinelArgs returns a sentinel's arguments. A sentinel keeps what it has
// learned in its file, so a restart must find the file as it was left.
func (s *Server) sentinelArgs() ([]string, error) {
	file := filepath.Join(s.dir.Path(), "sentinel.conf")
	text := fmt.Sprintf("port %d\nbind 127.0.0.1\nunixsocket %s\nunixsocketperm 700\ndir %s\nprotected-mode no\n%s",
		s.port, s.Socket(), s.dir.Path(), s.options.sentinel)
	if _, err := os.Stat(file); err != nil {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("valkeyserver: %w", err)
		}
	}
	return append([]string{file, "--sentinel"}, s.options.Args...), nil
}
