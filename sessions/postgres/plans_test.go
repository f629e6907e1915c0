package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"doorstep/sessions/outbox"
	"doorstep/sessions/postgres"
)

// genericPlan is how the server would execute a statement whatever its arguments are, as it does
// for one that it has seen a few times.
func (b bundle) genericPlan(t *testing.T, sql, args string) string {
	t.Helper()
	b.exec(t, "SET plan_cache_mode = force_generic_plan")
	b.exec(t, "PREPARE asked AS "+sql)
	defer b.exec(t, "DEALLOCATE asked")
	return explained(t, b.sql, "EXPLAIN EXECUTE asked("+args+")")
}

// The server's statistics are those of some time ago: of a table that had no such rows yet. A
// statement must not read more of it than it needs all the same.
func TestPlans_with_old_statistics(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, "ALTER TABLE session_audit SET (autovacuum_enabled = false)")
	b.exec(t, "ALTER TABLE outbox_deliveries SET (autovacuum_enabled = false)")
	const deliveries = `INSERT INTO outbox_deliveries (consumer, seq, event_id, session_id, type, detail, created_at)
		SELECT 'app', n, gen_random_uuid(), gen_random_uuid(), 'JourneyStarted', '{}', now() FROM generate_series($1::int, $2::int) n`
	b.exec(t, `INSERT INTO session_audit (session_id, kind, by_role, detail) 
		SELECT md5((n % 300)::text)::uuid, 'booked', 'admin', '{}' FROM generate_series(1, 3000) n`)
	b.exec(t, deliveries, 1, 5)
	b.exec(t, "ANALYZE session_audit, outbox_deliveries")
	b.exec(t, deliveries, 6, 5000)

	moments := b.genericPlan(t, postgres.InsertMoments, "'{}', '{}', '{}', '{}', '{}', '{}', 200")
	require.Regexp(t, `Scan (using|on) session_audit_of_session`, moments, moments)
	require.NotContains(t, moments, "Scan using session_audit_id_key", moments)
	for _, sql := range []string{postgres.DoneSQL("app"), postgres.ReleaseSQL("app")} {
		args := "'{1,2}', 'app'"
		if strings.Contains(sql, "$3") {
			args = "'{1,2}', 1000, 'app'"
		}
		done := b.genericPlan(t, sql, args)
		require.Regexp(t, `Index Cond: .*seq >= .*seq <= `, done, done)
	}
}

// A plan of a claim takes longer than the claim, so the server must keep one and not make it
// anew for each call's arguments, as it does where that looks cheaper.
func TestOutbox_plans_are_kept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := open(t, postgres.Options{URL: b.url, MaxConns: 1, CallTimeout: 20 * time.Second})
	box, consumers := one.Outbox(), outbox.Look{Asks: []outbox.Ask{{To: "analytics", Lease: time.Minute}, {To: "notify", Lease: time.Minute}}, Limit: 10}
	bus, fanOut := consumers, consumers
	bus.Asks = append([]outbox.Ask{{To: outbox.Bus, Lease: time.Minute}}, consumers.Asks...)
	fanOut.FanOut = []string{"analytics", "notify"}
	const calls = 20
	for range calls {
		create(t, one)
		for _, look := range []outbox.Look{fanOut, bus, consumers} {
			_, err := box.Claim(t.Context(), look)
			require.NoError(t, err)
		}
		for _, to := range []string{outbox.Bus, "notify"} {
			require.NoError(t, box.Release(t.Context(), to, []int64{1, 2}, 0))
			require.NoError(t, box.Done(t.Context(), to, []int64{1, 2, 3}))
		}
	}
	rows, err := one.Conns().Query(t.Context(), `SELECT statement || ': made anew ' || custom_plans || ' times'
		FROM pg_prepared_statements WHERE statement ~ '^(WITH|UPDATE).* outbox' AND generic_plans + custom_plans = $1`, calls)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Len(t, list, 7)
	for _, made := range list {
		require.Contains(t, made, ": made anew 5 times")
	}
}
