package scripts

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"doorstep/internal/servers/certtest"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/internal/testlog"
	"doorstep/sessions"
	"doorstep/sessions/livetest"
)

// The ACL file that we ship allows everything that a store does, over TLS with a
// private authority, and next to nothing else. The wake-ups under it are tested in
// package valkeyconn, too.
func TestACL(t *testing.T) {
	t.Parallel()
	for _, kind := range valkeyserver.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			g := guard(t, kind)
			t.Run("Store", func(t *testing.T) { livetest.Run(t, virtualAs(g.opts, g.adminURL)) })
			t.Run("all_that_it_needs_is_allowed", func(t *testing.T) { testNothingDenied(t, g) })
			require.Equal(t, []string{}, g.denied(t), "what the suite was denied")
			testRefused(t, g)
		})
	}
}

// ElastiCache's access string, in the page beside the file, gives the file's rights.
func TestACL_of_ElastiCache(t *testing.T) {
	t.Parallel()
	g := guard(t, valkeyserver.Valkey)
	require.NoError(t, do(t, g.admin, append([]string{"ACL", "SETUSER", "managed", ">secret"}, accessString(t)...)...).Error())
	rights := func(user string) (list []string) {
		about, err := do(t, g.admin, "ACL", "GETUSER", user).AsMap()
		require.NoError(t, err)
		for _, name := range []string{"keys", "channels", "commands"} {
			value := about[name]
			text, err := value.ToString()
			require.NoError(t, err, name)
			list = append(list, text)
		}
		return list
	}
	require.Equal(t, rights("doorstep"), rights("managed"))
}

// accessString are the words of the page's access string.
func accessString(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../deploy/valkey/README.md")
	require.NoError(t, err)
	access := regexp.MustCompile(`(?m)^    (on ~.*)$`).FindSubmatch(page)
	require.NotNil(t, access)
	return strings.Fields(string(access[1]))
}

// A store whose user lacks one of the rights, or has another password, is not used, and
// the log says why. With it the store is ready.
func TestACL_one_right_missing(t *testing.T) {
	t.Parallel()
	for _, kind := range valkeyserver.Kinds() {
		server := valkeytest.Private(t, kind)
		admin := rawClient(t, server.URL())
		for missing, says := range map[string]string{
			"+evalsha": "call EVALSHA", "+eval": "call EVAL", "+hmget": "call HMGET", "+hget": "call HGET", "+hset": "call HSET", "+hdel": "call HDEL",
			"+del": "call DEL", "+pexpire": "call PEXPIRE", "+time": "call TIME", "+spublish": "call SPUBLISH", "+ssubscribe": "subscribe (+ssubscribe",
			"~location:trainer:*": "call HMGET, HGET, HSET, HDEL, DEL, PEXPIRE, on these keys", "~session:meta:*": "call HMGET, HSET, PEXPIRE, on these keys",
			"&location:live:*": "call SPUBLISH, on these keys or channels", "a password": "sign in: WRONGPASS",
		} {
			t.Run(string(kind)+"/"+missing, func(t *testing.T) {
				t.Parallel()
				user := "user" + string(sessions.NewID())
				allow := func(password string, rights []string) {
					require.NoError(t, do(t, admin, append([]string{"ACL", "SETUSER", user, "reset", ">" + password}, rights...)...).Error())
				}
				password := "secret"
				if missing == "a password" {
					password = "another"
				}
				allow(password, slices.DeleteFunc(accessString(t), func(word string) bool { return word == missing }))
				log := &testlog.Buffer{}
				s := running(t, Options{
					URL: strings.Replace(server.URL(), "://", "://"+user+":secret@", 1), Log: slog.New(slog.NewTextHandler(log, nil)),
				})
				eventually(t, s.Denied)
				eventually(t, func() bool { return strings.Contains(log.String(), "the user of the live store may not: "+says) })
				allow("secret", accessString(t))
				eventually(t, func() bool { return s.Ready() && s.conn.Listening() && !s.Denied() })
				requireTakesFix(t, s, journeyNow())
			})
		}
	}
}

// guardedServer is a server with the ACL file, and an admin who may do everything.
type guardedServer struct {
	*valkeyserver.Server
	opts     Options // the gateway's user
	adminURL string
	admin    valkey.Client
}

