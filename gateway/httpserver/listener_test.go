package httpserver_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/httpserver"
)

const shortRead = 100 * time.Millisecond

// What a slow or silent client gets. Each row runs on a new connection, and again
// after a first request that was answered.
func TestListener_Slow(t *testing.T) {
	t.Parallel()
	const head = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
	hundred := string(make([]byte, 100))
	for _, tc := range []struct {
		name, send, drip string
		status           int // 0: closed without an answer
	}{
		{"silent", "", "", 0},
		{"part_of_a_header", "GET /pi", "", 408},
		{"three_bytes", "GET", "", 408},
		{"header_drip", "", "GET /ping HTTP/1.1\r\nX: " + hundred, 408},
		{"part_of_a_body", head + "half", "", 408},
		{"body_drip", head, hundred, 408},
		{"chunk_drip", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n1\r\na\r\n1\r\na\r\n1\r\na\r\n1\r\na\r\n1\r\na\r\n", 408},
		{"continue_then_nothing", "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n", "", 408},
	} {
		for _, before := range []string{"first_request", "later_request"} {
			t.Run(tc.name+"/"+before, func(t *testing.T) {
				t.Parallel()
				opts := httpserver.Options{ReadTimeout: shortRead, IdleTimeout: time.Hour}
				if tc.name == "silent" && before == "later_request" {
					opts = httpserver.Options{ReadTimeout: time.Hour, IdleTimeout: shortRead}
				}
				g := guardedServer(t, opts)
				c := dialRaw(t, g.Server)
				if before == "later_request" {
					c.get("/ping")
					c.wantStatus(200)
				}
				c.send(tc.send)
				c.drip(tc.drip, shortRead/10)
				if tc.name == "continue_then_nothing" {
					c.wantStatus(100)
				}
				status := tc.status
				if tc.name == "three_bytes" && before == "later_request" {
					status = 0 // Hertz takes fewer than four bytes for the end of the connection
				}
				if status != 0 {
					wantRefusal(t, c.answer(), status, "REQUEST_TIMEOUT")
				}
				c.wantEnd("")
				assert.Equal(t, min(status, 1), g.events.Refused(408))
				require.NoError(t, c.Close())
				eventually(t, func() bool { return g.Conns() == 0 }, "released")
			})
		}
	}
}

func TestListener_LongHandler_is_not_cut_by_the_read_deadline(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{ReadTimeout: shortRead, IdleTimeout: patience})
	c := dialRaw(t, g.Server)
	for range 2 { // a connection's first request and a later one
		c.get("/slow")
		c.wantStatus(200)
	}
}

func TestListener_ReaderThatDoesNotRead_is_cut(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{WriteTimeout: shortRead})
	c := dialRaw(t, g.Server)
	c.get("/big")
	_, err := c.r.Peek(1) // the answer has begun, and its other 8 MB are never read
	require.NoError(t, err)
	eventually(t, func() bool { return g.Conns() == 0 }, "the writer gave up")
}

func TestListener_ClientGone_ends_the_handler(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"", "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"} {
		g := guardedServer(t, httpserver.Options{})
		c := dialRaw(t, g.Server)
		if first != "" {
			c.send(first)
			c.wantStatus(200)
		}
		c.get("/wait")
		<-g.entered
		require.NoError(t, c.Close())
		assert.ErrorIs(t, <-g.gone, context.Canceled)
	}
}

func TestListener_MaxConns(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{MaxConns: 2})
	one, two := dialRaw(t, g.Server), dialRaw(t, g.Server)
	eventually(t, func() bool { return g.Conns() == 2 }, "both admitted")
	dialRaw(t, g.Server).wantEnd("")
	assert.Equal(t, 1, g.events.Shed("max_conns"))

	two.get("/ping")
	two.wantStatus(200) // admitted connections are still served
	require.NoError(t, one.Close())
	eventually(t, func() bool { return g.Conns() == 1 }, "one left")
	three := dialRaw(t, g.Server)
	three.get("/ping")
	three.wantStatus(200)
}

func TestListener_MaxConnsPerIP(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{MaxConnsPerIP: 1})
	from := func(ip string) *rawClient { return dialRawFrom(t, g.Server, &net.TCPAddr{IP: net.ParseIP(ip)}) }
	greedy := from("127.0.0.2")
	eventually(t, func() bool { return g.Conns() == 1 }, "admitted")
	from("127.0.0.2").wantEnd("")
	assert.Equal(t, 1, g.events.Shed("max_conns_per_ip"))
	other := from("127.0.0.3")
	other.get("/ping")
	other.wantStatus(200)
	require.NoError(t, greedy.Close())
	eventually(t, func() bool { return g.Conns() == 1 }, "left")
	again := from("127.0.0.2")
	again.get("/ping")
	again.wantStatus(200)
}

// An Accept error must not end the server: Hertz alone returns from Run, and
// the process exits 0.
func TestListener_AcceptError_is_waited_out(t *testing.T) {
	t.Parallel()
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.EPROTO} {
		t.Run(errno.Error(), func(t *testing.T) {
			t.Parallel()
			ln := failingListener(errno)
			var err error
			ln.Listener, err = net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			ln.left.Store(4)
			g := guardedServer(t, httpserver.Options{Listener: ln})
			c := dialRaw(t, g.Server)
			c.get("/ping")
			c.wantStatus(200)
			assert.Equal(t, 4, g.events.Shed("accept_error"))
			assert.Contains(t, g.log.String(), "accept failed")
		})
	}
}

func TestListener_AcceptError_does_not_hold_up_a_drain(t *testing.T) {
	t.Parallel()
	ln := failingListener(syscall.EMFILE)
	var err error
	ln.Listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ln.left.Store(1 << 30)
	g := guardedServer(t, httpserver.Options{Listener: ln})
	eventually(t, func() bool { return g.events.Shed("accept_error") > 3 }, "it is backing off")
	require.NoError(t, g.Drain(t.Context()))
	assert.NoError(t, <-g.ran)
}

// Cutting does not close a socket that Hertz still watches by its descriptor's
// number. So the peer sees an end and not a reset.
func TestListener_Cut_ends_idle_and_half_sent(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	idle, half := dialRaw(t, g.Server), dialRaw(t, g.Server)
	idle.get("/ping")
	idle.wantStatus(200)
	half.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
	eventually(t, func() bool { return g.Conns() == 2 }, "both admitted")
	g.Close()
	for _, c := range []*rawClient{idle, half} {
		_, err := io.Copy(io.Discard, c.r)
		var timeout net.Error
		assert.False(t, errors.As(err, &timeout) && timeout.Timeout(), "still open")
	}
	<-g.ran
	assert.Zero(t, g.Conns())
}

// acceptFails is a listener whose Accept fails a number of times first.
type acceptFails struct {
	net.Listener
	errno syscall.Errno
	left  atomic.Int64
}

func failingListener(errno syscall.Errno) *acceptFails { return &acceptFails{errno: errno} }

func (l *acceptFails) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: l.errno}
	}
	return l.Listener.Accept()
}
