// Package dashboards proves the dashboards and the alerts without Grafana: a real
// Prometheus scrapes real gateways and a worker during journeys, refusals and an
// outage, and is then asked every query of every panel and of every alert.
package dashboards

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
	"doorstep/gateway/app"
	"doorstep/internal/servers/awstest"
	"doorstep/internal/servers/certtest"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/prometheus"
	"doorstep/internal/servers/requiredtest"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions/postgres"
)

func TestMain(m *testing.M) {
	code := m.Run()
	valkeytest.Stop()
	postgrestest.Stop()
	os.Exit(code)
}

// patience bounds every wait in these tests.
const patience = 20 * time.Second

// processes are three gateways and a worker: one gateway that handles its own
// events, on a clock that can be moved, one with the bus and the queues, and one that
// speaks HTTPS and is not called.
type processes struct {
	alone, onBus *app.App
	secure       *app.App
	worker       *app.Worker
	clock        *clock
	live         *valkeyserver.Server // of both gateways
}

func open(t *testing.T) *processes {
	t.Helper()
	awstest.SetEnv(t.Setenv)
	aws := awstest.Start()
	t.Cleanup(aws.Close)
	aws.Bus("application-events")
	for _, queue := range []string{"notify", "cleanup", "analytics"} {
		aws.Queue(queue, time.Minute, 5)
		aws.Rule("application-events", "admin-service", queue, "TrainerJourneyStarted", "TrainerJourneyEnded", "TrainerLocationSuspicious")
	}
	p := &processes{clock: &clock{}, live: valkeytest.Private(t, valkeyserver.Valkey)}
	o := app.Options{Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0", JWTSecret: rig.Secret, OTPInResponse: true, ValkeyURL: p.live.URL(), Version: "v0-test"}
	alone := o
	alone.DatabaseURL, alone.Now = database(t), p.clock.now
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(receiver.Close)
	alone.WebhookURL, alone.WebhookAllowPrivate = receiver.URL, true
	alone.WebhookSecrets = []string{"whsec_" + base64.StdEncoding.EncodeToString([]byte(rig.Secret))}
	p.alone = started(t, alone)
	onBus := o
	onBus.DatabaseURL, onBus.EventBus, onBus.EventBridgeEndpoint = database(t), "application-events", aws.URL()
	onBus.Region, onBus.Regions = "eu", []string{"eu=http://eu.example", "us=http://us.example"}
	p.onBus = started(t, onBus)
	files, _ := certtest.New(t)
	p.secure = started(t, app.Options{
		Listen: o.Listen, MetricsListen: o.MetricsListen, JWTSecret: rig.Secret, Version: o.Version, TLSCert: files.Cert, TLSKey: files.Key,
	})
	var err error
	p.worker, err = app.NewWorker(app.WorkerOptions{
		QueueNotify: "notify", QueueCleanup: "cleanup", QueueAnalytics: "analytics", SQSEndpoint: aws.URL(),
		DatabaseOptions: app.DatabaseOptions{DatabaseURL: onBus.DatabaseURL}, ValkeyURL: p.live.URL(), MetricsListen: "127.0.0.1:0", DrainTimeout: 5 * time.Second, Version: "v0-test",
	})
	require.NoError(t, err)
	require.NoError(t, p.worker.Start(t.Context()))
	t.Cleanup(func() { stop(t, p.worker) })
	return p
}

func database(t *testing.T) string {
	t.Helper()
	url := postgrestest.New(t)
	require.NoError(t, postgres.Migrate(t.Context(), url, nil))
	return url
}

func started(t *testing.T, o app.Options) *app.App {
	t.Helper()
	a, err := app.New(o)
	require.NoError(t, err)
	require.NoError(t, a.Start(t.Context()))
	t.Cleanup(func() { stop(t, a) })
	return a
}

func stop(t *testing.T, a interface{ Stop(context.Context) error }) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience) // the test's has ended
	defer cancel()
	assert.NoError(t, a.Stop(ctx))
}

// Every panel of every dashboard shows data, and every alert is evaluated, on the
// metrics of real gateways.
func TestDashboards(t *testing.T) { //nolint:paralleltest // it sets the environment
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	run := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	server, err := prometheus.Start(ctx, map[string][]net.Addr{
		"doorstep-gateway": {run.alone.MetricsAddr(), run.onBus.MetricsAddr(), run.secure.MetricsAddr()},
		"doorstep-worker":  {run.worker.MetricsAddr()},
	}, "../../../metrics/alerts/doorstep.yml")
	if errors.Is(err, exec.ErrNotFound) {
		requiredtest.Missing(t, err)
	}
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Prometheus' log: %s", server.Log())
		}
		assert.NoError(t, server.Stop())
	})
	p := &queries{server}
	began := time.Now()
	alone := newTraffic(t, run.alone, run.clock)
	arrive := newTraffic(t, run.onBus, &clock{}).visit(t)
	for range *rounds {
		alone.drive(t)
		alone.refuse(t)
	}
	arrive()
	alone.outage(t, run.live, p)
	p.settle(t, *rounds+1)
	known := p.metrics(t)
	t.Logf("%d names of metrics, %.0f series", len(known), p.number(t, `count({job=~"doorstep-.+"})`))
	for _, file := range []string{"service", "journeys", "live-store", "events"} {
		board := panels(t, "../../../metrics/dashboards/"+file+".json")
		for _, shown := range board {
			for _, q := range shown.queries() {
				t.Run(file+"/"+q.panel, func(t *testing.T) { //nolint:paralleltest // as above
					q.check(t, known)
					assert.NotEmpty(t, p.during(t, q.expr, began), "no data: %s", q.expr)
				})
			}
		}
		p.draw(t, file, board, began)
	}
	for _, q := range p.alerts(t) {
		t.Run(q.panel, func(t *testing.T) { //nolint:paralleltest // as above
			q.check(t, known)
			var answer any
			require.NoError(t, p.Get(t.Context(), "query?"+url.Values{"query": {q.expr}}.Encode(), &answer))
		})
	}
}

