package scripts

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions/livetest"
)

// All that a store does, it may do under the ACL file that we ship, over TLS
// with an authority of one's own; and next to nothing else.
func TestACL(t *testing.T) {
	t.Parallel()
	for _, kind := range valkeyserver.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			g := guard(t, kind)
			t.Run("Store", func(t *testing.T) { livetest.Run(t, virtualAs(g.opts, g.adminURL)) })
			for name, test := range map[string]func(*testing.T, guardedServer){
				"wake_ups": testGuardedWatch, "all_that_it_needs_is_allowed": testNothingDenied,
			} {
				t.Run(name, func(t *testing.T) { test(t, g) })
			}
			require.Equal(t, []string{}, g.denied(t), "what the suite was denied")
			testRefused(t, g)
		})
	}
}

// guardedServer is a server under the ACL file, and who may do all there.
type guardedServer struct {
	*valkeyserver.Server
	opts     Options // the gateway's user
	adminURL string
	admin    valkey.Client
}

func guard(t *testing.T, kind valkeyserver.Kind) guardedServer {
	t.Helper()
	files, ca := certificates(t)
	acl := filepath.Join(t.TempDir(), "users.acl")
	require.NoError(t, os.WriteFile(acl, []byte(users(t, "secret of the store")+"user admin on nopass ~* &* +@all\n"), 0o600))
	server := valkeytest.PrivateWith(t, kind, valkeyserver.Options{TLS: files, Args: []string{"--aclfile", acl}})
	adminURL := "unix://admin:any@" + server.Socket()
	return guardedServer{
		Server: server, adminURL: adminURL, admin: rawClient(t, adminURL),
		opts: Options{URL: "rediss://doorstep:secret%20of%20the%20store@" + server.Addr(), CA: ca},
	}
}

// users is the file that we ship, with a password put in as its README says.
func users(t *testing.T, password string) string {
	t.Helper()
	text, err := os.ReadFile("../deploy/valkey/users.acl")
	require.NoError(t, err)
	require.Contains(t, string(text), "SHA256-OF-THE-PASSWORD")
	hash := sha256.Sum256([]byte(password))
	return strings.ReplaceAll(string(text), "SHA256-OF-THE-PASSWORD", hex.EncodeToString(hash[:]))
}

// denied is ACL LOG, a line an entry.
func (g guardedServer) denied(t *testing.T) []string {
	t.Helper()
	entries, err := do(t, g.admin, "ACL", "LOG").ToArray()
	require.NoError(t, err)
	lines := make([]string, len(entries))
	for i, e := range entries {
		fields, err := e.AsMap()
		require.NoError(t, err)
		for _, name := range []string{"reason", "object", "username"} {
			value := fields[name]
			text, _ := value.ToString()
			lines[i] += text + " "
		}
	}
	return lines
}

// A wake-up, a slow subscription that goes, a connection that is lost and one
// that is ended in order.
func testGuardedWatch(t *testing.T, g guardedServer) {
	s := connected(t, g.opts, hasty)
	first, second := watch(t, s, newRef()), watch(t, s, newRef())
	second.tell(t, g.admin)
	second.requireWoken(t, 1)
	first.stop()
	eventually(t, func() bool { return subscribers(t, g.admin, first.Ref) == 0 })
	killSubscriber(t, g.admin)
	second.requireWoken(t, 2)
}

func testNothingDenied(t *testing.T, g guardedServer) {
	s := connected(t, g.opts)
	requireTakesFix(t, s, journeyNow())
	require.NoError(t, do(t, g.admin, "SCRIPT", "FLUSH").Error())
	requireTakesFix(t, s, journeyNow())
}

