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

// proxy stands between a pool and its server, on a unix socket of its own, and
// on command passes a statement on and then loses the answer.
type proxy struct {
	url, server string

	mu  sync.Mutex
	cut []byte
}

func newProxy(t testing.TB, serverURL string) *proxy {
	t.Helper()
	u, err := url.Parse(serverURL)
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "pg") // t.TempDir's names are too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	query := u.Query()
	p := &proxy{server: filepath.Join(query.Get("host"), ".s.PGSQL.5432")}
	query.Set("host", dir)
	u.RawQuery = query.Encode()
	p.url = u.String()
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	require.NoError(t, err)
	var accepting sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); accepting.Wait() })
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

// serve ends with the client's connection.
func (p *proxy) serve(client net.Conn) {
	server, err := net.Dial("unix", p.server)
	if err != nil {
		_ = client.Close()
		return
	}
	var answers sync.WaitGroup
	answers.Go(func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if n > 0 && p.cuts(buf[:n]) {
			_ = client.Close() // before the server can have answered
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
