package postgrestest

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"doorstep/internal/servers/process"
	"doorstep/internal/servers/requiredtest"
)

// PgBouncer starts one before the server of an address that New or DSN has returned, in
// its default way but that it hands a connection on after each transaction. It returns the
// address of the same database through it. It ends with the test.
func PgBouncer(t testing.TB, address string) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer"
	}
	if _, err := os.Stat(program); err != nil {
		requiredtest.Missing(t, "no pgbouncer")
	}
	to, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pg") //nolint:usetesting // a socket's name must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil { // another user may run it
		t.Fatal(err)
	}
	config := filepath.Join(dir, "ini")
	if err := os.WriteFile(config, fmt.Appendf(nil, `[databases]
* = host=%s port=%d user=%s
[pgbouncer]
listen_addr =
unix_socket_dir = %s
auth_type = any
pool_mode = transaction
default_pool_size = 2
`, to.Host, to.Port, to.User, dir), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{config}
	if os.Geteuid() == 0 {
		args = append(args, "-u", "nobody") // it refuses root
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	running, err := process.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = running.Kill() })
	through := "postgres://" + to.User + "@/" + to.Database + "?sslmode=disable&port=6432&host=" + url.QueryEscape(dir)
	for deadline := time.Now().Add(readyIn); ; time.Sleep(20 * time.Millisecond) {
		conn, err := pgx.Connect(t.Context(), through)
		if err == nil {
			_ = conn.Close(t.Context())
			return through
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("postgrestest: pgbouncer does not answer: %v; its log: %s", err, text)
		}
	}
}
