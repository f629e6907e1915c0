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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
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
	for _, setting := range awstest.Env() {
		name, value, _ := strings.Cut(setting, "=")
		_ = os.Setenv(name, value)
	}
	postgrestest.Main(m)
}

// patience bounds every wait in these tests.
const patience = 30 * time.Second

// house is a gateway, or a gateway and a worker, and all that could remember.
type house struct {
	*app.App
	options app.Options
	worker  *app.Worker // nil: its consumers are in the gateway
	store   *valkeyserver.Server
	link    *link
	aws     *awstest.Server // nil, as above
	log     *pages
	metrics []net.Addr
	client  *http.Client
	tokens  []string // that were sent
}

// open starts a house that logs all it can.
func open(t *testing.T, onTheBus bool) *house {
	t.Helper()
	h := &house{
		store: valkeytest.Private(t, valkeyserver.Valkey, "--rdbcompression", "no"), log: &pages{},
		client: &http.Client{Timeout: patience, Transport: &http.Transport{}},
	}
	h.link = newLink(t, h.store.Socket())
	database := postgrestest.New(t)
	require.NoError(t, postgres.Migrate(t.Context(), database, nil))
	h.options = app.Options{
		Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0", JWTSecret: "the secret of these tests, 32 bytes or more",
		OTPInResponse: true, ValkeyURL: h.link.url(), DatabaseURL: database, ValkeyTimeout: 2 * time.Second,
		RateInterval: time.Millisecond, RateTolerance: time.Hour, Log: h.logger(),
	}
	if onTheBus {
		h.aws = awstest.Start()
		t.Cleanup(h.aws.Close)
		h.options.EventBus, h.options.EventBridgeEndpoint = "application-events", h.aws.URL()
		h.work(t)
	}
	h.App = h.start(t, h.options)
	return h
}

func (h *house) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (h *house) start(t *testing.T, o app.Options) *app.App {
	t.Helper()
	a, err := app.New(o)
	require.NoError(t, err)
	require.NoError(t, a.Start(t.Context()))
	t.Cleanup(func() { assert.NoError(t, stop(a.Stop)) })
	h.metrics = append(h.metrics, a.MetricsAddr())
	return a
}

func stop(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return f(ctx)
}

// work starts the consumers behind queues.
func (h *house) work(t *testing.T) {
	t.Helper()
	h.aws.Bus("application-events")
	for _, queue := range queues {
		h.aws.Queue(queue, time.Minute, 5)
		h.aws.Rule("application-events", "admin-service", queue,
			string(sessions.JourneyStarted), string(sessions.JourneyEnded), string(sessions.LocationSuspicious))
	}
	w, err := app.NewWorker(app.WorkerOptions{
		QueueNotify: queues[0], QueueCleanup: queues[1], QueueAnalytics: queues[2], SQSEndpoint: h.aws.URL(),
		DatabaseURL: h.options.DatabaseURL, ValkeyURL: h.options.ValkeyURL, ValkeyTimeout: 2 * time.Second,
		MetricsListen: "127.0.0.1:0", DrainTimeout: patience, Log: h.logger(),
	})
	require.NoError(t, err)
	require.NoError(t, w.Start(t.Context()))
	t.Cleanup(func() { assert.NoError(t, stop(w.Stop)) })
	h.worker, h.metrics = w, append(h.metrics, w.MetricsAddr())
}

var queues = [3]string{"notify", "cleanup", "analytics"}

// pages is a log that can be read while it is written.
type pages struct {
	mu   sync.Mutex
	text []byte
}

func (p *pages) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = append(p.text, text...)
	return len(text), nil
}

func (p *pages) read() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.text)
}

// everything is all that the house remembers, anywhere.
func (h *house) everything(t *testing.T) Streams {
	t.Helper()
	all := Streams{"logs": h.log.read()}
	h.liveStore(t, all)
	h.database(t, all)
	for i, addr := range h.metrics {
		res, err := h.client.Get("http://" + addr.String() + "/metrics")
		require.NoError(t, err)
		page, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		all[fmt.Sprint("metrics of process ", i)] = page
	}
	all["pushes"] = fmt.Append(nil, h.Pushes())
	if h.aws != nil {
		all["the bus"] = fmt.Append(nil, h.aws.Events())
		for _, queue := range queues {
			all["queue "+queue] = fmt.Append(nil, h.aws.Messages(queue))
		}
	}
	return all
}

// liveStore is each key as clients see it and as DUMP gives it, and the file
// that a snapshot leaves.
func (h *house) liveStore(t *testing.T, all Streams) {
	t.Helper()
	do := func(words ...string) string {
		text, err := h.store.Do(t.Context(), words...)
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

// database is every column of every table, as text.
func (h *house) database(t *testing.T, all Streams) {
	t.Helper()
	h.sql(t, func(ctx context.Context, conn *pgx.Conn) error {
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

func (h *house) sql(t *testing.T, do func(context.Context, *pgx.Conn) error) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), h.options.DatabaseURL)
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
func (h *house) ask(t *testing.T, c sessions.Caller, method, path, body string) reply {
	t.Helper()
	token, err := h.Token(c, time.Hour)
	require.NoError(t, err)
	h.tokens = append(h.tokens, token)
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+h.Addr().String()+"/api/v1"+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := h.client.Do(req)
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
