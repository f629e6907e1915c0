package postgres_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/outbox/outboxtest"
	"doorstep/sessions/postgres"
)

// insertAged inserts $1 rows of a kind that have been of it for $2, each in its own way
// through $3, a word of the test's; and counts what is left.
var insertAged = map[sessions.Kept]string{
	sessions.DoneEvents: `INSERT INTO outbox (event_id, session_id, type, detail, last_error, published_at)
		SELECT gen_random_uuid(), gen_random_uuid(), 'TrainerJourneyStarted', '{}', $3, now() - $2::interval FROM generate_series(1, $1)`,
	sessions.DeadEvents: `INSERT INTO outbox (event_id, session_id, type, detail, last_error, dead_at)
		SELECT gen_random_uuid(), gen_random_uuid(), 'TrainerJourneyStarted', '{}', $3, now() - $2::interval FROM generate_series(1, $1)`,
	sessions.DoneDeliveries: `INSERT INTO outbox_deliveries (consumer, seq, event_id, session_id, type, detail, last_error, published_at)
		SELECT 'c' || (random() * 1e9)::int % 3, (random() * 1e15)::bigint, gen_random_uuid(), gen_random_uuid(), 'TrainerJourneyStarted', '{}', $3, now() - $2::interval FROM generate_series(1, $1)`,
	sessions.DeadDeliveries: `INSERT INTO outbox_deliveries (consumer, seq, event_id, session_id, type, detail, last_error, dead_at)
		SELECT 'c' || (random() * 1e9)::int % 3, (random() * 1e15)::bigint, gen_random_uuid(), gen_random_uuid(), 'TrainerJourneyStarted', '{}', $3, now() - $2::interval FROM generate_series(1, $1)`,
	sessions.HandledEvents: `INSERT INTO consumed_events (consumer, event_id, locked_until, done_at)
		SELECT $3, gen_random_uuid(), now(), now() - $2::interval FROM generate_series(1, $1)`,
	sessions.JourneyRecords: `INSERT INTO journey_analytics (session_id, started_at, heard_at)
		SELECT gen_random_uuid(), now() - $2::interval, CASE WHEN $3 = '' THEN now() END FROM generate_series(1, $1)`,
	sessions.AuditEntries: `INSERT INTO session_audit (session_id, at, kind, by_role, detail)
		SELECT gen_random_uuid(), now() - $2::interval, 'booked', 'system', jsonb_build_object('verdict', $3::text) FROM generate_series(1, $1)`,
	sessions.UnusedPushTokens: `INSERT INTO push_tokens (token, user_id, platform, language, registered_at)
		SELECT gen_random_uuid()::text, gen_random_uuid(), 'web', $3, now() - $2::interval FROM generate_series(1, $1)`,
	sessions.UnusedDevices: `INSERT INTO devices (id, trainer_id, name, format, secret_hash, created_at, last_used_at)
		SELECT gen_random_uuid(), gen_random_uuid(), $3, 'osmand', sha256('secret'), now() - interval '1 year', now() - $2::interval FROM generate_series(1, $1)`,
	sessions.OldShareLinks: `INSERT INTO share_links (id, token_hash, session_id, created_at)
		SELECT gen_random_uuid(), sha256((gen_random_uuid()::text || $3)::bytea), gen_random_uuid(), now() - $2::interval FROM generate_series(1, $1)`,
}

func (b bundle) aged(t testing.TB, kind sessions.Kept, n int, age, word string) {
	t.Helper()
	b.exec(t, insertAged[kind], n, age, word)
}

func (b bundle) rows(t testing.TB, table string) int {
	t.Helper()
	return value[int](t, b.sql, `SELECT count(*) FROM `+table)
}

// What has been there for longer than its time goes, in batches; what is younger stays,
// and so does what waits.
func TestRepository_DeleteOld(t *testing.T) {
	t.Parallel()
	for _, kind := range sessions.AllKept() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.record(t, outboxtest.Events(2)...)
			b.exec(t, `INSERT INTO outbox_deliveries (consumer, seq, event_id, session_id, type, detail) SELECT 'notify', seq, event_id, session_id, type, detail FROM outbox`)
			b.exec(t, `INSERT INTO consumed_events (consumer, event_id, locked_until) VALUES ('notify', gen_random_uuid(), now() - interval '1 year')`)
			for _, other := range sessions.AllKept() {
				b.aged(t, other, 3, "29 days 23:59", "")
			}
			before := b.rows(t, kind.Table())
			b.aged(t, kind, 25, "30 days 00:01", "old")
			const age = 30 * 24 * time.Hour
			for _, want := range []int{10, 10, 5, 0} {
				n, mine, err := b.DeleteOld(t.Context(), kind, age, 10)
				require.NoError(t, err)
				require.True(t, mine)
				require.Equal(t, want, n)
			}
			require.Equal(t, before, b.rows(t, kind.Table()))
			for _, other := range sessions.AllKept() {
				if other.Table() != kind.Table() {
					require.Positive(t, b.rows(t, other.Table()))
				}
			}
		})
	}
}

