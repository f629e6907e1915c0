package app_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/internal/servers/awstest"
	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions/postgres"
)

// Migrations and the commands for dead letters sign in as the secret says, as gateways do.
func TestDatabaseOptions_secret(t *testing.T) {
	s := secretsManager(t)
	o := app.DatabaseOptions{
		DatabaseURL:    strings.Replace(postgrestest.New(t), "postgres@", "nobody@", 1),
		DatabaseSecret: s.Secret("doorstep/owner", `{"username":"postgres","password":"unused"}`),
	}
	database, err := o.Postgres()
	require.NoError(t, err)
	require.NoError(t, database.Migrate(t.Context(), nil))
	repo, err := postgres.Open(t.Context(), database)
	require.NoError(t, err)
	repo.Close()
	_, err = pgx.Connect(t.Context(), o.DatabaseURL)
	require.ErrorContains(t, err, "nobody", "else the test has shown nothing")
}

// With IAM the password is made for one server, also for a migration.
func TestDatabaseOptions_IAM(t *testing.T) {
	awstest.SetEnv(t.Setenv)
	database, err := app.DatabaseOptions{DatabaseURL: "postgres://app@one,two/d", DatabaseIAM: true}.Postgres()
	require.NoError(t, err)
	require.ErrorContains(t, database.Migrate(t.Context(), nil), "several servers")
	_, err = postgres.New(database)
	require.ErrorContains(t, err, "several servers")
	_, err = app.DatabaseOptions{DatabaseURL: "postgres://h/d", DatabaseIAM: true, DatabaseSecret: "doorstep"}.Postgres()
	require.ErrorContains(t, err, "both are set")
}
