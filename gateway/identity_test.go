package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/auth"
	"doorstep/internal/servers/issuertest"
	"doorstep/sessions"
)

// identity is what a token of an identity provider holds, as its documentation shows it,
// and the settings that docs/identity.md gives for it.
type identity struct {
	Source   string
	Settings map[string]string
	Claims   map[string]any
	Caller   struct {
		ID    sessions.ID
		Roles []sessions.Role
	}
	Refused []struct {
		Change map[string]any // a null takes the claim out
		Reason string
	}
}

// Each provider's token is accepted with the settings of the page, and nothing that
// could be mistaken for it.
func TestIdentity_providers(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/identity.md")
	require.NoError(t, err)
	files, err := filepath.Glob("testdata/identity/*.json")
	require.NoError(t, err)
	require.Len(t, files, 6)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			document, err := os.ReadFile(file)
			require.NoError(t, err)
			var of identity
			require.NoError(t, json.Unmarshal(document, &of))
			for name, value := range of.Settings {
				assert.Contains(t, string(page), name+"="+value+"\n", "docs/identity.md")
			}
			issuer := issuertest.New(t)
			verifier := of.verifier(t, issuer)
			caller, err := verifier.Verify(t.Context(), []byte(issuer.Token(t, of.Claims)))
			require.NoError(t, err)
			assert.Equal(t, of.Caller.ID, caller.ID)
			assert.Equal(t, of.Caller.Roles, caller.Roles())
			for _, r := range of.Refused {
				claims := maps.Clone(of.Claims)
				maps.Copy(claims, r.Change)
				maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
				_, err := verifier.Verify(t.Context(), []byte(issuer.Token(t, claims)))
				assert.Equal(t, r.Reason, auth.Reason(err), r.Change)
			}
			_, err = verifier.Verify(t.Context(), []byte(issuertest.New(t).Token(t, of.Claims)))
			assert.Equal(t, "signature", auth.Reason(err), "another issuer's key of that name")
		})
	}
}

// verifier has the provider's settings, but for the address of the keys, in the middle
// of the token's hour.
func (i identity) verifier(t *testing.T, issuer *issuertest.Issuer) *auth.Verifier {
	t.Helper()
	environ := maps.Clone(i.Settings)
	delete(environ, "DOORSTEP_JWT_DISCOVERY")
	environ["DOORSTEP_JWKS_URL"] = issuer.JWKSURL()
	var c serveCommand
	require.NoError(t, settingsOf(&c).fill(nil, func(name string) (string, bool) { v, ok := environ[name]; return v, ok }))
	issuers, err := c.Issuers()
	require.NoError(t, err)
	iat, _ := i.Claims["iat"].(float64)
	v, err := auth.New(auth.Options{
		Issuers: issuers, Leeway: c.JWTLeeway, Clock: func() time.Time { return time.Unix(int64(iat)+1800, 0) },
	})
	require.NoError(t, err)
	go func() { _ = v.Run(t.Context()) }()
	require.Eventually(t, func() bool { ready, _ := v.Ready(); return ready }, 30*time.Second, time.Millisecond)
	return v
}

// The program finds a live issuer's keys by discovery, and serves its users while another
// issuer is away.
func TestServe_with_live_issuers(t *testing.T) {
	t.Parallel()
	users, staff := issuertest.New(t), issuertest.New(t)
	staff.Away(true)
	list := filepath.Join(t.TempDir(), "issuers.json")
	require.NoError(t, os.WriteFile(list, []byte(`[{"issuer":"`+users.Name+`","audience":["app","web"],"roleClaim":"realm_access.roles"},
		{"issuer":"`+staff.Name+`","jwksUrl":"`+staff.JWKSURL()+`","audience":"doorstep"}]`), 0o600))
	s := serve(t, "JWT_SECRET="+testSecret, "JWT_ISSUER=ours", "ISSUERS_FILE="+list)
	student := sessions.NewID()
	ask := func(token string) int {
		return s.call(t, http.MethodGet, "/api/v1/students/me/sessions", token, "").StatusCode
	}
	claims := func() map[string]any {
		return map[string]any{"sub": student, "aud": "web", "realm_access": map[string]any{"roles": []string{"x", "student"}}}
	}
	require.Eventually(t, func() bool { return ask(users.Token(t, claims())) == 200 }, 30*time.Second, 10*time.Millisecond)
	foreign := claims()
	foreign["aud"] = "shop"
	assert.Equal(t, 401, ask(users.Token(t, foreign)))
	away := staff.Token(t, map[string]any{"sub": student, "aud": "doorstep", "role": "student"})
	assert.Equal(t, 503, ask(away), "try again, do not sign out")
	ours := gateway(t, []string{"JWT_SECRET=" + testSecret, "JWT_ISSUER=ours"}, "token", "--role=student", "--subject="+string(student))
	assert.Equal(t, 200, ask(strings.TrimSpace(ours.stdout)))
	assert.Equal(t, 401, ask(mint(t, "student", student)), "of no issuer")
	staff.Away(false)
	require.Eventually(t, func() bool { return ask(away) == 200 }, time.Minute, 50*time.Millisecond)
}
