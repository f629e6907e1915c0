package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions"
)

// patience bounds every wait in these tests.
const patience = 20 * time.Second

// TestMain builds the program once, where a test wants it, and ends the
// server that the tests share.
func TestMain(m *testing.M) {
	code := m.Run()
	postgrestest.Stop()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// built is the one global: a test binary is one process with many tests.
var built struct {
	once      sync.Once
	dir, path string
	err       error
}

func program(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "doorstep-gateway-"); built.err != nil { //nolint:usetesting // it outlives the test that came first
			return
		}
		built.path = filepath.Join(built.dir, "gateway")
		out, err := exec.CommandContext(context.Background(), "go", "build", "-tags", "grpcnotrace", "-o", built.path, ".").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	require.NoError(t, built.err)
	return built.path
}

// ended is a command that has run to its end.
type ended struct {
	code           int
	stdout, stderr string
}

// gateway runs a command to its end. Settings are "NAME=value" without the
// prefix; the test's own environment does not reach it.
func gateway(t testing.TB, settings []string, args ...string) ended {
	t.Helper()
	path := program(t) // a build on a busy machine takes longer than any command may
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = environment(settings)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	require.NoError(t, ctx.Err(), "it does not end: %s", stderr.String())
	if err != nil {
		require.ErrorAs(t, err, new(*exec.ExitError))
	}
	return ended{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func environment(settings []string) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir()}
	for _, s := range settings {
		env = append(env, "DOORSTEP_"+s)
	}
	return env
}

// served is a `gateway serve` that runs.
type served struct {
	*exec.Cmd
	url    string
	client *http.Client
	exit   chan error
	log    func() string
}

const testSecret = "the secret of these tests, 32 bytes or more"

// serve starts the service on free ports and returns once it says that it
// serves.
func serve(t testing.TB, settings ...string) *served {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program(t), "serve", "--listen=127.0.0.1:0", "--metrics-listen=")
	cmd.Env = environment(append([]string{"JWT_SECRET=" + testSecret}, settings...))
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	s := &served{Cmd: cmd, exit: make(chan error, 1)}
	var mu sync.Mutex
	var log strings.Builder
	s.log = func() string { mu.Lock(); defer mu.Unlock(); return log.String() }
	addr := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			mu.Lock()
			fmt.Fprintln(&log, lines.Text())
			mu.Unlock()
			var line struct{ Msg, Addr string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
				addr <- line.Addr
			}
		}
		s.exit <- cmd.Wait()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	select {
	case a := <-addr:
		s.url, s.client = "http://"+a, http.DefaultClient
		if slices.ContainsFunc(settings, func(set string) bool { return strings.HasPrefix(set, "TLS_CERT=") }) {
			s.url = "https://" + a
			s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		}
	case err := <-s.exit:
		require.FailNow(t, "it ended at once", "%v: %s", err, s.log())
	case <-time.After(patience):
		require.FailNow(t, "it does not serve", s.log())
	}
	return s
}

// ends waits for the end and returns the exit code.
func (s *served) ends(t testing.TB) int {
	t.Helper()
	select {
	case <-s.exit:
		return s.ProcessState.ExitCode()
	case <-time.After(patience):
		require.FailNow(t, "it does not end", s.log())
		return -1
	}
}

