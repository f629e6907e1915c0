package auth

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

func TestVerify_Accepts(t *testing.T) {
	t.Parallel()
	b := setupJWKS(t, threeKeys(t), func(o *Options) { o.Issuers[0].Name, o.Issuers[0].Audience = "https://id.example", list{"doorstep"} })
	good := map[string]any{"iss": "https://id.example", "aud": "doorstep"}
	with := func(s tokenSpec, name string, value any) tokenSpec {
		s.claims = map[string]any{"iss": good["iss"], "aud": good["aud"]}
		if name != "" {
			s.claims[name] = value
		}
		return s
	}
	for name, spec := range map[string]tokenSpec{
		"HS256 by the secret":           with(tokenSpec{}, "", nil),
		"RS256 by the JWKS":             with(rs256("rsa"), "", nil),
		"ES256 by the JWKS":             with(es256("ec"), "", nil),
		"EdDSA by the JWKS":             with(eddsa("ed"), "", nil),
		"no kid and one such key":       with(es256(""), "", nil),
		"HS256 whatever its kid":        with(tokenSpec{method: jwt.SigningMethodHS256, key: testSecret, kid: "rsa"}, "", nil),
		"roles in a list":               with(tokenSpec{}, "role", []any{"offline_access", 7, "trainer"}),
		"audience in a list":            with(tokenSpec{}, "aud", []string{"other", "doorstep"}),
		"exp with a fraction":           with(tokenSpec{}, "exp", float64(testNow.Unix())+0.5),
		"expired within the leeway":     with(tokenSpec{}, "exp", testNow.Unix()-4),
		"nbf within the leeway":         with(tokenSpec{}, "nbf", testNow.Unix()+5),
		"iat within the leeway":         with(tokenSpec{}, "iat", testNow.Unix()+5),
		"no iat":                        with(tokenSpec{}, "iat", nil),
		"subject in capitals":           with(tokenSpec{}, "sub", strings.ToUpper(string(testCaller.ID))),
		"claims it does not know":       with(tokenSpec{}, "scope", map[string]any{"a": []any{1, nil}}),
		"exp at the end of all tokens":  with(tokenSpec{}, "exp", int64(lastSecond)),
		"typ at+jwt, not ours to judge": {header: map[string]any{"typ": "at+jwt"}, method: jwt.SigningMethodHS256, key: testSecret, claims: good},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token := spec.sign(t)
			b.accepts(t, token)
			b.accepts(t, token) // and from the cache
		})
	}
}

func TestVerify_RefusesClaims(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.Issuers[0].Name, o.Issuers[0].Audience = "https://id.example", list{"doorstep"} })
	unix := testNow.Unix()
	for name, c := range map[string]struct {
		claim string
		value any // nil: the claim is left out
		want  error
	}{
		"exp missing":                {"exp", nil, ErrMalformed},
		"exp as text":                {"exp", "1773480413", ErrMalformed},
		"exp as bool":                {"exp", true, ErrMalformed},
		"exp negative":               {"exp", -1, ErrMalformed},
		"exp in milliseconds":        {"exp", testNow.Add(time.Hour).UnixMilli(), ErrMalformed},
		"exp as large as it goes":    {"exp", 1e308, ErrMalformed},
		"exp an hour ago":            {"exp", unix - 3600, ErrExpired},
		"exp just past the leeway":   {"exp", unix - 5, ErrExpired},
		"exp at zero":                {"exp", 0, ErrExpired},
		"nbf past the leeway":        {"nbf", unix + 6, ErrNotYetValid},
		"nbf as text":                {"nbf", "now", ErrMalformed},
		"iat past the leeway":        {"iat", unix + 6, ErrNotYetValid},
		"iat as a list":              {"iat", []int{1}, ErrMalformed},
		"issuer missing":             {"iss", nil, ErrIssuer},
		"issuer another":             {"iss", "https://id.example/", ErrIssuer},
		"issuer in a list":           {"iss", []string{"https://id.example"}, ErrIssuer},
		"audience missing":           {"aud", nil, ErrAudience},
		"audience another":           {"aud", "Doorstep", ErrAudience},
		"audience others":            {"aud", []any{"a", 1, []any{}, nil}, ErrAudience},
		"audience empty":             {"aud", []string{}, ErrAudience},
		"audience as object":         {"aud", map[string]any{"doorstep": true}, ErrAudience},
		"subject missing":            {"sub", nil, ErrSubject},
		"subject a name":             {"sub", "alice", ErrSubject},
		"subject nil UUID":           {"sub", "00000000-0000-0000-0000-000000000000", ErrSubject},
		"subject in braces":          {"sub", "{" + string(testCaller.ID) + "}", ErrSubject},
		"subject bare hex":           {"sub", strings.ReplaceAll(string(testCaller.ID), "-", ""), ErrSubject},
		"subject urn":                {"sub", "urn:uuid:" + string(testCaller.ID), ErrSubject},
		"subject a number":           {"sub", 7, ErrSubject},
		"role missing":               {"role", nil, ErrRole},
		"role empty":                 {"role", "", ErrRole},
		"role unknown":               {"role", "root", ErrRole},
		"role in capitals":           {"role", "Admin", ErrRole},
		"role with a blank":          {"role", "admin ", ErrRole},
		"roles in an object":         {"role", map[string]any{"admin": true}, ErrRole},
		"roles not one known":        {"role", []any{"root", 7, nil}, ErrRole},
		"claim name in other case":   {"ROLE", "admin", nil},
		"subject name in other case": {"Sub", "7d0c1c3e-6f0a-4b0f-9d5e-2a9f6c1b8e22", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claims := map[string]any{"iss": "https://id.example", "aud": "doorstep"}
			claims[c.claim] = c.value
			token := tokenSpec{claims: claims}.sign(t)
			if c.want == nil { // what it names in other letters changes nothing
				b.accepts(t, token)
				return
			}
			b.refuses(t, token, c.want)
		})
	}
}

