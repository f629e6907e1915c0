package auth

import (
	"maps"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// hosts serves several issuers in process, by host.
type hosts map[string]*issuer

func (h hosts) RoundTrip(r *http.Request) (*http.Response, error) {
	return h[r.URL.Host+r.URL.Path].RoundTrip(r)
}

const discovery = "/.well-known/openid-configuration"

// threeIssuers are one with discovery, one with a JWKS and one with secrets. The keys of
// the first two have the same kid.
func threeIssuers(t *testing.T) (bundle, hosts) {
	t.Helper()
	s := keysOnce()
	web := hosts{
		"a.test" + discovery: newIssuer([]byte(`{"issuer":"https://a.test/","jwks_uri":"https://keys.test/a"}`)),
		"keys.test/a":        newIssuer(document(t, jwk(t, "1", &s.rsa.PublicKey))),
		"b.test/keys":        newIssuer(document(t, jwk(t, "1", &s.rsaNext.PublicKey))),
	}
	began := time.Now()
	b := setup(t, func(o *Options) {
		o.Issuers = []Issuer{
			{Name: "https://a.test/", Discover: true, Audience: list{"a-app", "a-web"}},
			{Name: "https://b.test", JWKSURL: "https://b.test/keys", Audience: list{"b"}, AudienceClaim: "client_id", TokenUse: "access"},
			{Name: "ours", Secret: testSecret, OldSecret: []byte("the secret of 32 bytes before it")},
		}
		o.httpClient, o.Observer = &http.Client{Transport: web}, nil
		o.Clock = func() time.Time { return testNow.Add(time.Since(began)) }
	})
	return b, web
}

func ofIssuer(name string, method jwt.SigningMethod, key any, claims map[string]any) tokenSpec {
	all := map[string]any{"iss": name, "exp": testNow.Add(24 * time.Hour).Unix()}
	maps.Copy(all, claims)
	return tokenSpec{method: method, key: key, kid: "1", claims: all}
}

func TestVerify_OfSeveralIssuers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b, _ := threeIssuers(t)
		b.run(t)
		synctest.Wait()
		s, rs, hs := keysOnce(), jwt.SigningMethodRS256, jwt.SigningMethodHS256
		of := map[string]any{"client_id": "b", "token_use": "access"}
		for name, c := range map[string]struct {
			spec tokenSpec
			want error
		}{
			"one's":                 {ofIssuer("https://a.test/", rs, s.rsa, map[string]any{"aud": []string{"x", "a-web"}}), nil},
			"the other's":           {ofIssuer("https://b.test", rs, s.rsaNext, of), nil},
			"ours":                  {ofIssuer("ours", hs, testSecret, nil), nil},
			"ours, the old secret":  {ofIssuer("ours", hs, []byte("the secret of 32 bytes before it"), nil), nil},
			"no secret of ours":     {ofIssuer("ours", hs, []byte("another secret of 32 bytes more."), nil), ErrSignature},
			"one's by other's key":  {ofIssuer("https://a.test/", rs, s.rsaNext, map[string]any{"aud": "a-app"}), ErrSignature},
			"other's by one's key":  {ofIssuer("https://b.test", rs, s.rsa, of), ErrSignature},
			"one's by our secret":   {ofIssuer("https://a.test/", hs, testSecret, map[string]any{"aud": "a-app"}), ErrAlgorithm},
			"ours by one's key":     {ofIssuer("ours", rs, s.rsa, nil), ErrAlgorithm},
			"unsigned":              {ofIssuer("https://a.test/", jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil), ErrAlgorithm},
			"one's without slash":   {ofIssuer("https://a.test", rs, s.rsa, map[string]any{"aud": "a-app"}), ErrIssuer},
			"nobody's":              {ofIssuer("https://c.test", rs, s.rsa, nil), ErrIssuer},
			"no issuer":             {tokenSpec{}, ErrIssuer},
			"issuers in a list":     {tokenSpec{claims: map[string]any{"iss": []string{"ours"}}}, ErrIssuer},
			"issuer in other case":  {tokenSpec{claims: map[string]any{"ISS": "ours"}}, ErrIssuer},
			"audience of the other": {ofIssuer("https://a.test/", rs, s.rsa, map[string]any{"aud": "b", "client_id": "a-app"}), ErrAudience},
			"audience in aud":       {ofIssuer("https://b.test", rs, s.rsaNext, map[string]any{"aud": "b", "token_use": "access"}), ErrAudience},
			"another use":           {ofIssuer("https://b.test", rs, s.rsaNext, map[string]any{"client_id": "b", "token_use": "id"}), ErrTokenUse},
			"no use":                {ofIssuer("https://b.test", rs, s.rsaNext, map[string]any{"client_id": "b"}), ErrTokenUse},
		} {
			token := c.spec.sign(t)
			if c.want == nil {
				b.accepts(t, token)
				continue
			}
			_, err := b.Verify(t.Context(), []byte(token))
			require.ErrorIs(t, err, c.want, name)
		}
	})
}

