package postgres_test

import (
	"context"
	"errors"
	"strings"
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
	outboxtest.Run(t, func(t testing.TB) outboxtest.Fixture {
		b := setup(t)
		return outboxtest.Fixture{Store: b.Outbox(), Record: b.record}
	})
}

func TestInbox(t *testing.T) {
	t.Parallel()
	outboxtest.Run(t, func(t testing.TB) outboxtest.Fixture {
		b := setup(t)
		var seq int64
		in := b.Inbox("notify")
		return outboxtest.Fixture{Store: in, Record: func(t testing.TB, events ...sessions.Event) {
			for _, e := range events {
				seq++
				require.NoError(t, b.Inbox("other").Add(t.Context(), []outbox.Row{{Seq: seq, Event: e}}))
				require.NoError(t, in.Add(t.Context(), []outbox.Row{{Seq: seq, Event: e}}))
			}
		}}
	})
}

func TestInbox_Add(t *testing.T) {
	t.Parallel()
	t.Run("drops_what_it_has_had", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		in := b.Inbox("notify")
		events := outboxtest.Events(2)
		rows := []outbox.Row{{Seq: 1, Event: events[0]}, {Seq: 2, Event: events[1]}}
		require.NoError(t, in.Add(t.Context(), rows[:1]))
		require.NoError(t, in.Published(t.Context(), []int64{1}))
		require.NoError(t, in.Add(t.Context(), rows))
		claimed, err := in.Claim(t.Context(), 10, time.Minute)
		require.NoError(t, err)
		require.Len(t, claimed, 1, "also when it is done with it")
		require.Equal(t, events[1], claimed[0].Event)
	})
	t.Run("is_not_for_the_outbox", func(t *testing.T) {
		t.Parallel()
		require.Error(t, setup(t).Outbox().Add(t.Context(), nil))
	})
	t.Run("takes_no_name_that_is_not_a_word", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		require.Panics(t, func() { b.Inbox("x' OR 'a'='a") })
	})
}

// A row that this binary cannot read must end as a dead letter, not as a claim
// that fails for ever.
func TestOutbox_Claim_unreadable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `INSERT INTO outbox (event_id, session_id, type, detail) VALUES ($1, $2, 'Unheard', '{"a": 1}')`,
		string(sessions.NewID()), string(sessions.NewID()))
	b.record(t, outboxtest.Events(1)...)
	rows, err := b.Outbox().Claim(t.Context(), 10, time.Minute)
	require.NoError(t, err)
	require.Len(t, rows, 2)
	require.Error(t, rows[0].Unreadable)
	require.NoError(t, rows[1].Unreadable)
}

// What a claim costs must not grow with the backlog. The plan is asked for
// under statistics as they are after a burst (none) and after an ANALYZE.
func TestOutbox_Claim_plan(t *testing.T) {
	t.Parallel()
	for _, analyzed := range []bool{false, true} {
		b := setup(t)
		const n = 100_000
		b.exec(t, `ALTER TABLE outbox SET (autovacuum_enabled = off)`)
		b.exec(t, `INSERT INTO outbox (event_id, session_id, type, detail)
			SELECT gen_random_uuid(), md5((i / 2)::text)::uuid, 'TrainerJourneyStarted', '{}' FROM generate_series(1, $1) i`, n)
		if analyzed {
			b.exec(t, `ANALYZE outbox`)
		}
		rows, err := b.sql.Query(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) "+
			strings.NewReplacer("{limit}", "10", "$1", "30000").Replace(b.Outbox().ClaimSQL()))
		require.NoError(t, err)
		var plan strings.Builder
		for rows.Next() {
			var line string
			require.NoError(t, rows.Scan(&line))
			plan.WriteString(line + "\n")
		}
		require.NoError(t, rows.Err())
		t.Logf("analyzed %v:\n%s", analyzed, plan.String())
		assert.Contains(t, plan.String(), "Index Scan using outbox_pending on outbox o", "in the order of seq, until there are ten")
		assert.Contains(t, plan.String(), "outbox_pending_of_session on outbox older", "a probe a row")
		for _, whole := range []string{"Seq Scan", "Hash", "Sort"} {
			assert.NotContains(t, plan.String(), whole)
		}
		began := time.Now()
		claimed, err := b.Outbox().Claim(t.Context(), 10, time.Minute)
		require.NoError(t, err)
		require.Len(t, claimed, 10)
		t.Logf("a claim took %s", time.Since(began))
		began = time.Now()
		_, _, _, err = b.Outbox().Lag(t.Context())
		require.NoError(t, err)
		t.Logf("measuring took %s", time.Since(began))
	}
}