func testRefused(t *testing.T, g guardedServer) {
	opt, err := clientOption(g.opts)
	require.NoError(t, err)
	opt.ForceSingleClient = true
	c, err := valkey.NewClient(opt)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	mine := journeyKey(newRef())
	for _, words := range []string{
		"FLUSHALL", "FLUSHDB", "KEYS *", "SCAN 0", "RANDOMKEY", "DBSIZE", "CONFIG GET *", "CONFIG SET maxmemory 1", "DEBUG SLEEP 0", "MONITOR",
		"SHUTDOWN", "SAVE", "REPLICAOF NO ONE", "ACL WHOAMI", "ACL SETUSER doorstep +@all", "CLIENT LIST", "CLIENT KILL TYPE normal",
		"SCRIPT FLUSH", "FUNCTION FLUSH", "MODULE LIST", "INFO", "SLOWLOG GET", "CLUSTER RESET", "CLUSTER NODES", "MIGRATE h 1 k 0 1",
		"GET " + mine, "SET " + mine + " x", "HGETALL " + mine, "DUMP " + mine, "RENAME " + mine + " other", "EXPIRE " + mine + " 1", "MULTI",
		"HMGET foreign a", "HSET foreign a b", "DEL foreign", "HMGET location:trainers a", "EVAL return{} 1 foreign",
		"EVAL return(redis.call('HGET','foreign','a')) 0", "EVAL return(redis.call('KEYS','*')) 0", "EVAL return(redis.call('HGETALL',KEYS[1])) 1 " + mine,
		"SPUBLISH foreign 1", "PUBLISH location:live:x 1",
	} {
		err := c.Do(t.Context(), command(c, strings.Fields(words)...)).Error()
		said, ok := valkey.IsValkeyErr(err)
		if assert.True(t, ok, "%s: %v", words, err) {
			assert.Regexp(t, `NOPERM|ACL failure|No permissions|can't run this command|can't access`, said.Error(), words)
		}
	}
	for _, words := range []string{"SSUBSCRIBE foreign", "SUBSCRIBE location:live:x", "PSUBSCRIBE *"} { // which the client wants built
		said, err := do(t, g.admin, append([]string{"ACL", "DRYRUN", "doorstep"}, strings.Fields(words)...)...).ToString()
		require.NoError(t, err)
		assert.NotEqual(t, "OK", said, words)
	}
	require.NoError(t, do(t, c, "HMGET", mine, "a").Error(), "and this is how it looks when it is allowed")

	opt.Username, opt.Password = "", ""
	if _, err := valkey.NewClient(opt); assert.Error(t, err, "nobody without a name") {
		assert.Regexp(t, "NOAUTH|WRONGPASS|NOPERM", err.Error())
	}
}

// Who vouches for the server decides whether we talk to it.
func TestStore_authority(t *testing.T) {
	t.Parallel()
	files, ca := certificates(t)
	server := valkeytest.PrivateWith(t, valkeyserver.Valkey, valkeyserver.Options{TLS: files})
	requireTakesFix(t, connected(t, Options{URL: server.URL(), CA: ca}), journeyNow())
	_, another := certificates(t)
	for name, opts := range map[string]Options{
		"another_authority": {URL: server.URL(), CA: another},
		"the_system's":      {URL: server.URL()},
		"another_name":      {URL: strings.Replace(server.URL(), "127.0.0.1", "localhost", 1), CA: ca},
	} {
		option, err := clientOption(opts)
		require.NoError(t, err, name)
		_, err = valkey.NewClient(option)
		require.Error(t, err, name)
	}
	for want, opts := range map[string]Options{
		"asks for no TLS":   {URL: "redis://h", CA: ca},
		"no certificate in": {URL: "rediss://h", CA: []byte("nonsense")},
	} {
		_, err := New(opts)
		require.ErrorContains(t, err, want)
	}
}

// certificates makes an authority, and what it has signed for 127.0.0.1.
func certificates(t *testing.T) (files *valkeyserver.TLS, ca []byte) {
	t.Helper()
	authority := certificate{template: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}}
	server := certificate{template: &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "a live store"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}}
	authority.sign(t, &authority)
	server.sign(t, &authority)
	dir := t.TempDir()
	files = &valkeyserver.TLS{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key"), CA: filepath.Join(dir, "ca")}
	ca = authority.pem()
	for path, text := range map[string][]byte{files.Cert: server.pem(), files.Key: server.keyPEM(t), files.CA: ca} {
		require.NoError(t, os.WriteFile(path, text, 0o600))
	}
	return files, ca
}

type certificate struct {
	template *x509.Certificate
	key      *ecdsa.PrivateKey
	der      []byte
}

func (c *certificate) sign(t *testing.T, by *certificate) {
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

func (c *certificate) keyPEM(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(c.key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// The file allows what the scripts call, in the words of both.
func TestACL_allows_what_the_scripts_call(t *testing.T) {
	t.Parallel()
	allowed := strings.Fields(users(t, ""))
	for _, script := range []string{openLua, updateLua, endLua, metaLua} {
		for _, call := range regexp.MustCompile(`redis\.p?call\('([A-Z]+)'`).FindAllStringSubmatch(script, -1) {
			assert.Contains(t, allowed, "+"+strings.ToLower(call[1]), "deploy/valkey/users.acl and its README")
		}
	}
}
