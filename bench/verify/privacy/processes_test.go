package privacy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/internal/servers/awstest"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

func TestMain(m *testing.M) {
	awstest.SetEnv(func(name, value string) { _ = os.Setenv(name, value) })
	postgrestest.Main(m)
}

// patience bounds every wait in these tests.
const patience = 30 * time.Second

// processes is a gateway, or a gateway and a worker, and everything where a place
// could be stored.
type processes struct {
	*app.App
	options app.Options
	worker  *app.Worker // nil: the consumers are in the gateway
	store   *valkeyserver.Server
	network *toxiproxy.Proxy // to the live store
	aws     *awstest.Server  // nil, as the worker
	log     *buffer
	metrics []net.Addr
	client  *http.Client
	tokens  []string // all that were sent
	links   []string // tokens of share links
}

// open starts the processes with all log levels.
func open(t *testing.T, onBus bool) *processes {
	t.Helper()
	p := &processes{
		store: valkeytest.PrivateWith(t, valkeyserver.Valkey, valkeyserver.Options{TCP: true, Args: []string{"--rdbcompression", "no"}}), log: &buffer{},
		client: &http.Client{Timeout: patience, Transport: &http.Transport{}},
	}
	toxics := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p.network = toxiproxy.NewProxy(toxics, "live store", "127.0.0.1:0", p.store.Addr())
	require.NoError(t, p.network.Start())
	t.Cleanup(p.network.Stop)
	database := postgrestest.New(t)
	require.NoError(t, postgres.Migrate(t.Context(), database, nil))
	p.options = app.Options{
		Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0", JWTSecret: "the secret of these tests, 32 bytes or more",
		OTPInResponse: true, ValkeyURL: "redis://" + p.network.Listen, DatabaseURL: database, ValkeyTimeout: 2 * time.Second,
		RateInterval: time.Millisecond, RateTolerance: time.Hour, Log: p.logger(), PublicURL: "https://phones.example.com", Steer: true, Pages: true,
	}
	if onBus {
		p.aws = awstest.Start()
		t.Cleanup(p.aws.Close)
		p.options.EventBus, p.options.EventBridgeEndpoint = "application-events", p.aws.URL()
		p.options.LocationEvents = time.Second
		p.work(t)
	}
	p.App = p.start(t, p.options)
	return p
}

func (p *processes) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (p *processes) start(t *testing.T, o app.Options) *app.App {
	t.Helper()
	a, err := app.New(o)
	require.NoError(t, err)
	require.NoError(t, a.Start(t.Context()))
	t.Cleanup(func() { assert.NoError(t, stop(a.Stop)) })
	p.metrics = append(p.metrics, a.MetricsAddr())
	return a
}

func stop(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return f(ctx)
}

// work starts the consumers behind queues.
func (p *processes) work(t *testing.T) {
	t.Helper()
	p.aws.Bus("application-events")
	for _, queue := range queues {
		p.aws.Queue(queue, time.Minute, 5)
		p.aws.Rule("application-events", "admin-service", queue,
			string(sessions.JourneyStarted), string(sessions.JourneyArriving), string(sessions.JourneyEnded),
			string(sessions.LocationSuspicious), string(sessions.LocationUpdated)) // a rule of the operator's that asks for too much
	}
	w, err := app.NewWorker(app.WorkerOptions{
		QueueNotify: queues[0], QueueCleanup: queues[1], QueueAnalytics: queues[2], SQSEndpoint: p.aws.URL(),
		DatabaseOptions: app.DatabaseOptions{DatabaseURL: p.options.DatabaseURL}, ValkeyURL: p.options.ValkeyURL, ValkeyTimeout: 2 * time.Second,
		MetricsListen: "127.0.0.1:0", DrainTimeout: patience, Log: p.logger(),
	})
	require.NoError(t, err)
	require.NoError(t, w.Start(t.Context()))
	t.Cleanup(func() { assert.NoError(t, stop(w.Stop)) })
	p.worker, p.metrics = w, append(p.metrics, w.MetricsAddr())
}

