package main

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/postgres"
)

// buried is a database with two dead letters: one to the bus and one to a consumer.
func buried(t *testing.T) (repo *postgres.Repository, env []string, s sessions.Session, bus, notify outbox.Row) {
	t.Helper()
	url := postgrestest.New(t)
	require.NoError(t, postgres.Migrate(t.Context(), url, nil))
	repo, err := postgres.Open(t.Context(), postgres.Options{URL: url})
	require.NoError(t, err)
	t.Cleanup(repo.Close)
	s, _, err = repo.Create(t.Context(), sessions.Session{
		ID: sessions.NewID(), TrainerID: sessions.NewID(), StudentID: sessions.NewID(), Status: sessions.Scheduled, Home: geo.MustPoint(52, 5), Mode: sessions.Car,
	})
	require.NoError(t, err)
	change := func(step func(*sessions.Session) ([]sessions.Event, error)) {
		_, err = repo.Change(t.Context(), s.ID, step)
		require.NoError(t, err)
	}
	claim := func(look outbox.Look) outbox.Row {
		look.Limit = 10
		claimed, err := repo.Outbox().Claim(t.Context(), look)
		require.NoError(t, err)
		require.Equal(t, 1, len(claimed.Rows)+claimed.FannedOut)
		return append(claimed.Rows, outbox.Row{})[0]
	}
	change(func(s *sessions.Session) ([]sessions.Event, error) { return s.Start("", time.Now()) })
	bus = claim(outbox.Look{Asks: []outbox.Ask{{To: outbox.Bus, Lease: time.Minute}}})
	require.NoError(t, repo.Outbox().Bury(t.Context(), outbox.Bus, bus.Seq, "refused: MalformedDetail"))
	change(func(s *sessions.Session) ([]sessions.Event, error) {
		return s.Stop(sessions.EndCancelled, time.Now().Add(time.Minute))
	})
	claim(outbox.Look{FanOut: []string{"notify"}})
	notify = claim(outbox.Look{Asks: []outbox.Ask{{To: "notify", Lease: time.Minute}}})
	require.NoError(t, repo.Outbox().Bury(t.Context(), "notify", notify.Seq, "no such phone"))
	return repo, []string{"DATABASE_URL=" + url}, s, bus, notify
}

func TestOutbox(t *testing.T) {
	t.Parallel()
	repo, database, s, bus, notify := buried(t)
	listed := gateway(t, database, "outbox", "list")
	require.Equal(t, 0, listed.code, listed.stderr)
	assert.Regexp(t, `SEQ +TO +TYPE +SESSION +ATTEMPTS +HAPPENED +GIVEN UP +REASON`, listed.stdout)
	line := `%d +%s +%s +` + string(s.ID) + ` +1 +\S+Z +\S+Z +%s\n`
	assert.Regexp(t, fmt.Sprintf(line, bus.Seq, "bus", "TrainerJourneyStarted", "refused: MalformedDetail"), listed.stdout)
	assert.Regexp(t, fmt.Sprintf(line, notify.Seq, "notify", "TrainerJourneyEnded", "no such phone"), listed.stdout)
	for _, person := range []sessions.ID{s.TrainerID, s.StudentID} {
		assert.NotContains(t, listed.stdout, person, "no personal data")
	}

	for _, args := range [][]string{{"requeue"}, {"requeue", "--all", "1"}, {"requeue", "one"}} {
		assert.NotEqual(t, 0, gateway(t, database, append([]string{"outbox"}, args...)...).code, "%v", args)
	}
	assert.Equal(t, "0 requeued\n", gateway(t, database, "outbox", "requeue", "4711").stdout)
	assert.Equal(t, "2 requeued\n", gateway(t, database, "outbox", "requeue", fmt.Sprint(bus.Seq), fmt.Sprint(notify.Seq)).stdout)
	list, err := repo.Outbox().Backlog(t.Context(), []string{"notify"})
	require.NoError(t, err)
	for _, at := range list {
		assert.Equal(t, []int{1, 0}, []int{at.Waiting, at.Dead}, at.To)
	}
	assert.Equal(t, "0 requeued\n", gateway(t, database, "outbox", "requeue", "--all").stdout)
	assert.Equal(t, 2, gateway(t, nil, "outbox", "list").code, "without a database")
}

// Through a pooler the gateway works with DOORSTEP_DATABASE_POOLED, and so do these.
func TestOutbox_through_PgBouncer(t *testing.T) {
	t.Parallel()
	_, database, _, bus, notify := buried(t)
	through := "DATABASE_URL=" + postgrestest.PgBouncer(t, strings.TrimPrefix(database[0], "DATABASE_URL="))
	refused := gateway(t, []string{through}, "outbox", "list")
	assert.Equal(t, 1, refused.code)
	assert.Contains(t, refused.stderr, "unsupported startup parameter", "else the test shows nothing")

	pooled := []string{through, "DATABASE_POOLED=true"}
	listed := gateway(t, pooled, "outbox", "list")
	require.Equal(t, 0, listed.code, listed.stderr)
	for _, row := range []outbox.Row{bus, notify} {
		assert.Regexp(t, fmt.Sprintf(`\n%d +%s `, row.Seq, row.To), listed.stdout)
	}
	assert.Equal(t, "1 requeued\n", gateway(t, pooled, "outbox", "requeue", fmt.Sprint(bus.Seq)).stdout)
	assert.Equal(t, "1 requeued\n", gateway(t, pooled, "outbox", "requeue", "--all").stdout)
	assert.Contains(t, gateway(t, pooled, "migrate").stdout, "(0 applied)")
}

// Who waits is told every two seconds, and who does not is told nothing between.
func TestSoFar(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		told := soFar(&text)
		for n := range 6 {
			told(n)
			time.Sleep(time.Second)
		}
		assert.Equal(t, "2 requeued so far\n4 requeued so far\n", text.String())
	})
}
