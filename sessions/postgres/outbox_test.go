package postgres_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/outbox/outboxtest"
	"doorstep/sessions/postgres"
)

// record writes events as a transition does.
func (b bundle) record(t testing.TB, events ...sessions.Event) {
	t.Helper()
	for _, e := range events {
		b.exec(t, `INSERT INTO outbox (event_id, session_id, type, detail) VALUES ($1, $2, $3, $4)`,
			string(e.ID), string(e.SessionID), string(e.Type), string(e.Detail()))
	}
}

func TestOutbox(t *testing.T) {
	t.Parallel()
	for _, to := range []string{outbox.Bus, "notify"} {
		t.Run(to, func(t *testing.T) {
			t.Parallel()
			outboxtest.Run(t, func(t testing.TB) outboxtest.Fixture {
				b := setup(t)
				return outboxtest.Fixture{Store: b.Outbox(), Record: b.record, To: to}
			})
		})
	}
}

// busOnly asks for the bus as a relay does.
var busOnly = outbox.Look{Asks: []outbox.Ask{{To: outbox.Bus, Lease: time.Minute}}, Limit: 10}

func (b bundle) claim(t testing.TB, look outbox.Look) outbox.Claimed {
	t.Helper()
	claimed, err := b.Outbox().Claim(t.Context(), look)
	require.NoError(t, err)
	return claimed
}

func (b bundle) backlog(t testing.TB, consumers ...string) []outbox.Backlog {
	t.Helper()
	list, err := b.Outbox().Backlog(t.Context(), consumers)
	require.NoError(t, err)
	return list
}

// A row that no binary can read must end as a dead letter, not as a claim that fails
// for ever.
func TestOutbox_Claim_unreadable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, detail := range []string{`{"a": 1}`, `[]`, `{"schemaVersion": "x"}`, `{"schemaVersion": 0.5}`} {
		b.exec(t, `INSERT INTO outbox (event_id, session_id, type, detail) VALUES ($1, $2, 'TrainerJourneyStarted', $3)`,
			string(sessions.NewID()), string(sessions.NewID()), detail)
	}
	b.record(t, outboxtest.Events(1)...)
	rows := b.claim(t, busOnly).Rows
	require.Len(t, rows, 5)
	for _, row := range rows[:4] {
		require.Error(t, row.Unreadable)
	}
	require.NoError(t, rows[4].Unreadable)
}

