package auth

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"testing"

	"github.com/MicahParks/jwkset"
	"github.com/stretchr/testify/require"
)

// modulus is a number of that many bits: enough for reading a key.
func modulus(bits uint) *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}
}

func TestParseKeys_TakesWhatVerifiesOurAlgorithms(t *testing.T) {
	t.Parallel()
	s := keysOnce()
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	use := func(u jwkset.USE) func(*jwkset.JWKMarshal) { return func(m *jwkset.JWKMarshal) { m.USE = u } }
	alg := func(a jwkset.ALG) func(*jwkset.JWKMarshal) { return func(m *jwkset.JWKMarshal) { m.ALG = a } }
	ops := func(o ...jwkset.KEYOPS) func(*jwkset.JWKMarshal) { return func(m *jwkset.JWKMarshal) { m.KEYOPS = o } }
	for name, c := range map[string]struct {
		key jwkset.JWKMarshal
		alg string // empty: left out
	}{
		"RSA":                        {jwk(t, "k", &s.rsa.PublicKey), "RS256"},
		"RSA declared RS256":         {jwk(t, "k", &s.rsa.PublicKey, alg("RS256")), "RS256"},
		"RSA for signatures":         {jwk(t, "k", &s.rsa.PublicKey, use("sig"), ops("verify")), "RS256"},
		"RSA declared PS256":         {jwk(t, "k", &s.rsa.PublicKey, alg("PS256")), ""},
		"RSA declared HS256":         {jwk(t, "k", &s.rsa.PublicKey, alg("HS256")), ""},
		"RSA for encryption":         {jwk(t, "k", &s.rsa.PublicKey, use("enc")), ""},
		"RSA to wrap keys":           {jwk(t, "k", &s.rsa.PublicKey, ops("wrapKey")), ""},
		"RSA of unknown use":         {jwk(t, "k", &s.rsa.PublicKey, use("fun")), ""},
		"RSA of 2047 bits":           {jwk(t, "k", modulus(2047)), ""},
		"RSA of 2048 bits":           {jwk(t, "k", modulus(2048)), "RS256"},
		"RSA of 8192 bits":           {jwk(t, "k", modulus(8192)), "RS256"},
		"RSA of 8193 bits":           {jwk(t, "k", modulus(8193)), ""},
		"RSA without exponent":       {jwk(t, "k", &s.rsa.PublicKey, func(m *jwkset.JWKMarshal) { m.E = "" }), ""},
		"RSA with exponent 1":        {jwk(t, "k", &s.rsa.PublicKey, func(m *jwkset.JWKMarshal) { m.E = "AQ" }), ""},
		"RSA with a certificate":     {jwk(t, "k", &s.rsa.PublicKey, certificate(t, s.rsa)), "RS256"},
		"RSA with a bad certificate": {jwk(t, "k", &s.rsa.PublicKey, func(m *jwkset.JWKMarshal) { m.X5C = []string{"!"} }), ""},
		"P-256":                      {jwk(t, "k", &s.p256.PublicKey), "ES256"},
		"P-256 off the curve":        {jwk(t, "k", &s.p256.PublicKey, func(m *jwkset.JWKMarshal) { m.Y = m.X }), ""},
		"P-384":                      {jwk(t, "k", &s.p384.PublicKey), ""},
		"P-384 declared ES256":       {jwk(t, "k", &s.p384.PublicKey, alg("ES256")), ""},
		"Ed25519":                    {jwk(t, "k", s.ed.Public()), "EdDSA"},
		"Ed25519 cut short":          {jwk(t, "k", s.ed.Public(), func(m *jwkset.JWKMarshal) { m.X = m.X[:20] }), ""},
		"X25519":                     {jwk(t, "k", x25519.PublicKey()), ""},
		"a secret":                   {jwkset.JWKMarshal{KTY: "oct", KID: "k", K: "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}, ""},
		"of unknown type":            {jwkset.JWKMarshal{KTY: "LWE", KID: "k"}, ""},
		"nothing at all":             {jwkset.JWKMarshal{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good := jwk(t, "good", s.ed.Public())
			set, skipped, err := parseKeys(document(t, c.key, good))
			require.NoError(t, err)
			require.Contains(t, set, keyRef{"EdDSA", "good"}, "its neighbour is not harmed")
			if c.alg == "" {
				require.Equal(t, 1, skipped)
				require.Len(t, set, 1)
				return
			}
			require.Zero(t, skipped)
			require.Contains(t, set, keyRef{c.alg, "k"})
		})
	}
}

// certificate adds one of the key, with a thumbprint as older tenants of Auth0 publish it:
// of the SHA-1 in hexadecimal, and not of its bytes.
func certificate(t *testing.T, key *rsa.PrivateKey) func(*jwkset.JWKMarshal) {
	t.Helper()
	of := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	require.NoError(t, err)
	sum := sha1.Sum(der)
	return func(m *jwkset.JWKMarshal) {
		m.X5C = []string{base64.StdEncoding.EncodeToString(der)}
		m.X5T = base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%X", sum))
		m.X5U = "http://issuer.example/cert.pem"
	}
}

func TestParseKeys_KeepsThePublicPartOfAPrivateKey(t *testing.T) {
	t.Parallel()
	s := keysOnce()
	private, err := jwkset.NewJWKFromKey(s.p256, jwkset.JWKOptions{
		Marshal: jwkset.JWKMarshalOptions{Private: true}, Metadata: jwkset.JWKMetadataOptions{KID: "leaked"},
	})
	require.NoError(t, err)
	require.NotEmpty(t, private.Marshal().D)
	set, _, err := parseKeys(document(t, private.Marshal()))
	require.NoError(t, err)
	require.True(t, set[keyRef{"ES256", "leaked"}].Equal(&s.p256.PublicKey))
}

func TestParseKeys_RefusesWhatIsNoSet(t *testing.T) {
	t.Parallel()
	key, err := json.Marshal(jwk(t, "k", keysOnce().ed.Public()))
	require.NoError(t, err)
	for name, doc := range map[string]string{
		"empty":           ``,
		"html":            `<html>sign in</html>`,
		"null":            `null`,
		"a list":          `[]`,
		"no keys":         `{}`,
		"keys null":       `{"keys":null}`,
		"keys an object":  `{"keys":{}}`,
		"cut off":         `{"keys":[` + string(key),
		"one key, no set": string(key),
		"too many keys":   `{"keys":[` + strings.Repeat(`{},`, maxKeys) + string(key) + `]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, _, err := parseKeys([]byte(doc))
			require.Error(t, err)
			require.Nil(t, set)
		})
	}
}

func TestParseKeys_TakesAsManyAsTheLimit(t *testing.T) {
	t.Parallel()
	keys := make([]jwkset.JWKMarshal, maxKeys)
	for i := range keys {
		keys[i] = jwk(t, strconv.Itoa(i), keysOnce().ed.Public())
	}
	set, _, err := parseKeys(document(t, keys...))
	require.NoError(t, err)
	require.Len(t, set, maxKeys)
}

func TestParseKeys_EmptySetIsAnAnswer(t *testing.T) {
	t.Parallel()
	set, skipped, err := parseKeys([]byte(`{"keys":[]}`))
	require.NoError(t, err)
	require.NotNil(t, set)
	require.Empty(t, set)
	require.Zero(t, skipped)
}

func TestParseKeys_FirstOfTwinsCounts(t *testing.T) {
	t.Parallel()
	s := keysOnce()
	set, skipped, err := parseKeys(document(t, jwk(t, "k", &s.rsa.PublicKey), jwk(t, "k", &s.rsaNext.PublicKey), jwk(t, "k", s.ed.Public())))
	require.NoError(t, err)
	require.Equal(t, 1, skipped)
	require.Len(t, set, 2, "one kid for two algorithms is two keys")
	require.True(t, set[keyRef{"RS256", "k"}].Equal(&s.rsa.PublicKey))
}

func TestKeySet_FindWithoutKid(t *testing.T) {
	t.Parallel()
	s := keysOnce()
	set := keySet{
		{"RS256", "a"}: &s.rsa.PublicKey, {"RS256", "b"}: &s.rsaNext.PublicKey,
		{"ES256", "a"}: &s.p256.PublicKey,
		{"EdDSA", ""}:  s.ed.Public().(publicKey),
	}
	for name, c := range map[string]struct {
		ref  keyRef
		want publicKey
	}{
		"takes the only one of its algorithm": {keyRef{alg: "ES256"}, &s.p256.PublicKey},
		"takes one that has no kid either":    {keyRef{alg: "EdDSA"}, s.ed.Public().(publicKey)},
		"does not choose between two":         {keyRef{alg: "RS256"}, nil},
		"finds none of another algorithm":     {keyRef{alg: "HS256"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, ok := set.find(c.ref)
			require.Equal(t, c.want != nil, ok)
			if ok {
				require.True(t, key.Equal(c.want))
			}
		})
	}
}

func TestKeySet_Equal(t *testing.T) {
	t.Parallel()
	s := keysOnce()
	a := keySet{{"RS256", "a"}: &s.rsa.PublicKey}
	require.True(t, a.equal(keySet{{"RS256", "a"}: &rsa.PublicKey{N: s.rsa.N, E: s.rsa.E}}))
	require.False(t, a.equal(keySet{{"RS256", "a"}: &s.rsaNext.PublicKey}))
	require.False(t, a.equal(keySet{{"RS256", "b"}: &s.rsa.PublicKey}))
	require.False(t, a.equal(keySet{}))
}

// Whatever the issuer sends, and it is another company's server: no panic, and
// only keys that our three methods can use.
func FuzzParseKeys(f *testing.F) {
	f.Add(threeKeys(f))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQ","e":"AQAB"},{"kty":"EC","crv":"P-256","x":"","y":"AA"},{"kty":"OKP","crv":"Ed448","x":"AA"}]}`))
	f.Add(bytes.Repeat([]byte(`{"keys":[`), 50))
	f.Fuzz(func(t *testing.T, doc []byte) {
		set, _, err := parseKeys(doc)
		if err != nil && set != nil {
			t.Fatal("keys and an error")
		}
		for ref, key := range set {
			if alg, _, ok := algorithmOf(key); !ok || alg != ref.alg {
				t.Fatalf("%v holds a %T", ref, key)
			}
		}
	})
}
