package aws_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"doorstep/internal/servers/awstest"
	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions"
	"doorstep/sessions/outbox/aws"
	"doorstep/sessions/postgres"
)

// secret asks an endpoint of the test's own: the SDK takes its address from the environment.
func secret(t *testing.T, id string) (*awstest.Server, *aws.Secret) {
	t.Helper()
	s := endpoint(t)
	t.Setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", s.URL())
	made, err := aws.NewSecret(id)
	require.NoError(t, err)
	return s, made
}

func TestSecret_SignIn(t *testing.T) {
	s, db := secret(t, "rds!db-1")
	now := time.Unix(1, 0)
	aws.SetSecretClock(db, func() time.Time { return now })
	says := func(user, password string) {
		t.Helper()
		u, p, err := db.SignIn(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{user, password}, []string{u, p})
	}
	s.Secret("rds!db-1", `{"username":"app","password":"first","engine":"postgres","port":5432}`)
	says("app", "first")
	s.Secret("rds!db-1", `{"username":"app_clone","password":"second"}`)
	now = now.Add(time.Second - 1)
	says("app", "first")
	require.Equal(t, 1, s.Calls("GetSecretValue"), "once a second")
	now = now.Add(time.Second)
	says("app_clone", "second")

	s.Secret("rds!db-1", `{"password":"third"}`)
	now = now.Add(time.Second)
	says("", "third")
	for _, fault := range []awstest.Fault{awstest.Deny, awstest.Internal, awstest.Drop, awstest.Throttle} {
		s.Fail(fault)
		now = now.Add(time.Second)
		says("", "third")
	}
	s.Fail(awstest.None)
	s.Secret("rds!db-1", "broken")
	now = now.Add(time.Second)
	says("", "third")
}

// What is wrong is said, without the secret, and not asked for again by each connection.
func TestSecret_refusals(t *testing.T) {
	const planted = "pl4nted"
	for says, value := range map[string]string{
		"not a JSON object": planted,
		"with username and": `{"username":"` + planted + `"}`,
		"username and pass": `{"username":"app","password":["` + planted + `"]}`,
		"ResourceNotFound":  "",
	} {
		s, db := secret(t, "name-"+planted)
		if value != "" {
			s.Secret("name-"+planted, value)
		}
		for range 3 {
			_, _, err := db.SignIn(t.Context())
			require.ErrorContains(t, err, says)
			require.NotContains(t, err.Error(), planted)
		}
		require.Equal(t, 1, s.Calls("GetSecretValue"))
	}
	for _, injected := range []string{`{"username":"app","password":"` + planted + `"}`, planted + " ", "arn:aws:sqs:eu-west-1:000000000000:" + planted, ""} {
		_, err := aws.NewSecret(injected)
		require.ErrorContains(t, err, "not the name or ARN")
		require.NotContains(t, err.Error(), planted)
	}
}

// An endpoint that does not answer costs a new connection two seconds at most, and those
// that wait with it no more.
func TestSecret_stalled(t *testing.T) {
	s, db := secret(t, "db")
	s.Fail(awstest.Stall)
	all, ctx := errgroup.WithContext(t.Context())
	for range 8 {
		all.Go(func() error {
			_, _, err := db.SignIn(ctx)
			if err == nil {
				return errors.New("signed in")
			}
			return nil
		})
	}
	require.NoError(t, all.Wait())
	require.LessOrEqual(t, s.Calls("GetSecretValue"), 2, "and the SDK's retry")
}

// rotated is a PostgreSQL that asks for passwords, and what Secrets Manager's rotation does.
type rotated struct {
	*testing.T
	owner  *pgx.Conn
	secret *awstest.Server
	repo   *postgres.Repository
}

const rotatedConns = 8