// An event of a newer version waits for a newer binary. It holds up its own session,
// and nobody claims it, fans it out or buries it.
func TestOutbox_newer_event(t *testing.T) {
	t.Parallel()
	consumers := outbox.Look{FanOut: []string{"notify"}, Asks: []outbox.Ask{{To: "notify", Lease: time.Minute}}, Limit: 10}
	for name, newer := range map[string][2]string{
		"type":           {"TrainerTeleported", `{"schemaVersion": 1}`},
		"schema_version": {"TrainerJourneyStarted", `{"schemaVersion": 2}`},
		"both":           {"TrainerTeleported", `{"schemaVersion": 12, "startTime": {"a": 1}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			session := sessions.NewID()
			b.exec(t, `INSERT INTO outbox (event_id, session_id, type, detail, created_at) VALUES ($1, $2, $3, $4, now() - interval '1 h')`,
				string(sessions.NewID()), string(session), newer[0], newer[1])
			other := outboxtest.Events(1)[0]
			b.record(t, outboxtest.Event(session, 2), other)
			b.exec(t, `INSERT INTO outbox_deliveries (consumer, seq, event_id, session_id, type, detail, created_at)
				SELECT 'notify', seq, event_id, session_id, type, detail, created_at FROM outbox WHERE session_id = $1`, string(session))

			claimed := b.claim(t, consumers)
			require.Equal(t, 1, claimed.FannedOut, "the other session's")
			rows := slices.Concat(claimed.Rows, b.claim(t, consumers).Rows)
			require.Len(t, rows, 1)
			require.Equal(t, other, rows[0].Event)
			require.Empty(t, b.claim(t, busOnly).Rows)
			for _, at := range b.backlog(t, "notify") {
				require.WithinDuration(t, time.Now().Add(-time.Hour), at.NewerSince, time.Minute, at.To)
				require.WithinDuration(t, time.Now(), at.Oldest, time.Minute, "it is not what is late here")
				require.Zero(t, at.Dead)
			}
			require.Equal(t, 4, value[int](t, b.sql, `SELECT count(*) FROM (SELECT attempts, locked_until, published_at FROM outbox
				UNION ALL SELECT attempts, locked_until, published_at FROM outbox_deliveries) x
				WHERE attempts = 0 AND locked_until IS NULL AND published_at IS NULL`), "as they were")
		})
	}
}

// The cost of a claim must not grow with the backlog. The plan is asked for under
// statistics as they are after a burst (none) and after an ANALYZE.
func TestOutbox_Claim_plan(t *testing.T) {
	t.Parallel()
	consumers := []string{"analytics", "clean_up", "notify"}
	asks := []outbox.Ask{{To: "analytics", Lease: time.Minute}, {To: "clean_up", Lease: time.Minute}, {To: "notify", Lease: time.Minute, After: 5000}}
	for _, analyzed := range []bool{false, true} {
		b := setup(t)
		const n = 100_000
		b.exec(t, `ALTER TABLE outbox SET (autovacuum_enabled = off)`)
		b.exec(t, `ALTER TABLE outbox_deliveries SET (autovacuum_enabled = off)`)
		b.exec(t, `INSERT INTO outbox (event_id, session_id, type, detail)
			SELECT gen_random_uuid(), md5((i / 2)::text)::uuid, 'TrainerJourneyStarted', '{"schemaVersion": 1}' FROM generate_series(1, $1) i`, n)
		b.exec(t, `INSERT INTO outbox_deliveries (consumer, seq, event_id, session_id, type, detail)
			SELECT consumer, seq, event_id, session_id, type, detail FROM outbox, unnest($1::text[]) consumer WHERE seq <= $2`, consumers, n/3)
		if analyzed {
			b.exec(t, `ANALYZE`)
		}
		for name, look := range map[string]outbox.Look{
			"for the bus": {Asks: append([]outbox.Ask{{To: outbox.Bus, Lease: time.Minute, After: 5000}}, asks...), Limit: 10},
			"fan out":     {FanOut: consumers, Asks: asks, Limit: 10},
		} {
			sql, _ := postgres.ClaimStatement(look)
			more := "60000, 5000"
			if len(look.FanOut) > 0 {
				more = "'{analytics,clean_up,notify}'"
			}
			kept := b.genericPlan(t, sql, "'{analytics,clean_up,notify}', '{60000,60000,60000}', '{0,0,0}', '{0,0,5000}', "+more)
			for _, plan := range []string{b.plan(t, look), kept} {
				t.Logf("%s, analyzed %v:\n%s", name, analyzed, plan)
				assert.Contains(t, plan, "Index Scan using outbox_pending on outbox o", "in the order of seq, until there are ten")
				assert.Contains(t, plan, "outbox_pending_of_session on outbox older", "a probe a row")
				assert.Contains(t, plan, "Index Scan using outbox_deliveries_pending on outbox_deliveries o")
				assert.Contains(t, plan, "outbox_deliveries_pending_of_session on outbox_deliveries older")
				for _, whole := range []string{"Seq Scan on outbox", "Hash", "JIT"} {
					assert.NotContains(t, plan, whole)
				}
			}
			began := time.Now()
			claimed := b.claim(t, look)
			require.Len(t, claimed.Rows, 10*len(look.Asks))
			t.Logf("a claim took %s", time.Since(began))
		}
		began := time.Now()
		b.backlog(t, consumers...)
		t.Logf("measuring took %s", time.Since(began))
	}
}

// plan is the plan of a claim's statement, run and rolled back.
func (b bundle) plan(t testing.TB, look outbox.Look) string {
	t.Helper()
	tx, err := b.sql.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(t.Context()) }()
	sql, args := postgres.ClaimStatement(look)
	return explained(t, tx, "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) "+sql, args...)
}

func TestRepository_DeadLetters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	events := outboxtest.Events(3)
	b.record(t, events...)
	rows := b.claim(t, busOnly).Rows
	require.Len(t, rows, 3)
	q := b.Outbox()
	require.NoError(t, q.Release(t.Context(), outbox.Bus, []int64{rows[1].Seq}, 0))
	require.Equal(t, 1, b.claim(t, outbox.Look{FanOut: []string{"notify"}, Limit: 10}).FannedOut)
	require.NoError(t, q.Bury(t.Context(), "notify", rows[1].Seq, "no such phone"))
	require.NoError(t, q.Bury(t.Context(), outbox.Bus, rows[0].Seq, "poison"))
	require.NoError(t, q.Bury(t.Context(), outbox.Bus, rows[2].Seq, "poison"))

	list, err := b.DeadLetters(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.Equal(t, outbox.Bus, list[0].To)
	second := list[1]
	require.WithinDuration(t, time.Now(), second.Since, time.Minute)
	require.WithinDuration(t, time.Now(), second.DeadAt, time.Minute)
	second.Since, second.DeadAt = time.Time{}, time.Time{}
	require.Equal(t, outbox.DeadLetter{
		To: "notify", Seq: rows[1].Seq, Type: sessions.JourneyStarted, SessionID: events[1].SessionID,
		Attempts: 1, Reason: "no such phone",
	}, second)

	n, err := b.Requeue(t.Context(), false, []int64{rows[1].Seq, rows[2].Seq, 999}, nil)
	require.NoError(t, err)
	require.Equal(t, 2, n, "of every destination")
	again := b.claim(t, outbox.Look{Asks: append([]outbox.Ask{{To: "notify", Lease: time.Minute}}, busOnly.Asks...), Limit: 10}).Rows
	require.Len(t, again, 2)
	require.Equal(t, 1, again[0].Attempts, "the count begins again")
	n, err = b.Requeue(t.Context(), true, nil, nil)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	list, err = b.DeadLetters(t.Context(), 10)
	require.NoError(t, err)
	require.Empty(t, list)
}

// dead writes dead letters: n events, the even ones dead for the bus, the others for one consumer, each
// third of all for another one, too.
func (b bundle) dead(t testing.TB, n int) {
	t.Helper()
	b.exec(t, `INSERT INTO outbox (event_id, session_id, type, detail, attempts, published_at, dead_at)
		SELECT gen_random_uuid(), gen_random_uuid(), 'TrainerJourneyStarted', '{}', 9, CASE WHEN i % 2 = 1 THEN now() END, CASE WHEN i % 2 = 0 THEN now() END
		FROM generate_series(1, $1::int) i`, n)
	b.exec(t, `INSERT INTO outbox_deliveries (consumer, seq, event_id, session_id, type, detail, attempts, dead_at)
		SELECT consumer, seq, event_id, session_id, type, detail, 9, now()
		FROM (SELECT seq, event_id, session_id, type, detail, row_number() OVER (ORDER BY seq) AS i FROM outbox ORDER BY seq DESC LIMIT $1::int) o, unnest('{notify,webhook}'::text[]) consumer
		WHERE CASE consumer WHEN 'notify' THEN i % 2 = 1 ELSE i % 3 = 0 END`, n)
}

// More than fit into one transaction are requeued all the same, and each once, though relays
// give up again what has just been requeued.
func TestRepository_Requeue_batches(t *testing.T) {
	t.Parallel()
	const events = 4*postgres.RequeueLimit + 600
	const rows = events + events/3
	everyOne := make([]int64, events)
	for i := range everyOne {
		everyOne[i] = int64(events - i)
	}
	for name, seqs := range map[string][]int64{"all": nil, "seqs": everyOne} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.dead(t, events)
			b.exec(t, `CREATE TABLE requeued (consumer text, seq bigint, UNIQUE (consumer, seq))`)
			bury := func(table, consumer string) {
				b.exec(t, `WITH again AS (UPDATE `+table+` SET dead_at = now() WHERE published_at IS NULL AND dead_at IS NULL RETURNING `+consumer+` AS consumer, seq)
					INSERT INTO requeued SELECT consumer, seq FROM again`)
			}
			var told []int
			n, err := b.Requeue(t.Context(), seqs == nil, seqs, func(n int) {
				told = append(told, n)
				bury("outbox", "'bus'")
				bury("outbox_deliveries", "consumer")
			})
			require.NoError(t, err)
			require.Equal(t, rows, n)
			require.Equal(t, rows, value[int](t, b.sql, `SELECT count(*) FROM requeued`))
			require.IsIncreasing(t, told)
			require.Equal(t, rows, told[len(told)-1])
			require.Equal(t, postgres.RequeueLimit, told[0])
			require.Zero(t, value[int](t, b.sql, `SELECT max(attempts) FROM (SELECT attempts FROM outbox WHERE dead_at IS NOT NULL UNION ALL SELECT attempts FROM outbox_deliveries) a`))
		})
	}
}

// A batch that cannot be written ends it. Those before it stay requeued, and a repeat does the rest.
func TestRepository_Requeue_fails_between(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const events = 3 * postgres.RequeueLimit
	b.dead(t, events)
	dead := func() int {
		return value[int](t, b.sql, `SELECT (SELECT count(*) FROM outbox WHERE dead_at IS NOT NULL) + (SELECT count(*) FROM outbox_deliveries WHERE dead_at IS NOT NULL)`)
	}
	b.exec(t, `ALTER TABLE outbox_deliveries ADD CONSTRAINT no_more CHECK (dead_at IS NOT NULL)`)
	n, err := b.Requeue(t.Context(), true, nil, nil)
	require.ErrorContains(t, err, "no_more")
	require.Equal(t, events/2, n, "of the table before")
	require.Equal(t, events+events/3-n, dead())

	b.exec(t, `ALTER TABLE outbox_deliveries DROP CONSTRAINT no_more`)
	n, err = b.Requeue(t.Context(), true, nil, nil)
	require.NoError(t, err)
	require.Equal(t, events/2+events/3, n)
	require.Zero(t, dead())
}

// What another transaction has in hand is not waited for, and does not end it.
func TestRepository_Requeue_passes_over_what_is_locked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.dead(t, 12)
	tx, err := b.sql.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT FROM outbox_deliveries WHERE seq = 6 FOR UPDATE`)
	require.NoError(t, err)
	n, err := b.Requeue(t.Context(), true, nil, nil)
	require.NoError(t, err)
	require.Equal(t, 15, n)
	require.NoError(t, tx.Rollback(t.Context()))
	list, err := b.DeadLetters(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, int64(6), list[0].Seq)
}

// A batch reads the dead letters after the batch before, and no others, however many there
// are: with the statistics of a table that had none until just now, and after an ANALYZE.
func TestRepository_Requeue_plan(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `ALTER TABLE outbox SET (autovacuum_enabled = off)`)
	b.exec(t, `ALTER TABLE outbox_deliveries SET (autovacuum_enabled = off)`)
	b.dead(t, 60_000)
	b.exec(t, `UPDATE outbox SET published_at = now(), dead_at = NULL`)
	b.exec(t, `UPDATE outbox_deliveries SET published_at = now(), dead_at = NULL`)
	b.exec(t, `ANALYZE`)
	b.dead(t, 60_000)
	for _, statistics := range []string{"old", "new"} {
		for i, index := range []string{"outbox_dead", "outbox_deliveries_dead"} {
			plan := explained(t, b.sql, "EXPLAIN (COSTS OFF) "+postgres.RequeueSQL[i], true, []int64(nil), int64(70_000), "notify")
			t.Logf("%s statistics:\n%s", statistics, plan)
			assert.Contains(t, plan, "Index Scan using "+index+" on ")
			assert.Contains(t, plan, "Tid Scan")
			for _, whole := range []string{"Seq Scan", "Bitmap"} {
				assert.NotContains(t, plan, whole)
			}
		}
		b.exec(t, `ANALYZE`)
	}
}

