package app_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/api"
	"doorstep/gateway/app"
	"doorstep/gateway/auth"
	"doorstep/gateway/httpserver"
	"doorstep/gateway/hub"
	"doorstep/sessions"
)

// A limit's default belongs to the package that applies it. The default tag, from
// which --help is made, repeats it and must not differ.
func TestOptions_default_tags_are_the_packages_own(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]any{
		"Listen":            httpserver.DefaultAddr,
		"ReadTimeout":       httpserver.DefaultReadTimeout,
		"WriteTimeout":      httpserver.DefaultWriteTimeout,
		"IdleTimeout":       httpserver.DefaultIdleTimeout,
		"MaxInFlight":       api.DefaultMaxInFlight,
		"CallerRate":        api.DefaultCallerRate,
		"CallerBurst":       api.DefaultCallerBurst,
		"MaxWaitsPerCaller": hub.DefaultPerCaller,
		"JWTSubject":        auth.DefaultSubjectClaim,
		"JWTRole":           auth.DefaultRoleClaim,
		"JWTAudienceClaim":  auth.DefaultAudienceClaim,
	} {
		f, ok := reflect.TypeFor[app.Options]().FieldByName(field)
		require.True(t, ok, field)
		tag := f.Tag.Get("default")
		if f.Type == reflect.TypeFor[time.Duration]() {
			d, err := time.ParseDuration(tag)
			require.NoError(t, err, field)
			tag = d.String()
		}
		assert.Equal(t, fmt.Sprint(want), tag, field)
	}
}

// A retention has a default, 0 is a value of its own, and what cannot be is refused.
func TestOptions_retention(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]string{"KeepEvents": "7", "KeepDeadLetters": "30", "KeepAnalytics": "400", "KeepAudit": "400", "KeepPushTokens": "180", "KeepDevices": "180"} {
		f, ok := reflect.TypeFor[app.Options]().FieldByName(field)
		require.True(t, ok, field)
		assert.Equal(t, want, f.Tag.Get("default"), field)
		assert.Contains(t, f.Tag.Get("help"), "0: for ever.", field)
	}
	for says, opts := range map[string]app.Options{
		"keep-events-days: -1 is not in [0, 36500] days; 0 is for ever":    {KeepEvents: -1},
		"keep-dead-letters-days: ":                                         {KeepDeadLetters: 40_000},
		"keep-analytics-days: ":                                            {KeepAnalytics: -400},
		"keep-audit-days: ":                                                {KeepAudit: -1},
		"keep-push-tokens-days: ":                                          {KeepPushTokens: -1},
		"keep-devices-days: ":                                              {KeepDevices: -1},
		"pages: links to them need their address: set DOORSTEP_PUBLIC_URL": {Pages: true, DatabaseURL: "postgres://x"},
		"share-links: a link needs the page":                               {ShareLinks: "event"},
		"share-links: only the webhook has the links":                      {ShareLinks: "event", Pages: true},
		"share-links: the links of events need a key":                      {ShareLinks: "event", Pages: true, PublicURL: "https://a.example.com", DatabaseURL: "postgres://x", WebhookURL: "https://b.example.com"},
		"share-links-key: it has fewer than 32 bytes":                      {ShareLinksKey: "short"},
		"public-url: it is not a URL":                                      {PublicURL: "api.example.com"},
		"public-url: it has more":                                          {PublicURL: "https://user:word@api.example.com"},
	} {
		_, err := app.New(opts)
		assert.ErrorContains(t, err, says)
	}
	keep := app.Keep(app.Options{KeepEvents: 3, KeepAnalytics: 1})
	assert.Equal(t, 72*time.Hour, keep[sessions.DoneEvents])
	assert.Equal(t, 24*time.Hour, keep[sessions.JourneyRecords])
	assert.Equal(t, 24*time.Hour, keep[sessions.DoneDeliveries])
	assert.Zero(t, keep[sessions.UnusedPushTokens])
	assert.Len(t, keep, len(sessions.AllKept()))
}

// A list that cannot be is refused at the start, and the message names the setting.
func TestOptions_lists_of_origins_and_proxies(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		opts app.Options
		says string
	}{
		{app.Options{CORSOrigins: []string{"https://app.example.com", "*"}}, "cors-origins: "},
		{app.Options{CORSOrigins: []string{"https://*.example.com"}}, "cors-origins: "},
		{app.Options{CORSOrigins: []string{"null"}}, "cors-origins: "},
		{app.Options{CORSOrigins: []string{"app.example.com"}}, "cors-origins: "},
		{app.Options{CORSOrigins: []string{"https://app.example.com/page"}}, "cors-origins: "},
		{app.Options{Pages: true, FrameAncestors: []string{"*"}}, "frame-ancestors: "},
		{app.Options{Pages: true, PagesConnect: []string{"tiles.example.com"}}, "pages-connect: "},
		{app.Options{Pages: true, MapStyleURL: "style.json"}, "map-style-url: "},
		{app.Options{Pages: true, PagesOIDCIssuer: "https://user:word@id.example.com", PagesOIDCClient: "pages"}, "pages-oidc-issuer: "},
		{app.Options{Pages: true, PagesOIDCIssuer: "https://id.example.com"}, "pages-oidc-issuer, pages-oidc-client-id: "},
		{app.Options{TrustedProxies: []string{"10.0.0.0/8", "nginx"}}, "trusted-proxies: "},
		{app.Options{TrustedProxies: []string{"10.0.0.0/33"}}, "trusted-proxies: "},
		{app.Options{CORSOrigins: []string{"https://app.example.com:8443", "http://localhost:3000"}, TrustedProxies: []string{"10.0.0.0/8", "fd00::1", "127.0.0.1"}}, ""},
	} {
		_, err := app.New(row.opts)
		if row.says == "" {
			assert.NoError(t, err)
		} else {
			assert.ErrorContains(t, err, row.says)
		}
	}
}

// A load balancer needs time to notice; nobody else waits for it.
func TestOptions_drain_delay(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		listen      string
		delay, want time.Duration
	}{
		{":8080", -time.Second, 5 * time.Second},
		{"0.0.0.0:8080", -time.Second, 5 * time.Second},
		{"127.0.0.1:8080", -time.Second, 0},
		{"localhost:8080", -time.Second, 0},
		{"127.0.0.1:8080", 2 * time.Second, 2 * time.Second},
		{":8080", 0, 0},
	} {
		assert.Equal(t, row.want, app.DrainDelay(app.Options{Listen: row.listen, DrainDelay: row.delay}), row)
	}
}
