package httpserver_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/httpserver"
	"doorstep/internal/servers/certtest"
)

// overTLS is true in the second of the two runs of all tests of this package: what holds
// in the clear holds over TLS, too.
var overTLS bool

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		_, _ = os.Stdout.WriteString("once more, over TLS\n")
		overTLS = true
		code = m.Run()
	}
	os.Exit(code)
}

// secured is a client's connection as this run has it. The handshake is made by the
// first read or write.
func secured(socket net.Conn) net.Conn {
	if !overTLS {
		return socket
	}
	return tls.Client(socket, &tls.Config{InsecureSkipVerify: true})
}

// listenTLS is a server with a certificate in this run and in the other, and its files.
func listenTLS(t *testing.T, opts httpserver.Options, grace ...time.Duration) (*guarded, certtest.Files) {
	t.Helper()
	files, _ := certtest.New(t)
	log := new(lockedBuffer)
	certificate, err := httpserver.LoadCertificate(files.Cert, files.Key, slog.New(slog.NewJSONHandler(log, nil)))
	require.NoError(t, err)
	opts.Certificate = certificate
	g := guardedServer(t, opts, grace...)
	g.certificate, g.certificateLog = certificate, log
	return g, files
}

// dialPlain is a connection without TLS.
func dialPlain(t *testing.T, g *guarded) *rawClient {
	t.Helper()
	socket := dialSocket(t, g.Server, nil)
	t.Cleanup(func() { _ = socket.Close() })
	require.NoError(t, socket.SetDeadline(time.Now().Add(patience)))
	return &rawClient{t, socket, socket, bufio.NewReader(socket)}
}

// dialTLS makes the handshake.
func dialTLS(t *testing.T, g *guarded, config *tls.Config) (*tls.Conn, error) {
	t.Helper()
	c := tls.Client(dialPlain(t, g).socket, config)
	return c, c.HandshakeContext(t.Context())
}

// ends reads until the server closes, whatever it says before.
func (c *rawClient) ends() {
	c.t.Helper()
	_, err := io.Copy(io.Discard, c.r)
	assert.NotErrorIs(c.t, err, os.ErrDeadlineExceeded, "still open")
}

// clientHello is what a client sends first.
func clientHello(t *testing.T) string {
	t.Helper()
	ours, theirs := net.Pipe()
	go func() {
		_ = tls.Client(theirs, &tls.Config{ServerName: "x", MinVersion: tls.VersionTLS12}).HandshakeContext(t.Context())
	}()
	t.Cleanup(func() { _ = ours.Close() })
	hello := make([]byte, 16<<10)
	n, err := ours.Read(hello)
	require.NoError(t, err)
	return string(hello[:n])
}

func TestTLS_hostile_handshakes(t *testing.T) {
	t.Parallel()
	hello := clientHello(t)
	for _, tc := range []struct{ name, send, drip string }{
		{"silent", "", ""},
		{"half_a_hello", hello[:len(hello)/2], ""},
		{"hello_drip", "", hello},
		{"hello_and_then_nothing", hello, ""},
		{"hello_twice", hello + hello, ""},
		{"largest_record", "\x16\x03\x01\x40\x00" + strings.Repeat("\x01", 16<<10), ""},
		{"record_too_large", "\x16\x03\x01\xff\xff" + strings.Repeat("\x01", 1<<16), ""},
		{"message_of_16_MB", "\x16\x03\x01\x40\x00\x01\xff\xff\xff" + strings.Repeat("\x00", 1<<16), ""},
		{"alert", "\x15\x03\x01\x00\x02\x02\x28", ""},
		{"ssl_2", "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", ""},
		{"junk", strings.Repeat("\xff", 1000), ""},
		{"http_2_in_the_clear", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			g, _ := listenTLS(t, httpserver.Options{ReadTimeout: shortRead, IdleTimeout: time.Hour})
			c := dialPlain(t, g)
			_, _ = io.WriteString(c, tc.send) // the server may be gone by its end
			c.drip(tc.drip, shortRead/20)
			c.ends()
			eventually(t, func() bool { return g.Conns() == 0 && g.events.Shed("tls_handshake") == 1 }, "released and counted")
			assert.Zero(t, g.events.Panics())
		})
	}
}

func TestTLS_plain_HTTP_is_told(t *testing.T) {
	t.Parallel()
	for _, request := range []string{"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n" + strings.Repeat("x", 70_000)} {
		g, _ := listenTLS(t, httpserver.Options{})
		c := dialPlain(t, g)
		c.send(request)
		res := c.answer()
		wantRefusal(t, res, 400, "BAD_REQUEST")
		assert.True(t, res.Close)
		c.wantEnd("")
		eventually(t, func() bool { return g.Conns() == 0 }, "released")
		assert.Equal(t, []int{1, 0}, []int{g.events.Refused(400), g.events.Shed("tls_handshake")})
	}
}

func TestTLS_opened_and_closed_is_no_failure(t *testing.T) {
	t.Parallel()
	g, _ := listenTLS(t, httpserver.Options{})
	c := dialPlain(t, g)
	eventually(t, func() bool { return g.Conns() == 1 }, "admitted")
	require.NoError(t, c.Close())
	eventually(t, func() bool { return g.Conns() == 0 }, "released")
	assert.Zero(t, g.events.Shed("tls_handshake"))
}

