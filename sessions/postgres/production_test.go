package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/certtest"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/process"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

// The writer has become a standby: its connections stay open and take no writes, and the
// address leads to another server. Each old connection may cost one call.
func TestFailover_old_connections_are_left(t *testing.T) {
	t.Parallel()
	const conns = 4
	before, after := withSchema(t), withSchema(t)
	wire := newProxy(t, before.DSN())
	b := bundle{Repository: open(t, postgres.Options{URL: wire.url, MaxConns: conns}), url: before.DSN()}
	fill(t, b, create(t, b.Repository).ID, conns)
	demote(t, before)
	wire.lead(after.DSN())
	refused, moved := 0, connect(t, after.DSN())
	for refused <= conns {
		created, _, err := b.Create(t.Context(), booking())
		if err != nil {
			refused++
		} else if value[bool](t, moved, "SELECT EXISTS (SELECT FROM tutoring_sessions WHERE id = '"+string(created.ID)+"')") {
			break // else the old server's process has not read its settings yet
		}
	}
	require.LessOrEqual(t, refused, conns)
	require.NotZero(t, refused, "the test has shown nothing")
}

// With several hosts the one that writes is found, whichever is named first.
func TestFailover_finds_the_writer(t *testing.T) {
	t.Parallel()
	standby, writer := withSchema(t), withSchema(t)
	demote(t, standby)
	folder := func(s *postgrestest.Server) string {
		u, err := url.Parse(s.DSN())
		require.NoError(t, err)
		return u.Query().Get("host")
	}
	both := "user=postgres dbname=postgres sslmode=disable host=" + folder(standby) + "," + folder(writer)
	create(t, open(t, postgres.Options{URL: both}))
	_, _, err := open(t, postgres.Options{URL: both + " target_session_attrs=any"}).Create(t.Context(), booking())
	requireUnavailable(t, err)
}

func withSchema(t *testing.T) *postgrestest.Server {
	t.Helper()
	server := postgrestest.Private(t)
	require.NoError(t, postgres.Migrate(t.Context(), server.DSN(), nil))
	return server
}

// demote makes a server take no writes, as one that has become a standby.
func demote(t *testing.T, server *postgrestest.Server) {
	t.Helper()
	conn := connect(t, server.DSN())
	for _, sql := range []string{"ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"} {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		return value[string](t, conn, "SHOW default_transaction_read_only") == "on"
	}, 10*time.Second, time.Millisecond)
}

