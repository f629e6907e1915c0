// Package haproxy starts a throw-away HAProxy in front of gateways: round-robin,
// with health checks on /readyz, and without retries.
package haproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"doorstep/internal/servers/process"
)

// ErrNotFound says that this machine has no HAProxy.
var ErrNotFound = errors.New("no haproxy on the PATH or in /usr/sbin: run .ci/install")

// configuration is a plain round-robin. Nothing is sent twice (no retries, no
// redispatch), so that every failure that a gateway causes reaches a caller.
// Connections to the gateways are kept and used again, as an ALB does. HAProxy's
// own errors are JSON with the code BALANCER, to tell them from a gateway's.
// Only what failed is logged, checks included.
//
// A call to one gateway's own port goes to that gateway while it is in service, and
// like any other while it is not.
const configuration = `global
  maxconn 8000
  nbthread 1
  log stdout format raw local0
defaults
  mode http
  log global
  option dontlog-normal
  log-format "%%s %%ts %%ST %%Ta %%HM %%HP"
  retries 0
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  timeout check 2s
  http-error status 502 content-type application/json string '{"success":false,"code":"BALANCER"}'
  http-error status 503 content-type application/json string '{"success":false,"code":"BALANCER"}'
  http-error status 504 content-type application/json string '{"success":false,"code":"BALANCER"}'
frontend public
  bind %[1]s
  stats enable
  stats uri /haproxy
  default_backend gateways
backend gateways
  balance roundrobin
  http-reuse always
  option httpchk GET /readyz
  option log-health-checks
  default-server check %[2]s
%[3]s`

// Checks are how HAProxy finds out whether a gateway should get calls.
type Checks string

const (
	// QuickChecks are for a short run. One lost check takes no gateway out of service.
	// HAProxy gives a check's connection no longer than inter, by its own clock, and on a
	// busy machine it looks at a short one's connection too late. A gateway whose /readyz
	// says 503 is out of service within 1.3 s.
	QuickChecks Checks = "inter 500ms fastinter 400ms downinter 100ms fall 3 rise 1"
	// ALBChecks are those of an AWS load balancer's target group: every 5 s, unhealthy
	// after 3, healthy after 2. A gateway whose /readyz says 503 is out of service within
	// 15 s. Unused connections to gateways stay open for 60 s at most, as there.
	ALBChecks Checks = "inter 5s fall 3 rise 2 pool-purge-delay 60s"
)

// Backend is one server behind HAProxy. Name is what Failure.Server says.
type Backend struct{ Name, Addr string }

// Server is a running HAProxy. Safe for concurrent use.
type Server struct {
	addr     string
	via      []string // each backend's own address
	backends []Backend
	dir      *process.Dir
	process  *process.Process
	read     chan struct{} // closed when the log is read to its end
}

