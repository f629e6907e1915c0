package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"doorstep/internal/testclock"
	"doorstep/internal/testlog"
	"doorstep/sessions"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// Where and when the tests play. The instant has no fraction of a second, so
// that exp is exact.
var (
	testNow       = time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)
	testSecret    = []byte("0123456789abcdef0123456789abcdef")
	testNamespace = "5ad4e1f0-6d7b-4b57-9c59-0f1d0a8f7e11"
	leeway        = 5 * time.Second
	testCaller    = sessions.Caller{ID: "7d0c1c3e-6f0a-4b0f-9d5e-2a9f6c1b8e21", Role: sessions.Trainer}
)

// signers are made once a run: an RSA key takes a tenth of a second.
type signers struct {
	rsa, rsaNext *rsa.PrivateKey
	p256, p384   *ecdsa.PrivateKey
	ed           ed25519.PrivateKey
}

var keysOnce = sync.OnceValue(func() signers {
	var s signers
	var err error
	must := func() {
		if err != nil {
			panic(err)
		}
	}
	s.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must()
	s.rsaNext, err = rsa.GenerateKey(rand.Reader, 2048)
	must()
	s.p256, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must()
	s.p384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must()
	_, s.ed, err = ed25519.GenerateKey(rand.Reader)
	must()
	return s
})

// tokenSpec describes a token to sign; the zero value is testCaller's HS256 token,
// good from testNow for an hour.
type tokenSpec struct {
	method jwt.SigningMethod
	key    any
	kid    string
	header map[string]any // added to what the method sets
	claims map[string]any // set over the good ones; a nil value takes one out
}

func (s tokenSpec) sign(t testing.TB) string {
	t.Helper()
	if s.method == nil {
		s.method, s.key = jwt.SigningMethodHS256, testSecret
	}
	claims := jwt.MapClaims{
		"sub": string(testCaller.ID), "role": string(testCaller.Role),
		"iat": testNow.Unix(), "exp": testNow.Add(time.Hour).Unix(),
	}
	for name, value := range s.claims {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	token := jwt.NewWithClaims(s.method, claims)
	if s.kid != "" {
		token.Header["kid"] = s.kid
	}
	maps.Copy(token.Header, s.header)
	signed, err := token.SignedString(s.key)
	require.NoError(t, err)
	return signed
}

func rs256(kid string) tokenSpec {
	return tokenSpec{method: jwt.SigningMethodRS256, key: keysOnce().rsa, kid: kid}
}

func es256(kid string) tokenSpec {
	return tokenSpec{method: jwt.SigningMethodES256, key: keysOnce().p256, kid: kid}
}

func eddsa(kid string) tokenSpec {
	return tokenSpec{method: jwt.SigningMethodEdDSA, key: keysOnce().ed, kid: kid}
}

// jwk writes one public key as it stands in a JWKS.
func jwk(t testing.TB, kid string, key any, edit ...func(*jwkset.JWKMarshal)) jwkset.JWKMarshal {
	t.Helper()
	j, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{
		Metadata: jwkset.JWKMetadataOptions{KID: kid},
		Validate: jwkset.JWKValidateOptions{SkipAll: true},
	})
	require.NoError(t, err)
	m := j.Marshal()
	for _, e := range edit {
		e(&m)
	}
	return m
}

func document(t testing.TB, keys ...jwkset.JWKMarshal) []byte {
	t.Helper()
	if keys == nil {
		keys = []jwkset.JWKMarshal{}
	}
	doc, err := json.Marshal(map[string]any{"keys": keys})
	require.NoError(t, err)
	return doc
}

// threeKeys is the usual JWKS of these tests: kids "rsa", "ec" and "ed".
func threeKeys(t testing.TB) []byte {
	t.Helper()
	s := keysOnce()
	return document(t, jwk(t, "rsa", &s.rsa.PublicKey), jwk(t, "ec", &s.p256.PublicKey), jwk(t, "ed", s.ed.Public()))
}

// issuer is a JWKS endpoint that can be changed, broken and stalled while it
// counts. It serves a real listener or, as a RoundTripper, requests in process,
// which a synctest bubble needs: a goroutine in a system call stops its clock.
type issuer struct {
	mu      sync.Mutex
	body    []byte
	status  int
	delay   time.Duration
	stalled bool
	fetches []time.Time
}

