package valkeytest

import (
	"context"
	"os"
	"sync"
	"testing"

	"doorstep/internal/servers/requiredtest"
	"doorstep/internal/servers/valkeyserver"
)

// shared is the one server of a kind that a test binary has.
type shared struct {
	once   sync.Once
	server *valkeyserver.Server
	err    error
}

// sharedServers is global because all tests of a binary share it.
var sharedServers = map[valkeyserver.Kind]*shared{valkeyserver.Valkey: {}, valkeyserver.Redis: {}}

// Main runs a package's tests, ends the shared servers and exits.
func Main(m *testing.M) {
	code := m.Run()
	Stop()
	os.Exit(code)
}

// Stop ends the shared servers, for a TestMain with more to do than Main.
// No test may be running.
func Stop() {
	for _, s := range sharedServers {
		if s.server != nil {
			_ = s.server.Stop() // a folder left behind is removed by the next run
		}
	}
}

// Valkey returns the URL of the test binary's shared Valkey.
func Valkey(t testing.TB) string { t.Helper(); return Shared(t, valkeyserver.Valkey).URL() }

// Redis returns the URL of the test binary's shared Redis.
func Redis(t testing.TB) string { t.Helper(); return Shared(t, valkeyserver.Redis).URL() }

// Each runs a test on the shared server of every kind, as subtests named
// "valkey" and "redis". They run one after the other unless run calls
// t.Parallel.
func Each(t *testing.T, run func(t *testing.T, url string)) {
	t.Helper()
	for _, kind := range valkeyserver.Kinds() {
		t.Run(string(kind), func(t *testing.T) { run(t, Shared(t, kind).URL()) })
	}
}

// Shared returns the test binary's shared server of a kind. Never stop, pause
// or flush it: other tests are on it.
func Shared(t testing.TB, kind valkeyserver.Kind) *valkeyserver.Server {
	t.Helper()
	options := options(t, kind)
	s := sharedServers[kind]
	s.once.Do(func() {
		// Not the test's context: the server outlives the first test.
		s.server, s.err = valkeyserver.Start(context.Background(), options)
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.server
}

// Private starts a server that is this test's alone, with further settings
// such as "--maxmemory", "4mb", and stops it when the test ends.
func Private(t testing.TB, kind valkeyserver.Kind, args ...string) *valkeyserver.Server {
	t.Helper()
	return PrivateWith(t, kind, valkeyserver.Options{Args: args})
}

// PrivateWith is Private with all options, for a server on TCP or in cluster
// mode. Path and the settings that tests need are filled in.
func PrivateWith(t testing.TB, kind valkeyserver.Kind, with valkeyserver.Options) *valkeyserver.Server {
	t.Helper()
	base := options(t, kind)
	with.Path = base.Path
	with.Args = append(base.Args, with.Args...)
	server, err := valkeyserver.Start(t.Context(), with)
	if err != nil {
		t.Fatal(err)
	}
	stopWith(t, server)
	return server
}

// options returns what all servers of tests have: DEBUG is allowed, for DEBUG
// SLEEP and the like.
func options(t testing.TB, kind valkeyserver.Kind) valkeyserver.Options {
	t.Helper()
	path, ok := kind.Find()
	if !ok {
		requiredtest.Missing(t, kind.Program()+" is not on the PATH")
	}
	return valkeyserver.Options{Path: path, Args: []string{"--enable-debug-command", "yes"}}
}