// An issuer that is away keeps out its own users only, until it is back.
func TestVerify_WhileOneIssuerIsAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b, web := threeIssuers(t)
		ready, missing := b.Ready()
		require.False(t, ready)
		require.Equal(t, []string{"https://a.test/", "https://b.test"}, missing)
		web["a.test"+discovery].answer(500)
		b.run(t)
		synctest.Wait()
		ready, missing = b.Ready()
		require.True(t, ready)
		require.Equal(t, []string{"https://a.test/"}, missing)
		one := ofIssuer("https://a.test/", jwt.SigningMethodRS256, keysOnce().rsa, map[string]any{"aud": "a-app"}).sign(t)
		b.refuses(t, one, ErrKeysUnavailable)
		b.accepts(t, ofIssuer("https://b.test", jwt.SigningMethodRS256, keysOnce().rsaNext, map[string]any{"client_id": "b", "token_use": "access"}).sign(t))
		web["a.test"+discovery].answer(200)
		time.Sleep(time.Minute)
		b.accepts(t, one)
		require.Contains(t, b.log.String(), "discovery: status 500")
	})
}

// Discovery finds keys that move, and is not needed for those that stay.
func TestRun_Discovery(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b, web := threeIssuers(t)
		about := web["a.test"+discovery]
		for _, wrong := range []string{
			`[]`, `{"issuer":"https://evil.test/","jwks_uri":"https://keys.test/a"}`, `{"issuer":"https://a.test/"}`,
			`{"issuer":"https://a.test/","jwks_uri":"http://keys.test/a"}`, `{"issuer":"https://a.test/","jwks_uri":"file:///keys"}`,
		} {
			about.publish([]byte(wrong))
			_, _, err := b.issuers[0].keys.fetch(t.Context())
			require.ErrorContains(t, err, "discovery: ", wrong)
		}
		require.Zero(t, web["keys.test/a"].count())

		web["keys.test/b"] = newIssuer(document(t, jwk(t, "1", &keysOnce().rsaNext.PublicKey)))
		about.publish([]byte(`{"issuer":"https://a.test/","jwks_uri":"https://keys.test/a"}`))
		b.run(t)
		synctest.Wait()
		about.publish([]byte(`{"issuer":"https://a.test/","jwks_uri":"https://keys.test/b"}`))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		moved := ofIssuer("https://a.test/", jwt.SigningMethodRS256, keysOnce().rsaNext, map[string]any{"aud": "a-app"}).sign(t)
		b.accepts(t, moved)
		about.answer(503)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Greater(t, web["keys.test/b"].count(), 6, "they are still fetched")
		b.accepts(t, moved)
	})
}

func TestClaims_at(t *testing.T) {
	t.Parallel()
	c := claims{
		"role": "a", "realm_access": map[string]any{"roles": "b", "x.y": map[string]any{"z": "c"}},
		"https://example.com/roles": "d", "https://example.com/app": map[string]any{"role": "e"},
		"both.there": "f", "both": map[string]any{"there": "g"}, "text": "h", "cognito:groups": "i", "null": nil,
		"one": map[string]any{"other": 1}, "one.two": map[string]any{"three": "j"},
	}
	for path, want := range map[string]any{
		"role": "a", "realm_access.roles": "b", "realm_access.x.y.z": "c", "https://example.com/roles": "d",
		"https://example.com/app.role": "e", "both.there": "f", "cognito:groups": "i", "one.two.three": "j",
		"text.h": nil, "realm_access.none": nil, "none": nil, "": nil, ".": nil, "null.x": nil, "Role": nil,
	} {
		require.Equal(t, want, c.at(path), path)
	}
}

