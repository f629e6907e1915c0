package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"doorstep/internal/servers/process"
)

// readyIn bounds a start: two hundred times what an idle machine needs.
const readyIn = 20 * time.Second

// Gateway is a `gateway serve` process, or a `gateway worker`, which has no API.
// Safe for concurrent use.
type Gateway struct {
	Listen     string // host:port of the API
	MetricsURL string

	process *process.Process
	drained chan struct{} // closed when its log is read to the end

	mu  sync.Mutex
	log strings.Builder
}

// Start starts a gateway with these settings ("NAME=value", without the prefix) and
// returns once /readyz answers 200. Without LISTEN or METRICS_LISTEN it gets a free port
// for that. It ends with this process at the latest.
func (p *Program) Start(ctx context.Context, settings ...string) (*Gateway, error) {
	listen, err := address(settings, "LISTEN=")
	if err != nil {
		return nil, err
	}
	g := &Gateway{Listen: listen, drained: make(chan struct{})}
	if err := g.launch(p, "serve", append(settings, "LISTEN="+listen)); err != nil {
		return nil, err
	}
	return g, g.await(ctx, g.Ready)
}

// address is the one that the settings have under this name, or a free one.
func address(settings []string, name string) (string, error) {
	for _, s := range settings {
		if addr, ok := strings.CutPrefix(s, name); ok {
			return addr, nil
		}
	}
	return process.FreeAddr()
}

// StartWorker starts a `gateway worker` with these settings and returns once it
// serves its metrics.
func (p *Program) StartWorker(ctx context.Context, settings ...string) (*Gateway, error) {
	g := &Gateway{drained: make(chan struct{})}
	if err := g.launch(p, "worker", settings); err != nil {
		return nil, err
	}
	return g, g.await(ctx, func(ctx context.Context) bool {
		_, err := g.Metrics(ctx)
		return err == nil
	})
}

// launch starts the process.
func (g *Gateway) launch(p *Program, command string, settings []string) error {
	metrics, err := address(settings, "METRICS_LISTEN=")
	if err != nil {
		return err
	}
	g.MetricsURL = "http://" + metrics + "/metrics"
	cmd := exec.Command(p.path, command) //nolint:gosec,noctx // our own binary; it outlives the context of its start
	cmd.Env = environment(append(settings, "METRICS_LISTEN="+metrics))
	// Not StderrPipe, which the end of the process closes before all is read.
	stderr, in, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("rig: %w", err)
	}
	cmd.Stderr = in
	g.process, err = process.Start(cmd)
	_ = in.Close() // the child has its own copy
	if err != nil {
		return errors.Join(fmt.Errorf("rig: %w", err), stderr.Close())
	}
	go g.read(stderr)
	return nil
}

func (g *Gateway) read(stderr io.ReadCloser) {
	defer close(g.drained)
	defer func() { _ = stderr.Close() }()
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		g.mu.Lock()
		if g.log.Len() < 64<<20 {
			fmt.Fprintln(&g.log, lines.Text())
		}
		g.mu.Unlock()
	}
}

// await waits until the process is ready, or kills it.
func (g *Gateway) await(ctx context.Context, ready func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, readyIn)
	defer cancel()
	for {
		if ready(ctx) {
			return nil
		}
		select {
		case <-g.process.Done():
			<-g.drained
			return fmt.Errorf("rig: the gateway has ended: %w: %s", g.process.Err(), g.Log())
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("rig: not ready: %w: %s", ctx.Err(), g.Log()), g.Kill())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Ready asks /readyz.
func (g *Gateway) Ready(ctx context.Context) bool {
	res, err := Get(ctx, g.URL()+"/readyz")
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// URL is the address of the API, without a path.
func (g *Gateway) URL() string { return "http://" + g.Listen }

// Log is what the gateway has logged so far.
func (g *Gateway) Log() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.log.String()
}

// LogTail is the last lines of the log.
func (g *Gateway) LogTail() string {
	lines := strings.Split(g.Log(), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// PID is the process id, for /proc.
func (g *Gateway) PID() int { return g.process.OS().Pid }

// Signal sends a signal: SIGTERM drains.
func (g *Gateway) Signal(s os.Signal) error { return g.process.OS().Signal(s) }

// Done is closed when the process has ended.
func (g *Gateway) Done() <-chan struct{} { return g.process.Done() }

// Err is how it ended; nil for exit code 0. Only after Done.
func (g *Gateway) Err() error { return g.process.Err() }

// Kill ends it with SIGKILL and waits for that.
func (g *Gateway) Kill() error { return g.process.Kill() }

// Stop drains it with SIGTERM and returns how it ended. If ctx ends first, it is
// killed.
func (g *Gateway) Stop(ctx context.Context) error {
	if err := g.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-g.Done():
		return g.Err()
	case <-ctx.Done():
		return errors.Join(ctx.Err(), g.Kill())
	}
}

// Get requests a URL without a token. The caller closes the body.
func Get(ctx context.Context, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(req)
}

// Metrics returns /metrics, as text.
func (g *Gateway) Metrics(ctx context.Context) (string, error) {
	res, err := Get(ctx, g.MetricsURL)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return string(text), err
}

// Metric returns the value of one series, named as in the text format: "name" or
// `name{label="value"}` with the labels in alphabetical order. A missing series is 0.
func (g *Gateway) Metric(ctx context.Context, series string) (float64, error) {
	text, err := g.Metrics(ctx)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			var v float64
			_, err := fmt.Sscan(value, &v)
			return v, err
		}
	}
	return 0, nil
}