func TestTLS_limits_count_before_the_handshake(t *testing.T) {
	t.Parallel()
	for why, opts := range map[string]httpserver.Options{"max_conns": {MaxConns: 1}, "max_conns_per_ip": {MaxConnsPerIP: 1}} {
		g, _ := listenTLS(t, opts)
		dialPlain(t, g)
		eventually(t, func() bool { return g.Conns() == 1 }, "admitted")
		_, err := dialTLS(t, g, &tls.Config{InsecureSkipVerify: true})
		require.Error(t, err)
		assert.Equal(t, []int{1, 0}, []int{g.events.Shed(why), g.events.Shed("tls_handshake")})
	}
}

func TestTLS_drain_during_a_handshake(t *testing.T) {
	t.Parallel()
	g, _ := listenTLS(t, httpserver.Options{ReadTimeout: time.Hour}, shortRead)
	c, late := dialPlain(t, g), dialPlain(t, g)
	c.send(clientHello(t)[:10])
	eventually(t, func() bool { return g.Conns() == 2 }, "admitted")
	require.NoError(t, g.Drain(t.Context()))
	require.NoError(t, <-g.ran)
	c.ends()
	late.ends()
}

func TestTLS_versions_and_protocols(t *testing.T) {
	t.Parallel()
	g, files := listenTLS(t, httpserver.Options{})
	pem, err := os.ReadFile(files.CA)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	for _, tc := range []struct {
		name    string
		version uint16
		offers  []string
		chosen  string
		refused string
	}{
		{"tls_1.1", tls.VersionTLS11, nil, "", "protocol version"},
		{"tls_1.2", tls.VersionTLS12, nil, "", ""},
		{"tls_1.3", tls.VersionTLS13, nil, "", ""},
		{"http_1.1_is_chosen", tls.VersionTLS13, []string{"h2", "http/1.1"}, "http/1.1", ""},
		{"only_http_2", tls.VersionTLS13, []string{"h2"}, "", "no application protocol"},
		{"another_protocol", tls.VersionTLS13, []string{"smtp"}, "", "no application protocol"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, err := dialTLS(t, g, &tls.Config{
				RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS10, MaxVersion: tc.version, NextProtos: tc.offers,
			})
			if tc.refused != "" {
				require.ErrorContains(t, err, tc.refused)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, []any{tc.version, tc.chosen}, []any{c.ConnectionState().Version, c.ConnectionState().NegotiatedProtocol})
		})
	}
}

// A certificate is renewed under a running server: new connections have the new one, and
// open ones stay. What does not fit together changes nothing.
func TestCertificate_renewed(t *testing.T) {
	t.Parallel()
	g, files := listenTLS(t, httpserver.Options{})
	serves := func(raw []byte) func() bool {
		return func() bool {
			c, err := dialTLS(t, g, &tls.Config{InsecureSkipVerify: true})
			require.NoError(t, err)
			return bytes.Equal(c.ConnectionState().PeerCertificates[0].Raw, raw)
		}
	}
	der := func() []byte {
		pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		require.NoError(t, err)
		return pair.Certificate[0]
	}
	first := der()
	require.True(t, serves(first)())
	old, err := dialTLS(t, g, &tls.Config{InsecureSkipVerify: true})
	require.NoError(t, err)

	key, err := os.ReadFile(files.Key)
	require.NoError(t, err)
	for _, breaks := range []func() error{
		func() error { return os.WriteFile(files.Key, []byte("no key"), 0o600) },
		func() error { return os.Remove(files.Key) },
	} {
		before := strings.Count(g.certificateLog.String(), "was not read")
		require.NoError(t, breaks())
		eventually(t, func() bool {
			return serves(first)() && strings.Count(g.certificateLog.String(), "was not read") == before+1
		}, "logged, and the old one stays")
	}
	assert.NotContains(t, g.certificateLog.String(), "no key")
	require.NoError(t, os.WriteFile(files.Key, key, 0o600))

	files.Renew(t, 48*time.Hour)
	eventually(t, serves(der()), "the new one")
	assert.Greater(t, time.Until(g.certificate.NotAfter()), 24*time.Hour)
	c := rawClient{t, old, old, bufio.NewReader(old)}
	c.get("/ping")
	c.wantText("pong")
}

func TestLoadCertificate_errors(t *testing.T) {
	t.Parallel()
	one, _ := certtest.New(t)
	two, _ := certtest.New(t)
	for _, tc := range []struct{ cert, key, want string }{
		{"/no/such/file", one.Key, "/no/such/file"},
		{one.Cert, "/no/such/file", "/no/such/file"},
		{one.Key, one.Key, one.Key},
		{one.Cert, two.Key, "private key does not match public key"},
	} {
		_, err := httpserver.LoadCertificate(tc.cert, tc.key, slog.New(slog.DiscardHandler))
		assert.ErrorContains(t, err, tc.want)
	}
}