// A token that was used lately stays, however long ago it was registered.
func TestRepository_DeleteOld_used_token(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.aged(t, sessions.UnusedPushTokens, 2, "200 days", "")
	token := value[string](t, b.sql, `SELECT token FROM push_tokens LIMIT 1`)
	user := value[string](t, b.sql, `SELECT user_id::text FROM push_tokens WHERE token = $1`, token)
	require.NoError(t, b.PushTokenUsed(t.Context(), sessions.ID(user), token, time.Now().AddDate(0, 0, -179)))
	n, _, err := b.DeleteOld(t.Context(), sessions.UnusedPushTokens, 180*24*time.Hour, 10)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, token, value[string](t, b.sql, `SELECT token FROM push_tokens`))
}

// One gateway at a time; and a row that somebody has locked is waited for by nobody.
func TestRepository_DeleteOld_beside_others(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.aged(t, sessions.UnusedPushTokens, 2, "200 days", "")
	other := connect(t, b.url)
	_, err := other.Exec(t.Context(), `BEGIN; SELECT pg_advisory_xact_lock(x'646f6f7273746570'::bigint + 2)`)
	require.NoError(t, err)
	n, mine, err := b.DeleteOld(t.Context(), sessions.UnusedPushTokens, time.Hour, 10)
	require.NoError(t, err)
	require.False(t, mine)
	require.Zero(t, n)
	_, err = other.Exec(t.Context(), `COMMIT; BEGIN; SELECT token FROM push_tokens ORDER BY token LIMIT 1 FOR UPDATE`)
	require.NoError(t, err)
	n, mine, err = b.DeleteOld(t.Context(), sessions.UnusedPushTokens, time.Hour, 10)
	require.NoError(t, err)
	require.True(t, mine)
	require.Equal(t, 1, n)
	_, err = other.Exec(t.Context(), `COMMIT`)
	require.NoError(t, err)
}

// Several gateways sweep while a relay works on the same tables: each old row goes once,
// and the relay finds all that waits.
func TestRetention_of_several_gateways(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keep := map[sessions.Kept]time.Duration{}
	for _, kind := range sessions.AllKept() {
		keep[kind] = time.Hour
		b.aged(t, kind, 2500, "2 hours", "")
		b.aged(t, kind, 10, "30 min", "")
	}
	b.record(t, outboxtest.Events(300)...)
	counts := &deleted{rows: map[string]int{}}
	var all sync.WaitGroup
	for range 3 {
		repo := open(t, postgres.Options{URL: b.url, MaxConns: 2})
		all.Go(func() {
			r := sessions.NewRetention(repo, sessions.RetentionOptions{Keep: keep, Metrics: counts})
			for range 20 {
				assert.NoError(t, r.Sweep(t.Context()))
			}
		})
	}
	claimed := 0
	for range 60 {
		rows := b.claim(t, outbox.Look{Asks: []outbox.Ask{{To: outbox.Bus, Lease: time.Minute}}, Limit: 10}).Rows
		claimed += len(rows)
	}
	require.Equal(t, 300, claimed)
	all.Wait()
	require.Equal(t, map[string]int{"outbox": 5000, "outbox_deliveries": 5000, "consumed_events": 2500, "journey_analytics": 2500, "push_tokens": 2500, "devices": 2500, "session_audit": 2500, "share_links": 2500}, counts.rows)
	for table, left := range map[string]int{"outbox": 320, "outbox_deliveries": 20, "consumed_events": 10, "journey_analytics": 10, "push_tokens": 10, "devices": 10} {
		require.Equal(t, left, b.rows(t, table), table)
	}
}

type deleted struct {
	mu   sync.Mutex
	rows map[string]int
}

func (d *deleted) RowsDeleted(table string, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows[table] += n
}

func (*deleted) RetentionSwept(error) {}

// The cost of a batch must not grow with the table.
func TestRepository_DeleteOld_plan(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, kind := range sessions.AllKept() {
		b.aged(t, kind, 20_000, "1 hour", "")
		b.aged(t, kind, 100, "40 days", "")
	}
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			b.exec(t, `ANALYZE`)
		}
		for _, kind := range sessions.AllKept() {
			plan := explain(t, b.sql, postgres.DeleteStatement(kind, 10), (30 * 24 * time.Hour).Milliseconds(), int64(1))
			assert.NotContains(t, plan, "Seq Scan on "+kind.Table(), plan)
			assert.NotContains(t, plan, "Sort", plan)
			assert.Contains(t, plan, "Tid Scan on "+kind.Table(), plan)
		}
	}
}

func explain(t testing.TB, sql *pgx.Conn, statement string, args ...any) string {
	t.Helper()
	var text string
	err := pgx.BeginFunc(context.WithoutCancel(t.Context()), sql, func(tx pgx.Tx) error {
		text = explained(t, tx, "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) "+statement, args...)
		return nil
	})
	require.NoError(t, err)
	return text
}

// A gateway of version 0.1.0 knows no last use: what it registers is as used as that.
func TestRepository_PutPushToken_of_the_previous_version(t *testing.T) {
	t.Parallel()
	b := setup(t)
	user := sessions.NewID()
	b.exec(t, `INSERT INTO push_tokens (token, user_id, platform, language, registered_at) VALUES ('t', $1, 'web', '', $2)`, string(user), noon)
	list, err := b.PushTokensOf(t.Context(), user)
	require.NoError(t, err)
	require.Equal(t, noon, list[0].LastUsedAt)
}
