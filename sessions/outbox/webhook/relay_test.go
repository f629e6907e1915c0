package webhook_test

import (
	"context"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/outbox/outboxtest"
	"doorstep/sessions/outbox/webhook"
	"doorstep/sessions/postgres"
)

// soon bounds every wait in these tests.
const soon = 90 * time.Second

// quick is the relay's back-off, a thousand times as fast: 15 s become 15 ms.
var quick = outbox.RelayOptions{RetryBase: time.Millisecond, RetryCap: 20 * time.Millisecond, DownBase: time.Millisecond, DownCap: 15 * time.Millisecond}

// stored is a store that holds events for the receiver and for a consumer, "notify", both
// addressed already.
type stored func(t testing.TB, events []sessions.Event) outbox.Store

func inMemory(t testing.TB, events []sessions.Event) outbox.Store {
	t.Helper()
	m := outbox.NewMemory(webhook.Consumer)
	for _, e := range events {
		m.Record(e)
	}
	return m
}

func onPostgreSQL(t testing.TB, events []sessions.Event) outbox.Store {
	t.Helper()
	dsn := postgrestest.New(t)
	require.NoError(t, postgres.Migrate(t.Context(), dsn, nil))
	repo, err := postgres.Open(t.Context(), postgres.Options{URL: dsn, CallTimeout: 20 * time.Second})
	require.NoError(t, err)
	t.Cleanup(repo.Close)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	_, err = conn.CopyFrom(t.Context(), pgx.Identifier{"outbox"}, []string{"event_id", "session_id", "type", "detail"},
		pgx.CopyFromSlice(len(events), func(i int) ([]any, error) {
			e := events[i]
			return []any{string(e.ID), string(e.SessionID), string(e.Type), e.Detail()}, nil
		}))
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `INSERT INTO outbox_deliveries (consumer, seq, event_id, session_id, type, detail, created_at)
		SELECT $1, seq, event_id, session_id, type, detail, created_at FROM outbox`, webhook.Consumer)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	return repo.Outbox()
}

// counted is a consumer that counts.
type counted struct{ n atomic.Int32 }

func (c *counted) Handle(context.Context, sessions.Event) error { c.n.Add(1); return nil }

// carry runs a relay to the receiver and to notify until the test's end.
func carry(t testing.TB, store outbox.Store, w *webhook.Webhook, maxAttempts int) *counted {
	t.Helper()
	notify := &counted{}
	relay, err := outbox.NewRelay(store, []outbox.Destination{
		{Name: webhook.Consumer, To: w, Recorded: true, MaxAttempts: maxAttempts},
		{Name: "notify", To: outbox.ToHandler(notify)},
	}, quick)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = relay.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	return notify
}

// journeys is the events of n/4 sessions, four each, in the order of happening.
func journeys(n int) (events []sessions.Event) {
	ids := make([]sessions.ID, n/4)
	for i := range ids {
		ids[i] = sessions.NewID()
	}
	for i := range n {
		events = append(events, outboxtest.Event(ids[i%len(ids)], i))
	}
	return events
}

// A receiver is down for an hour, in every way that one can be, while 10,000 events wait.
// Nothing is lost, nothing overtakes, the other consumer notices nothing, and what is
// held in memory is what is in flight. The hour is 240 looks, the pause between two of
// which is 15 s at most and a thousandth of that here.
func TestRelay_receiver_down_for_an_hour(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]stored{"in_memory": inMemory, "on_PostgreSQL": onPostgreSQL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n, hour = 10_000, 240
			r := receive(t)
			ways := []http.HandlerFunc{
				hangUp, status(500), status(503), r.stall, status(404), status(302, "Location", "/elsewhere"), status(429),
			}
			var look atomic.Int64
			r.answers(func(w http.ResponseWriter, req *http.Request) {
				ways[int(look.Add(1))*len(ways)/(hour+1)%len(ways)](w, req) // one after the other
			})
			events := journeys(n)
			store := open(t, events)
			before := heap()
			w := to(t, r, func(o *webhook.Options) { o.Timeout, o.BreakerTimeout = 100*time.Millisecond, 5*time.Millisecond })
			notify := carry(t, store, w, 20)
			require.Eventually(t, func() bool { return look.Load() >= hour && notify.n.Load() == n }, soon, 5*time.Millisecond,
				"the other consumer has all while the receiver has none")
			require.Empty(t, r.got())
			grown := heap() - before
			t.Logf("%d looks; the heap has grown by %d KiB", look.Load(), grown>>10)
			assert.Less(t, grown, int64(32<<20))

			r.answers(nil)
			require.Eventually(t, func() bool { return waiting(t, store, webhook.Consumer) == 0 }, soon, 20*time.Millisecond)
			_, top := r.calls()
			assert.LessOrEqual(t, top, 8*10, "eight batches of ten in flight")
			inOrder(t, events, r.got())
		})
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// waiting is the rows that wait for a consumer; none of them may be dead.
func waiting(t testing.TB, store outbox.Store, consumer string) int {
	t.Helper()
	list, err := store.Backlog(t.Context(), []string{consumer})
	require.NoError(t, err)
	require.Zero(t, list[1].Dead)
	return list[1].Waiting
}

