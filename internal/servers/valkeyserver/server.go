package valkeyserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"doorstep/internal/servers/process"
)

const (
	dirPrefix  = "doorstep-store-"
	socketName = "s"
	// maxSocketPath is the longest path in a sockaddr_un on every system: 104 bytes
	// on BSD and macOS, 108 on Linux, less the closing zero.
	maxSocketPath = 103
	// portTries is how often a start is tried with other ports: another process may
	// take a port between our request and the server's start.
	portTries = 5
	// readyIn bounds a start, from the fork to the first answered PING: five hundred
	// times what an idle machine needs.
	readyIn = 10 * time.Second
)

// ErrNotFound says that neither valkey-server nor redis-server is on the PATH.
var ErrNotFound = errors.New("no valkey-server or redis-server on the PATH")

// Server is a running server. Safe for concurrent use.
type Server struct {
	options Options
	dir     *process.Dir
	port    int // 0: no TCP
	busPort int // 0: no cluster

	mu      sync.Mutex
	process *process.Process
	stopped bool
}

// Start starts a server and returns once it answers PING. ctx bounds the start
// only, to 10 s at most; the server then runs until Stop, or until this process
// ends.
func Start(ctx context.Context, options Options) (*Server, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	dir, err := process.NewDir(tempDir(), dirPrefix)
	if err != nil {
		return nil, fmt.Errorf("valkeyserver: %w", err)
	}
	s := &Server{options: options, dir: dir}
	for range portTries {
		if err = s.choosePorts(ctx); err != nil {
			break
		}
		if err = s.launch(ctx); err == nil || !portTaken(err) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, dir.Remove())
	}
	return s, nil
}

// tempDir is the folder for temporary files, or /tmp where its path is too long
// for a socket.
func tempDir() string {
	dir := os.TempDir()
	if len(dir)+len("/")+len(dirPrefix)+len("4294967295/"+socketName) > maxSocketPath {
		return "/tmp"
	}
	return dir
}

// Socket is the path of the server's unix socket, under 104 bytes.
func (s *Server) Socket() string { return filepath.Join(s.dir.Path(), socketName) }

// Addr is "127.0.0.1:port", or empty without Options.TCP.
func (s *Server) Addr() string {
	if s.port == 0 {
		return ""
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
}

// URL is the server's address as clients parse it: "redis://127.0.0.1:port"
// with Options.TCP, "rediss://…" with Options.TLS, else "unix:///path".
func (s *Server) URL() string {
	switch {
	case s.port == 0:
		return "unix://" + s.Socket()
	case s.options.TLS != nil:
		return "rediss://" + s.Addr()
	default:
		return "redis://" + s.Addr()
	}
}

// Process is the server's present process. After Restart it is another one.
func (s *Server) Process() *os.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.OS()
}

// Done is closed when the server's present process is gone.
func (s *Server) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.Done()
}

// Pause stops the process (SIGSTOP): connections stay open and nothing answers.
// Resume, Kill, Restart and Stop work on a paused server.
func (s *Server) Pause() error { return s.Process().Signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *Server) Resume() error { return s.Process().Signal(syscall.SIGCONT) }

// Kill ends the process with SIGKILL and waits until it is gone. Connections are
// refused until Restart, which uses the same addresses.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.Kill()
}

// Restart kills the process if it runs and starts another at the same addresses,
// without data. It returns once the new one answers.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("valkeyserver: restart of a stopped server")
	}
	if err := s.process.Kill(); err != nil {
		return err
	}
	return s.launch(ctx)
}

// Stop ends the server with SIGKILL, waits until it is gone (5 s at most) and
// removes its folder. It holds nothing worth an orderly end, and a paused server
// takes no other signal. Idempotent.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	return errors.Join(s.process.Kill(), s.dir.Remove())
}

// launch starts the process at the chosen addresses and waits for its PONG.
func (s *Server) launch(ctx context.Context) error {
	log, err := os.Create(s.logPath())
	if err != nil {
		return fmt.Errorf("valkeyserver: %w", err)
	}
	defer func() { _ = log.Close() }() // the child has its own copy

	args, err := s.args()
	if err != nil {
		return err
	}
	cmd := exec.Command(s.options.Path, args...) // not CommandContext: ctx bounds the start, not the life
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir.Path(), log, log
	process, err := process.Start(cmd)
	if err != nil {
		return fmt.Errorf("valkeyserver: %w", err)
	}
	s.process = process

	ctx, cancel := context.WithTimeout(ctx, readyIn)
	defer cancel()
	if err := s.awaitPong(ctx); err != nil {
		return errors.Join(fmt.Errorf("valkeyserver: %s: %w; its log ends: %s", s.options.Path, err, s.logTail()), process.Kill())
	}
	return nil
}

// args returns the command line. Only a sentinel reads a configuration file, so
// a setting that is not here has the server's default.
func (s *Server) args() ([]string, error) {
	if s.options.sentinel != "" {
		return s.sentinelArgs()
	}
	args := []string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1",
		"--unixsocket", s.Socket(), "--unixsocketperm", "700",
		"--dir", s.dir.Path(), "--save", "", "--appendonly", "no", "--daemonize", "no",
	}
	if tls := s.options.TLS; tls != nil {
		args = append(args, "--port", "0", "--tls-port", strconv.Itoa(s.port), "--tls-auth-clients", "no",
			"--tls-cert-file", tls.Cert, "--tls-key-file", tls.Key, "--tls-ca-cert-file", tls.CA)
	}
	if s.options.Cluster {
		args = append(args, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(s.busPort))
	}
	return append(args, s.options.Args...), nil
}

// awaitPong asks every 2 ms; on a unix socket that costs microseconds.
func (s *Server) awaitPong(ctx context.Context) error {
	every := time.NewTicker(2 * time.Millisecond)
	defer every.Stop()
	for {
		err := s.ping(ctx)
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

func (s *Server) logPath() string { return filepath.Join(s.dir.Path(), "log") }

// logTail returns the last 600 bytes of the log.
func (s *Server) logTail() string {
	text, err := os.ReadFile(s.logPath())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-600):])
}
