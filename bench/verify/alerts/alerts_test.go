// Package alerts causes each alert of metrics/alerts on real processes and does what
// its section of docs/runbook.md says: a real Prometheus must see the alert fire, no
// other one than the fault's own, and see it end.
package alerts

import (
	"context"
	"errors"
	"flag"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
	"doorstep/internal/servers/awstest"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/prometheus"
	"doorstep/internal/servers/valkeytest"
)

const rules = "../../../metrics/alerts/doorstep.yml"

var windows = flag.Bool("windows", false, "wait until the alerts end whose expressions look back for minutes: 20 minutes more")

const (
	// patience bounds every wait but those for windows.
	patience = time.Minute
	// often is the time between two looks.
	often = 250 * time.Millisecond
	// held, in place of each rule's own `for`, is how long its expression must hold: two
	// scrapes.
	held = "1s"
	// atOnce is how many faults are tested at a time: most of their time they wait.
	atOnce = "4"
)

// program is the gateway's binary, built by the first test that needs it.
var program = sync.OnceValues(func() (*rig.Program, error) { return rig.Build(context.Background()) })

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", atOnce)
	awstest.SetEnv(func(name, value string) { _ = os.Setenv(name, value) })
	code := m.Run()
	if p, err := program(); err == nil {
		p.Remove()
	}
	valkeytest.Stop()
	postgrestest.Stop()
	os.Exit(code)
}

// fault is one cause of alerts.
type fault struct {
	name string
	// alerts are those that fire, all of them and no others.
	alerts []string
	// window is how far back the alerts' expressions look, where only that time ends them.
	// Zero: mending ends them.
	window time.Duration
	// open starts the processes, of which s then knows where to scrape them. cause brings the
	// fault about; nil: it is there. mend does what the runbook says.
	open func(t *testing.T, s *stage) (cause, mend func())
}

// Each alert fires for its fault, alone, and ends when the fault is mended.
func TestAlerts(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes most of a minute")
	}
	t.Parallel()
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.test(t)
		})
	}
}

// Every alert has a fault here.
func TestAlerts_none_is_left_out(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(rules)
	require.NoError(t, err)
	var caused []string
	for _, f := range faults() {
		caused = append(caused, f.alerts...)
	}
	for _, alert := range regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(string(text), -1) {
		assert.Contains(t, caused, alert[1])
	}
}

func (f fault) test(t *testing.T) {
	s := &stage{targets: map[string][]net.Addr{}}
	cause, mend := f.open(t, s)
	w := s.watch(t)
	w.passed = slices.DeleteFunc(slices.Clone(busy), func(name string) bool { return slices.Contains(f.alerts, name) })
	if cause != nil {
		w.until(t, patience, nil)
	}
	began := time.Now()
	if cause != nil {
		cause()
	}
	w.until(t, patience, f.alerts)
	fired := time.Since(began)
	mend()
	mended := time.Now()
	switch {
	case f.window == 0:
		w.until(t, patience, nil)
	case *windows:
		w.until(t, f.window+patience, nil)
	default:
		t.Logf("%v: fired after %s; not waited for their end", f.alerts, fired.Round(time.Second))
		assert.ElementsMatch(t, f.alerts, w.seen())
		return
	}
	t.Logf("%v: fired after %s, ended %s after the mending", f.alerts, fired.Round(time.Second), time.Since(mended).Round(time.Second))
	assert.ElementsMatch(t, f.alerts, w.seen())
}

// watcher is a Prometheus, and the alerts that were seen to fire.
type watcher struct {
	*prometheus.Server
	passed []string // alerts that are not looked at
	fired  map[string]bool
}

// busy are alerts that are looked at for their own faults only, because a busy machine can
// fire them: it is late with a scrape, or with a store's answer.
var busy = []string{
	"DoorstepDown", "DoorstepNotReady", "DoorstepUpdatesNotStored", "DoorstepLiveStoreBreakerOpen", "DoorstepLiveStoreSlow", "DoorstepFixToEyeSlow",
	"DoorstepDatabaseUnavailable",
}

// watch starts a Prometheus that scrapes the stage's processes.
func (s *stage) watch(t *testing.T) *watcher {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	server, err := prometheus.Start(ctx, s.targets, shortened(t))
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("DOORSTEP_REQUIRE_SERVERS") == "" {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Prometheus' log: %s", server.Log())
		}
		assert.NoError(t, server.Stop())
	})
	return &watcher{Server: server, fired: map[string]bool{}}
}

// shortened is a file of the rules, of which the times for which their expressions must hold
// are short. The expressions are as they are.
func shortened(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(rules)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "rules.yml")
	text = regexp.MustCompile(`(?m)^( +for: ).+$`).ReplaceAll(text, []byte("${1}"+held))
	require.NoError(t, os.WriteFile(path, text, 0o600))
	return path
}

// until waits until these alerts fire; with none, until nothing does.
func (w *watcher) until(t *testing.T, atMost time.Duration, want []string) {
	t.Helper()
	var firing []string
	for deadline := time.Now().Add(atMost); ; time.Sleep(often) {
		firing = w.firing(t)
		missing := slices.ContainsFunc(want, func(alert string) bool { return !slices.Contains(firing, alert) })
		if want == nil && len(firing) == 0 || want != nil && !missing {
			return
		}
		require.True(t, time.Now().Before(deadline), "%v fire, and not %v", firing, want)
	}
}

// firing are the names of the alerts that fire now.
func (w *watcher) firing(t *testing.T) (names []string) {
	t.Helper()
	var answer struct {
		Alerts []struct {
			State  string
			Labels map[string]string
		}
	}
	require.NoError(t, w.Get(t.Context(), "alerts", &answer))
	for _, a := range answer.Alerts {
		name := a.Labels["alertname"]
		if a.State == "firing" && !slices.Contains(names, name) && !slices.Contains(w.passed, name) {
			names = append(names, name)
			w.fired[name] = true
		}
	}
	return names
}

func (w *watcher) seen() (names []string) {
	for name := range w.fired {
		names = append(names, name)
	}
	return names
}

// host is the address of a URL.
func host(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	addr, _, _ := strings.Cut(rest, "/")
	return addr
}
