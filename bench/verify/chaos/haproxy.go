package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"doorstep/bench/rig"
	"doorstep/internal/pause"
	"doorstep/internal/servers/process"
)

// errNoHAProxy says that this machine has none.
var errNoHAProxy = errors.New("no haproxy on the PATH or in /usr/sbin: run .ci/install")

// haproxyConfig is a plain round-robin. Nothing is sent twice: no retries, no
// redispatch, so that every failure that a gateway causes reaches a caller; and
// connections to the gateways are kept and used again, as an ALB does. A
// balancer's own errors are JSON, to be told from a gateway's; whatever did not
// go well is logged, checks too, and nothing else is.
//
// One lost check takes no gateway away. HAProxy gives a check's connection no
// longer than inter, by its own clock, and where the machine is busy it comes to
// look at the connection later than a short one. A gateway that asks to go is
// left within 1.3 s.
const haproxyConfig = `global
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
  bind %s
  http-request return status 200 if { path /whole } { nbsrv(gateways) eq %d }
  http-request return status 404 if { path /whole }
  default_backend gateways
backend gateways
  balance roundrobin
  http-reuse always
  option httpchk GET /readyz
  option log-health-checks
  default-server check inter 500ms fastinter 400ms downinter 100ms fall 3 rise 1
%s`

// haproxy is a running one.
type haproxy struct{ addr string }

// mishap is a call that HAProxy did not see end well.
type mishap struct {
	at     time.Time     // when this was heard
	server string        // its name; "<NOSRV>" where there was none to ask
	state  string        // HAProxy's two letters: who ended it, and when
	status string        // what the caller got; "-1": nothing
	took   time.Duration // from the request's first byte
	call   string        // method and path
}

func (m mishap) String() string {
	return fmt.Sprintf("%s %s %s after %s %s", m.server, m.state, m.status, m.took.Round(time.Millisecond), m.call)
}

// ofCheck is the state of a mishap that no caller saw: a gateway has told a
// check that it is not ready.
const ofCheck = "check"

// byCaller reports whether the caller itself gave up.
func (m mishap) byCaller() bool { return strings.HasPrefix(m.state, "C") }

// refusedCheck is what HAProxy logs of one. A check without an answer is none:
// that may be the machine's fault, and where it is a gateway's, its callers
// notice.
var refusedCheck = regexp.MustCompile(`^Health check for server \S+/(\S+) failed, reason: Layer7 wrong status, code: (\d+),`)

// parseMishap reads a line in the log-format above, or of a refused check.
func parseMishap(line string) (mishap, bool) {
	if check := refusedCheck.FindStringSubmatch(line); check != nil {
		return mishap{server: check[1], state: ofCheck, status: check[2], call: "GET /readyz"}, true
	}
	var m mishap
	var took int64
	var method, path string
	n, _ := fmt.Sscan(line, &m.server, &m.state, &m.status, &took, &method, &path)
	if n != 6 {
		return m, false
	}
	m.server = m.server[strings.LastIndex(m.server, "/")+1:]
	m.took, m.call = time.Duration(took)*time.Millisecond, method+" "+path
	return m, true
}

func findHAProxy() (string, error) {
	path, err := exec.LookPath("haproxy")
	if err != nil { // Debian's is off a user's PATH
		path, err = exec.LookPath("/usr/sbin/haproxy")
	}
	if err != nil {
		return "", errNoHAProxy
	}
	return path, nil
}

// haproxy starts one before these servers, by name and address, and returns
// when it listens. told hears of every mishap, from one goroutine.
func (s *stage) haproxy(ctx context.Context, servers [][2]string, told func(mishap)) (*haproxy, error) {
	program, err := findHAProxy()
	if err != nil {
		return nil, err
	}
	addr, err := rig.FreeAddr()
	if err != nil {
		return nil, err
	}
	config, err := writeConfig(s, addr, servers)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "-db", "-f", config) //nolint:gosec,noctx // a program of the machine's; the stage's end kills it
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	process, err := process.Start(cmd)
	if err != nil {
		return nil, err
	}
	read := make(chan struct{})
	go func() { defer close(read); readMishaps(out, told) }()
	s.onEnd(func() error { err := process.Kill(); <-read; return err })
	return &haproxy{addr}, awaitDial(ctx, addr)
}

func writeConfig(s *stage, addr string, servers [][2]string) (string, error) {
	dir, err := process.NewDir(os.TempDir(), "doorstep-haproxy-")
	if err != nil {
		return "", err
	}
	s.onEnd(dir.Remove)
	var lines strings.Builder
	for _, server := range servers {
		fmt.Fprintf(&lines, "  server %s %s\n", server[0], server[1])
	}
	path := filepath.Join(dir.Path(), "haproxy.cfg")
	return path, os.WriteFile(path, fmt.Appendf(nil, haproxyConfig, addr, len(servers), lines.String()), 0o600)
}

func readMishaps(from io.Reader, told func(mishap)) {
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		if m, ok := parseMishap(lines.Text()); ok {
			m.at = time.Now()
			told(m)
		}
	}
}

func awaitDial(ctx context.Context, addr string) error {
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		if pause.For(ctx, 5*time.Millisecond) != nil {
			return fmt.Errorf("haproxy: %w", err)
		}
	}
}

// URL is where the callers go.
func (h *haproxy) URL() string { return "http://" + h.addr }

// awaitWhole returns once HAProxy finds every server ready.
func (h *haproxy) awaitWhole(ctx context.Context) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL()+"/whole", nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		if pause.For(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("haproxy: the fleet is not whole: %w", ctx.Err())
		}
	}
}
