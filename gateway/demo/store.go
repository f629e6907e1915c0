package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// storeProcess is a private Valkey or Redis on a unix socket in a folder of its
// own. Nothing of it is left after stop.
type storeProcess struct {
	name  string // program and version
	dir   string
	cmd   *exec.Cmd
	ended chan struct{}
}

// startStore starts the first server on the PATH that is new enough, Valkey
// before Redis, and returns when it listens.
func startStore(ctx context.Context) (*storeProcess, error) {
	path, name, err := findServer(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "doorstep-demo-")
	if err != nil {
		return nil, err
	}
	s := &storeProcess{name: name, dir: dir, ended: make(chan struct{})}
	s.cmd = exec.Command(path, "--port", "0", "--unixsocket", s.socket(), "--unixsocketperm", "700", //nolint:gosec,noctx // a server on the PATH; stop ends it
		"--dir", dir, "--save", "", "--appendonly", "no", "--daemonize", "no")
	// Its own process group: Ctrl-C must reach the gateway first.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(s.cmd.SysProcAttr)
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: see dieWithParent
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait() // killed
		}
		close(s.ended)
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := s.await(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// await waits until the server listens, for 5 s at most.
func (s *storeProcess) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", s.socket())
		if err == nil {
			return conn.Close()
		}
		select {
		case <-s.ended:
			return errors.New(s.name + " ended at once")
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen: %w", s.name, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (s *storeProcess) socket() string { return filepath.Join(s.dir, "s") }

// stop kills the server, waits for its end and removes its folder.
func (s *storeProcess) stop() error {
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.ended
	return os.RemoveAll(s.dir)
}

// oldestMajor is the first major version that has what the scripts need:
// sharded publish and the script header. Ubuntu 22.04 still brings Redis 6.
const oldestMajor = 7

var (
	errNoServer    = errors.New("no valkey-server or redis-server on the PATH")
	versionPattern = regexp.MustCompile(`v=((\d+)[\d.]*)`) // both print "v=8.0.1"
)

// findServer returns a server's path, and its name with the version.
func findServer(ctx context.Context) (path, name string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	err = errNoServer
	for _, program := range []string{"valkey-server", "redis-server"} {
		path, missing := exec.LookPath(program)
		if missing != nil {
			continue
		}
		text, _ := exec.CommandContext(ctx, path, "--version").Output() //nolint:gosec // a server found on the PATH; empty: of an unknown version
		version, major := "of an unknown version", 0
		if found := versionPattern.FindSubmatch(text); found != nil {
			version = string(found[1])
			major, _ = strconv.Atoi(string(found[2])) // digits
		}
		if major >= oldestMajor {
			return path, program + " " + version, nil
		}
		err = fmt.Errorf("%s %s is too old", program, version)
	}
	return "", "", err
}
