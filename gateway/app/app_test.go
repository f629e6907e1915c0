package app_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"doorstep/gateway/app"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

func TestMain(m *testing.M) {
	code := m.Run()
	valkeytest.Stop()
	postgrestest.Stop()
	os.Exit(code)
}

// patience bounds every wait in these tests.
const patience = 10 * time.Second

const secret = "the secret of these tests, 32 bytes or more"

// settings are a gateway's on free ports and memory; edit changes them.
func settings(edit ...func(*app.Options)) app.Options {
	o := app.Options{Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0", JWTSecret: secret, OTPInResponse: true}
	for _, f := range edit {
		f(&o)
	}
	return o
}

// onServers puts a gateway on a real Valkey and a real PostgreSQL.
func onServers(t testing.TB) func(*app.Options) {
	t.Helper()
	database := postgrestest.New(t)
	require.NoError(t, postgres.Migrate(t.Context(), database, nil))
	return func(o *app.Options) { o.ValkeyURL, o.DatabaseURL = valkeytest.Valkey(t), database }
}

func started(t testing.TB, o app.Options) *app.App {
	t.Helper()
	a, err := app.New(o)
	require.NoError(t, err)
	require.NoError(t, a.Start(t.Context()))
	t.Cleanup(func() { assert.NoError(t, stop(a)) })
	return a
}

func stop(a *app.App) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return a.Stop(ctx)
}

// get reads a page; the status is 0 where nobody answers.
func get(t testing.TB, addr net.Addr, path string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, "http://"+addr.String()+path, nil)
	require.NoError(t, err)
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(text)
}

// leaves fails the test for a goroutine that run has left behind. Hertz's own
// pollers are the process's, not a server's.
func leaves(t *testing.T, run func()) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	run()
	http.DefaultClient.CloseIdleConnections()
	goleak.VerifyNone(t, before,
		goleak.IgnoreAnyFunction("github.com/cloudwego/gopkg/net/connstate.createPoller.func1"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/hertz/pkg/protocol.UpdateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valkey-io/valkey-go.(*call).DelayDo.func1"), // a nap of a second at most, after a failed dial
		goleak.IgnoreAnyFunction("doorstep/internal/servers/valkeyserver/child.(*Process).run"))
}

// Not parallel: goleak sees the goroutines of every test that runs beside it.
func TestApp_leaves_nothing(t *testing.T) { //nolint:paralleltest // see above
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()
	servers, unmigrated := onServers(t), postgrestest.New(t)
	valkeytest.Valkey(t)
	for _, row := range []struct {
		name  string
		fails string // empty: it starts, and is stopped
		edit  []func(*app.Options)
	}{
		{"embedded", "", nil},
		{"on servers", "", []func(*app.Options){servers}},
		{"without metrics", "", []func(*app.Options){func(o *app.Options) { o.MetricsListen = "" }}},
		{"stores away", "", []func(*app.Options){func(o *app.Options) {
			o.ValkeyURL, o.DatabaseURL = "unix:///nowhere/s", "postgres:///x?host=/nowhere&connect_timeout=1"
		}}},
		{"keys away", "", []func(*app.Options){func(o *app.Options) { o.JWKSURL, o.JWTUnchecked = "http://127.0.0.1:1/", true }}},
		{"port taken", "listen", []func(*app.Options){func(o *app.Options) { o.Listen = taken.Addr().String() }}},
		{"port taken, on servers", "listen", []func(*app.Options){servers, func(o *app.Options) { o.Listen = taken.Addr().String() }}},
		{"port taken, and a delay to drain", "listen", []func(*app.Options){func(o *app.Options) { o.Listen, o.DrainDelay = taken.Addr().String(), time.Hour }}},
		{"metrics port taken", "metrics listen", []func(*app.Options){func(o *app.Options) { o.MetricsListen = taken.Addr().String() }}},
		{"old schema", "migrate", []func(*app.Options){servers, func(o *app.Options) { o.DatabaseURL = unmigrated }}},
	} {
		t.Run(row.name, func(t *testing.T) { //nolint:paralleltest // as above
			leaves(t, func() {
				a, err := app.New(settings(row.edit...))
				require.NoError(t, err)
				began := time.Now()
				err = a.Start(t.Context())
				if row.fails != "" {
					require.ErrorContains(t, err, row.fails)
					assert.Less(t, time.Since(began), patience, "at once")
					return
				}
				require.NoError(t, err)
				status, _ := get(t, a.Addr(), "/healthz")
				assert.Equal(t, 200, status)
				require.NoError(t, stop(a))
				status, _ = get(t, a.Addr(), "/healthz")
				assert.Zero(t, status, "nobody listens any more")
			})
		})
	}
}