func guard(t *testing.T, kind valkeyserver.Kind) guardedServer {
	t.Helper()
	files, ca := certtest.New(t)
	acl := filepath.Join(t.TempDir(), "users.acl")
	require.NoError(t, os.WriteFile(acl, []byte(users(t, "secret of the store")+"user admin on nopass ~* &* +@all\n"), 0o600))
	server := valkeytest.PrivateWith(t, kind, valkeyserver.Options{TLS: (*valkeyserver.TLS)(&files), Args: []string{"--aclfile", acl}})
	adminURL := "unix://admin:any@" + server.Socket()
	return guardedServer{
		Server: server, adminURL: adminURL, admin: rawClient(t, adminURL),
		opts: Options{URL: "rediss://doorstep:secret%20of%20the%20store@" + server.Addr(), CA: ca},
	}
}

// users is the file that we ship, with a password inserted as its README says.
func users(t *testing.T, password string) string {
	t.Helper()
	text, err := os.ReadFile("../deploy/valkey/users.acl")
	require.NoError(t, err)
	require.Contains(t, string(text), "SHA256-OF-THE-PASSWORD")
	hash := sha256.Sum256([]byte(password))
	return strings.ReplaceAll(string(text), "SHA256-OF-THE-PASSWORD", hex.EncodeToString(hash[:]))
}

// denied is ACL LOG, one line for each entry.
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

func testNothingDenied(t *testing.T, g guardedServer) {
	s := connected(t, g.opts)
	requireTakesFix(t, s, journeyNow())
	require.NoError(t, do(t, g.admin, "SCRIPT", "FLUSH").Error())
	requireTakesFix(t, s, journeyNow())
}

func testRefused(t *testing.T, g guardedServer) {
	opt := rawOption(t, g.opts)
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
		reply, ok := valkey.IsValkeyErr(err)
		if assert.True(t, ok, "%s: %v", words, err) {
			assert.Regexp(t, `NOPERM|ACL failure|No permissions|can't run this command|can't access`, reply.Error(), words)
		}
	}
	for _, words := range []string{"SSUBSCRIBE foreign", "SUBSCRIBE location:live:x", "PSUBSCRIBE *"} { // valkey-go does not send these as plain words
		answer, err := do(t, g.admin, append([]string{"ACL", "DRYRUN", "doorstep"}, strings.Fields(words)...)...).ToString()
		require.NoError(t, err)
		assert.NotEqual(t, "OK", answer, words)
	}
	require.NoError(t, do(t, c, "HMGET", mine, "a").Error(), "an allowed command gives no error")

	opt.Username, opt.Password = "", ""
	if _, err := valkey.NewClient(opt); assert.Error(t, err, "no access without a user name") {
		assert.Regexp(t, "NOAUTH|WRONGPASS|NOPERM", err.Error())
	}
}

// The store talks only to a server whose certificate it can verify.
func TestStore_authority(t *testing.T) {
	t.Parallel()
	files, ca := certtest.New(t)
	server := valkeytest.PrivateWith(t, valkeyserver.Valkey, valkeyserver.Options{TLS: (*valkeyserver.TLS)(&files)})
	requireTakesFix(t, connected(t, Options{URL: server.URL(), CA: ca}), journeyNow())
	_, another := certtest.New(t)
	for name, opts := range map[string]Options{
		"another_authority": {URL: server.URL(), CA: another},
		"the_system's":      {URL: server.URL()},
		"another_name":      {URL: strings.Replace(server.URL(), "127.0.0.1", "localhost", 1), CA: ca},
	} {
		log := &testlog.Buffer{}
		opts.Log = slog.New(slog.NewTextHandler(log, nil))
		s := running(t, opts)
		eventually(t, func() bool { return strings.Contains(log.String(), "x509: ") })
		require.False(t, s.Ready(), name)
	}
	for want, opts := range map[string]Options{
		"asks for no TLS":   {URL: "redis://h", CA: ca},
		"no certificate in": {URL: "rediss://h", CA: []byte("nonsense")},
	} {
		_, err := New(opts)
		require.ErrorContains(t, err, want)
	}
}

// The file names every command that a script calls.
func TestACL_allows_what_the_scripts_call(t *testing.T) {
	t.Parallel()
	allowed := strings.Fields(users(t, ""))
	for _, script := range []string{openLua, updateLua, endLua, metaLua} {
		for _, call := range regexp.MustCompile(`redis\.p?call\('([A-Z]+)'`).FindAllStringSubmatch(script, -1) {
			assert.Contains(t, allowed, "+"+strings.ToLower(call[1]), "deploy/valkey/users.acl and its README")
		}
	}
}