// Relays of several gateways on one outbox: each event once while no gateway crashes,
// and in order within its session. With some gateways on a bus and some not, as while
// the setting is changed, each event goes one of the two ways.
func TestOutbox_several_relays(t *testing.T) {
	t.Parallel()
	for name, onBus := range map[string][]bool{"bus": {true, true, true, true}, "consumers": {false, false, false, false}, "both": {true, false, true, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			const journeys = 200
			bus, notify, analytics := &recorder{}, &recorder{}, &recorder{}
			ctx, stop := context.WithCancel(t.Context())
			var running sync.WaitGroup
			var all []*outbox.Relay
			for _, on := range onBus {
				repo := open(t, postgres.Options{URL: b.url, MaxConns: 4})
				to := []outbox.Destination{{Name: "notify", To: notify}, {Name: "analytics", To: analytics}}
				if on {
					to = append(to, outbox.Destination{Name: outbox.Bus, To: bus})
				}
				relay, err := outbox.NewRelay(repo.Outbox(), to, outbox.RelayOptions{})
				require.NoError(t, err)
				all = append(all, relay)
				running.Go(func() { _ = relay.Run(ctx) })
			}
			for n := range journeys {
				s := b.booked(t)
				for _, step := range []func(*sessions.Session) ([]sessions.Event, error){
					start,
					func(s *sessions.Session) ([]sessions.Event, error) {
						return s.Stop(sessions.EndCancelled, noon.Add(time.Minute))
					},
					func(s *sessions.Session) ([]sessions.Event, error) { return s.Start("", noon.Add(2*time.Minute)) },
				} {
					_, err := b.Change(t.Context(), s.ID, step)
					require.NoError(t, err)
					all[n%len(all)].Nudge()
				}
			}
			total := func() int { return bus.count() + notify.count() }
			require.Eventually(t, func() bool { return total() >= 3*journeys && notify.count() == analytics.count() }, 30*time.Second, 10*time.Millisecond)
			stop()
			running.Wait()
			require.Equal(t, 3*journeys, total(), "once each")
			require.Equal(t, name == "consumers", bus.count() == 0)
			require.Equal(t, name == "bus", notify.count() == 0)
			for _, r := range []*recorder{bus, notify, analytics} {
				last := map[sessions.ID]time.Time{}
				for _, e := range r.events {
					require.True(t, e.At.After(last[e.SessionID]), "in order")
					last[e.SessionID] = e.At
				}
			}
			for _, at := range b.backlog(t, "notify", "analytics") {
				require.Zero(t, at.Waiting, at.To)
			}
		})
	}
}