var queues = [3]string{"notify", "cleanup", "analytics"}

// buffer is a log that can be read while it is written.
type buffer struct {
	mu   sync.Mutex
	text []byte
}

func (b *buffer) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, text...)
	return len(text), nil
}

func (b *buffer) read() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.text)
}

// everything returns all that the processes and servers store.
func (p *processes) everything(t *testing.T) Streams {
	t.Helper()
	all := Streams{"logs": p.log.read()}
	p.liveStore(t, all)
	p.database(t, all)
	for i, addr := range p.metrics {
		res, err := p.client.Get("http://" + addr.String() + "/metrics")
		require.NoError(t, err)
		page, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		all[fmt.Sprint("metrics of process ", i)] = page
	}
	all["pushes"] = fmt.Append(nil, p.Pushes())
	if p.aws != nil {
		all["the bus"] = fmt.Append(nil, slices.DeleteFunc(p.aws.Events(), func(e awstest.Entry) bool {
			return e.DetailType == string(sessions.LocationUpdated) // the operator asked for these
		}))
		for _, queue := range queues {
			all["queue "+queue] = fmt.Append(nil, slices.DeleteFunc(p.aws.Messages(queue), func(m awstest.Message) bool {
				return strings.Contains(m.Body, `"`+string(sessions.LocationUpdated)+`"`) // here too, until the worker has dropped them
			}))
		}
	}
	return all
}

// liveStore adds each key as clients see it and as DUMP returns it, and the file of
// a snapshot.
func (p *processes) liveStore(t *testing.T, all Streams) {
	t.Helper()
	do := func(words ...string) string {
		text, err := p.store.Do(t.Context(), words...)
		require.NoError(t, err)
		return text
	}
	for key := range strings.SplitSeq(do("KEYS", "*"), "\n") {
		if key == "" {
			continue
		}
		text := do("DUMP", key)
		if do("TYPE", key) == "hash" {
			text += do("HGETALL", key)
		}
		all["live store key "+key] = []byte(key + " " + text)
	}
	do("SAVE")
	_, dir, _ := strings.Cut(do("CONFIG", "GET", "dir"), "\n")
	_, name, _ := strings.Cut(do("CONFIG", "GET", "dbfilename"), "\n")
	snapshot, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	require.Contains(t, string(snapshot[:9]), "0", "a snapshot's version")
	all["live store snapshot"] = snapshot
}

// database adds every column of every table, as text.
func (p *processes) database(t *testing.T, all Streams) {
	t.Helper()
	p.sql(t, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = 'public'`)
		if err != nil {
			return err
		}
		columns, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c [2]string, err error) { return c, row.Scan(&c[0], &c[1]) })
		for _, c := range columns {
			column := pgx.Identifier{c[1]}.Sanitize()
			var text string
			err := conn.QueryRow(ctx, "SELECT coalesce(string_agg("+column+"::text, E'\\n'), '') FROM "+pgx.Identifier{c[0]}.Sanitize()).Scan(&text)
			if err != nil {
				return err
			}
			all["database "+c[0]+"."+c[1]] = []byte(text)
		}
		return err
	})
}

func (p *processes) sql(t *testing.T, do func(context.Context, *pgx.Conn) error) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.options.DatabaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	require.NoError(t, do(t.Context(), conn))
}

// reply is an answer of the API.
type reply struct {
	status int
	data   map[string]any
}

// ask sends a request; the body is JSON text.
func (p *processes) ask(t *testing.T, c sessions.Caller, method, path, body string) reply {
	t.Helper()
	token, err := p.Token(c, time.Hour)
	require.NoError(t, err)
	p.tokens = append(p.tokens, token)
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.Addr().String()+"/api/v1"+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := p.client.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	var answer struct{ Data map[string]any }
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	if len(text) > 0 {
		require.NoError(t, json.Unmarshal(text, &answer), "%s", text)
	}
	require.Less(t, res.StatusCode, 500, "%s %s: %s", method, path, text)
	return reply{res.StatusCode, answer.Data}
}
