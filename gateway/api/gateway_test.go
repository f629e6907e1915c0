package api_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeytest"
	"doorstep/internal/testclock"
	"doorstep/internal/testlog"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

func TestMain(m *testing.M) {
	openapi3filter.RegisterBodyDecoder("text/html", openapi3filter.RegisteredBodyDecoder("text/plain"))
	code := m.Run()
	valkeytest.Stop()
	postgrestest.Stop()
	os.Exit(code)
}

// patience bounds every wait in these tests. They assert what happens, not how
// soon, so a loaded machine cannot fail them.
const patience = 10 * time.Second

const (
	secret = "the secret of these tests, 32 bytes or more"
	base   = "/api/v1"

	updatesPath = base + "/admin/location-tracking/journey/updates"
	devicesPath = base + "/me/devices"
	publicURL   = "https://phones.example.com/doorstep"
	livePath    = base + "/admin/location-tracking/journey/live"
)

type lockedBuffer = testlog.Buffer

// backend is what a gateway under test stands on.
type backend string

const (
	embedded backend = "embedded" // memory for both stores
	servers  backend = "servers"  // a real Valkey and a real PostgreSQL
)

// onEach runs a test on both backends, in parallel.
func onEach(t *testing.T, run func(t *testing.T, b backend)) {
	t.Helper()
	for _, b := range []backend{embedded, servers} {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			run(t, b)
		})
	}
}

// gateway is a whole gateway on its own socket, and one client of it. Every
// answer is checked against openapi.yaml.
type gateway struct {
	*app.App
	*testclock.Clock // it stands still; it begins at the wall clock's time, which the tokens' times are checked against
	url              string
	client           *http.Client
	seen             *coverage // nil: not recorded
	databaseURL      string    // empty: embedded
}

// open starts a gateway on b; edit changes its settings first.
func open(t testing.TB, b backend, edit ...func(*app.Options)) *gateway {
	t.Helper()
	began := time.Now()
	c := testclock.At(began)
	opts := app.Options{
		Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0", JWTSecret: secret, OTPInResponse: true, Steer: true, Pages: true, Now: c.Now,
		CallerRate:    -1,              // no limit: the clock stands still, so every limit would soon be reached
		ValkeyTimeout: 2 * time.Second, // a loaded machine must not look like a store that is down
	}
	if b == servers {
		opts.PublicURL = publicURL
		opts.ValkeyURL, opts.DatabaseURL = valkeytest.Valkey(t), migrated(t, postgrestest.New(t))
	}
	for _, f := range edit {
		f(&opts)
	}
	if opts.Now == nil { // hurried: the real clock, which Advance moves on, too
		opts.Now = func() time.Time { return time.Now().Add(c.Now().Sub(began)) }
	}
	h := start(t, opts)
	h.Clock, h.databaseURL = c, opts.DatabaseURL
	return h
}

func migrated(t testing.TB, url string) string {
	t.Helper()
	require.NoError(t, postgres.Migrate(t.Context(), url, nil))
	return url
}

func start(t testing.TB, opts app.Options) *gateway {
	t.Helper()
	a, err := app.New(opts)
	require.NoError(t, err)
	require.NoError(t, a.Start(t.Context()))
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	h := &gateway{App: a, url: "http://" + a.Addr().String(), client: &http.Client{Transport: transport}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		assert.NoError(t, a.Stop(ctx))
	})
	if opts.ValkeyURL != "" {
		h.awaitStore(t, "ok")
	}
	return h
}

// awaitStore waits until /readyz reports this state of the live store.
func (h *gateway) awaitStore(t testing.TB, state string) {
	t.Helper()
	until(t, func() bool { return h.get(t, "", "/readyz").data()["liveStore"] == state }, "live store "+state)
}