// queries asks Prometheus.
type queries struct{ *prometheus.Server }

// point is a number at a time, in seconds of Unix time.
type point struct{ X, Y float64 }

// series is one line of a query's answer.
type series struct {
	labels map[string]string
	points []point
}

// series asks a query, an instant's or a range's, and leaves out what is no number.
func (p *queries) series(t *testing.T, path string, args url.Values) (list []series) {
	t.Helper()
	var answer struct {
		Result []struct {
			Metric map[string]string
			Value  []any // seconds, and the value as text
			Values [][]any
		}
	}
	if err := p.Get(t.Context(), path+"?"+args.Encode(), &answer); err != nil {
		t.Log(err)
	}
	for _, found := range answer.Result {
		line := series{labels: found.Metric}
		for _, v := range append(found.Values, found.Value) {
			if len(v) != 2 || v[1] == "NaN" {
				continue
			}
			value, err := strconv.ParseFloat(v[1].(string), 64)
			require.NoError(t, err)
			line.points = append(line.points, point{v[0].(float64), value})
		}
		if len(line.points) > 0 {
			list = append(list, line)
		}
	}
	return list
}

// during asks for the whole time of the traffic, second by second.
func (p *queries) during(t *testing.T, expr string, since time.Time) []series {
	t.Helper()
	unix := func(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
	return p.series(t, "query_range", url.Values{"query": {expr}, "start": {unix(since)}, "end": {unix(time.Now())}, "step": {"1s"}})
}

// visit begins a journey whose clock cannot be moved. arrive ends it.
func (s *traffic) visit(t *testing.T) (arrive func()) {
	t.Helper()
	j, began := s.begin(t), time.Now()
	is(t, 201, j.Update(t.Context(), s.base, j.Street()))
	return func() {
		time.Sleep(time.Until(began.Add(rig.Ride)))
		is(t, 200, j.Arrive(t.Context(), s.base, home))
	}
}

// settle waits until the last of the traffic has been scraped: the journeys that
// the worker and the gateway count when their events arrive.
func (p *queries) settle(t *testing.T, arrived int) {
	t.Helper()
	require.Eventually(t, func() bool {
		return p.number(t, `sum(doorstep_journey_duration_seconds_count{reason="arrived"})`) == float64(arrived) &&
			p.number(t, `sum(doorstep_message_handling_duration_seconds_count{result="done"})`) == 6
	}, patience, 100*time.Millisecond)
	p.scraped(t) // so that a rate has two ends
}

// scraped waits until every target has been scraped once more.
func (p *queries) scraped(t *testing.T) {
	t.Helper()
	now := float64(time.Now().UnixMilli()) / 1000
	require.Eventually(t, func() bool { return p.number(t, `min(timestamp(up))`) > now }, patience, 100*time.Millisecond)
}

// number is the value of a query with one; -1 for none.
func (p *queries) number(t *testing.T, expr string) float64 {
	t.Helper()
	found := p.series(t, "query", url.Values{"query": {expr}})
	if len(found) != 1 {
		return -1
	}
	return found[0].points[0].Y
}

// metrics returns the names of all metrics that were scraped.
func (p *queries) metrics(t *testing.T) map[string]bool {
	t.Helper()
	var list []string
	require.NoError(t, p.Get(t.Context(), "label/__name__/values", &list))
	known := map[string]bool{}
	for _, name := range list {
		known[name] = true
	}
	return known
}

// query is one query of a panel or an alert.
type query struct{ panel, expr string }

// panel is a panel of a dashboard, as far as it is tested and drawn.
type panel struct {
	Title, Type string
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Targets     []struct{ Expr, RefID, LegendFormat string }
}

// queries are the panel's, by their names.
func (p panel) queries() (list []query) {
	for _, q := range p.Targets {
		list = append(list, query{p.Title + "/" + q.RefID, q.Expr})
	}
	return list
}

// panels reads a dashboard, with Grafana's variables filled in as Grafana does: all
// instances, and a rate over four scrapes.
func panels(t *testing.T, file string) []panel {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(file))
	require.NoError(t, err)
	text = []byte(strings.NewReplacer("$__rate_interval", "4s", "$instance", ".*").Replace(string(text)))
	var d struct{ Panels []panel }
	require.NoError(t, json.Unmarshal(text, &d))
	require.NotEmpty(t, d.Panels)
	for _, p := range d.Panels {
		require.NotEmpty(t, p.Targets, p.Title)
	}
	return d.Panels
}

// alerts reads the rules as Prometheus has loaded them.
func (p *queries) alerts(t *testing.T) []query {
	t.Helper()
	var rules struct {
		Groups []struct {
			Rules []struct{ Name, Query, Health, LastError string }
		}
	}
	require.NoError(t, p.Get(t.Context(), "rules", &rules))
	var list []query
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			assert.Equal(t, "ok", r.Health, "%s: %s", r.Name, r.LastError)
			list = append(list, query{r.Name, r.Query})
		}
	}
	require.NotEmpty(t, list)
	return list
}

// check parses the query and checks that its metrics are known.
func (q query) check(t *testing.T, known map[string]bool) {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(q.expr)
	require.NoError(t, err, q.expr)
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			assert.True(t, known[s.Name], "no such metric: %s", s.Name)
		}
		return nil
	})
}
