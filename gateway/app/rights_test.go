package app_test

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// The rights in PostgreSQL that docs/deploy-ecs.md gives the gateway's role are enough for
// a journey, its events and the erasure of a user.
func TestApp_with_the_database_rights_of_the_page(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/deploy-ecs.md")
	require.NoError(t, err)
	found := regexp.MustCompile("(?s)```sql\n(.*?)```").FindSubmatch(page)
	require.NotNil(t, found)
	role := "app_" + strings.ReplaceAll(string(sessions.NewID()), "-", "")
	grants := strings.ReplaceAll(string(found[1]), "doorstep", role)
	grants = strings.Replace(grants, "GRANT rds_iam TO "+role+";", "", 1) // RDS has that role

	o := settings(onServers(t))
	owner, err := pgx.Connect(t.Context(), o.DatabaseURL)
	require.NoError(t, err)
	_, err = owner.Exec(t.Context(), grants)
	require.NoError(t, err)
	o.DatabaseURL = strings.Replace(o.DatabaseURL, "postgres@", role+"@", 1)
	a := started(t, o)
	p := play(t, a)
	shows(t, a.MetricsAddr(),
		"doorstep_journeys_started_total 1",
		`doorstep_journey_duration_seconds_count{reason="arrived"} 1`,
		`doorstep_pushes_total{kind="arrived",outcome="sent"} 1`)
	admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
	require.Equal(t, 200, ask(t, a, admin, http.MethodGet, "/admin/sessions/"+string(p.id)+"/history", "", "history"))
	require.Contains(t, []int{202, 204}, ask(t, a, admin, http.MethodDelete, "/admin/users/"+string(p.student)+"/data", "", "erase"))
	var user string
	require.NoError(t, owner.QueryRow(t.Context(), `SELECT usename FROM pg_stat_activity WHERE usename = $1 LIMIT 1`, role).Scan(&user), "it was this role's doing")
	require.NoError(t, owner.Close(t.Context()))
}
