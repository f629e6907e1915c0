package dashboards

import (
	"context"
	"encoding/json"
	"net"
	"net/url"
	"os"
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
	"doorstep/internal/servers/postgrestest"
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

// patience bounds every wait.
const patience = 20 * time.Second

// house is two gateways and a worker: one that handles its own events, on a
// clock that can be moved, and one with the bus and the queues.
type house struct {
	alone, bused *app.App
	worker       *app.Worker
	clock        *clock
	live         *valkeyserver.Server // of both gateways
}

func open(t *testing.T) *house {
	t.Helper()
	for _, e := range awstest.Env() {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	aws := awstest.Start()
	t.Cleanup(aws.Close)
	aws.Bus("application-events")
	for _, queue := range []string{"notify", "cleanup", "analytics"} {
		aws.Queue(queue, time.Minute, 5)
		aws.Rule("application-events", "admin-service", queue, "TrainerJourneyStarted", "TrainerJourneyEnded", "TrainerLocationSuspicious")
	}
	h := &house{clock: &clock{}, live: valkeytest.Private(t, valkeyserver.Valkey)}
	o := app.Options{Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0", JWTSecret: rig.Secret, OTPInResponse: true, ValkeyURL: h.live.URL(), Version: "v0-test"}
	alone := o
	alone.DatabaseURL, alone.Now = database(t), h.clock.now
	h.alone = started(t, alone)
	bused := o
	bused.DatabaseURL, bused.EventBus, bused.EventBridgeEndpoint = database(t), "application-events", aws.URL()
	h.bused = started(t, bused)
	var err error
	h.worker, err = app.NewWorker(app.WorkerOptions{
		QueueNotify: "notify", QueueCleanup: "cleanup", QueueAnalytics: "analytics", SQSEndpoint: aws.URL(),
		DatabaseURL: bused.DatabaseURL, ValkeyURL: h.live.URL(), MetricsListen: "127.0.0.1:0", DrainTimeout: 5 * time.Second, Version: "v0-test",
	})
	require.NoError(t, err)
	require.NoError(t, h.worker.Start(t.Context()))
	t.Cleanup(func() { stop(t, h.worker) })
	return h
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

// Every panel of every dashboard has something to show, and every alert is
// evaluated, on metrics that a real gateway has.
func TestSeen(t *testing.T) { //nolint:paralleltest // it sets the environment
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	h := open(t)
	p := startPrometheus(t, map[string][]net.Addr{
		"doorstep-gateway": {h.alone.MetricsAddr(), h.bused.MetricsAddr()},
		"doorstep-worker":  {h.worker.MetricsAddr()},
	}, "../../../metrics/alerts/doorstep.yml")
	began := time.Now()
	alone := newStage(t, h.alone, h.clock)
	for range 3 {
		alone.drive(t)
		alone.refuse(t)
	}
	newStage(t, h.bused, &clock{}).visit(t)
	alone.outage(t, h.live)
	p.settle(t)
	known := p.metrics(t)
	t.Logf("%d names of metrics, %s series", len(known), p.number(t, `count({job=~"doorstep-.+"})`))
	for _, file := range []string{"service", "journeys", "live-store", "events"} {
		for _, q := range panels(t, "../../../metrics/dashboards/"+file+".json") {
			t.Run(file+"/"+q.panel, func(t *testing.T) { //nolint:paralleltest // as above
				q.check(t, known)
				p.shows(t, q, began)
			})
		}
	}
	for _, q := range p.alerts(t) {
		t.Run(q.panel, func(t *testing.T) { //nolint:paralleltest // as above
			q.check(t, known)
			var answer any
			require.NoError(t, p.get(t.Context(), "query?"+url.Values{"query": {q.expr}}.Encode(), &answer))
		})
	}
}

// visit is a journey of one fix, at the door.
func (s *stage) visit(t *testing.T) {
	t.Helper()
	j := s.begin(t)
	is(t, 201, s.fix(t, j, home))
	is(t, 200, j.Arrive(t.Context(), s.base))
}

// settle waits until what was played last has been scraped: the worker's and
// the gateway's journeys are counted, which the events bring about.
func (p *prometheus) settle(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		return p.number(t, `sum(doorstep_journey_duration_seconds_count{reason="arrived"})`) == "4" &&
			p.number(t, `sum(doorstep_message_handling_duration_seconds_count{result="done"})`) == "6"
	}, patience, 100*time.Millisecond)
	time.Sleep(1200 * time.Millisecond) // one scrape more, so that a rate has two ends
}

// number is the value of a query with one; empty for none.
func (p *prometheus) number(t *testing.T, expr string) string {
	t.Helper()
	for _, s := range p.samples(t, "query", url.Values{"query": {expr}}) {
		return strings.Join(s.numbers(), "")
	}
	return ""
}

// metrics is the names of all that was scraped.
func (p *prometheus) metrics(t *testing.T) map[string]bool {
	t.Helper()
	var list []string
	require.NoError(t, p.get(t.Context(), "label/__name__/values", &list))
	known := map[string]bool{}
	for _, name := range list {
		known[name] = true
	}
	return known
}

// query is one of a panel or alert.
type query struct{ panel, expr string }

// panels reads a dashboard's, with Grafana's variables filled in as Grafana
// would: for all instances, and a rate over four scrapes.
func panels(t *testing.T, file string) []query {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(file))
	require.NoError(t, err)
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, RefID string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &d))
	fill := strings.NewReplacer("$__rate_interval", "4s", "$instance", ".*")
	var list []query
	for _, p := range d.Panels {
		require.NotEmpty(t, p.Targets, p.Title)
		for _, q := range p.Targets {
			list = append(list, query{p.Title + "/" + q.RefID, fill.Replace(q.Expr)})
		}
	}
	require.NotEmpty(t, list)
	return list
}

// alerts reads the rules as Prometheus has taken them.
func (p *prometheus) alerts(t *testing.T) []query {
	t.Helper()
	var rules struct {
		Groups []struct {
			Rules []struct{ Name, Query, Health, LastError string }
		}
	}
	require.NoError(t, p.get(t.Context(), "rules", &rules))
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

// check parses the query and looks for its metrics among the known ones.
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

// shows asks for the whole time of the play, second by second: there must be a
// number in it.
func (p *prometheus) shows(t *testing.T, q query, since time.Time) {
	t.Helper()
	unix := func(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
	n := 0
	for _, s := range p.samples(t, "query_range", url.Values{"query": {q.expr}, "start": {unix(since)}, "end": {unix(time.Now())}, "step": {"1s"}}) {
		n += len(s.numbers())
	}
	assert.Positive(t, n, "no data: %s", q.expr)
}