// raw signs claims as they are spelled, with a right signature.
func raw(t *testing.T, header, claims string) string {
	t.Helper()
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	signature, err := jwt.SigningMethodHS256.Sign(text, testSecret)
	require.NoError(t, err)
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func TestVerify_RefusesMalformed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	good := tokenSpec{}.sign(t)
	parts := strings.Split(good, ".")
	const header = `{"alg":"HS256"}`
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"nothing":                    {"", ErrMissing},
		"a word":                     {"garbage", ErrMalformed},
		"two dots":                   {"..", ErrMalformed},
		"two parts":                  {parts[0] + "." + parts[1], ErrMalformed},
		"four parts":                 {good + ".x", ErrMalformed},
		"five parts, a JWE":          {good + ".x.y", ErrMalformed},
		"a blank before":             {" " + good, ErrMalformed},
		"a newline after":            {good + "\n", ErrMalformed},
		"a newline in the signature": {good[:len(good)-5] + "\n" + good[len(good)-5:], ErrMalformed},
		"padding":                    {good + "=", ErrMalformed},
		"standard base64":            {good[:len(good)-1] + "+", ErrMalformed},
		"a NUL":                      {good + "\x00", ErrMalformed},
		"not UTF-8":                  {good + "\xff", ErrMalformed},
		"with its scheme":            {"Bearer " + good, ErrMalformed},
		"one byte over the limit":    {strings.Repeat("a", maxTokenBytes+1), ErrMalformed},
		"dots up to the limit":       {strings.Repeat(".", maxTokenBytes), ErrMalformed},
		"header not JSON":            {"AAAA." + parts[1] + "." + parts[2], ErrMalformed},
		"header null":                {raw(t, `null`, `{}`), ErrAlgorithm},
		"header a list":              {raw(t, `[]`, `{}`), ErrMalformed},
		"header without alg":         {raw(t, `{}`, `{}`), ErrAlgorithm},
		"claims cut off":             {raw(t, header, `{"exp":`), ErrMalformed},
		"claims null":                {raw(t, header, `null`), ErrMalformed},
		"claims a list":              {raw(t, header, `[1]`), ErrMalformed},
		"claims a number":            {raw(t, header, `1e999`), ErrMalformed},
		"claims empty":               {raw(t, header, `{}`), ErrMalformed},
		"exp beyond a float":         {raw(t, header, `{"exp":1e999}`), ErrMalformed},
		"exp null":                   {raw(t, header, `{"exp":null}`), ErrMalformed},
		"nested deeply":              {raw(t, header, strings.Repeat(`[`, 5000)+strings.Repeat(`]`, 500)), ErrMalformed},
		"critical extension":         {tokenSpec{header: map[string]any{"crit": []string{"b64"}, "b64": false}}.sign(t), ErrMalformed},
		"critical, if empty":         {tokenSpec{header: map[string]any{"crit": nil}}.sign(t), ErrMalformed},
		"signature empty":            {parts[0] + "." + parts[1] + ".", ErrSignature},
		"signature of another token": {parts[0] + "." + parts[1] + "." + strings.Split(raw(t, header, `{}`), ".")[2], ErrSignature},
		"signature by another secret": {
			tokenSpec{method: jwt.SigningMethodHS256, key: []byte("fedcba9876543210fedcba9876543210")}.sign(t), ErrSignature,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b.refuses(t, c.token, c.want)
		})
	}
}

