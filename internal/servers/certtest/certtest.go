// Package certtest makes certificates for tests of TLS.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Files are the paths of a server's certificate for 127.0.0.1, its key, and the
// certificate of the authority that signed it, all as PEM and valid for an hour.
type Files struct{ Cert, Key, CA string }

// New makes the files in a new folder, and returns the authority's certificate as PEM. Any
// user may read them but the key, which is the test's own. The folder goes with the test.
func New(t testing.TB) (files Files, ca []byte) {
	t.Helper()
	dir, err := os.MkdirTemp("", "certtest") //nolint:usetesting // another user's server must pass through
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	files = Files{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key"), CA: filepath.Join(dir, "ca")}
	return files, files.Renew(t, time.Hour)
}

// Renew replaces the three files by new ones that are valid for that long.
func (f Files) Renew(t testing.TB, valid time.Duration) (ca []byte) {
	t.Helper()
	authority := certificate{template: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(valid), KeyUsage: x509.KeyUsageCertSign,
	}}
	server := certificate{template: &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "a server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(valid),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}}
	authority.sign(t, &authority)
	server.sign(t, &authority)
	ca = authority.pem()
	write := func(path string, text []byte, mode os.FileMode) { require.NoError(t, os.WriteFile(path, text, mode)) }
	write(f.Cert, server.pem(), 0o644)
	write(f.CA, ca, 0o644)
	write(f.Key, server.keyPEM(t), 0o600)
	return ca
}

type certificate struct {
	template *x509.Certificate
	key      *ecdsa.PrivateKey
	der      []byte
}

func (c *certificate) sign(t testing.TB, by *certificate) {
	t.Helper()
	var err error
	c.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c.der, err = x509.CreateCertificate(rand.Reader, c.template, by.template, &c.key.PublicKey, by.key)
	require.NoError(t, err)
}

func (c *certificate) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.der})
}

func (c *certificate) keyPEM(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(c.key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}