// An id is made of a subject that is none; the tests' numbers are of Python's uuid5.
func TestVerify_MakesIDsOfSubjects(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) {
		o.Issuers[0].Name, o.Issuers[0].SubjectNamespace = "https://example.eu.auth0.com/", testNamespace
	})
	for subject, want := range map[string]sessions.ID{
		"auth0|64f1c0e7a2b3c4d5e6f70812":       "697b7abb-e8a0-5d84-9475-f722abbc364c",
		"7D0C1C3E-6f0a-4b0f-9d5e-2a9f6c1b8e21": "7d0c1c3e-6f0a-4b0f-9d5e-2a9f6c1b8e21",
		"":                                     "",
	} {
		caller, err := b.Verify(t.Context(), []byte(tokenSpec{claims: map[string]any{"sub": subject, "iss": "https://example.eu.auth0.com/"}}.sign(t)))
		require.Equal(t, want, caller.ID)
		require.Equal(t, want == "", Reason(err) == Reason(ErrSubject))
	}
}

func TestVerify_GivesTheRolesOfTheMap(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) {
		o.Issuers[0].RoleMap = map[string]sessions.Role{"tutors": "trainer", "pupils": "student", "office": "admin", "boss": "admin"}
	})
	for _, c := range []struct {
		role any
		want []sessions.Role
	}{
		{"tutors", []sessions.Role{"trainer"}},
		{[]string{"boss", "office", "x", "tutors"}, []sessions.Role{"trainer", "admin"}},
		{"admin", nil}, // a group of that name is not meant
		{[]string{"trainer", "Tutors"}, nil},
	} {
		caller, err := b.Verify(t.Context(), []byte(tokenSpec{claims: map[string]any{"role": c.role}}.sign(t)))
		require.Equal(t, c.want, caller.Roles())
		require.Equal(t, c.want == nil, Reason(err) == Reason(ErrRole))
	}
	token, err := b.issuers[0].Mint(sessions.CallerOf(testCaller.ID, sessions.Admin, sessions.Trainer), testNow, time.Hour)
	require.NoError(t, err)
	caller, err := b.Verify(t.Context(), []byte(token))
	require.NoError(t, err)
	require.Equal(t, []sessions.Role{"trainer", "admin"}, caller.Roles())
}

func TestParseIssuers(t *testing.T) {
	t.Parallel()
	issuers, err := ParseIssuers([]byte(`[{"issuer":"https://a.test","audience":"one"},
		{"issuer":"b","jwksUrl":"https://b.test/keys","audience":["x","y"],"audienceClaim":"client_id","tokenUse":"access","subjectClaim":"oid",
		 "subjectNamespace":"` + testNamespace + `","roleClaim":"realm_access.roles","roleMap":{"tutors":"trainer"}}]`))
	require.NoError(t, err)
	require.Equal(t, []Issuer{
		{Name: "https://a.test", Audience: list{"one"}, Discover: true},
		{
			Name: "b", JWKSURL: "https://b.test/keys", Audience: list{"x", "y"}, AudienceClaim: "client_id", TokenUse: "access", SubjectClaim: "oid",
			SubjectNamespace: testNamespace, RoleClaim: "realm_access.roles", RoleMap: map[string]sessions.Role{"tutors": "trainer"},
		},
	}, issuers)
	for document, says := range map[string]string{
		`{}`:    "not a JSON list",
		`[`:     "not a JSON list",
		`["a"]`: "issuers[0]: not an object: it is a string",
		`[{"issuer":"https://a.test","audience":"a"},{}]`:                  "issuers[1].issuer: ",
		`[{"issuer":"https://a.test"}]`:                                    "issuers[0].audience: missing",
		`[{"issuer":"https://a.test","audience":7}]`:                       "issuers[0]: audience: it is a number",
		`[{"issuer":"https://a.test","audience":"a","jwks":"https://b"}]`:  `issuers[0]: unknown field "jwks"`,
		`[{"issuer":"https://a.test","audience":"a","secret":"hush"}]`:     `issuers[0]: unknown field "secret"`,
		`[{"issuer":"https://a.test","audience":"a","roleClaim":["x"]}]`:   "issuers[0]: roleClaim: it is a array",
		`[{"issuer":"https://a.test","audience":"a","jwksUrl":"hush:x"}]`:  "issuers[0].jwksUrl: its scheme",
		`[{"issuer":"https://a.test","audience":"a","roleMap":{"x":"y"}}]`: "issuers[0].roleMap: ",
	} {
		_, err := ParseIssuers([]byte(document))
		require.ErrorContains(t, err, says, document)
	}
}
