package released

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
	"doorstep/internal/pause"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
)

const (
	failover = 5 * time.Second  // from PostgreSQL's end to the standby's promotion
	recovery = 10 * time.Second // until all must be well after a fault: breakers, and the callers' pauses
)

// The faults, as the table names them.
const (
	databaseDied = "PostgreSQL failed over"
	passwordNew  = "PostgreSQL password changed"
	storeDied    = "Valkey primary killed"

	sideBySide = "both versions took fixes" // no fault: it lasts while both serve
)

// stores are PostgreSQL and Valkey of all gateways. With faults PostgreSQL has a standby,
// whose address follows in the URL, and Valkey a replica and three sentinels.
type stores struct {
	admin    string // the database's URL for the test itself
	database string // and for gateways
	file     string // holds database, for the version that reads it again; empty: no faults
	valkey   string
	primary  *postgrestest.Server
	standby  *postgrestest.Server
	watched  *valkeyserver.Watched
}

// fault is one that was played. Until to it may be the cause of a failed call.
type fault struct {
	name     string
	from, to time.Time
}

func (r *rolling) store() {
	r.Helper()
	if !*faults {
		r.admin = postgrestest.New(r)
		r.database, r.valkey = r.admin, valkeytest.Private(r, valkeyserver.Valkey).URL()
		return
	}
	var err error
	r.primary = postgrestest.Private(r)
	r.admin = r.primary.DSN()
	r.exec(`CREATE ROLE doorstep LOGIN PASSWORD 'first'`, `CREATE DATABASE doorstep OWNER doorstep TEMPLATE template0`)
	// Only the gateways' role needs its password.
	var hba string
	r.query(`SHOW hba_file`, []any{&hba}, func() {})
	r.exec(`COPY (VALUES ('local doorstep doorstep scram-sha-256'), ('local all,replication postgres trust')) TO '`+hba+`'`, `SELECT pg_reload_conf()`)
	r.standby, err = r.primary.Standby(r.Context())
	require.NoError(r, err)
	r.Cleanup(func() { require.NoError(r, r.standby.Close()) })
	r.admin = r.both(url.User("postgres"))
	r.file = filepath.Join(r.TempDir(), "database-url")
	r.setPassword("first")
	r.watched = valkeytest.Watched(r, time.Second)
	r.valkey = r.watched.URL()
}

// both is the address of the server of the two that takes writes.
func (r *rolling) both(user *url.Userinfo) string {
	r.Helper()
	hosts := []string{}
	for _, server := range []*postgrestest.Server{r.primary, r.standby} {
		u, err := url.Parse(server.DSN())
		require.NoError(r, err)
		hosts = append(hosts, u.Query().Get("host"))
	}
	query := url.Values{"host": {strings.Join(hosts, ",")}, "sslmode": {"disable"}, "target_session_attrs": {"read-write"}}
	u := url.URL{Scheme: "postgres", User: user, Path: "/doorstep", RawQuery: query.Encode()}
	return u.String()
}

// setPassword gives gateways that start the password, and those that read the file again.
func (r *rolling) setPassword(password string) {
	r.Helper()
	r.database = r.both(url.UserPassword("doorstep", password))
	require.NoError(r, os.WriteFile(r.file+".new", []byte(r.database), 0o600))
	require.NoError(r, os.Rename(r.file+".new", r.file))
}

// settingsOf are a gateway's settings. The released version does not read a file again.
func (r *rolling) settingsOf(p *rig.Program) []string {
	database := "DATABASE_URL=" + r.database
	if r.file != "" && p == r.current {
		database = "DATABASE_URL_FILE=" + r.file
	}
	return append([]string{database}, r.settings...)
}

// play plays a fault.
func (r *rolling) play(name string, do func()) {
	r.Helper()
	r.mu.Lock()
	r.played = append(r.played, fault{name: name, from: time.Now()})
	f := &r.played[len(r.played)-1] // one at a time, so nothing is appended meanwhile
	r.mu.Unlock()
	do()
	r.mu.Lock()
	defer r.mu.Unlock()
	f.to = time.Now().Add(recovery)
	r.Logf("%s: %s", name, time.Since(f.from).Round(time.Millisecond))
}

// faultsOf are the faults of a round: while the first gateway of the rolling update drains,
// while only this version serves, and while the first one of the roll-back drains. Each is
// played in one round.
func (r *rolling) faultsOf(round int) (update, alone, back func()) {
	if !*faults {
		return nil, nil, nil
	}
	if round == 0 {
		update = func() { r.play(databaseDied, r.failOver) }
	}
	if round == *rounds/3 {
		back = func() { r.play(storeDied, r.killStore) }
	}
	if round == 2**rounds/3 {
		alone = func() { r.play(passwordNew, r.changePassword) }
	}
	return update, alone, back
}

// failOver kills PostgreSQL and makes the standby take its place. It has all that was
// committed, as that of RDS.
func (r *rolling) failOver() {
	require.NoError(r, r.primary.Kill())
	require.NoError(r, pause.For(r.ctx, failover))
	require.NoError(r, r.standby.Promote(r.Context()))
}

// changePassword changes it in PostgreSQL and then in the file, and ends all connections.
func (r *rolling) changePassword() {
	r.exec(`ALTER ROLE doorstep PASSWORD 'second'`)
	r.setPassword("second")
	r.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'doorstep'`)
}

// killStore kills the primary; the sentinels promote its replica, which may lack the last
// moment before.
func (r *rolling) killStore() {
	require.NoError(r, r.watched.Servers[0].Kill())
	_, err := r.watched.Successor(r.Context())
	require.NoError(r, err)
}

// cause is the fault that a call's failure at an instant can come from; empty: none.
func (r *rolling) cause(at time.Time) string {
	return r.during(func(f fault) bool { return !at.Before(f.from) && (f.to.IsZero() || at.Before(f.to)) })
}

// during is the first fault played so far of which is is true; empty: none.
func (r *rolling) during(is func(fault) bool) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.played, is); i >= 0 {
		return r.played[i].name
	}
	return ""
}