func TestApp_New_does_nothing_yet(t *testing.T) { //nolint:paralleltest // goleak
	leaves(t, func() {
		a, err := app.New(settings())
		require.NoError(t, err)
		assert.Nil(t, a.Addr())
		assert.Nil(t, a.MetricsAddr())
		require.NoError(t, stop(a), "what was never started can be stopped")
	})
}

func TestApp_Stop_is_idempotent(t *testing.T) {
	t.Parallel()
	a := started(t, settings(onServers(t)))
	var stops sync.WaitGroup
	for range 4 {
		stops.Go(func() { assert.NoError(t, stop(a)) })
	}
	stops.Wait()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, a.Stop(over), "nothing is left to wait for")
}

func TestApp_drains(t *testing.T) {
	t.Parallel()
	a := started(t, settings(func(o *app.Options) { o.DrainDelay = time.Hour }))
	status, body := get(t, a.Addr(), "/readyz")
	assert.Equal(t, 200, status)
	assert.Contains(t, body, `"lifecycle":"serving"`)

	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- a.Stop(ctx) }()
	require.Eventually(t, func() bool {
		status, body = get(t, a.Addr(), "/readyz")
		return status == 503
	}, patience, 5*time.Millisecond)
	assert.Contains(t, body, `"lifecycle":"draining"`)
	status, _ = get(t, a.Addr(), "/healthz")
	assert.Equal(t, 200, status, "alive, and answering whom the load balancer still sends")
	status, _ = get(t, a.MetricsAddr(), "/metrics")
	assert.Equal(t, 200, status, "watched to the end")
	cancel()
	select {
	case <-stopped:
	case <-time.After(patience):
		assert.Fail(t, "its context bounds the stop")
	}
	status, _ = get(t, a.Addr(), "/healthz")
	assert.Zero(t, status)
}

// A deployment whose user of the live store lacks a right does not become ready.
func TestApp_is_not_ready_without_the_rights(t *testing.T) {
	t.Parallel()
	server := valkeytest.PrivateWith(t, valkeyserver.Valkey, valkeyserver.Options{})
	allow := func(rights ...string) {
		_, err := server.Do(t.Context(), append([]string{"ACL", "SETUSER", "app", "on", ">secret", "~*", "&*"}, rights...)...)
		require.NoError(t, err)
	}
	allow("+@all", "-ssubscribe")
	a := started(t, settings(func(o *app.Options) { o.ValkeyURL = "unix://app:secret@" + server.Socket() }))
	ready := func(status int, says string) {
		require.Eventually(t, func() bool {
			got, body := get(t, a.Addr(), "/readyz")
			return got == status && strings.Contains(body, says)
		}, patience, 5*time.Millisecond)
	}
	ready(503, `"liveStore":"denied"`)
	allow("+ssubscribe")
	ready(200, `"liveStore":"ok"`)
}

// A connection that is half way through its request gets its answer.
func TestApp_Stop_answers_what_is_in_flight(t *testing.T) {
	t.Parallel()
	a := started(t, settings())
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", a.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HT") // the first answer proves that the second has begun
	require.NoError(t, err)
	first := make([]byte, 1024)
	_, err = conn.Read(first)
	require.NoError(t, err)
	stopped := make(chan error, 1)
	go func() { stopped <- stop(a) }()
	require.Eventually(t, func() bool { status, _ := get(t, a.Addr(), "/healthz"); return status == 0 }, patience, 5*time.Millisecond)
	_, err = io.WriteString(conn, "TP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	rest, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Contains(t, string(rest), "200 OK")
	assert.Contains(t, string(rest), "Connection: close")
	require.NoError(t, <-stopped)
}