// What a gateway of the version before left is delivered: its rows of outbox_deliveries
// (claimed by it or not), and its events. The statements are that version's.
func TestOutbox_previous_version(t *testing.T) {
	t.Parallel()
	b := setup(t)
	events := outboxtest.Events(4)
	b.record(t, events...)
	for _, consumer := range []string{"notify", "analytics"} {
		b.exec(t, `INSERT INTO outbox_deliveries (consumer, seq, event_id, session_id, type, detail)
			SELECT $1, seq, event_id, session_id, type, detail FROM outbox WHERE event_id = ANY($2)`,
			consumer, []string{string(events[0].ID), string(events[1].ID), string(events[2].ID)})
	}
	// It died: while it marked the third, which it had not marked yet, and with the second claimed.
	b.exec(t, `UPDATE outbox SET published_at = now() WHERE event_id = ANY($1)`, []string{string(events[0].ID), string(events[1].ID)})
	b.exec(t, `UPDATE outbox_deliveries SET locked_until = now() + interval '1 s' WHERE event_id = $1`, string(events[1].ID))
	notify, analytics, bus := &recorder{}, &recorder{}, &recorder{}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, to := range [][]outbox.Destination{
		{{Name: "notify", To: notify}, {Name: "analytics", To: analytics}},
		{{Name: "notify", To: notify}, {Name: "analytics", To: analytics}, {Name: outbox.Bus, To: bus}}, // drains the consumers, too
	} {
		relay, err := outbox.NewRelay(b.Outbox(), to, outbox.RelayOptions{})
		require.NoError(t, err)
		running.Go(func() { _ = relay.Run(ctx) })
	}
	require.Eventually(t, func() bool {
		list := b.backlog(t, "notify", "analytics")
		return list[0].Waiting+list[1].Waiting+list[2].Waiting == 0
	}, 20*time.Second, 20*time.Millisecond)
	stop()
	running.Wait()
	require.GreaterOrEqual(t, notify.count(), 3)
	require.Equal(t, notify.count(), analytics.count())
	require.GreaterOrEqual(t, notify.count()+bus.count(), 4)
	require.LessOrEqual(t, notify.count()+bus.count(), 5, "the third may go both ways: its mark was lost")
}