func TestRepository_DeadLetters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	events := outboxtest.Events(3)
	b.record(t, events...)
	rows, err := b.Outbox().Claim(t.Context(), 10, time.Minute)
	require.NoError(t, err)
	require.NoError(t, b.Inbox("notify").Add(t.Context(), rows))
	require.NoError(t, b.Outbox().Bury(t.Context(), rows[0].Seq, "poison"))
	require.NoError(t, b.Outbox().Bury(t.Context(), rows[1].Seq, "poison"))
	require.NoError(t, b.Inbox("notify").Bury(t.Context(), rows[1].Seq, "no such phone"))

	list, err := b.DeadLetters(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, list, 3)
	last := list[2]
	require.WithinDuration(t, time.Now(), last.Since, time.Minute)
	require.WithinDuration(t, time.Now(), last.DeadAt, time.Minute)
	last.Since, last.DeadAt = time.Time{}, time.Time{}
	require.Equal(t, outbox.DeadLetter{
		Consumer: "notify", Seq: rows[1].Seq, Type: sessions.JourneyStarted, SessionID: events[1].SessionID,
		Attempts: 1, Reason: "no such phone",
	}, last)

	n, err := b.Requeue(t.Context(), false, []int64{rows[1].Seq, 999})
	require.NoError(t, err)
	require.Equal(t, 2, n, "wherever it was buried")
	again, err := b.Outbox().Claim(t.Context(), 10, time.Minute)
	require.NoError(t, err)
	require.Len(t, again, 1)
	require.Equal(t, 1, again[0].Attempts, "counted from anew")
	n, err = b.Requeue(t.Context(), true, nil)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	list, err = b.DeadLetters(t.Context(), 10)
	require.NoError(t, err)
	require.Empty(t, list)
}

// Relays of several gateways on one outbox: each event once while nobody
// crashes, and each session's in order.
func TestOutbox_several_relays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const journeys, relays = 200, 4
	bus := &busRecorder{}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var all []*outbox.Relay
	for range relays {
		repo := open(t, postgres.Options{URL: b.url, MaxConns: 4})
		relay, err := outbox.NewRelay(repo.Outbox(), bus, outbox.RelayOptions{PollMin: 5 * time.Millisecond, PollMax: 20 * time.Millisecond})
		require.NoError(t, err)
		all = append(all, relay)
		running.Go(func() { _ = relay.Run(ctx) })
	}
	for range journeys {
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
		}
		all[0].Nudge()
	}
	require.Eventually(t, func() bool { return bus.count() >= 3*journeys }, 30*time.Second, 10*time.Millisecond)
	stop()
	running.Wait()
	require.Equal(t, 3*journeys, bus.count(), "once each")
	last := map[sessions.ID]time.Time{}
	for _, e := range bus.events {
		require.True(t, e.At.After(last[e.SessionID]), "in order")
		last[e.SessionID] = e.At
	}
	require.Zero(t, value[int](t, b.sql, `SELECT count(*) FROM outbox WHERE published_at IS NULL`))
}

type busRecorder struct {
	mu     sync.Mutex
	events []sessions.Event
}

func (b *busRecorder) Publish(_ context.Context, rows []outbox.Row) []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, row := range rows {
		b.events = append(b.events, row.Event)
	}
	return make([]error, len(rows))
}

func (b *busRecorder) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.events)
}

func TestOnce(t *testing.T) {
	t.Parallel()
	once := func(t *testing.T, opts postgres.OnceOptions) (*postgres.Once, bundle) {
		t.Helper()
		b := setup(t)
		return postgres.NewOnce(b.Repository, opts), b
	}
	t.Run("has_one_effect", func(t *testing.T) {
		t.Parallel()
		o, _ := once(t, postgres.OnceOptions{})
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
		o, _ := once(t, postgres.OnceOptions{})
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
		o, _ := once(t, postgres.OnceOptions{})
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
		o, b := once(t, postgres.OnceOptions{})
		id := sessions.NewID()
		b.exec(t, `INSERT INTO consumed_events VALUES ('notify', $1, clock_timestamp() + interval '100 ms')`, string(id))
		n := 0
		do := func(context.Context) error { n++; return nil }
		require.ErrorIs(t, o.Once(t.Context(), "notify", id, do), outbox.ErrInProgress)
		require.Eventually(t, func() bool { return o.Once(t.Context(), "notify", id, do) == nil }, 5*time.Second, 10*time.Millisecond)
		require.Equal(t, 1, n)
	})
	t.Run("late_failure_leaves_another_calls_lease", func(t *testing.T) {
		t.Parallel()
		o, b := once(t, postgres.OnceOptions{})
		id := sessions.NewID()
		require.Error(t, o.Once(t.Context(), "notify", id, func(context.Context) error {
			b.exec(t, `UPDATE consumed_events SET locked_until = clock_timestamp() + interval '1 h'`)
			return errors.New("late")
		}))
		require.Equal(t, 1, value[int](t, b.sql, `SELECT count(*) FROM consumed_events`))
	})
	t.Run("sweep", func(t *testing.T) {
		t.Parallel()
		o, b := once(t, postgres.OnceOptions{Window: time.Hour})
		for range 3 {
			require.NoError(t, o.Once(t.Context(), "notify", sessions.NewID(), func(context.Context) error { return nil }))
		}
		require.Zero(t, must(o.Sweep(t.Context(), 10)))
		b.exec(t, `UPDATE consumed_events SET done_at = now() - interval '2 hours'`)
		require.Equal(t, 2, must(o.Sweep(t.Context(), 2)))
		require.Equal(t, 1, must(o.Sweep(t.Context(), 2)))
	})
}
