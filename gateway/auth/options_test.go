package auth

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

func TestNew_RefusesAndNamesTheField(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		issuers []Issuer
		says    string
	}{
		"no issuer":                {nil, "no issuer"},
		"nothing to verify with":   {[]Issuer{{}}, "secret: without"},
		"short secret":             {[]Issuer{{Secret: bytes.Repeat([]byte("k"), 31)}}, "secret: it has 31 bytes, want at least 32"},
		"short old secret":         {[]Issuer{{Secret: testSecret, OldSecret: []byte("k")}}, "oldSecret: it has 1 bytes"},
		"old secret alone":         {[]Issuer{{OldSecret: testSecret}}, "oldSecret: "},
		"short secret and jwks":    {[]Issuer{{Secret: []byte("k"), JWKSURL: "https://issuer.test/"}}, "secret: "},
		"jwks on a file":           {[]Issuer{{JWKSURL: "file:///etc/jwks.json"}}, `jwksUrl: its scheme is "file"`},
		"jwks without scheme":      {[]Issuer{{JWKSURL: "issuer.test/jwks.json"}}, "jwksUrl: its scheme"},
		"jwks without host":        {[]Issuer{{JWKSURL: "https:///jwks.json"}}, "jwksUrl: it names no host"},
		"jwks not a url":           {[]Issuer{{JWKSURL: "https://issuer.test/%zz"}}, "jwksUrl: it is not a URL"},
		"jwks and discovery":       {[]Issuer{{JWKSURL: "https://issuer.test/", Discover: true}}, "discover: "},
		"jwks without issuer":      {[]Issuer{{JWKSURL: "https://issuer.test/", Audience: list{"a"}}}, "issuer: missing"},
		"jwks without audience":    {[]Issuer{{JWKSURL: "https://issuer.test/", Name: "idp"}}, "audience: missing"},
		"discovery of no audience": {[]Issuer{{Name: "https://issuer.test", Discover: true}}, "audience: missing"},
		"discovery of no URL":      {[]Issuer{{Name: "idp", Discover: true, Audience: list{"a"}}}, "issuer: its keys"},
		"audience empty":           {[]Issuer{{Secret: testSecret, Audience: list{""}}}, "audience: "},
		"issuer with a NUL":        {[]Issuer{{Secret: testSecret, Name: "a\x00b"}}, "issuer: it has a NUL"},
		"namespace no UUID":        {[]Issuer{{Secret: testSecret, SubjectNamespace: "ours"}}, "subjectNamespace: "},
		"role that is none":        {[]Issuer{{Secret: testSecret, RoleMap: map[string]sessions.Role{"staff": "root"}}}, `roleMap: "staff" is mapped to "root"`},
		"name that is none":        {[]Issuer{{Secret: testSecret, RoleMap: map[string]sessions.Role{"": "admin"}}}, "roleMap: "},
		"two, one without a name":  {[]Issuer{{Secret: testSecret, Name: "idp"}, {Secret: testSecret}}, "issuer: missing"},
		"two with one name":        {[]Issuer{{Secret: testSecret, Name: "idp"}, {Secret: testSecret, Name: "idp"}}, `issuer: "idp" is there twice`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := New(Options{Issuers: c.issuers})
			require.ErrorContains(t, err, c.says)
			require.Nil(t, v)
		})
	}
}

func TestNew_NeverRepeatsASecret(t *testing.T) {
	t.Parallel()
	for _, issuer := range []Issuer{
		{Secret: []byte("hush-hush")},
		{JWKSURL: "ftp://user:hush@issuer.test/"},
		{JWKSURL: "https://user:hush@issuer.test/%zz"},
	} {
		_, err := New(Options{Issuers: []Issuer{issuer}})
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hush")
	}
}

func TestNew_DefaultsAsDocumented(t *testing.T) {
	t.Parallel()
	v, err := New(Options{Issuers: []Issuer{{Secret: testSecret}}})
	require.NoError(t, err)
	o := v.opts
	require.Equal(t, []string{"aud", "sub", "role"}, []string{v.issuers[0].AudienceClaim, v.issuers[0].SubjectClaim, v.issuers[0].RoleClaim})
	require.Equal(t, 200_000, o.cacheSize)
	require.Equal(t, time.Minute, o.cacheTTL)
	require.Equal(t, 10*time.Minute, o.refreshInterval)
	require.Equal(t, 30*time.Second, o.unknownKeyInterval)
	require.Equal(t, 250*time.Millisecond, o.unknownKeyWait)
	require.Equal(t, time.Second, o.fetchTimeout)
}

func TestNew_KeepsNothingTheCallerCanChange(t *testing.T) {
	t.Parallel()
	secret, client := bytes.Clone(testSecret), &http.Client{}
	b := setup(t, func(o *Options) { o.Issuers[0].Secret, o.httpClient = secret, client })
	clear(secret)
	b.accepts(t, tokenSpec{}.sign(t))
	require.Nil(t, client.CheckRedirect, "the caller's client is left as it was")
}