func (s *served) call(t testing.TB, method, path, token, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	require.NoError(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := s.client.Do(req)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	_ = res.Body.Close()
	return res
}

func mint(t testing.TB, role string, id sessions.ID) string {
	t.Helper()
	e := gateway(t, []string{"JWT_SECRET=" + testSecret}, "token", "--role", role, "--subject", string(id))
	require.Equal(t, 0, e.code, e.stderr)
	return strings.TrimSpace(e.stdout)
}

func TestHelp_prints_every_setting_with_its_variable_and_default(t *testing.T) {
	t.Parallel()
	e := gateway(t, nil, "serve", "--help")
	require.Equal(t, 0, e.code, e.stderr)
	help := strings.Join(strings.Fields(e.stdout), " ")
	flags := 0
	var each func(reflect.Type)
	each = func(of reflect.Type) {
		for f := range of.Fields() {
			if f.Anonymous {
				each(f.Type)
				continue
			}
			if f.Tag.Get("help") == "" { // no setting
				continue
			}
			flags++
			variable, byDefault := f.Tag.Get("env"), f.Tag.Get("default")
			require.True(t, strings.HasPrefix(variable, "DOORSTEP_"), f.Name)
			flag := "--" + strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(variable, "DOORSTEP_")), "_", "-")
			_, says, found := strings.Cut(help, flag+" ")
			require.True(t, found, flag)
			says, _, _ = strings.Cut(says, " --")
			names := "($" + variable + ")"
			if _, secret := f.Tag.Lookup("secret"); secret {
				names = "($" + variable + ", $" + variable + inFile + ")"
			}
			assert.Contains(t, says, names, f.Name)
			switch {
			case byDefault == "":
				assert.NotContains(t, says, "default", f.Name)
			case strings.Trim(byDefault, "0s") == "": // pflag does not print a zero
				assert.Contains(t, says, "By default "+byDefault, f.Name)
			default:
				assert.Regexp(t, `\(default "?`+regexp.QuoteMeta(byDefault)+`"?\)`, says, f.Name)
			}
		}
	}
	each(reflect.TypeFor[serveCommand]())
	assert.Greater(t, flags, 20)
	for name := range strings.FieldsSeq(
		"LISTEN METRICS_LISTEN VALKEY_URL DATABASE_URL JWT_SECRET JWKS_URL JWT_ISSUER JWT_AUDIENCE RATE_INTERVAL RATE_TOLERANCE LOCATION_TTL " +
			"JOURNEY_TTL ARRIVAL_RADIUS MAX_SPEED_CAR VALKEY_TIMEOUT OTP_IN_RESPONSE LOG_LEVEL LOG_FORMAT") {
		assert.Regexp(t, `\(\$DOORSTEP_`+name+`[,)]`, help, "docs/contract.md, section 6")
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		settings, args []string
		code           int
		says           string
	}{
		"a command that is none":      {nil, []string{"fly"}, 2, "fly"},
		"a flag that is none":         {nil, []string{"serve", "--fast"}, 2, "--fast"},
		"a duration that is none":     {nil, []string{"serve", "--rate-interval=5"}, 2, "rate-interval"},
		"a variable that is none":     {[]string{"VALKEY_TIMEOU=1s"}, []string{"serve"}, 2, "DOORSTEP_VALKEY_TIMEOU"},
		"for every command":           {[]string{"JWT_SECRT=x"}, []string{"health"}, 2, "DOORSTEP_JWT_SECRT"},
		"two variables that are none": {[]string{"B=1", "A=1"}, nil, 2, "DOORSTEP_A (nearest: "},
		"a variable's bad value":      {[]string{"JOURNEY_TTL=long"}, []string{"serve"}, 2, "journey-ttl"},
		"a log format that is none":   {[]string{"LOG_FORMAT=xml"}, []string{"serve"}, 2, "log-format"},
		"a negative duration":         {nil, []string{"serve", "--journey-ttl=-1s"}, 1, "journey-ttl"},
		"a wait without bound":        {nil, []string{"serve", "--max-wait=31s"}, 1, "max-wait"},
		"a delay without end":         {nil, []string{"serve", "--drain-delay=25s"}, 1, "drain-delay"},
		"a radius without bound":      {nil, []string{"serve", "--arrival-radius=1e9"}, 1, "arrival-radius"},
		"a secret that is short":      {[]string{"JWT_SECRET=short"}, []string{"serve"}, 1, "32"},
		"no keys, with Valkey":        {[]string{"VALKEY_URL=unix:///nowhere"}, []string{"serve"}, 1, "DOORSTEP_JWT_SECRET"},
		"no keys, with PostgreSQL":    {[]string{"DATABASE_URL=postgres://nowhere/x"}, []string{"serve"}, 1, "DOORSTEP_JWT_SECRET"},
		"no keys, for all to reach":   {nil, []string{"serve", "--listen=0.0.0.0:0"}, 1, "loopback"},
		"no keys, on every address":   {nil, []string{"serve", "--listen=:0"}, 1, "loopback"},
		"a live store without scheme": {[]string{"VALKEY_URL=localhost", "JWT_SECRET=" + testSecret}, []string{"serve"}, 1, "live store"},
		"a JWKS without scheme":       {[]string{"JWKS_URL=issuer.example"}, []string{"serve"}, 1, "DOORSTEP_JWKS_URL): its scheme"},
		"a JWKS of no issuer":         {[]string{"JWKS_URL=https://issuer.example"}, []string{"serve"}, 1, "DOORSTEP_JWT_ISSUER): missing"},
		"issuers of no audience":      {[]string{`ISSUERS=[{"issuer":"https://issuer.example"}]`}, []string{"serve"}, 1, "issuers[0].audience: missing"},
		"the version":                 {nil, []string{"--version"}, 0, ""},
		"the help":                    {nil, []string{"--help"}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := gateway(t, row.settings, row.args...)
			assert.Equal(t, row.code, e.code, e.stderr)
			assert.Contains(t, e.stderr, row.says)
			assert.NotContains(t, e.stderr, "goroutine ", "a message, not a stack")
		})
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	s := serve(t, "JWT_ISSUER=house", "JWT_AUDIENCE=gateway", "JWT_ROLE_CLAIM=https://house/role", "JWT_SUBJECT_CLAIM=uid")
	settings := []string{"JWT_SECRET=" + testSecret, "JWT_ISSUER=house", "JWT_AUDIENCE=gateway", "JWT_ROLE_CLAIM=https://house/role", "JWT_SUBJECT_CLAIM=uid"}
	id := string(sessions.NewID())
	e := gateway(t, settings, "token", "--role=student", "--subject="+id)
	require.Equal(t, 0, e.code, e.stderr)
	assert.Empty(t, e.stderr)
	assert.Equal(t, 1, strings.Count(e.stdout, "\n"), "the token and nothing else")
	res := s.call(t, "GET", "/api/v1/students/me/sessions", strings.TrimSpace(e.stdout), "")
	assert.Equal(t, 200, res.StatusCode, "what the same settings minted is believed")
	res = s.call(t, "GET", "/api/v1/students/me/sessions", mint(t, "student", sessions.ID(id)), "")
	assert.Equal(t, 401, res.StatusCode, "and nothing else")

	for name, args := range map[string][]string{
		"role":          {"--role=root", "--subject=" + id},
		"no role":       {"--subject=" + id},
		"no subject":    {"--role=admin"},
		"subject no id": {"--role=admin", "--subject=me"},
		"ttl":           {"--role=admin", "--subject=" + id, "--ttl=1ms"},
	} {
		e := gateway(t, settings, append([]string{"token"}, args...)...)
		assert.NotZero(t, e.code, name)
		assert.NotEmpty(t, e.stderr, name)
		assert.NotContains(t, e.stdout, "ey", name)
	}
	short := gateway(t, []string{"JWT_SECRET=short"}, "token", "--role=admin", "--subject="+id)
	assert.Equal(t, 1, short.code)
	assert.Contains(t, short.stderr, "32")
	assert.NotContains(t, short.stderr, "short ", "the secret is not told")
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	url := postgrestest.New(t)
	database := []string{"DATABASE_URL=" + url}
	refused := gateway(t, append(database, "JWT_SECRET="+testSecret), "serve", "--listen=127.0.0.1:0", "--metrics-listen=")
	assert.Equal(t, 1, refused.code, "serve refuses an old schema")
	assert.Contains(t, refused.stderr, "migrate", "and says what to do")

	first := gateway(t, database, "migrate")
	assert.Equal(t, 0, first.code, first.stderr)
	assert.Contains(t, first.stdout, "applied ")
	again := gateway(t, database, "migrate")
	assert.Equal(t, 0, again.code, again.stderr)
	assert.Contains(t, again.stdout, "(0 applied)")

	// A newer version has been there: the job and the gateway of this one go on.
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `INSERT INTO doorstep_migrations (version, name) VALUES (9999, '9999_from_the_future')`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	newer := gateway(t, database, "migrate")
	assert.Equal(t, 0, newer.code, newer.stderr)
	assert.Regexp(t, `^nothing to do: the database's schema is newer than this binary: it is at 9999, this binary knows \d+\n$`, newer.stdout)

	s := serve(t, database...)
	trainer, student := sessions.NewID(), sessions.NewID()
	body := fmt.Sprintf(`{"trainerId":%q,"studentId":%q,"studentHome":{"latitude":1,"longitude":2}}`, trainer, student)
	assert.Equal(t, 201, s.call(t, "POST", "/api/v1/admin/sessions", mint(t, "admin", sessions.NewID()), body).StatusCode)

	// What it has to say of the operator's own table is a line, and no failure.
	own := postgrestest.New(t)
	conn, err = pgx.Connect(t.Context(), own)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `CREATE TYPE lesson AS ENUM ('scheduled', 'pending_verification', 'in_progress', 'completed');
		CREATE TABLE tutoring_sessions (id uuid PRIMARY KEY, trainer_id uuid, student_id uuid, status lesson)`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	noted := gateway(t, []string{"DATABASE_URL=" + own}, "migrate")
	assert.Equal(t, 0, noted.code, noted.stderr)
	assert.Contains(t, noted.stdout, "\nstatus of tutoring_sessions cannot be no_show: your own type lesson does not allow it")
	assert.Regexp(t, `\nschema is up to date \(\d+ applied\)\n$`, noted.stdout)

	away := gateway(t, []string{"DATABASE_URL=postgres://me:hushhush@127.0.0.1:1/x?connect_timeout=1"}, "migrate")
	assert.Equal(t, 1, away.code)
	assert.NotContains(t, away.stderr, "hushhush")
	assert.Equal(t, 2, gateway(t, nil, "migrate").code, "without a database")
}