func TestApp_metrics_are_on_a_port_of_their_own(t *testing.T) {
	t.Parallel()
	a := started(t, settings())
	status, body := get(t, a.MetricsAddr(), "/metrics")
	assert.Equal(t, 200, status)
	assert.Contains(t, body, "doorstep_waits_open 0")
	assert.Contains(t, body, "go_goroutines")
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/profile?seconds=1", "/readyz", "/"} {
		status, _ = get(t, a.MetricsAddr(), path)
		assert.Equal(t, 404, status, path)
	}
	status, _ = get(t, a.Addr(), "/metrics")
	assert.Equal(t, 404, status)

	profiled := started(t, settings(func(o *app.Options) { o.Pprof = true }))
	status, _ = get(t, profiled.MetricsAddr(), "/debug/pprof/")
	assert.Equal(t, 200, status)
	status, _ = get(t, profiled.Addr(), "/debug/pprof/")
	assert.Equal(t, 404, status)
}

func TestApp_Listener_is_used(t *testing.T) {
	t.Parallel()
	for _, o := range []app.Options{{}, {JWTSecret: secret}} { // a listener is the embedder's own risk: it needs no secret
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		o.Listener = l
		a := started(t, o)
		assert.Equal(t, l.Addr(), a.Addr())
		status, _ := get(t, a.Addr(), "/readyz")
		assert.Equal(t, 200, status)
	}
}

// Who listens is sent traffic, and would answer it 202 and degraded.
func TestApp_Start_connectsFirst(t *testing.T) {
	t.Parallel()
	socket := strings.TrimPrefix(valkeytest.Valkey(t), "unix://")
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go forward(conn, socket, 100*time.Millisecond)
		}
	}()
	a := started(t, settings(func(o *app.Options) { o.ValkeyURL = "redis://" + l.Addr().String() }))
	_, body := get(t, a.Addr(), "/readyz")
	assert.Contains(t, body, `"liveStore":"ok"`)

	began := time.Now()
	started(t, settings(func(o *app.Options) { o.ValkeyURL = "unix:///nowhere/s" }))
	assert.Less(t, time.Since(began), patience, "it waits for one that is away")
}

// forward carries a connection on to a socket, after a while.
func forward(conn net.Conn, socket string, after time.Duration) {
	defer func() { _ = conn.Close() }()
	time.Sleep(after)
	server, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(server, conn)
		_ = server.Close()
	}()
	_, _ = io.Copy(conn, server)
}

func TestApp_Token(t *testing.T) {
	t.Parallel()
	caller := sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}
	one, two := started(t, settings(func(o *app.Options) { o.JWTSecret = "" })), started(t, settings(func(o *app.Options) { o.JWTSecret = "" }))
	token, err := one.Token(caller, time.Hour)
	require.NoError(t, err)
	for a, want := range map[*app.App]int{one: 200, two: 401} { // each has a secret of its own
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s/api/v1/students/me/sessions", a.Addr()), nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		_ = res.Body.Close()
		assert.Equal(t, want, res.StatusCode)
	}
	keyless, err := app.New(settings(func(o *app.Options) { o.JWTSecret, o.JWKSURL, o.JWTUnchecked = "", "https://issuer.example/jwks", true }))
	require.NoError(t, err)
	_, err = keyless.Token(caller, time.Hour)
	require.Error(t, err, "it has no secret to sign with")
	_, err = one.Token(sessions.Caller{ID: "me", Role: sessions.Student}, time.Hour)
	assert.Error(t, err)
}

const oneIssuer = `[{"issuer":"https://issuer.example","audience":"doorstep"}]`