// A transition and a recorded event address the consumers of Options.Deliveries at once,
// whether a bus takes the event itself or not; an event that is known addresses nobody.
func TestOutbox_addressed_as_it_is_written(t *testing.T) {
	t.Parallel()
	b := setup(t)
	repo := open(t, postgres.Options{URL: b.url, Deliveries: []string{"webhook", "audit"}})
	s := b.booked(t)
	started, err := repo.Change(t.Context(), s.ID, start)
	require.NoError(t, err)
	arriving := sessions.Event{
		ID: sessions.NewID(), Type: sessions.JourneyArriving, SessionID: s.ID, TrainerID: s.TrainerID, StudentID: s.StudentID,
		At: noon.Add(time.Minute), JourneyStartedAt: started.JourneyStartedAt,
	}
	for _, want := range []bool{true, false} {
		first, err := repo.Record(t.Context(), arriving)
		require.NoError(t, err)
		require.Equal(t, want, first)
	}
	ask := outbox.Look{Asks: []outbox.Ask{{To: "audit", Lease: time.Minute}, {To: outbox.Bus, Lease: time.Minute}, {To: "webhook", Lease: time.Minute}}, Limit: 10}
	for _, event := range []sessions.EventType{sessions.JourneyStarted, sessions.JourneyArriving} {
		rows := b.claim(t, ask).Rows
		require.Len(t, rows, 3)
		for _, row := range rows {
			require.Equal(t, event, row.Event.Type)
			require.Equal(t, rows[0].Seq, row.Seq, "one number everywhere")
			require.NoError(t, b.Outbox().Done(t.Context(), row.To, []int64{row.Seq}))
		}
	}
	require.Empty(t, b.claim(t, ask).Rows)
	_, err = b.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
		return s.Stop(sessions.EndCancelled, noon.Add(2*time.Minute))
	})
	require.NoError(t, err)
	require.Len(t, b.claim(t, ask).Rows, 1, "a gateway without the setting writes for the bus alone")
}

