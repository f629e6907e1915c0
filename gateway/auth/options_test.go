package auth

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNew_RefusesAndNamesTheField(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		opts Options
		says string
	}{
		"nothing to verify with": {Options{}, "Secret or JWKSURL"},
		"short secret":           {Options{Secret: bytes.Repeat([]byte("k"), 31)}, "Options.Secret has 31 bytes, want at least 32"},
		"short secret and jwks":  {Options{Secret: []byte("k"), JWKSURL: "https://issuer.test/"}, "Options.Secret"},
		"jwks on a file":         {Options{JWKSURL: "file:///etc/jwks.json"}, `Options.JWKSURL has scheme "file"`},
		"jwks without scheme":    {Options{JWKSURL: "issuer.test/jwks.json"}, "Options.JWKSURL has scheme"},
		"jwks without host":      {Options{JWKSURL: "https:///jwks.json"}, "Options.JWKSURL names no host"},
		"jwks not a url":         {Options{JWKSURL: "https://issuer.test/%zz"}, "Options.JWKSURL is not a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := New(c.opts)
			require.ErrorContains(t, err, c.says)
			require.Nil(t, v)
		})
	}
}

func TestNew_NeverRepeatsASecret(t *testing.T) {
	t.Parallel()
	for _, opts := range []Options{
		{Secret: []byte("hush-hush")},
		{JWKSURL: "ftp://user:hush@issuer.test/"},
		{JWKSURL: "https://user:hush@issuer.test/%zz"},
	} {
		_, err := New(opts)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hush")
	}
}

func TestNew_DefaultsAsDocumented(t *testing.T) {
	t.Parallel()
	v, err := New(Options{Secret: testSecret})
	require.NoError(t, err)
	o := v.opts
	require.Equal(t, "sub", o.SubjectClaim)
	require.Equal(t, "role", o.RoleClaim)
	require.Equal(t, 5*time.Second, leeway)
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
	b := setup(t, func(o *Options) { o.Secret, o.httpClient = secret, client })
	clear(secret)
	b.accepts(t, tokenSpec{}.sign(t))
	require.Nil(t, client.CheckRedirect, "the caller's client is left as it was")
}