// Find returns the path of the program. Debian's is off a user's PATH.
func Find() (string, error) {
	for _, name := range []string{"haproxy", "/usr/sbin/haproxy"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNotFound
}

// Start starts HAProxy on a free loopback port and returns once it listens.
// failed is called with each failure, from one goroutine. ctx bounds the start.
// Stop the server; it ends with this process at the latest.
func Start(ctx context.Context, backends []Backend, checks Checks, failed func(Failure)) (*Server, error) {
	program, err := Find()
	if err != nil {
		return nil, err
	}
	s := &Server{backends: backends, via: make([]string, len(backends)), read: make(chan struct{})}
	if s.addr, err = process.FreeAddr(); err != nil {
		return nil, err
	}
	for i := range s.via {
		if s.via[i], err = process.FreeAddr(); err != nil {
			return nil, err
		}
	}
	if s.dir, err = process.NewDir(os.TempDir(), "doorstep-haproxy-"); err != nil {
		return nil, err
	}
	if err := s.launch(program, checks, failed); err != nil {
		return nil, errors.Join(err, s.dir.Remove())
	}
	if err := s.until(ctx, func(map[string]Stats) bool { return true }); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Server) launch(program string, checks Checks, failed func(Failure)) error {
	var servers strings.Builder
	for i, b := range s.backends {
		_, port, _ := net.SplitHostPort(s.via[i])
		fmt.Fprintf(&servers, "  server %[1]s %[2]s\n  use-server %[1]s if { dst_port %[3]s }\n", b.Name, b.Addr, port)
	}
	listen := strings.Join(append([]string{s.addr}, s.via...), ",")
	path := filepath.Join(s.dir.Path(), "haproxy.cfg")
	if err := os.WriteFile(path, fmt.Appendf(nil, configuration, listen, checks, servers.String()), 0o600); err != nil {
		return err
	}
	cmd := exec.Command(program, "-db", "-f", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if s.process, err = process.Start(cmd); err != nil {
		return err
	}
	go func() {
		defer close(s.read)
		readFailures(out, failed)
	}()
	return nil
}

// URL is the address for callers, without a path.
func (s *Server) URL() string { return "http://" + s.addr }

// Via is the address of one backend's own port, by its index.
func (s *Server) Via(backend int) string { return "http://" + s.via[backend] }

// AllReady reports whether every backend is in service.
func (s *Server) AllReady(ctx context.Context) bool {
	stats, err := s.Stats(ctx)
	return err == nil && s.allReady(stats)
}

func (s *Server) allReady(stats map[string]Stats) bool {
	return !slices.ContainsFunc(s.backends, func(b Backend) bool { return !stats[b.Name].InService })
}

// AwaitAllReady returns once every backend is in service, or with ctx's error.
func (s *Server) AwaitAllReady(ctx context.Context) error { return s.until(ctx, s.allReady) }

// until asks every 10 ms until HAProxy answers as is wanted.
func (s *Server) until(ctx context.Context, wanted func(map[string]Stats) bool) error {
	for {
		if stats, err := s.Stats(ctx); err == nil && wanted(stats) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("haproxy: not ready: %w", ctx.Err())
		case <-s.process.Done():
			return fmt.Errorf("haproxy: it has ended: %w", s.process.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Stop kills HAProxy and returns when the last failure has been told.
func (s *Server) Stop() error {
	err := s.process.Kill()
	<-s.read
	return errors.Join(err, s.dir.Remove())
}

// Failure is a call, or a health check, that HAProxy saw fail.
type Failure struct {
	At     time.Time     // when the log line was read
	Server string        // the backend's name; "<NOSRV>" where no backend was in service
	State  string        // HAProxy's termination state, two letters; or Check
	Status string        // what the caller got; "-1": nothing
	Took   time.Duration // from the request's first byte
	Call   string        // method and path
}

// Check is the State of a health check that was answered with an error. No
// caller saw it. A check without an answer is not a Failure: the machine may be
// the reason, and where a gateway is, its callers notice.
const Check = "check"

// String is the failure on one line.
func (f Failure) String() string {
	return fmt.Sprintf("%s %s %s after %s %s", f.Server, f.State, f.Status, f.Took.Round(time.Millisecond), f.Call)
}

// ByCaller reports whether the caller itself gave up.
func (f Failure) ByCaller() bool { return strings.HasPrefix(f.State, "C") }

var refusedCheck = regexp.MustCompile(`^Health check for server \S+/(\S+) failed, reason: Layer7 wrong status, code: (\d+),`)

// parse reads a line of the log: a call in the log-format above, or a check.
func parse(line string) (Failure, bool) {
	if check := refusedCheck.FindStringSubmatch(line); check != nil {
		return Failure{Server: check[1], State: Check, Status: check[2], Call: "GET /readyz"}, true
	}
	var f Failure
	var took int64
	var method, path string
	if n, _ := fmt.Sscan(line, &f.Server, &f.State, &f.Status, &took, &method, &path); n != 6 {
		return f, false
	}
	f.Server = f.Server[strings.LastIndex(f.Server, "/")+1:]
	f.Took, f.Call = time.Duration(took)*time.Millisecond, method+" "+path
	return f, true
}

func readFailures(from io.Reader, failed func(Failure)) {
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		if f, ok := parse(lines.Text()); ok {
			f.At = time.Now()
			failed(f)
		}
	}
}
