package app_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

// A gateway with a reader answers lists there; it starts, and answers them, without the reader, too.
func TestApp_database_reader(t *testing.T) {
	t.Parallel()
	primary := postgrestest.Private(t)
	require.NoError(t, postgres.Migrate(t.Context(), primary.DSN(), nil))
	standby, err := primary.Standby(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, standby.Close()) })
	for outcome, reader := range map[string]string{"answered": standby.DSN(), "breaker_open": "postgres://app:pl4nted@127.0.0.1:1/x"} {
		a := started(t, settings(func(o *app.Options) { o.DatabaseURL, o.DatabaseReaderURL = primary.DSN(), reader }))
		token, err := a.Token(sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}, time.Hour)
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.Addr().String()+"/api/v1/admin/sessions", nil)
			if !assert.NoError(t, err) {
				return false
			}
			req.Header.Set("Authorization", "Bearer "+token)
			res, err := http.DefaultClient.Do(req)
			if !assert.NoError(t, err) {
				return false
			}
			_ = res.Body.Close()
			assert.Equal(t, 200, res.StatusCode)
			_, page := get(t, a.MetricsAddr(), "/metrics")
			return !strings.Contains(page, `doorstep_database_reader_reads_total{outcome="`+outcome+`"} 0`)
		}, patience, 10*time.Millisecond, outcome)
	}
}

func TestOptions_database_reader(t *testing.T) {
	t.Parallel()
	for says, o := range map[string]app.Options{
		"database-reader-url: there is no database": {DatabaseReaderURL: "postgres://app:pl4nted@h/d"},
		"database-reader-url: postgres: parse URL":  {DatabaseReaderURL: "postgres://app:pl4nted@h:port/d", DatabaseURL: "postgres://h/d", JWTSecret: secret},
	} {
		_, err := app.New(o)
		require.ErrorContains(t, err, says)
		assert.NotContains(t, err.Error(), "pl4nted")
	}
	a := started(t, settings())
	_, page := get(t, a.MetricsAddr(), "/metrics")
	assert.NotContains(t, page, "database_reader")
}
