package auth

import (
	"testing"
	"time"

	"doorstep/sessions"

	"github.com/stretchr/testify/require"
)

func TestMint_IsVerified(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, role := range []sessions.Role{sessions.Trainer, sessions.Student, sessions.Admin} {
		caller := sessions.Caller{ID: sessions.NewID(), Role: role}
		token, err := b.issuers[0].Mint(caller, b.clock.Now(), time.Minute)
		require.NoError(t, err)
		got, err := b.Verify(t.Context(), []byte(token))
		require.NoError(t, err)
		require.Equal(t, caller, got)
	}
}

func TestMint_EndsWithItsTTL(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token, err := b.issuers[0].Mint(testCaller, b.clock.Now(), time.Minute)
	require.NoError(t, err)
	b.clock.Advance(time.Minute + leeway - time.Nanosecond)
	b.accepts(t, token)
	b.clock.Advance(time.Nanosecond)
	b.refuses(t, token, ErrExpired)
}

func TestMint_Refuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		secret []byte
		caller sessions.Caller
		ttl    time.Duration
	}{
		"short secret":    {[]byte("short"), testCaller, time.Minute},
		"no id":           {testSecret, sessions.Caller{Role: sessions.Admin}, time.Minute},
		"id in capitals":  {testSecret, sessions.Caller{ID: "7D0C1C3E-6F0A-4B0F-9D5E-2A9F6C1B8E21", Role: sessions.Admin}, time.Minute},
		"no role":         {testSecret, sessions.Caller{ID: testCaller.ID}, time.Minute},
		"unknown role":    {testSecret, sessions.Caller{ID: testCaller.ID, Role: "root"}, time.Minute},
		"no time":         {testSecret, testCaller, 0},
		"under a second":  {testSecret, testCaller, 999 * time.Millisecond},
		"before it began": {testSecret, testCaller, -time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token, err := Issuer{Secret: c.secret}.Mint(c.caller, testNow, c.ttl)
			require.Error(t, err)
			require.Empty(t, token)
		})
	}
}

func TestMint_WritesTheClaimsItsVerifierAsksFor(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) {
		o.Issuers[0].Name, o.Issuers[0].Audience = "https://id.example", list{"doorstep"}
		o.Issuers[0].SubjectClaim, o.Issuers[0].RoleClaim = "uid", "https://example/role"
	})
	token, err := b.issuers[0].Mint(testCaller, b.clock.Now(), time.Minute)
	require.NoError(t, err)
	b.accepts(t, token)

	plain, err := setup(t).issuers[0].Mint(testCaller, testNow, time.Minute)
	require.NoError(t, err)
	b.refuses(t, plain, ErrIssuer)
}