// The password is changed while the gateway runs, and all connections are lost.
func TestPassword_changed(t *testing.T) {
	t.Parallel()
	hba := filepath.Join(public(t), "hba")
	require.NoError(t, os.WriteFile(hba, []byte("local all postgres trust\nlocal all all scram-sha-256\n"), 0o644))
	server := postgrestest.Private(t, "hba_file="+hba)
	require.NoError(t, postgres.Migrate(t.Context(), server.DSN(), nil))
	owner := connect(t, server.DSN())
	exec := func(sql string) {
		_, err := owner.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	exec("CREATE ROLE app LOGIN SUPERUSER PASSWORD 'first'")
	as := func(password string) string {
		return strings.Replace(server.DSN(), "postgres@", "app:"+password+"@", 1)
	}
	file := filepath.Join(t.TempDir(), "url")
	require.NoError(t, os.WriteFile(file, []byte(as("first")+"\n"), 0o600))
	repo := open(t, postgres.Options{URL: as("first"), URLFile: file})
	s := create(t, repo)
	var asked atomic.Value
	made := open(t, postgres.Options{URL: as("none"), Password: func(_ context.Context, address, user string) (string, error) {
		asked.Store(user + " at " + address)
		text, err := os.ReadFile(file)
		return strings.Split(strings.Split(string(text), ":")[2], "@")[0], err
	}})

	exec("ALTER ROLE app PASSWORD 'second'")
	exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
	require.Eventually(t, func() bool {
		_, err := repo.Session(t.Context(), s.ID)
		return err != nil && strings.Contains(err.Error(), "28P01")
	}, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, os.WriteFile(file, []byte(as("second")), 0o600))
	bundle{Repository: repo}.heals(t, s.ID)
	bundle{Repository: made}.heals(t, s.ID)
	require.Regexp(t, "^app at .*:[0-9]+$", asked.Load())

	_, err := postgres.New(postgres.Options{URL: "postgres://app@one,two/x", Password: func(context.Context, string, string) (string, error) { return "", nil }})
	require.ErrorContains(t, err, "several servers")
}

// A managed database has a certificate of its vendor's own authority.
func TestCA(t *testing.T) {
	t.Parallel()
	files, ca := certtest.New(t)
	_, another := certtest.New(t)
	if account, err := user.Lookup("postgres"); err == nil && os.Geteuid() == 0 {
		uid, err := strconv.Atoi(account.Uid)
		require.NoError(t, err)
		require.NoError(t, os.Chown(files.Key, uid, -1))
	}
	addr, err := process.FreeAddr()
	require.NoError(t, err)
	host, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	server := postgrestest.Private(t, "listen_addresses="+host, "port="+port, "ssl=on", "ssl_cert_file="+files.Cert, "ssl_key_file="+files.Key)
	at := func(mode string) string { return fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=%s", addr, mode) }

	for _, mode := range []string{"verify-full", "verify-ca"} {
		require.NoError(t, postgres.Options{URL: at(mode), CA: ca}.Migrate(t.Context(), nil), mode)
		create(t, open(t, postgres.Options{URL: at(mode), CA: ca}))
		for name, wrong := range map[string][]byte{"another authority": another, "the system's": nil} {
			_, err := postgres.Open(t.Context(), postgres.Options{URL: at(mode), CA: wrong})
			require.ErrorContains(t, err, "x509", "%s, %s", mode, name)
		}
	}
	for _, mode := range []string{"require", "prefer", "disable"} { // none of them asks who the server is
		_, err := postgres.New(postgres.Options{URL: at(mode), CA: ca})
		require.ErrorContains(t, err, "verify-full", mode)
	}
	_, err = postgres.New(postgres.Options{URL: at("verify-full"), CA: []byte("nonsense")})
	require.ErrorContains(t, err, "no certificate in it")
	_ = server
}

func TestMaxConns(t *testing.T) {
	t.Parallel()
	for want, opts := range map[int]postgres.Options{
		16: {URL: "postgres://h/d"},
		5:  {URL: "postgres://h/d?pool_max_conns=5"},
		3:  {URL: "postgres://h/d?pool_max_conns=5", MaxConns: 3},
	} {
		repo, err := postgres.New(opts)
		require.NoError(t, err)
		t.Cleanup(repo.Close)
		require.Equal(t, want, repo.Pool().Max)
	}
}

// What the URL says of the pool holds, and `gateway migrate` takes the same URL.
func TestURL_settings_of_the_pool(t *testing.T) {
	t.Parallel()
	server := withSchema(t)
	const own = "&pool_max_conns=3&pool_max_conn_lifetime=7m&pool_max_conn_lifetime_jitter=3s&pool_max_conn_idle_time=90s&connect_timeout=9&default_query_exec_mode=simple_protocol"
	require.NoError(t, postgres.Migrate(t.Context(), server.DSN()+own, nil))
	create(t, open(t, postgres.Options{URL: server.DSN() + own}))
	for _, pooled := range []bool{false, true} {
		c := open(t, postgres.Options{URL: server.DSN() + own, Pooled: pooled}).PoolConfig()
		require.Equal(t, []any{int32(3), 7 * time.Minute, 3 * time.Second, 90 * time.Second, 9 * time.Second, pgx.QueryExecModeSimpleProtocol},
			[]any{c.MaxConns, c.MaxConnLifetime, c.MaxConnLifetimeJitter, c.MaxConnIdleTime, c.ConnConfig.ConnectTimeout, c.ConnConfig.DefaultQueryExecMode})
		c = open(t, postgres.Options{URL: server.DSN() + "&pool_max_conn_lifetime_jitter=3s", Pooled: pooled}).PoolConfig()
		require.Equal(t, []any{30 * time.Minute, 3 * time.Second}, []any{c.MaxConnLifetime, c.MaxConnLifetimeJitter}, "a name that begins like another")
		c = open(t, postgres.Options{URL: server.DSN(), Pooled: pooled}).PoolConfig()
		require.Equal(t, []any{int32(16), 30 * time.Minute, 3 * time.Minute, 5 * time.Minute, 2 * time.Second, pooled},
			[]any{c.MaxConns, c.MaxConnLifetime, c.MaxConnLifetimeJitter, c.MaxConnIdleTime, c.ConnConfig.ConnectTimeout, c.ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeExec})
	}
}

// The same in libpq's other form, where spaces may stand around the sign.
func TestURL_settings_of_the_pool_as_words(t *testing.T) {
	t.Parallel()
	at, err := pgx.ParseConfig(withSchema(t).DSN())
	require.NoError(t, err)
	words := fmt.Sprintf("host=%s port=%d user=%s password='%s' dbname=%s sslmode=disable", at.Host, at.Port, at.User, at.Password, at.Database)
	c := open(t, postgres.Options{URL: words + " pool_max_conns = 3 pool_max_conn_lifetime_jitter=3s"}).PoolConfig()
	require.Equal(t, []any{int32(3), 30 * time.Minute, 3 * time.Second}, []any{c.MaxConns, c.MaxConnLifetime, c.MaxConnLifetimeJitter})
}

// A pooler hands a server's connection to another client after each transaction, and
// refuses start-up parameters that it does not know.
func TestPooled(t *testing.T) {
	t.Parallel()
	server := withSchema(t)
	address := postgrestest.PgBouncer(t, server.DSN())
	_, err := postgres.Open(t.Context(), postgres.Options{URL: address})
	require.ErrorContains(t, err, "unsupported startup parameter")
	repo := open(t, postgres.Options{URL: address, Pooled: true, MaxConns: 8})
	racing := make(chan error)
	for range 8 { // over two connections of the server's
		go func() {
			var all error
			for range 10 {
				s, _, err := repo.Create(t.Context(), booking())
				_, changed := repo.Change(t.Context(), s.ID, start)
				_, read := repo.Session(t.Context(), s.ID)
				_, listed := repo.List(t.Context(), sessions.SessionQuery{TrainerID: s.TrainerID, Limit: 5})
				all = errors.Join(all, err, changed, read, listed)
			}
			racing <- all
		}()
	}
	for range 8 {
		require.NoError(t, <-racing)
	}
	require.NoError(t, postgres.Migrate(t.Context(), address, nil), "nothing is left to do")
}

// public is a folder that another user may pass through.
func public(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pg") //nolint:usetesting // a test's own lies in one that is closed to others
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}
