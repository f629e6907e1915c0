package main

import (
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHealth(t *testing.T) {
	t.Parallel()
	s := serve(t)
	addr := strings.TrimPrefix(s.url, "http://")
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	for _, listen := range []string{addr, ":" + port, "0.0.0.0:" + port, "localhost:" + port} {
		e := gateway(t, []string{"LISTEN=" + listen}, "health")
		assert.Equal(t, 0, e.code, "%s: %s", listen, e.stderr)
	}
	require.NoError(t, s.Process.Signal(syscall.SIGTERM))
	assert.Equal(t, 0, s.ends(t))
	assert.Equal(t, 1, gateway(t, []string{"LISTEN=" + addr}, "health").code, "nobody is there")
	assert.Equal(t, 1, gateway(t, nil, "health", "--listen=nonsense").code)
}

// A worker is asked on its metrics address, as a gateway may be.
func TestHealth_of_a_worker(t *testing.T) {
	t.Parallel()
	s := serve(t, "METRICS_LISTEN=")
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	status := make(chan int, 2)
	status <- http.StatusOK
	status <- http.StatusServiceUnavailable
	asked := http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(<-status) })}
	go func() { _ = asked.Serve(l) }()
	defer func() { _ = asked.Close() }()
	addresses := []string{"LISTEN=" + strings.TrimPrefix(s.url, "http://"), "METRICS_LISTEN=" + l.Addr().String()}
	assert.Equal(t, 0, gateway(t, addresses, "health", "--worker").code)
	assert.Equal(t, 1, gateway(t, addresses, "health", "--worker").code, "its work has ended")
	assert.Equal(t, 1, gateway(t, []string{addresses[0], "METRICS_LISTEN="}, "health", "--worker").code)
	assert.Equal(t, 0, gateway(t, addresses, "health").code)
}