// An unused bit at the end of the signature's base64, were it ignored, would
// give every token four spellings.
func TestVerify_HasOneSpellingOfEachToken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	good := tokenSpec{}.sign(t)
	accepted := 0
	for _, last := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
		if _, err := b.Verify(t.Context(), []byte(good[:len(good)-1]+string(last))); err == nil {
			accepted++
		}
	}
	require.Equal(t, 1, accepted)
}

func TestVerify_RefusesAlgorithms(t *testing.T) {
	t.Parallel()
	s := keysOnce()
	both := setupJWKS(t, threeKeys(t))
	jwksOnly := setupJWKS(t, threeKeys(t), func(o *Options) { o.Issuers[0].Secret = nil })
	secretOnly := setup(t)
	for name, c := range map[string]struct {
		b    bundle
		spec tokenSpec
		want error
	}{
		"none":                          {both, tokenSpec{method: jwt.SigningMethodNone, key: jwt.UnsafeAllowNoneSignatureType}, ErrAlgorithm},
		"none with a kid":               {both, tokenSpec{method: jwt.SigningMethodNone, key: jwt.UnsafeAllowNoneSignatureType, kid: "rsa"}, ErrAlgorithm},
		"None":                          {both, tokenSpec{header: map[string]any{"alg": "None"}}, ErrAlgorithm},
		"empty":                         {both, tokenSpec{header: map[string]any{"alg": ""}}, ErrAlgorithm},
		"a number":                      {both, tokenSpec{header: map[string]any{"alg": 256}}, ErrAlgorithm},
		"in small letters":              {both, tokenSpec{header: map[string]any{"alg": "hs256"}}, ErrAlgorithm},
		"HS384":                         {both, tokenSpec{method: jwt.SigningMethodHS384, key: testSecret}, ErrAlgorithm},
		"HS512":                         {both, tokenSpec{method: jwt.SigningMethodHS512, key: testSecret}, ErrAlgorithm},
		"RS384":                         {both, tokenSpec{method: jwt.SigningMethodRS384, key: s.rsa, kid: "rsa"}, ErrAlgorithm},
		"RS512":                         {both, tokenSpec{method: jwt.SigningMethodRS512, key: s.rsa, kid: "rsa"}, ErrAlgorithm},
		"PS256":                         {both, tokenSpec{method: jwt.SigningMethodPS256, key: s.rsa, kid: "rsa"}, ErrAlgorithm},
		"ES384":                         {both, tokenSpec{method: jwt.SigningMethodES384, key: s.p384, kid: "ec"}, ErrAlgorithm},
		"HS256 without a secret":        {jwksOnly, tokenSpec{}, ErrAlgorithm},
		"RS256 without a JWKS":          {secretOnly, rs256("rsa"), ErrAlgorithm},
		"ES256 without a JWKS":          {secretOnly, es256("ec"), ErrAlgorithm},
		"EdDSA without a JWKS":          {secretOnly, eddsa("ed"), ErrAlgorithm},
		"RS256 by the kid of an EC key": {both, rs256("ec"), ErrUnknownKey},
		"ES256 by the kid of an RSA":    {both, es256("rsa"), ErrUnknownKey},
		"RS256 by another key":          {both, tokenSpec{method: jwt.SigningMethodRS256, key: s.rsaNext, kid: "rsa"}, ErrSignature},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.b.refuses(t, c.spec.sign(t), c.want)
		})
	}
}