func newIssuer(body []byte) *issuer { return &issuer{body: body, status: http.StatusOK} }

func (i *issuer) publish(body []byte)  { i.set(func() { i.body = body }) }
func (i *issuer) answer(status int)    { i.set(func() { i.status = status }) }
func (i *issuer) stall(stalled bool)   { i.set(func() { i.stalled = stalled }) }
func (i *issuer) slow(d time.Duration) { i.set(func() { i.delay = d }) }

func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *issuer) times() []time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]time.Time{}, i.fetches...)
}

func (i *issuer) count() int { return len(i.times()) }

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.fetches = append(i.fetches, time.Now())
	body, status, stalled, delay := i.body, i.status, i.stalled, i.delay
	i.mu.Unlock()
	if delay > 0 {
		<-time.After(delay) // in a bubble only, where it takes no time
	}
	if stalled {
		<-r.Context().Done()
		return
	}
	if status == http.StatusFound {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func (i *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	i.ServeHTTP(rec, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return rec.Result(), nil
}

// refreshes tells a test that a fetch is over.
type refreshes chan bool

func (l refreshes) KeysRefreshed(_ string, ok bool, _ int) { l <- ok }

// bundle is a Verifier with all that a test wants to get at.
type bundle struct {
	*Verifier
	clock     *testclock.Clock
	issuer    *issuer
	log       *lockedBuffer
	refreshes refreshes
}

// setup makes a Verifier with the secret, without a JWKS.
func setup(t testing.TB, edit ...func(*Options)) bundle {
	t.Helper()
	b := bundle{clock: testclock.At(testNow), log: &lockedBuffer{}, refreshes: make(refreshes, 64)}
	opts := Options{
		Issuers: []Issuer{{Secret: testSecret, Unchecked: true}}, Leeway: leeway, Clock: b.clock.Now, Observer: b.refreshes,
		Logger: slog.New(slog.NewTextHandler(b.log, nil)),
	}
	for _, e := range edit {
		e(&opts)
	}
	v, err := New(opts)
	require.NoError(t, err)
	b.Verifier = v
	return b
}

// setupJWKS serves a JWKS on loopback, runs the Verifier, and returns when the
// first fetch is over. Requests wait long enough for a fetch on a busy machine.
func setupJWKS(t testing.TB, body []byte, edit ...func(*Options)) bundle {
	t.Helper()
	iss := newIssuer(body)
	server := httptest.NewServer(iss)
	t.Cleanup(server.Close)
	b := setup(t, append([]func(*Options){func(o *Options) {
		o.Issuers[0].JWKSURL = server.URL + "/jwks.json?api_key=hush"
		o.fetchTimeout, o.unknownKeyWait = 30*time.Second, 30*time.Second
	}}, edit...)...)
	b.issuer = iss
	b.run(t)
	<-b.refreshes
	return b
}

// setupInBubble is for synctest: no listener, and the bubble's clock, moved to
// testNow.
func setupInBubble(t testing.TB, body []byte, edit ...func(*Options)) bundle {
	t.Helper()
	iss, began := newIssuer(body), time.Now()
	b := setup(t, append([]func(*Options){func(o *Options) {
		o.Issuers[0].JWKSURL = "https://issuer.test/jwks.json"
		o.httpClient = &http.Client{Transport: iss}
		o.Observer = nil
		o.Clock = func() time.Time { return testNow.Add(time.Since(began)) }
	}}, edit...)...)
	b.issuer = iss
	return b
}

// run starts Run and returns how to stop it, which waits for its end; the end
// of the test stops it too.
func (b bundle) run(t testing.TB) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func (b bundle) accepts(t testing.TB, token string) {
	t.Helper()
	caller, err := b.Verify(t.Context(), []byte(token))
	require.NoError(t, err)
	require.Equal(t, testCaller, caller)
}

func (b bundle) refuses(t testing.TB, token string, want error) {
	t.Helper()
	caller, err := b.Verify(t.Context(), []byte(token))
	require.ErrorIs(t, err, want)
	require.Equal(t, Reason(want), Reason(err))
	require.Zero(t, caller)
}

type lockedBuffer = testlog.Buffer

func (b bundle) ready() bool {
	ready, _ := b.Ready()
	return ready
}
