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
		"MaxConns":          httpserver.DefaultMaxConns,
		"MaxInFlight":       api.DefaultMaxInFlight,
		"CallerRate":        api.DefaultCallerRate,
		"CallerBurst":       api.DefaultCallerBurst,
		"MaxWaits":          hub.DefaultTotal,
		"MaxWaitsPerCaller": hub.DefaultPerCaller,
		"JWTSubject":        auth.DefaultSubjectClaim,
		"JWTRole":           auth.DefaultRoleClaim,
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