// The classic: the public key, which everybody has, as the secret of an HMAC.
// In every spelling that a careless verifier might hold it in.
func TestVerify_RefusesAPublicKeyAsASecret(t *testing.T) {
	t.Parallel()
	s := keysOnce()
	der := func(key crypto.PublicKey) []byte {
		b, err := x509.MarshalPKIXPublicKey(key)
		require.NoError(t, err)
		return b
	}
	rsaDER := der(&s.rsa.PublicKey)
	guesses := map[string][]byte{
		"RSA PKIX":      rsaDER,
		"RSA PEM":       pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: rsaDER}),
		"RSA PKCS 1":    x509.MarshalPKCS1PublicKey(&s.rsa.PublicKey),
		"RSA modulus":   s.rsa.N.Bytes(),
		"EC PKIX":       der(&s.p256.PublicKey),
		"Ed25519 bytes": s.ed[32:],
		"empty":         {},
	}
	both := setupJWKS(t, threeKeys(t))
	jwksOnly := setupJWKS(t, threeKeys(t), func(o *Options) { o.Issuers[0].Secret = nil })
	for name, guess := range guesses {
		for _, kid := range []string{"", "rsa", "ec", "ed"} {
			spec := tokenSpec{method: jwt.SigningMethodHS256, key: guess, kid: kid}
			t.Run(fmt.Sprintf("%s/kid=%s", name, kid), func(t *testing.T) {
				t.Parallel()
				both.refuses(t, spec.sign(t), ErrSignature)
				jwksOnly.refuses(t, spec.sign(t), ErrAlgorithm)
			})
		}
	}
}

// A token brings its own key, or says where to get it. It is not listened to.
func TestVerify_IgnoresKeysThatATokenBrings(t *testing.T) {
	t.Parallel()
	s := keysOnce()
	stranger := newIssuer(document(t, jwk(t, "rsa", &s.rsaNext.PublicKey)))
	server := httptest.NewServer(stranger)
	t.Cleanup(server.Close)
	b := setupJWKS(t, threeKeys(t))
	for name, value := range map[string]any{
		"jwk": jwk(t, "rsa", &s.rsaNext.PublicKey),
		"jku": server.URL + "/jwks.json",
		"x5u": server.URL + "/cert.pem",
		"x5c": []string{"MIIB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := tokenSpec{method: jwt.SigningMethodRS256, key: s.rsaNext, kid: "rsa", header: map[string]any{name: value}}
			b.refuses(t, spec.sign(t), ErrSignature)
			require.Zero(t, stranger.count())
			require.Equal(t, 1, b.issuer.count())
		})
	}
}

func TestVerify_RefusesAKidThatIsNotText(t *testing.T) {
	t.Parallel()
	b := setupJWKS(t, threeKeys(t))
	for _, kid := range []any{7, true, []string{"rsa"}, map[string]any{}} {
		spec := rs256("")
		spec.header = map[string]any{"kid": kid}
		b.refuses(t, spec.sign(t), ErrMalformed)
	}
	require.Equal(t, 1, b.issuer.count(), "and fetches nothing for it")
}

func TestVerify_ReadsTheClaimsItIsToldTo(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.Issuers[0].SubjectClaim, o.Issuers[0].RoleClaim = "uid", "https://example/role" })
	b.accepts(t, tokenSpec{claims: map[string]any{
		"sub": "auth0|1", "role": "root", "uid": string(testCaller.ID), "https://example/role": "trainer",
	}}.sign(t))
	b.refuses(t, tokenSpec{}.sign(t), ErrSubject)
}

// Claims are looked at after the signature: a stranger learns nothing about
// which of them would do.
func TestVerify_JudgesTheSignatureBeforeTheClaims(t *testing.T) {
	t.Parallel()
	b := setup(t)
	forged := tokenSpec{
		method: jwt.SigningMethodHS256, key: []byte(strings.Repeat("x", 32)),
		claims: map[string]any{"exp": "nonsense", "sub": nil, "role": 7},
	}
	b.refuses(t, forged.sign(t), ErrSignature)
}

func TestVerify_SaysNothingOfTheToken(t *testing.T) {
	t.Parallel()
	b := setupJWKS(t, threeKeys(t))
	for _, token := range []string{
		tokenSpec{claims: map[string]any{"sub": "hush"}}.sign(t),
		tokenSpec{claims: map[string]any{"role": "hush"}}.sign(t),
		tokenSpec{header: map[string]any{"alg": "hush"}}.sign(t),
		rs256("hush").sign(t),
		raw(t, `{"alg":"HS256" hush`, `{}`),
		raw(t, `{"alg":"HS256"}`, `{"exp":1 hush`),
		"hush!",
	} {
		_, err := b.Verify(t.Context(), []byte(token))
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hush")
	}
	require.NotContains(t, b.log.String(), "hush", "nor of the JWKS address's query")
}

func TestRun_WithoutAJWKSOnlyWaits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.True(t, b.ready())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, b.Run(ctx))
}