// until polls a condition until it holds.
func until(t testing.TB, cond func() bool, what string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// answer is a response that was read and matches the document.
type answer struct {
	status int
	header http.Header
	body   []byte
	fields map[string]any // the body, where it is a JSON object
	closes bool           // the connection
}

func (a answer) code() string         { code, _ := a.fields["code"].(string); return code }
func (a answer) data() map[string]any { data, _ := a.fields["data"].(map[string]any); return data }
func (a answer) etag() string         { return a.header.Get("ETag") }

// version is the number in the ETag.
func (a answer) version(t testing.TB) int64 {
	t.Helper()
	n, err := strconv.ParseInt(strings.Trim(strings.TrimPrefix(a.etag(), "W/"), `"`), 10, 64)
	require.NoError(t, err, "ETag %q", a.etag())
	return n
}

// want checks status and code; an empty code is a success.
func (a answer) want(t testing.TB, status int, code sessions.Code) answer {
	t.Helper()
	require.Equal(t, []any{status, string(code)}, []any{a.status, a.code()}, "%s", a.body)
	return a
}

type edit func(*http.Request)

func header(name, value string) edit {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// off says that the request does not match the document although the answer is a
// success.
type offKey struct{}

func off(r *http.Request) { *r = *r.WithContext(context.WithValue(r.Context(), offKey{}, true)) }

func (h *gateway) get(t testing.TB, token, path string, edits ...edit) answer {
	t.Helper()
	return h.do(t, http.MethodGet, token, path, nil, edits...)
}

// post sends body: a string as it is, nil as nothing, anything else as JSON.
func (h *gateway) post(t testing.TB, token, path string, body any, edits ...edit) answer {
	t.Helper()
	var text []byte
	switch b := body.(type) {
	case nil:
	case string:
		text = []byte(b)
	case []byte:
		text = b
	default:
		var err error
		text, err = json.Marshal(b)
		require.NoError(t, err)
	}
	return h.do(t, http.MethodPost, token, path, text, edits...)
}

func (h *gateway) do(t testing.TB, method, token, path string, body []byte, edits ...edit) answer {
	t.Helper()
	a, err := h.try(context.WithoutCancel(t.Context()), t, method, token, path, body, edits...)
	require.NoError(t, err)
	return a
}

// try is do for a request that may end without an answer.
func (h *gateway) try(ctx context.Context, t testing.TB, method, token, path string, body []byte, edits ...edit) (answer, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, h.url+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for _, e := range edits {
		e(req)
	}
	res, err := h.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	return read(t, h.seen, req, body, res)
}

// read reads an answer and checks it, and the request of a success, against the
// document.
func read(t testing.TB, seen *coverage, req *http.Request, sent []byte, res *http.Response) (answer, error) {
	t.Helper()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{closes: res.Close, status: res.StatusCode, header: res.Header, body: text}
	_ = json.Unmarshal(text, &a.fields)
	documented(t, seen, req, sent, a)
	return a, nil
}

// visit is a booked session and the tokens of everybody around it.
type visit struct {
	id                                 sessions.ID
	trainerID, studentID               sessions.ID
	trainer, student, admin            string
	otherTrainer, otherStudent         string
	trainerAsStudent, studentAsTrainer string // the right id in the wrong role
}

const (
	homeLat, homeLng = 12.9352, 77.6245
	// nearLat is 111 m from home, inside the fence; farLat 1,112 m, outside.
	nearLat, farLat = homeLat + 0.001, homeLat + 0.01
)

func (h *gateway) book(t testing.TB) visit {
	t.Helper()
	return h.bookFor(t, sessions.NewID(), sessions.NewID())
}

func (h *gateway) bookFor(t testing.TB, trainer, student sessions.ID) visit {
	t.Helper()
	v := visit{
		id: sessions.NewID(), trainerID: trainer, studentID: student,
		trainer: h.token(t, trainer, sessions.Trainer), student: h.token(t, student, sessions.Student),
		admin:            h.token(t, sessions.NewID(), sessions.Admin),
		otherTrainer:     h.token(t, sessions.NewID(), sessions.Trainer),
		otherStudent:     h.token(t, sessions.NewID(), sessions.Student),
		trainerAsStudent: h.token(t, trainer, sessions.Student), studentAsTrainer: h.token(t, student, sessions.Trainer),
	}
	h.post(t, v.admin, base+"/admin/sessions", v.booking()).want(t, 201, "")
	return v
}

func (v visit) booking() map[string]any {
	return map[string]any{
		"sessionId": v.id, "trainerId": v.trainerID, "studentId": v.studentID,
		"studentHome": map[string]any{"latitude": homeLat, "longitude": homeLng},
	}
}

func (v visit) path(verb string) string {
	if verb == "" {
		return base + "/admin/sessions/" + string(v.id)
	}
	return base + "/admin/sessions/" + string(v.id) + "/" + verb
}

func (v visit) live(query string) string { return livePath + "?sessionId=" + string(v.id) + query }

func (v visit) fix(lat, lng float64) map[string]any {
	return map[string]any{"sessionId": v.id, "latitude": lat, "longitude": lng}
}

func (h *gateway) token(t testing.TB, id sessions.ID, role sessions.Role) string {
	t.Helper()
	token, err := h.Token(sessions.Caller{ID: id, Role: role}, time.Hour)
	require.NoError(t, err)
	return token
}

// begun is a session whose journey has started.
func (h *gateway) begun(t testing.TB) visit {
	t.Helper()
	v := h.book(t)
	h.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
	return v
}

// atTheDoor is a session whose trainer is at the student's home.
func (h *gateway) atTheDoor(t testing.TB) visit {
	t.Helper()
	v := h.begun(t)
	h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 201, "")
	h.settle(t, v)
	return v
}

// settle sends what a track needs beside its first fix, so that it can arrive.
func (h *gateway) settle(t testing.TB, v visit) {
	t.Helper()
	for range 2 {
		h.step(t, v)
	}
}

// arrive makes the trainer arrive and returns the OTP.
func (h *gateway) arrive(t testing.TB, v visit) string {
	t.Helper()
	otp, _ := h.post(t, v.trainer, v.path("arrived"), nil).want(t, 200, "").data()["otp"].(string)
	require.Len(t, otp, 4)
	return otp
}

// renew makes the trainer, who has arrived, ask for a new OTP at the door.
func (h *gateway) renew(t testing.TB, v visit) string {
	t.Helper()
	otp, _ := h.post(t, v.trainer, v.path("arrived"), v.fix(nearLat, homeLng)).want(t, 200, "").data()["otp"].(string)
	require.Len(t, otp, 4)
	return otp
}

// wrong is four digits that are not otp.
func wrong(otp string) map[string]string {
	if otp == "0000" {
		return map[string]string{"otp": "1111"}
	}
	return map[string]string{"otp": "0000"}
}

// metric is the sum of a series' values over the label pairs given, such as
// `code="FORBIDDEN"`.
func (h *gateway) metric(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, "http://"+h.MetricsAddr().String()+"/metrics", nil)
	require.NoError(t, err)
	res, err := h.client.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	sum := 0.0
	for line := range strings.Lines(string(text)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if family, _, _ := strings.Cut(series, "{"); family != name || !containsAll(series, labels) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		require.NoError(t, err)
		sum += n
	}
	return sum
}

func containsAll(s string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// handmade is a token that is wrong in a way in which no library would sign it. A
// nil key leaves the signature empty.
func handmade(t testing.TB, header, claims map[string]any, key []byte) string {
	t.Helper()
	encode := func(v any) string {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	signed := encode(header) + "." + encode(claims)
	if key == nil {
		return signed + "."
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func jsonOf(v any) ([]byte, error) { return json.Marshal(v) }

func jsonInto(text []byte, into any) error { return json.Unmarshal(text, into) }
