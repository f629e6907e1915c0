// Package prometheus starts a throw-away Prometheus that scrapes gateways and
// evaluates alert rules every second.
package prometheus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"doorstep/internal/servers/process"
)

// Server is a running Prometheus. Safe for concurrent use.
type Server struct {
	addr    string
	dir     *process.Dir
	process *process.Process
}

// Start starts Prometheus on a free loopback port with the targets of each job
// and a file of rules. It returns once every target is scraped, or with ctx's
// error. Stop the server; it ends with this process at the latest. The error is
// exec.ErrNotFound where the machine has no prometheus.
func Start(ctx context.Context, jobs map[string][]net.Addr, rules string) (*Server, error) {
	program, err := exec.LookPath("prometheus")
	if err != nil {
		return nil, fmt.Errorf("prometheus: %w: run .ci/install", err)
	}
	if rules, err = filepath.Abs(rules); err != nil {
		return nil, err
	}
	s := &Server{}
	if s.addr, err = process.FreeAddr(); err != nil {
		return nil, err
	}
	if s.dir, err = process.NewDir(os.TempDir(), "doorstep-prometheus-"); err != nil {
		return nil, err
	}
	if err := s.launch(program, configuration(jobs, rules)); err != nil {
		return nil, errors.Join(err, s.dir.Remove())
	}
	if err := s.awaitTargets(ctx, jobs); err != nil {
		return nil, errors.Join(fmt.Errorf("prometheus: %w; its log: %s", err, s.Log()), s.Stop())
	}
	return s, nil
}

func configuration(jobs map[string][]net.Addr, rules string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n", rules)
	for job, addrs := range jobs {
		var targets []string
		for _, a := range addrs {
			targets = append(targets, strconv.Quote(a.String()))
		}
		fmt.Fprintf(&b, "  - {job_name: %s, static_configs: [{targets: [%s]}]}\n", job, strings.Join(targets, ", "))
	}
	return b.String()
}

func (s *Server) launch(program, config string) error {
	path := filepath.Join(s.dir.Path(), "prometheus.yml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return err
	}
	log, err := os.Create(s.logPath())
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own copy
	cmd := exec.Command(program, "--config.file="+path, "--storage.tsdb.path="+filepath.Join(s.dir.Path(), "data"), "--web.listen-address="+s.addr)
	cmd.Stdout, cmd.Stderr = log, log
	s.process, err = process.Start(cmd)
	return err
}

func (s *Server) awaitTargets(ctx context.Context, jobs map[string][]net.Addr) error {
	want := 0
	for _, addrs := range jobs {
		want += len(addrs)
	}
	for {
		var up struct{ Result []json.RawMessage }
		if err := s.Get(ctx, "query?query=up%3D%3D1", &up); err == nil && len(up.Result) == want {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.process.Done():
			return fmt.Errorf("it has ended: %w", s.process.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Get reads the data of the HTTP API's answer to a path under /api/v1/ into a
// value, as JSON.
func (s *Server) Get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/api/v1/"+path, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	var answer struct {
		Status string          `json:"status"`
		Error  string          `json:"error"`
		Data   json.RawMessage `json:"data"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("prometheus: %s: %s", path, answer.Error)
	}
	return json.Unmarshal(answer.Data, into)
}

// Log is what Prometheus has printed so far.
func (s *Server) Log() string {
	text, err := os.ReadFile(s.logPath())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Stop kills Prometheus and removes its data.
func (s *Server) Stop() error { return errors.Join(s.process.Kill(), s.dir.Remove()) }

func (s *Server) logPath() string { return filepath.Join(s.dir.Path(), "log") }