// fetched has keys of a JWKS instead of a secret.
func fetched(o *app.Options) {
	o.JWTSecret, o.JWKSURL, o.JWTIssuer, o.JWTAudience = "", "https://issuer.example/jwks", "https://issuer.example", []string{"doorstep"}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		edit func(*app.Options)
		says string // empty: good
	}{
		"as they are":          {func(*app.Options) {}, ""},
		"all zero":             {func(o *app.Options) { *o = app.Options{} }, ""},
		"loopback, v6":         {func(o *app.Options) { o.JWTSecret, o.Listen = "", "[::1]:0" }, ""},
		"loopback, by name":    {func(o *app.Options) { o.JWTSecret, o.Listen = "", "localhost:0" }, ""},
		"public with a secret": {func(o *app.Options) { o.Listen = ":8080" }, ""},
		"public with a JWKS":   {func(o *app.Options) { fetched(o); o.Listen = ":8080" }, ""},
		"public, discovered":   {func(o *app.Options) { fetched(o); o.JWKSURL, o.JWTDiscovery, o.Listen = "", true, ":8080" }, ""},
		"public with issuers":  {func(o *app.Options) { o.JWTSecret, o.IssuerList, o.Listen = "", []byte(oneIssuer), ":8080" }, ""},
		"a secret and issuers": {func(o *app.Options) { o.JWTIssuer, o.IssuerList = "ours", []byte(oneIssuer) }, ""},
		"a JWKS for tests":     {func(o *app.Options) { fetched(o); o.JWTIssuer, o.JWTAudience, o.JWTUnchecked = "", nil, true }, ""},

		"public without":           {func(o *app.Options) { o.JWTSecret, o.Listen = "", ":8080" }, "loopback"},
		"public by name without":   {func(o *app.Options) { o.JWTSecret, o.Listen = "", "house.example:80" }, "loopback"},
		"no port without":          {func(o *app.Options) { o.JWTSecret, o.Listen = "", "127.0.0.1" }, "loopback"},
		"Valkey without":           {func(o *app.Options) { o.JWTSecret, o.ValkeyURL = "", "unix:///s" }, "DOORSTEP_JWT_SECRET"},
		"PostgreSQL without":       {func(o *app.Options) { o.JWTSecret, o.DatabaseURL = "", "postgres:///x" }, "DOORSTEP_JWT_SECRET"},
		"listener, Valkey without": {func(o *app.Options) { o.JWTSecret, o.ValkeyURL, o.Listener = "", "unix:///s", &net.TCPListener{} }, "DOORSTEP_JWT_SECRET"},
		"short secret":             {func(o *app.Options) { o.JWTSecret = "short" }, "jwt-secret ($DOORSTEP_JWT_SECRET): it has 5 bytes"},
		"old secret alone":         {func(o *app.Options) { o.JWTSecret, o.JWTOldSecret = "", secret }, "jwt-old-secret"},
		"JWKS without issuer":      {func(o *app.Options) { fetched(o); o.JWTIssuer = "" }, "jwt-issuer ($DOORSTEP_JWT_ISSUER): missing"},
		"JWKS without audience":    {func(o *app.Options) { fetched(o); o.JWTAudience = nil }, "jwt-audience ($DOORSTEP_JWT_AUDIENCE): missing"},
		"discovery and JWKS":       {func(o *app.Options) { fetched(o); o.JWTDiscovery = true }, "jwt-discovery"},
		"role of no name":          {func(o *app.Options) { o.JWTRoleMap = []string{"tutors"} }, `jwt-role-map: "tutors" is not name=role`},
		"role that is none":        {func(o *app.Options) { o.JWTRoleMap = []string{"tutors=tutor"} }, "jwt-role-map"},
		"namespace no UUID":        {func(o *app.Options) { o.JWTSubjectNamespace = "ours" }, "jwt-subject-namespace"},
		"issuers no list":          {func(o *app.Options) { o.IssuerList = []byte(`{}`) }, "issuers: not a JSON list"},
		"issuers without audience": {func(o *app.Options) { o.IssuerList = []byte(`[{"issuer":"https://a.example"}]`) }, "issuers: issuers[0].audience: missing"},
		"a secret of no issuer":    {func(o *app.Options) { o.IssuerList = []byte(oneIssuer) }, "DOORSTEP_JWT_ISSUER): missing"},
		"negative leeway":          {func(o *app.Options) { o.JWTLeeway = -1 }, "jwt-leeway"},
		"bad Valkey":               {func(o *app.Options) { o.ValkeyURL = "localhost" }, "live store url"},
		"bad PostgreSQL":           {func(o *app.Options) { o.DatabaseURL = "postgres://x:y:z" }, "database"},
		"negative time":            {func(o *app.Options) { o.RateInterval = -1 }, "rate-interval"},
		"negative drain":           {func(o *app.Options) { o.DrainTimeout = -1 }, "drain-timeout"},
		"negative radius":          {func(o *app.Options) { o.ArrivalRadius = -1 }, "arrival-radius"},
		"huge radius":              {func(o *app.Options) { o.ArrivalRadius = 5001 }, "arrival-radius"},
		"negative connections":     {func(o *app.Options) { o.MaxConns = -1 }, "MaxConns"},
		"negative read time-out":   {func(o *app.Options) { o.ReadTimeout = -1 }, "ReadTimeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := settings()
			row.edit(&o)
			_, err := app.New(o)
			if row.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, row.says)
			assert.NotContains(t, err.Error(), secret)
		})
	}
}
