package main

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/postgres"
)

// buried is a database with two dead letters: of the bus, and of a consumer.
func buried(t *testing.T) (*postgres.Repository, []string, sessions.Session, outbox.Row) {
	t.Helper()
	url := postgrestest.New(t)
	require.NoError(t, postgres.Migrate(t.Context(), url, nil))
	repo, err := postgres.Open(t.Context(), postgres.Options{URL: url})
	require.NoError(t, err)
	t.Cleanup(repo.Close)
	s, _, err := repo.Create(t.Context(), sessions.Session{
		ID: sessions.NewID(), TrainerID: sessions.NewID(), StudentID: sessions.NewID(), Status: sessions.Scheduled, Home: geo.MustPoint(52, 5), Mode: sessions.Car,
	})
	require.NoError(t, err)
	_, err = repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) { return s.Start("", time.Now()) })
	require.NoError(t, err)
	rows, err := repo.Outbox().Claim(t.Context(), 10, time.Minute)
	require.NoError(t, err)
	require.Len(t, rows, 1)
	require.NoError(t, repo.Inbox("notify").Add(t.Context(), rows))
	require.NoError(t, repo.Inbox("notify").Bury(t.Context(), rows[0].Seq, "no such phone"))
	require.NoError(t, repo.Outbox().Bury(t.Context(), rows[0].Seq, "refused: MalformedDetail"))
	return repo, []string{"DATABASE_URL=" + url}, s, rows[0]
}

func TestOutbox(t *testing.T) {
	t.Parallel()
	repo, database, s, row := buried(t)
	listed := gateway(t, database, "outbox", "list")
	require.Equal(t, 0, listed.code, listed.stderr)
	assert.Regexp(t, `SEQ +TO +TYPE +SESSION +ATTEMPTS +HAPPENED +GIVEN UP +REASON`, listed.stdout)
	line := strconv.FormatInt(row.Seq, 10) + ` +%s +TrainerJourneyStarted +` + string(s.ID) + ` +1 +\S+Z +\S+Z +%s\n`
	assert.Regexp(t, fmt.Sprintf(line, "bus", "refused: MalformedDetail"), listed.stdout)
	assert.Regexp(t, fmt.Sprintf(line, "notify", "no such phone"), listed.stdout)
	for _, person := range []sessions.ID{s.TrainerID, s.StudentID} {
		assert.NotContains(t, listed.stdout, person, "no personal data")
	}

	for _, args := range [][]string{{"requeue"}, {"requeue", "--all", "1"}, {"requeue", "one"}} {
		assert.NotEqual(t, 0, gateway(t, database, append([]string{"outbox"}, args...)...).code, "%v", args)
	}
	assert.Equal(t, "0 requeued\n", gateway(t, database, "outbox", "requeue", "4711").stdout)
	assert.Equal(t, "2 requeued\n", gateway(t, database, "outbox", "requeue", strconv.FormatInt(row.Seq, 10)).stdout)
	waiting, _, dead, err := repo.Outbox().Lag(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []int{1, 0}, []int{waiting, dead})
	assert.Equal(t, "0 requeued\n", gateway(t, database, "outbox", "requeue", "--all").stdout)
	assert.Equal(t, 2, gateway(t, nil, "outbox", "list").code, "without a database")
}
