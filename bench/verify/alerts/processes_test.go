package alerts

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"doorstep/bench/rig"
	"doorstep/gateway/app"
	"doorstep/internal/servers/certtest"
	"doorstep/internal/servers/issuertest"
)

// faults are all, those first whose alerts take longest.
func faults() []fault {
	return append(append(append(ofEvents(), ofStores()...), ofUse()...), ofProcesses()...)
}

// ofProcesses are the faults of a process itself and of what it was given.
func ofProcesses() []fault {
	return []fault{
		{name: "worker killed", alerts: []string{"DoorstepDown"}, open: workerKilled},
		{name: "drain that does not end", alerts: []string{"DoorstepNotReady"}, open: drainStays},
		{name: "handler panics", alerts: []string{"DoorstepPanics"}, window: 10 * time.Minute, open: handlerPanics},
		{name: "few descriptors", alerts: []string{"DoorstepFilesRunningOut"}, open: fewDescriptors},
		{name: "certificate not renewed", alerts: []string{"DoorstepCertificateEnds"}, open: certificateEnds},
		{name: "key server away", alerts: []string{"DoorstepKeysStale", "DoorstepNotReady"}, open: keyServerAway},
	}
}

func workerKilled(t *testing.T, s *stage) (cause, mend func()) {
	_, worker, _ := s.onQueues(t, database(t))
	return func() { require.NoError(t, worker.Kill()) }, func() { worker.again(t) }
}

func drainStays(t *testing.T, s *stage) (cause, mend func()) {
	g := s.gateway(t, "DRAIN_DELAY=50s", "DRAIN_TIMEOUT=60s")
	return func() { require.NoError(t, g.Signal(syscall.SIGTERM)) }, func() {
		res, err := rig.Get(t.Context(), g.URL()+"/readyz")
		require.NoError(t, err)
		assert.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
		require.NoError(t, res.Body.Close())
		require.NoError(t, g.Kill())
		g.again(t)
	}
}

// panicking is a log that panics on the next line of a request.
type panicking struct {
	slog.Handler
	next *atomic.Bool
}

func (h panicking) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "request" && h.next.Swap(false) {
		panic("a bug")
	}
	return nil
}

func (panicking) Enabled(context.Context, slog.Level) bool { return true }

func (h panicking) WithAttrs([]slog.Attr) slog.Handler { return h }

func handlerPanics(t *testing.T, s *stage) (cause, mend func()) {
	var next atomic.Bool
	base := s.embedded(t, app.Options{Log: slog.New(panicking{slog.DiscardHandler, &next})})
	return func() {
		next.Store(true)
		is(t, 500, book(t, base))
	}, func() { is(t, 201, book(t, base)) }
}

// fewDescriptors lowers the limit of a running gateway to what it has open.
func fewDescriptors(t *testing.T, s *stage) (cause, mend func()) {
	g := s.gateway(t)
	limit := func(n uint64) {
		var was unix.Rlimit
		require.NoError(t, unix.Prlimit(g.PID(), unix.RLIMIT_NOFILE, nil, &was))
		require.NoError(t, unix.Prlimit(g.PID(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: was.Max}, nil))
	}
	cause = func() {
		open, err := os.ReadDir("/proc/" + strconv.Itoa(g.PID()) + "/fd")
		require.NoError(t, err)
		limit(uint64(len(open)) + 1)
	}
	return cause, func() { limit(1024) }
}

func certificateEnds(t *testing.T, s *stage) (cause, mend func()) {
	files, _ := certtest.New(t)
	files.Renew(t, 90*24*time.Hour)
	s.embedded(t, app.Options{TLSCert: files.Cert, TLSKey: files.Key})
	return func() { files.Renew(t, 2*24*time.Hour) }, func() { files.Renew(t, 90*24*time.Hour) }
}

func keyServerAway(t *testing.T, s *stage) (cause, mend func()) {
	issuer := issuertest.New(t)
	issuer.Away(true)
	s.embedded(t, app.Options{
		JWKSURL: issuer.JWKSURL(), TokenOptions: app.TokenOptions{JWTIssuer: issuer.Name, JWTAudience: []string{"doorstep"}},
	})
	return nil, func() { issuer.Away(false) }
}
