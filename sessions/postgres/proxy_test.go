package postgres_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between a pool and its server, on a unix socket of its own. On
// command it passes a statement on and then loses the answer, or goes deaf: a
// host that has left the network without a word, and its successor.
type proxy struct {
	url, server string

	mu      sync.Mutex
	cut     []byte
	clients []net.Conn
	// heard is closed when what is connected now is to be heard no more.
	heard chan struct{}
}

func newProxy(t testing.TB, serverURL string) *proxy {
	t.Helper()
	u, err := url.Parse(serverURL)
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "pg") //nolint:usetesting // t.TempDir's names are too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	query := u.Query()
	p := &proxy{heard: make(chan struct{})}
	p.lead(serverURL)
	query.Set("host", dir)
	u.RawQuery = query.Encode()
	p.url = u.String()
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	require.NoError(t, err)
	var accepting sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); accepting.Wait() }) // the pool was closed before
	accepting.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			accepting.Go(func() { p.serve(client) })
		}
	})
	return p
}

// cutAfter arms the proxy for one statement.
func (p *proxy) cutAfter(statement string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = []byte(statement)
}

// leave makes everything that is connected, and what connects from now on,
// wait for ever; back lets what connects from then on through.
func (p *proxy) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.heard)
}

func (p *proxy) back() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = make(chan struct{})
}

// lead passes what connects from now on to another server.
func (p *proxy) lead(serverURL string) {
	u, err := url.Parse(serverURL)
	if err != nil {
		panic(err) // the tests' own
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.server = filepath.Join(u.Query().Get("host"), ".s.PGSQL.5432")
}

// drop ends all that is connected.
func (p *proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, client := range p.clients {
		_ = client.Close()
	}
}

// serve ends with the client's connection.
func (p *proxy) serve(client net.Conn) {
	p.mu.Lock()
	heard, to := p.heard, p.server
	p.clients = append(p.clients, client)
	p.mu.Unlock()
	server, err := net.Dial("unix", to)
	if err != nil {
		_ = client.Close()
		return
	}
	var answers sync.WaitGroup
	answers.Go(func() {
		_, _ = io.Copy(client, server)
		select {
		case <-heard: // the end would be word from it
		default:
			_ = client.Close()
		}
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if n > 0 && p.cuts(buf[:n]) {
			_ = client.Close() // before the server can have answered
		}
		select {
		case <-heard:
			n = 0
		default:
		}
		if n > 0 {
			_, _ = server.Write(buf[:n])
		}
		if err != nil {
			break
		}
	}
	_ = server.(*net.UnixConn).CloseWrite() // what was passed on is carried out
	answers.Wait()
	_ = server.Close()
	_ = client.Close()
}

func (p *proxy) cuts(sent []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut == nil || !bytes.Contains(sent, p.cut) {
		return false
	}
	p.cut = nil
	return true
}
