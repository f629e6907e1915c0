package postgrestest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"doorstep/internal/servers/requiredtest"
)

// shared is global because all tests of a binary share it.
var shared struct {
	once   sync.Once
	server *Server
	err    error
}

// databases numbers the databases of this process.
var databases atomic.Int64

// Main runs a package's tests, ends the shared server and exits.
func Main(m *testing.M) {
	code := m.Run()
	Stop()
	os.Exit(code)
}

// Stop ends the shared server, for a TestMain with more to do than Main. No
// test may be running.
func Stop() {
	if shared.server != nil {
		_ = shared.server.Close() // a folder left behind is removed by the next run
	}
}

// New makes an empty database on the test binary's shared server and returns
// its address, a URL. It is dropped when the test ends, even under open
// connections.
func New(t testing.TB) string {
	t.Helper()
	in := find(t)
	shared.once.Do(func() {
		// Not the test's context: the server outlives the first test.
		shared.server, shared.err = start(context.Background(), in)
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server.New(t)
}

// Private starts a server for one test, with further settings such as
// "max_connections=5" or "fsync=on", and ends it with the test.
func Private(t testing.TB, settings ...string) *Server {
	t.Helper()
	server, err := start(t.Context(), find(t), settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// New makes an empty database on this server and returns its address, a URL.
// It is dropped when the test ends.
func (s *Server) New(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", databases.Add(1))
	if err := s.execute(t.Context(), "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		t.Fatalf("postgrestest: create %s: %v", name, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // the test's has ended
		defer cancel()
		// It fails where the test has stopped or paused the server.
		_ = s.execute(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
	})
	return s.dsn(name)
}

// Start starts a server for a program that is no test. Close it; it ends with
// this process at the latest. With "listen_addresses=127.0.0.1" and "port=…" it
// listens on TCP, too, so that a proxy can stand before it.
func Start(ctx context.Context, settings ...string) (*Server, error) {
	in, err := findInstallation()
	if err != nil {
		return nil, err
	}
	return start(ctx, in, settings...)
}

// find finds PostgreSQL, or ends the test.
func find(t testing.TB) installation {
	t.Helper()
	in, err := findInstallation()
	if err != nil {
		requiredtest.Missing(t, err)
	}
	return in
}
