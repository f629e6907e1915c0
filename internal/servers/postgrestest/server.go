package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"doorstep/internal/servers/process"
)

const (
	dirPrefix = "doorstep-pg-"
	readyIn   = 30 * time.Second // fifty times what an idle machine needs
	stopWait  = 5 * time.Second
)

// settings are the defaults of every server. A caller's settings come later and win.
var settings = []string{
	"listen_addresses=", "max_connections=200", "shared_buffers=32MB", "timezone=UTC",
	"fsync=off", "full_page_writes=off", // a commit is in the kernel before it is answered, so Kill loses none
	// In the data folder, so that a kill -9 leaves nothing in /dev/shm.
	"dynamic_shared_memory_type=mmap",
}

// Server is a running PostgreSQL. Safe for concurrent use.
type Server struct {
	in       installation
	dir      *process.Dir
	settings []string
	port     string // from the settings; it is also in the name of the socket. Empty: 5432

	mu      sync.Mutex
	process *process.Process
	closed  bool
}

// start makes a data folder and starts a server on it.
func start(ctx context.Context, in installation, with ...string) (*Server, error) {
	dir, err := process.NewDir(tempDir(), dirPrefix)
	if err != nil {
		return nil, fmt.Errorf("postgrestest: %w", err)
	}
	s := &Server{in: in, dir: dir, settings: append(append([]string{}, settings...), with...)}
	for _, setting := range with {
		if port, ok := strings.CutPrefix(setting, "port="); ok {
			s.port = port
		}
	}
	err = s.initialize()
	if err == nil {
		err = s.launch(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("postgrestest: %w", err), dir.Remove())
	}
	return s, nil
}

// DSN is the address of the server's first database, as a URL.
func (s *Server) DSN() string { return s.dsn("postgres") }

// Stop ends the server by a fast shutdown, which rolls back transactions and
// closes connections, and waits. The data stay for Restart.
func (s *Server) Stop() error { return s.end(syscall.SIGINT) }

// Kill ends the server and all its processes with SIGKILL, as a crash would.
// What was committed is there after Restart.
func (s *Server) Kill() error { return s.end(syscall.SIGKILL) }

// Pause stops all of the server's processes (SIGSTOP): connections stay open, the
// kernel accepts new ones, and nothing answers.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

// Restart starts the server again at the same address, after Stop or Kill or
// while it runs, and returns once it answers.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("postgrestest: restart of a closed server")
	}
	return s.launch(ctx)
}

// Close ends the server and removes its folder. Idempotent.
func (s *Server) Close() error {
	// An immediate shutdown does not wait for clients, and frees the shared memory
	// segment, which SIGKILL would leave.
	err := s.end(syscall.SIGQUIT)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return errors.Join(err, s.dir.Remove())
}

func (s *Server) initialize() error {
	if err := s.folders(); err != nil {
		return err
	}
	return s.run("initdb", "--pgdata="+s.dataDir(), "--username=postgres", "--auth=trust",
		"--encoding=UTF8", "--locale=C", "--wal-segsize=1", "--no-sync")
}

func (s *Server) folders() error {
	// The owner and root's clients must be able to pass through.
	if err := os.Chmod(s.dir.Path(), 0o711); err != nil {
		return err
	}
	return errors.Join(s.in.folder(s.dataDir(), 0o700), s.in.folder(s.socketDir(), 0o755))
}

// run runs a program that fills the data folder.
func (s *Server) run(program string, args ...string) error {
	log, err := os.Create(s.logPath())
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := s.in.command(s.dataDir(), program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	running, err := process.Start(cmd)
	if err == nil {
		err = running.Err()
	}
	if err != nil {
		return fmt.Errorf("%s: %w; its log ends: %s", program, err, s.logTail())
	}
	return nil
}

// launch starts the server and waits until it answers. A caller holds s.mu, or
// nobody else has the server yet.
func (s *Server) launch(ctx context.Context) error {
	log, err := os.Create(s.logPath())
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	args := []string{"-D", s.dataDir(), "-k", s.socketDir()}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	cmd := s.in.command(s.dataDir(), "postgres", args...)
	cmd.Stdout, cmd.Stderr = log, log
	if s.process, err = process.Start(cmd); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyIn)
	defer cancel()
	if err := s.awaitAnswer(ctx); err != nil {
		return errors.Join(fmt.Errorf("%w; its log ends: %s", err, s.logTail()), s.process.Kill())
	}
	return nil
}

func (s *Server) awaitAnswer(ctx context.Context) error {
	every := time.NewTicker(10 * time.Millisecond)
	defer every.Stop()
	for {
		err := s.execute(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-s.process.Done():
			return fmt.Errorf("ended at once: %v", s.process.Err()) //nolint:errorlint // an exit code is text to the caller, nothing to match
		case <-ctx.Done():
			return fmt.Errorf("not answering (%v): %w", err, ctx.Err()) //nolint:errorlint // the last try's error is text; the context's is the cause
		case <-every.C:
		}
	}
}

// end signals the server and waits until it is gone. After 5 s it is killed.
func (s *Server) end(how syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if how == syscall.SIGKILL {
		return s.killAll()
	}
	// A paused server handles no other signal before SIGCONT.
	if err := errors.Join(s.signalAll(syscall.SIGCONT), ignoreGone(s.process.OS().Signal(how))); err != nil {
		return err
	}
	select {
	case <-s.process.Done():
		return nil
	case <-time.After(stopWait):
		return s.killAll()
	}
}

func (s *Server) signal(signal syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signalAll(signal)
}

// execute runs one statement on a connection of its own.
func (s *Server) execute(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, s.DSN())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

func (s *Server) dsn(database string) string {
	query := url.Values{"host": {s.socketDir()}, "sslmode": {"disable"}}
	if s.port != "" {
		query.Set("port", s.port)
	}
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

func (s *Server) dataDir() string   { return filepath.Join(s.dir.Path(), "data") }
func (s *Server) socketDir() string { return filepath.Join(s.dir.Path(), "s") }
func (s *Server) logPath() string   { return filepath.Join(s.dir.Path(), "log") }

// logTail returns the last 600 bytes of the log.
func (s *Server) logTail() string {
	text, err := os.ReadFile(s.logPath())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-600):])
}