type recorder struct {
	mu     sync.Mutex
	events []sessions.Event
}

func (r *recorder) Publish(_ context.Context, rows []outbox.Row) []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, row := range rows {
		r.events = append(r.events, row.Event)
	}
	return make([]error, len(rows))
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.events)
}

func TestOnce(t *testing.T) {
	t.Parallel()
	once := func(t *testing.T) (*postgres.Once, bundle) {
		t.Helper()
		b := setup(t)
		return postgres.NewOnce(b.Repository, 0), b
	}
	t.Run("has_one_effect", func(t *testing.T) {
		t.Parallel()
		o, _ := once(t)
		id, n := sessions.NewID(), 0
		do := func(context.Context) error { n++; return nil }
		for range 3 {
			require.NoError(t, o.Once(t.Context(), "notify", id, do))
		}
		require.Equal(t, 1, n)
		require.NoError(t, o.Once(t.Context(), "analytics", id, do))
		require.NoError(t, o.Once(t.Context(), "notify", sessions.NewID(), do))
		require.Equal(t, 3, n, "another consumer's, and another event's, are their own")
	})
	t.Run("fails_and_is_tried_again_at_once", func(t *testing.T) {
		t.Parallel()
		o, _ := once(t)
		id, no := sessions.NewID(), errors.New("no")
		require.ErrorIs(t, o.Once(t.Context(), "notify", id, func(context.Context) error { return no }), no)
		require.PanicsWithValue(t, "ouch", func() {
			_ = o.Once(t.Context(), "notify", id, func(context.Context) error { panic("ouch") })
		})
		n := 0
		require.NoError(t, o.Once(t.Context(), "notify", id, func(context.Context) error { n++; return nil }))
		require.Equal(t, 1, n)
	})
	t.Run("race", func(t *testing.T) {
		t.Parallel()
		o, _ := once(t)
		var effects atomic.Int32
		id := sessions.NewID()
		var all sync.WaitGroup
		for range 12 {
			all.Go(func() {
				err := o.Once(t.Context(), "notify", id, func(context.Context) error {
					effects.Add(1)
					time.Sleep(20 * time.Millisecond)
					return nil
				})
				if err != nil && !errors.Is(err, outbox.ErrInProgress) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 1, effects.Load())
	})
	t.Run("taken_over_after_a_crash", func(t *testing.T) {
		t.Parallel()
		o, b := once(t)
		id := sessions.NewID()
		b.exec(t, `INSERT INTO consumed_events VALUES ('notify', $1, clock_timestamp() + interval '1 h')`, string(id))
		n := 0
		do := func(context.Context) error { n++; return nil }
		require.ErrorIs(t, o.Once(t.Context(), "notify", id, do), outbox.ErrInProgress)
		b.exec(t, `UPDATE consumed_events SET locked_until = clock_timestamp() - interval '1 s' WHERE event_id = $1`, string(id))
		require.NoError(t, o.Once(t.Context(), "notify", id, do))
		require.Equal(t, 1, n)
	})
	t.Run("late_failure_leaves_another_calls_lease", func(t *testing.T) {
		t.Parallel()
		o, b := once(t)
		id := sessions.NewID()
		require.Error(t, o.Once(t.Context(), "notify", id, func(context.Context) error {
			b.exec(t, `UPDATE consumed_events SET locked_until = clock_timestamp() + interval '1 h'`)
			return errors.New("late")
		}))
		require.Equal(t, 1, value[int](t, b.sql, `SELECT count(*) FROM consumed_events`))
	})
}