func rotation(t *testing.T) rotated {
	t.Helper()
	dir, err := os.MkdirTemp("", "pg") //nolint:usetesting // PostgreSQL has its own user, who cannot look into the test's folder
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	hba := filepath.Join(dir, "hba")
	require.NoError(t, os.WriteFile(hba, []byte("local all postgres trust\nlocal all all scram-sha-256\n"), 0o644))
	server := postgrestest.Private(t, "hba_file="+hba)
	require.NoError(t, postgres.Migrate(t.Context(), server.DSN(), nil))
	owner, err := pgx.Connect(t.Context(), server.DSN())
	require.NoError(t, err)
	t.Cleanup(func() { _ = owner.Close(context.WithoutCancel(t.Context())) })
	s, db := secret(t, "db")
	r := rotated{T: t, owner: owner, secret: s}
	r.exec("CREATE ROLE app LOGIN SUPERUSER PASSWORD 'first'")
	r.exec("CREATE ROLE app_clone LOGIN SUPERUSER PASSWORD 'second'")
	r.current("app", "first")
	r.repo, err = postgres.Open(t.Context(), postgres.Options{URL: strings.Replace(server.DSN(), "postgres@", "", 1), MaxConns: rotatedConns, Secret: db.SignIn})
	require.NoError(t, err)
	t.Cleanup(r.repo.Close)
	return r
}

func (r rotated) exec(sql string) {
	r.Helper()
	_, err := r.owner.Exec(r.Context(), sql)
	require.NoError(r, err)
}

func (r rotated) current(user, password string) {
	r.secret.Secret("db", fmt.Sprintf(`{"username":%q,"password":%q}`, user, password))
}

// end ends the connections of a user, as a restart of the server or their age does.
func (r rotated) end(user string) {
	r.Helper()
	r.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '" + user + "'")
}

// load reads without a pause while do runs and until each of its readers has been answered
// well again, and counts the failures by what they say.
func (r rotated) load(do func()) (failed, refused int64) {
	r.Helper()
	var failures, refusals atomic.Int64
	var done atomic.Bool
	var readers errgroup.Group
	limit, cancel := context.WithTimeout(r.Context(), 30*time.Second)
	defer cancel()
	for range rotatedConns {
		readers.Go(func() error {
			for {
				over := done.Load()
				_, err := r.repo.Session(limit, sessions.NewID())
				switch well := sessions.CodeOf(err) == sessions.SessionNotFound; {
				case limit.Err() != nil:
					return limit.Err()
				case well && over:
					return nil
				case !well:
					failures.Add(1)
					if strings.Contains(err.Error(), "28P01") {
						refusals.Add(1)
					}
				}
			}
		})
	}
	do()
	done.Store(true)
	require.NoError(r, readers.Wait())
	return failures.Load(), refusals.Load()
}

// Of two users that alternate the old one is good until the next rotation: nothing is lost
// but what old connections were doing when they were ended.
func TestSecret_rotation_of_two_users(t *testing.T) {
	r := rotation(t)
	failed, refused := r.load(func() {
		r.current("app_clone", "second")
		r.end("app")
	})
	require.LessOrEqual(t, failed, int64(rotatedConns), "one call a connection")
	require.Zero(t, refused)
	require.Eventually(t, func() bool {
		r.end("app") // those that came within the second in which the last answer stands
		_, _ = r.load(func() {})
		var users string
		require.NoError(t, r.owner.QueryRow(t.Context(), "SELECT string_agg(DISTINCT usename, ' ') FROM pg_stat_activity WHERE usename LIKE 'app%'").Scan(&users))
		return users == "app_clone"
	}, 20*time.Second, 100*time.Millisecond)
}

// Of one user the new password is in the database before it is in the secret. What connects
// in between is refused, for as long as that takes and a second more.
func TestSecret_rotation_of_one_user(t *testing.T) {
	r := rotation(t)
	failed, refused := r.load(func() {
		r.exec("ALTER ROLE app PASSWORD 'third'")
		r.end("app")
		r.current("app", "third")
	})
	t.Logf("%d calls failed, %d of them for the old password", failed, refused)
	require.Eventually(t, func() bool {
		failed, _ := r.load(func() {})
		return failed == 0
	}, 20*time.Second, 100*time.Millisecond)
}
