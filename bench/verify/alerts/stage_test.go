package alerts

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
	"doorstep/gateway/app"
	"doorstep/geo"
	"doorstep/internal/servers/awstest"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

// stage is the processes of one fault, and where Prometheus finds their metrics.
type stage struct{ targets map[string][]net.Addr }

func (s *stage) scrape(t *testing.T, job, addr string) {
	t.Helper()
	at, err := net.ResolveTCPAddr("tcp", addr)
	require.NoError(t, err)
	s.targets[job] = append(s.targets[job], at)
}

// process is a gateway or a worker that can be started again at the same addresses.
type process struct {
	*rig.Gateway
	settings []string
	start    func(context.Context, ...string) (*rig.Gateway, error)
}

func newProcess(t *testing.T, worker bool, settings []string) *process {
	t.Helper()
	built, err := program()
	require.NoError(t, err)
	p := &process{settings: settings, start: built.Start}
	if worker {
		p.start = built.StartWorker
	}
	p.again(t)
	if !worker {
		p.settings = append(p.settings, "LISTEN="+p.Listen)
	}
	p.settings = append(p.settings, "METRICS_LISTEN="+host(p.MetricsURL))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("its log: %s", p.Log())
		}
		assert.NoError(t, p.Kill())
	})
	return p
}

// again starts the process, which must have ended, with further settings.
func (p *process) again(t *testing.T, settings ...string) {
	t.Helper()
	g, err := p.start(t.Context(), append(p.settings, settings...)...)
	require.NoError(t, err)
	p.Gateway = g
}

// gateway starts a gateway that is scraped.
func (s *stage) gateway(t *testing.T, settings ...string) *process {
	t.Helper()
	p := newProcess(t, false, settings)
	s.scrape(t, "doorstep-gateway", host(p.MetricsURL))
	return p
}

// embedded starts a gateway in this process, with both stores in its memory, which is
// scraped.
func (s *stage) embedded(t *testing.T, o app.Options) (base string) {
	t.Helper()
	o.Listen, o.MetricsListen, o.JWTSecret = "127.0.0.1:0", "127.0.0.1:0", rig.Secret
	a, err := app.New(o)
	require.NoError(t, err)
	require.NoError(t, a.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience) // the test's has ended
		defer cancel()
		assert.NoError(t, a.Stop(ctx))
	})
	s.scrape(t, "doorstep-gateway", a.MetricsAddr().String())
	return "http://" + a.Addr().String()
}

const bus = "application-events"

// cloud is a bus whose events go to the three queues, and the settings of gateways on it
// and of workers.
func cloud(t *testing.T, database string) (aws *awstest.Server, gateway, worker []string) {
	t.Helper()
	aws = awstest.Start()
	t.Cleanup(aws.Close)
	aws.Bus(bus)
	for _, queue := range []string{"notify", "cleanup", "analytics"} {
		aws.Queue(queue, time.Minute, 5)
		aws.Rule(bus, "admin-service", queue, "TrainerJourneyStarted", "TrainerJourneyEnded", "TrainerLocationSuspicious")
	}
	stores := append(awstest.Env(), "DATABASE_URL="+database, "VALKEY_URL="+valkeytest.Valkey(t))
	gateway = append([]string{"EVENT_BUS=" + bus, "EVENTBRIDGE_ENDPOINT=" + aws.URL()}, stores...)
	worker = append([]string{"QUEUE_NOTIFY=notify", "QUEUE_CLEANUP=cleanup", "QUEUE_ANALYTICS=analytics", "SQS_ENDPOINT=" + aws.URL()}, stores...)
	return aws, gateway, worker
}

// database is an empty database with the schema, on the shared server.
func database(t *testing.T) string {
	t.Helper()
	url := postgrestest.New(t)
	require.NoError(t, postgres.Migrate(t.Context(), url, nil))
	return url
}

// execute runs SQL as an operator would.
func execute(t *testing.T, database, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), sql, args...)
	require.NoError(t, err, sql)
	require.NoError(t, conn.Close(t.Context()))
}

var home = geo.MustPoint(52.0907, 5.1214)

func is(t *testing.T, want int, a rig.Answer) {
	t.Helper()
	require.NoError(t, a.Err)
	require.Equal(t, want, a.Status, "%s %s", a.Label(), a.Data)
}

func newAdmin(t *testing.T) *rig.Caller {
	t.Helper()
	admin, err := rig.NewCaller(sessions.Admin, nil)
	require.NoError(t, err)
	return admin
}

// booked makes a session. The student has a device for pushes.
func booked(t *testing.T, base string) *rig.Journey {
	t.Helper()
	j, err := rig.NewJourney(home, nil)
	require.NoError(t, err)
	is(t, 201, j.Book(t.Context(), base, newAdmin(t)))
	is(t, 204, j.Student.Do(t.Context(), http.MethodPut, base, "/me/push-tokens", map[string]any{"token": "device-" + j.ID, "platform": "android"}))
	return j
}

// started makes n journeys.
func started(t *testing.T, base string, n int) (list []*rig.Journey) {
	t.Helper()
	for range n {
		j := booked(t, base)
		is(t, 201, j.Start(t.Context(), base))
		list = append(list, j)
	}
	return list
}
