// Package issuertest runs an OpenID Connect issuer on loopback: discovery, a JWKS and
// tokens. It is for tests: it signs what it is told to.
package issuertest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Issuer is a running issuer. Its Name is its URL. Safe for concurrent use.
type Issuer struct {
	Name string

	mu   sync.Mutex
	keys []*rsa.PrivateKey // kid is "1" for the first one; it signs with the last one
	away bool
}

// New starts an issuer with one key; the end of the test stops it.
func New(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{}
	i.Rotate(t)
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	i.Name = server.URL
	return i
}

// JWKSURL is where the keys are, which discovery finds too.
func (i *Issuer) JWKSURL() string { return i.Name + "/keys" }

// Rotate makes a new key, and publishes it beside the others.
func (i *Issuer) Rotate(t testing.TB) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, key)
}

// Away makes the issuer answer 503, or answer again.
func (i *Issuer) Away(away bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.away = away
}

// Token signs claims with the newest key. Where they have none, iss is the issuer, and
// the token is good from now for an hour.
func (i *Issuer) Token(t testing.TB, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"iss": i.Name, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(all, claims)
	i.mu.Lock()
	defer i.mu.Unlock()
	text := encoded(t, map[string]string{"typ": "JWT", "alg": "RS256", "kid": fmt.Sprint(len(i.keys))}) + "." + encoded(t, all)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.keys[len(i.keys)-1], crypto.SHA256, sum[:])
	require.NoError(t, err)
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func encoded(t testing.TB, part any) string {
	t.Helper()
	document, err := json.Marshal(part)
	require.NoError(t, err)
	return base64.RawURLEncoding.EncodeToString(document)
}

// ServeHTTP answers discovery and the request for the keys.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.away:
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.URL.Path == "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": i.Name, "jwks_uri": i.JWKSURL()})
	case r.URL.Path == "/keys":
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": i.published()})
	default:
		http.NotFound(w, r)
	}
}

// published are the keys as a JWKS has them (RFC 7517), with the extras that real ones
// have: a key for encryption. Call it with mu held.
func (i *Issuer) published() (list []map[string]string) {
	for n, key := range i.keys {
		for kid, use := range map[string]string{fmt.Sprint(n + 1): "sig", fmt.Sprint("enc", n+1): "enc"} {
			list = append(list, map[string]string{
				"kty": "RSA", "kid": kid, "use": use,
				"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
				"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
			})
		}
	}
	return list
}
