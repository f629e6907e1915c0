package httpserver

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookEvery is the shortest time between two looks at the files of a certificate.
const lookEvery = time.Second

// Certificate is a listener's certificate with its key. Both are read again when a file
// has changed, because certificates are renewed more often than gateways are restarted.
// Files that do not fit together, or cannot be read, are logged once, and what was read
// before stays in use. Safe for concurrent use.
type Certificate struct {
	cert, key string // paths
	log       *slog.Logger

	mu     sync.Mutex
	looked time.Time
	files  [2]os.FileInfo // when they were last read; nil: there was none
	pair   *tls.Certificate
}

// LoadCertificate reads two PEM files: a certificate, with those that lead from it to
// the authority behind it, and its key.
func LoadCertificate(cert, key string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{cert: cert, key: key, log: log, looked: time.Now()}
	if _, err := c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

// NotAfter is the end of the certificate's validity.
func (c *Certificate) NotAfter() time.Time { return c.current().Leaf.NotAfter }

// current looks at the files, unless it did so just before. A look is two calls of stat.
func (c *Certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) >= lookEvery {
		c.looked = now
		renewed, err := c.read()
		switch {
		case err != nil:
			c.log.Error("the certificate was not read, the one before stays", slog.Any("error", err))
		case renewed:
			c.log.Info("certificate read", slog.Time("not_after", c.pair.Leaf.NotAfter))
		}
	}
	return c.pair
}

// read reads the files if one of them has changed since the last time, well or not.
func (c *Certificate) read() (renewed bool, err error) {
	var files [2]os.FileInfo // before the content: what changes in between is read again
	for i, path := range []string{c.cert, c.key} {
		files[i], _ = os.Stat(path) // LoadX509KeyPair reports it
	}
	if c.pair != nil && isSame(files[0], c.files[0]) && isSame(files[1], c.files[1]) {
		return false, nil
	}
	c.files = files
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return false, fmt.Errorf("%s and %s: %w", c.cert, c.key, err)
	}
	c.pair = &pair
	return true, nil
}

func isSame(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// config is Go's own choice of versions (from TLS 1.2), ciphers and curves. A client
// that offers protocols by ALPN must offer HTTP/1.1.
func (c *Certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(), nil },
	}
}