// A service that is told to end answers whoever waits, and ends with 0.
func TestServe_ends_at_a_signal(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sig      syscall.Signal
		settings []string
	}{
		"SIGTERM":     {sig: syscall.SIGTERM},
		"SIGINT":      {sig: syscall.SIGINT},
		"SIGTERM/TLS": {syscall.SIGTERM, tlsSettings(t)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tc.settings...)
			id, trainer, student := sessions.NewID(), sessions.NewID(), sessions.NewID()
			body := fmt.Sprintf(`{"sessionId":%q,"trainerId":%q,"studentId":%q,"studentHome":{"latitude":1,"longitude":2}}`, id, trainer, student)
			require.Equal(t, 201, s.call(t, "POST", "/api/v1/admin/sessions", mint(t, "admin", sessions.NewID()), body).StatusCode)
			token, path := mint(t, "student", student), "/api/v1/admin/location-tracking/journey/live?sessionId="+string(id)
			tag := s.call(t, "GET", path, token, "").Header.Get("ETag")
			answered := make(chan *http.Response, 1)
			go func() { answered <- s.call(t, "GET", path+"&wait=30", token, "") }() //nolint:testifylint // a failure here only fails to send, and the receiver fails
			time.Sleep(300 * time.Millisecond)                                       // there is no telling from outside that it waits; if it does not yet, it is answered all the same
			require.NoError(t, s.Process.Signal(tc.sig))
			select {
			case res := <-answered:
				assert.Equal(t, 304, res.StatusCode)
				assert.Equal(t, tag, res.Header.Get("ETag"))
			case <-time.After(patience):
				assert.Fail(t, "the waiter was not answered")
			}
			assert.Equal(t, 0, s.ends(t), s.log())
			assert.Contains(t, s.log(), `"msg":"draining"`)
		})
	}
}

