package postgrestest_test

import (
	"context"
	"net/url"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

func TestNew(t *testing.T) {
	t.Parallel()
	for i := range 4 {
		t.Run("own database/"+strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			conn := connect(t, postgrestest.New(t))
			_, err := conn.Exec(t.Context(), "CREATE TABLE seen (x int)")
			require.NoError(t, err, "the table of another test is not there")
			assert.Equal(t, "UTF8", show(t, conn, "server_encoding"))
			assert.Equal(t, "UTC", show(t, conn, "timezone"))
			assert.Equal(t, "off", show(t, conn, "fsync"))
		})
	}

	t.Run("gone after the test", func(t *testing.T) {
		t.Parallel()
		var dsn string
		t.Run("inner", func(t *testing.T) {
			dsn = postgrestest.New(t)
			_, err := pgx.Connect(t.Context(), dsn) // and left open
			require.NoError(t, err)
		})
		_, err := pgx.Connect(t.Context(), dsn)
		assert.ErrorContains(t, err, "does not exist")
	})
}

func TestPrivate(t *testing.T) {
	t.Parallel()
	var socket string
	t.Run("with settings", func(t *testing.T) {
		server := postgrestest.Private(t, "max_connections=7", "fsync=on")
		conn := connect(t, server.DSN())
		assert.Equal(t, "7", show(t, conn, "max_connections"))
		assert.Equal(t, "on", show(t, conn, "fsync"))
		assert.NotEqual(t, socketDir(t, postgrestest.New(t)), socketDir(t, server.DSN()))
		socket = filepath.Join(socketDir(t, server.DSN()), ".s.PGSQL.5432")
		assert.FileExists(t, socket)
		assert.Less(t, len(socket), 104)
	})
	assert.NoDirExists(t, filepath.Dir(filepath.Dir(socket)), "the whole folder goes with its test")
}

func TestServer_Restart(t *testing.T) {
	t.Parallel()
	server := postgrestest.Private(t)
	for name, end := range map[string]func() error{"Stop": server.Stop, "Kill": server.Kill, "none": func() error { return nil }} {
		conn := connect(t, server.DSN())
		_, err := conn.Exec(t.Context(), "DROP TABLE IF EXISTS kept; CREATE TABLE kept (x int)")
		require.NoError(t, err, name)

		require.NoError(t, end(), name)
		if name != "none" {
			require.Error(t, conn.Ping(t.Context()), name)
			_, err = pgx.Connect(t.Context(), server.DSN())
			require.Error(t, err, name)
		}
		require.NoError(t, server.Restart(t.Context()), name)
		_, err = connect(t, server.DSN()).Exec(t.Context(), "INSERT INTO kept VALUES (1)")
		require.NoError(t, err, "what was committed is there after %s", name)
	}
}

func TestServer_Pause(t *testing.T) {
	t.Parallel()
	server := postgrestest.Private(t)
	conn := connect(t, server.DSN())
	require.NoError(t, server.Pause())

	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, conn.Ping(short), context.DeadlineExceeded, "an open connection")
	_, err := pgx.Connect(short, server.DSN())
	require.ErrorIs(t, err, context.DeadlineExceeded, "a new one")

	require.NoError(t, server.Resume())
	require.NoError(t, connect(t, server.DSN()).Ping(t.Context()))
	require.NoError(t, server.Pause(), "and a paused server can be stopped")
	require.NoError(t, server.Stop())
	require.NoError(t, server.Stop(), "twice")
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func show(t *testing.T, conn *pgx.Conn, setting string) (value string) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), "SHOW "+setting).Scan(&value))
	return value
}

func socketDir(t *testing.T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	return u.Query().Get("host")
}
