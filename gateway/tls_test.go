package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"doorstep/internal/servers/certtest"
)

// The certificate is another name's, which is no question of health.
func TestHealth_over_TLS(t *testing.T) {
	t.Parallel()
	settings := tlsSettings(t)
	s := serve(t, settings...)
	listen := "LISTEN=" + strings.Replace(strings.TrimPrefix(s.url, "https://"), "127.0.0.1", "localhost", 1)
	e := gateway(t, append(settings, listen), "health")
	assert.Equal(t, 0, e.code, e.stderr)
	assert.Equal(t, 1, gateway(t, []string{listen}, "health").code, "in the clear")
	assert.Equal(t, 200, s.call(t, "GET", "/readyz", "", "").StatusCode)
}

func TestServe_refuses_half_a_certificate(t *testing.T) {
	t.Parallel()
	both := tlsSettings(t)
	for says, settings := range map[string][]string{
		"set DOORSTEP_TLS_KEY":                 both[:1],
		"set DOORSTEP_TLS_CERT":                both[1:],
		"tls-cert, tls-key: ":                  {both[0], "TLS_KEY=" + strings.TrimPrefix(both[0], "TLS_CERT=")},
		"/no/such/file: no such file or direc": {both[0], "TLS_KEY=/no/such/file"},
	} {
		e := gateway(t, settings, "serve", "--listen=127.0.0.1:0", "--metrics-listen=")
		assert.NotZero(t, e.code)
		assert.Contains(t, e.stderr, says)
	}
}

func tlsSettings(t *testing.T) []string {
	t.Helper()
	files, _ := certtest.New(t)
	return []string{"TLS_CERT=" + files.Cert, "TLS_KEY=" + files.Key}
}
