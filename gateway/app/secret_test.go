package app_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/internal/servers/awstest"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
)

// secretsManager is AWS with a Secrets Manager, which the environment names.
func secretsManager(t *testing.T) *awstest.Server {
	t.Helper()
	awstest.SetEnv(t.Setenv)
	s := awstest.Start()
	t.Cleanup(s.Close)
	t.Setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", s.URL())
	return s
}

// Gateway and worker sign in as the secrets say, and not as the URL does.
func TestApp_secrets(t *testing.T) {
	s := secretsManager(t)
	o := settings(onServers(t))
	o.DatabaseURL = strings.Replace(o.DatabaseURL, "postgres@", "nobody@", 1)
	o.DatabaseSecret = s.Secret("doorstep/database", `{"username":"postgres","password":"unused"}`)
	valkey := valkeytest.Private(t, valkeyserver.Valkey)
	_, err := valkey.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">of-the-secret", "~*", "&*", "+@all")
	require.NoError(t, err)
	o.ValkeyURL = "unix://nobody:wrong@" + valkey.Socket()
	o.ValkeySecret = s.Secret("doorstep/live-store", `{"username":"app","password":"of-the-secret"}`)
	_ = journey(t, started(t, o))

	for _, queue := range []string{"notify", "cleanup", "analytics"} {
		s.Queue(queue, 0, 0)
	}
	worker, err := app.NewWorker(app.WorkerOptions{
		QueueNotify: "notify", QueueCleanup: "cleanup", QueueAnalytics: "analytics", SQSEndpoint: s.URL(),
		DatabaseOptions: app.DatabaseOptions{DatabaseURL: o.DatabaseURL, DatabaseSecret: o.DatabaseSecret}, ValkeyURL: o.ValkeyURL, ValkeySecret: o.ValkeySecret,
	})
	require.NoError(t, err)
	asked := s.Calls("GetSecretValue")
	require.NoError(t, worker.Start(t.Context()))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	require.NoError(t, worker.Stop(ctx))
	assert.Greater(t, s.Calls("GetSecretValue"), asked)

	_, err = pgx.Connect(t.Context(), o.DatabaseURL)
	require.ErrorContains(t, err, "nobody", "else the test has shown nothing")
}

func TestOptions_secrets(t *testing.T) {
	t.Parallel()
	const planted = `{"username":"app","password":"pl4nted"}`
	for says, o := range map[string]app.Options{
		"database-secret: there is no database":        {DatabaseSecret: "doorstep"},
		"database-secret, database-iam: both are set":  {DatabaseSecret: "doorstep", DatabaseURL: "postgres://h/d", DatabaseIAM: true, JWTSecret: secret},
		"valkey-secret: there is no live store":        {ValkeySecret: "doorstep"},
		"valkey-secret, valkey-iam: both are set":      {ValkeySecret: "doorstep", ValkeyURL: "redis://h", ValkeyIAM: "live", JWTSecret: secret},
		"valkey-secret: aws: not the name or ARN of":   {ValkeySecret: planted, ValkeyURL: "redis://h", JWTSecret: secret},
		"database-secret: aws: not the name or ARN of": {DatabaseSecret: planted, DatabaseURL: "postgres://h/d", JWTSecret: secret},
	} {
		_, err := app.New(o)
		require.ErrorContains(t, err, says)
		assert.NotContains(t, err.Error(), "pl4nted")
	}
}