// inOrder checks that every event has come, the first time in the order of its session.
func inOrder(t testing.TB, events []sessions.Event, got []delivered) {
	t.Helper()
	want, came := map[sessions.ID][]sessions.ID{}, map[sessions.ID][]sessions.ID{}
	for _, e := range events {
		want[e.SessionID] = append(want[e.SessionID], e.ID)
	}
	seen := map[sessions.ID]bool{}
	for _, d := range got {
		if !seen[d.event.ID] {
			seen[d.event.ID] = true
			came[d.event.SessionID] = append(came[d.event.SessionID], d.event.ID)
		}
	}
	require.Equal(t, want, came)
}

// An event that the receiver can never take is given up after the usual number of tries:
// the later events of its session come, and nobody else's wait. It makes no difference
// whether the receiver refuses it or falls over it.
func TestRelay_event_that_is_never_taken(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]http.HandlerFunc{"refused": status(400), "a_crash": status(500), "a_closed_connection": hangUp} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const attempts = 5
			r, events := receive(t), journeys(80)
			bad := events[3]
			var tries atomic.Int32
			r.answers(func(w http.ResponseWriter, req *http.Request) {
				if req.Header.Get("Webhook-Id") == string(bad.ID) {
					tries.Add(1)
					fault(w, req)
				}
			})
			m := outbox.NewMemory(webhook.Consumer)
			carry(t, m, to(t, r), attempts)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			go func() { // events go on happening
				for _, e := range events {
					m.Record(e)
				}
				for ctx.Err() == nil {
					m.Record(outboxtest.Events(1)[0])
					<-time.After(2 * time.Millisecond)
				}
			}()
			require.Eventually(t, func() bool { return len(m.DeadLetters()) == 1 }, soon, 5*time.Millisecond)
			dead := m.DeadLetters()[0]
			require.Equal(t, webhook.Consumer, dead.To)
			require.Equal(t, bad.SessionID, dead.SessionID)
			require.Equal(t, attempts, dead.Attempts)
			require.GreaterOrEqual(t, int(tries.Load()), attempts)
			require.Eventually(t, func() bool {
				came := 0
				for _, d := range r.got() {
					if slices.ContainsFunc(events, func(e sessions.Event) bool { return e.ID == d.event.ID }) {
						came++
					}
				}
				return came >= len(events)-1
			}, soon, 20*time.Millisecond)
			require.Len(t, m.DeadLetters(), 1)
		})
	}
}

// A receiver can never take events of one kind, and several batches of those are older than
// all others. The others come all the same, and those are given up after the usual number of tries
// while events go on happening.
func TestRelay_kind_that_is_never_taken(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]http.HandlerFunc{
		"a_crash": status(500), "a_redirect": status(302, "Location", "/elsewhere"), "a_closed_connection": hangUp,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const attempts, bad, good = 5, 65, 40
			r, events := receive(t), outboxtest.Events(bad+good)
			never := map[string]bool{}
			for _, e := range events[:bad] {
				never[string(e.ID)] = true
			}
			r.answers(func(w http.ResponseWriter, req *http.Request) {
				if never[req.Header.Get("Webhook-Id")] {
					fault(w, req)
				}
			})
			m := outbox.NewMemory(webhook.Consumer)
			for _, e := range events {
				m.Record(e)
			}
			carry(t, m, to(t, r, func(o *webhook.Options) { o.BreakerTimeout = 5 * time.Millisecond }), attempts)
			require.Eventually(t, func() bool { return len(r.got()) == good }, soon, 5*time.Millisecond)
			more := 0
			require.Eventually(t, func() bool {
				m.Record(outboxtest.Events(1)[0])
				more++
				return len(m.DeadLetters()) == bad
			}, soon, 5*time.Millisecond)
			for _, d := range m.DeadLetters() {
				require.LessOrEqual(t, d.Seq, int64(bad))
				require.Equal(t, []any{webhook.Consumer, attempts}, []any{d.To, d.Attempts})
			}
			require.Eventually(t, func() bool { return len(r.got()) == good+more }, soon, 5*time.Millisecond)
		})
	}
}

// releases counts how often rows were given back.
type releases struct {
	outbox.Store
	n atomic.Int32
}

func (r *releases) Release(ctx context.Context, to string, seqs []int64, wait time.Duration) error {
	r.n.Add(1)
	return r.Store.Release(ctx, to, seqs, wait)
}

// While the receiver wants no more events they wait, and a restart finds them.
func TestRelay_receiver_gone(t *testing.T) {
	t.Parallel()
	r, events := receive(t), journeys(40)
	r.answers(status(http.StatusGone))
	store, m := &releases{Store: inMemory(t, events)}, &seen{}
	notify := carry(t, store, to(t, r, func(o *webhook.Options) { o.Metrics, o.BreakerTimeout = m, time.Millisecond }), 2) // it is not the breaker that holds them
	require.Eventually(t, func() bool { _, _, gone := m.read(); return gone == 1 && notify.n.Load() == 40 }, soon, time.Millisecond)
	sixLooks := func() {
		n := store.n.Load() + 6
		require.Eventually(t, func() bool { return store.n.Load() >= n }, soon, time.Millisecond, "it looks on")
	}
	sixLooks() // after which nothing is in flight
	tried, _ := r.calls()
	sixLooks()
	again, _ := r.calls()
	require.Equal(t, tried, again, "nothing is sent")
	require.Equal(t, 40, waiting(t, store, webhook.Consumer))
	r.answers(nil)
	carry(t, store, to(t, r), 2)
	require.Eventually(t, func() bool { return waiting(t, store, webhook.Consumer) == 0 }, soon, 5*time.Millisecond)
	inOrder(t, events, r.got())
}