// A second signal does not wait for the rest.
func TestServe_ends_at_once_at_a_second_signal(t *testing.T) {
	t.Parallel()
	s := serve(t, "DRAIN_DELAY=1h", "DRAIN_TIMEOUT=2h")
	require.NoError(t, s.Process.Signal(syscall.SIGTERM))
	deadline := time.Now().Add(patience)
	for s.call(t, "GET", "/readyz", "", "").StatusCode != http.StatusServiceUnavailable {
		require.True(t, time.Now().Before(deadline), "/readyz says that it drains")
		time.Sleep(5 * time.Millisecond)
	}
	assert.Equal(t, 200, s.call(t, "GET", "/healthz", "", "").StatusCode, "it still answers")
	require.NoError(t, s.Process.Signal(syscall.SIGTERM))
	began := time.Now()
	s.ends(t)
	assert.Less(t, time.Since(began), patience/2)
}

// Fully embedded, nothing needs to be set.
func TestServe_needs_no_setting(t *testing.T) {
	t.Parallel()
	s := serve(t, "JWT_SECRET=", "LOG_LEVEL=debug")
	assert.Equal(t, 200, s.call(t, "GET", "/readyz", "", "").StatusCode)
	assert.Equal(t, 401, s.call(t, "GET", "/api/v1/students/me/sessions", mint(t, "student", sessions.NewID()), "").StatusCode, "its secret is its own")
	require.NoError(t, s.Process.Signal(syscall.SIGTERM))
	assert.Equal(t, 0, s.ends(t))
}
