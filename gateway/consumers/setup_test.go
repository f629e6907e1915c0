package consumers_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeytest"
)

func TestMain(m *testing.M) {
	defer valkeytest.Stop()
	postgrestest.Main(m)
}

// google is a token server and an FCM on loopback. It checks each assertion's
// signature and claims, and each request's access token, and answers as told.
type google struct {
	*httptest.Server
	key     *rsa.PrivateKey
	refusal func(w http.ResponseWriter, sent map[string]any) bool // true: it has answered

	mu       sync.Mutex
	tokens   int // exchanged
	valid    string
	proof    string // of who asked for a token, by federation
	tries    int
	received []map[string]any
}

// theKey is made once: an RSA key takes a while under the race detector.
var theKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func openGoogle(t testing.TB) *google {
	t.Helper()
	key, err := theKey()
	require.NoError(t, err)
	g := &google{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) { g.exchange(t, w, r) })
	mux.HandleFunc("POST /sts", func(w http.ResponseWriter, r *http.Request) { g.exchangeProof(t, w, r) })
	mux.HandleFunc("POST "+actsAs, func(w http.ResponseWriter, r *http.Request) { g.impersonate(t, w, r) })
	mux.HandleFunc("POST /v1/projects/doorstep-test/messages:send", func(w http.ResponseWriter, r *http.Request) { g.send(t, w, r) })
	g.Server = httptest.NewServer(mux)
	t.Cleanup(g.Close)
	return g
}

// credentials is the account's file.
func (g *google) credentials(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(g.key)
	require.NoError(t, err)
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "doorstep-test", "private_key_id": "1",
		"private_key":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email": "push@doorstep-test.iam.gserviceaccount.com", "client_id": "1", "token_uri": g.URL + "/token",
	})
	require.NoError(t, err)
	return text
}

// pool is a workload identity pool's provider, and actsAs where the account's token is had.
const (
	pool   = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q"
	actsAs = "/v1/projects/-/serviceAccounts/push@doorstep-test.iam.gserviceaccount.com:generateAccessToken"
)

// federation is the file that gcloud makes for a workload identity federation.
func (g *google) federation(t testing.TB, source map[string]any) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"type": "external_account", "universe_domain": "googleapis.com", "audience": pool, "token_url": g.URL + "/sts",
		"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "service_account_impersonation_url": g.URL + actsAs, "credential_source": source,
	})
	require.NoError(t, err)
	return text
}

func (g *google) exchangeProof(t testing.TB, w http.ResponseWriter, r *http.Request) {
	assert.NoError(t, r.ParseForm())
	assert.Equal(t, pool, r.Form.Get("audience"))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.proof = r.Form.Get("subject_token")
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "federated", "token_type": "Bearer", "expires_in": 3600})
}

func (g *google) impersonate(t testing.TB, w http.ResponseWriter, r *http.Request) {
	assert.Equal(t, "Bearer federated", r.Header.Get("Authorization"))
	var asked struct{ Scope []string }
	assert.NoError(t, json.NewDecoder(r.Body).Decode(&asked))
	assert.Contains(t, asked.Scope, "https://www.googleapis.com/auth/firebase.messaging")
	g.mu.Lock()
	defer g.mu.Unlock()
	g.valid = "of the account"
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"accessToken": g.valid, "expireTime": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)})
}

func (g *google) exchange(t testing.TB, w http.ResponseWriter, r *http.Request) {
	assert.NoError(t, r.ParseForm())
	assert.Equal(t, "urn:ietf:params:oauth:grant-type:jwt-bearer", r.Form.Get("grant_type"))
	var claims struct {
		jwt.RegisteredClaims
		Scope string `json:"scope"`
	}
	_, err := jwt.ParseWithClaims(r.Form.Get("assertion"), &claims, func(*jwt.Token) (any, error) { return &g.key.PublicKey, nil },
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithAudience(g.URL+"/token"),
		jwt.WithIssuer("push@doorstep-test.iam.gserviceaccount.com"), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	if !assert.NoError(t, err, "the assertion") {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	assert.Contains(t, claims.Scope, "https://www.googleapis.com/auth/firebase.messaging")
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tokens++
	g.valid = "access-" + time.Now().String()[:19]
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": g.valid, "token_type": "Bearer", "expires_in": 3600})
}

func (g *google) send(t testing.TB, w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	assert.NoError(t, err)
	var body struct {
		Message map[string]any `json:"message"`
	}
	assert.NoError(t, json.Unmarshal(text, &body))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tries++
	w.Header().Set("Content-Type", "application/json")
	if r.Header.Get("Authorization") != "Bearer "+g.valid {
		refuse(w, 401, "UNAUTHENTICATED", "")
		return
	}
	if g.refusal != nil && g.refusal(w, body.Message) {
		return
	}
	g.received = append(g.received, body.Message)
	_, _ = io.WriteString(w, `{"name":"projects/doorstep-test/messages/1"}`)
}

// refuse answers as FCM does.
func refuse(w http.ResponseWriter, status int, word, code string, more ...map[string]any) {
	details := more
	if code != "" {
		details = append(details, map[string]any{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code})
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{
		"code": status, "status": word, "message": "secret-device is what this is about", "details": details,
	}})
}

// refusing makes every answer the same.
func refusing(status int, word, code string, more ...map[string]any) func(http.ResponseWriter, map[string]any) bool {
	return func(w http.ResponseWriter, _ map[string]any) bool {
		refuse(w, status, word, code, more...)
		return true
	}
}

func (g *google) answer(f func(http.ResponseWriter, map[string]any) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refusal = f
}

func (g *google) messages() []map[string]any {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.received
}

func (g *google) counts() (tokens, tries int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tokens, g.tries
}

// outcomes counts what the handlers tell of.
type outcomes struct {
	mu     sync.Mutex
	counts map[string]int
}

func (o *outcomes) add(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.counts == nil {
		o.counts = map[string]int{}
	}
	o.counts[what]++
}

func (o *outcomes) all() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counts
}

func (o *outcomes) Pushed(kind, outcome string) { o.add(kind + " " + outcome) }
func (o *outcomes) JourneyStarted()             { o.add("started") }
func (o *outcomes) JourneyEnded(reason string, _ time.Duration, _ float64) {
	o.add("ended " + reason)
}
func (o *outcomes) JourneySuspicious(verdict string) { o.add("suspicious " + verdict) }
