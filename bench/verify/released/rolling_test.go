// Package released tests this version beside the last released one, which .ci/released
// names: a rolling update and a roll-back under load, on one PostgreSQL and one Valkey.
package released

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5" // it looks behind the outbox, which no code of the product does
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"doorstep/bench/rig"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

var (
	journeys = flag.Int("journeys", 40, "journeys at the same time")
	long     = flag.Bool("long", false, "ten times as many fixes in each phase")
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// rolling is gateways of both versions, and the load on those that take requests.
type rolling struct {
	*testing.T
	ctx      context.Context // ends when a journey has failed
	dsn      string
	settings []string
	all      []*rig.Gateway
	admin    *rig.Caller
	http     *http.Client
	closing  chan struct{} // closed: journeys end, and no more begin
	seen     atomic.Int64  // fixes that were answered 201 and then seen by the reader
	arrived  atomic.Int64  // journeys

	mu       sync.Mutex
	serving  []*rig.Gateway
	finished map[sessions.ID]finished
	repeated map[string]int // calls that were made again, by the answer
}

// finished is what the database must know of a journey.
type finished struct {
	reason sessions.EndReason
	stored int64 // fixes
}

// TestRollingUpdate goes from the released version to this one and back. It starts and
// stops gateways as behind a load balancer that asks /readyz.
func TestRollingUpdate(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	old := buildReleased(ctx, t)
	current, err := rig.Build(ctx)
	require.NoError(t, err)
	defer current.Remove()
	began := time.Now()
	playing, playCtx := errgroup.WithContext(ctx)
	r := &rolling{
		T: t, ctx: playCtx, dsn: postgrestest.New(t), closing: make(chan struct{}), finished: map[sessions.ID]finished{}, repeated: map[string]int{},
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4 * *journeys}},
	}
	r.settings = []string{
		"DATABASE_URL=" + r.dsn, "VALKEY_URL=" + valkeytest.Private(t, valkeyserver.Valkey).URL(),
		"VALKEY_TIMEOUT=3s", "RATE_INTERVAL=100ms", "DRAIN_DELAY=300ms",
	}
	r.admin, err = rig.NewCaller(sessions.Admin, r.http)
	require.NoError(t, err)

	r.migrate(old)
	before := r.count(`SELECT max(version) FROM doorstep_migrations`)
	first := r.start(old)
	for lane := range *journeys {
		playing.Go(func() error { return r.lane(lane) })
	}
	defer func() { cancel(); _ = playing.Wait() }() // where the test ends early
	r.phase("the released version")
	r.migrate(current)
	second := r.start(current)
	r.phase("both")
	r.stop(first)
	for opened := time.Now(); time.Since(opened) < rig.Ride; { // so that journeys arrive that this one has opened
		r.phase("this version")
	}
	if r.count(`SELECT max(version) FROM doorstep_migrations`) == before { // no new step: a made-up one
		r.count(`INSERT INTO doorstep_migrations (version, name) SELECT max(version) + 1, 'newer' FROM doorstep_migrations RETURNING version`)
	}
	assert.Contains(t, r.migrate(old), "newer", "it may run again after a roll-back")
	third := r.start(old)
	r.phase("both, to roll back")
	r.stop(second)
	r.phase("the released version again")
	close(r.closing)
	require.NoError(t, playing.Wait())
	// A claim that a stopped gateway has left holds for 30 s, and a row's retries come on top.
	for closed := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		waiting := r.waiting()
		if len(waiting) == 0 {
			break
		}
		require.Less(t, time.Since(closed), 4*patience, "events are not delivered: %s", strings.Join(waiting, "\n"))
	}
	r.stop(third)
	r.check()
	t.Logf("%d journeys, %d fixes, repeated calls %v; %s", len(r.finished), r.seen.Load(), r.repeated, time.Since(began).Round(time.Second))
}

func (r *rolling) closed() bool {
	select {
	case <-r.closing:
		return true
	default:
		return false
	}
}

// gateways are those that take requests now.
func (r *rolling) gateways() []*rig.Gateway {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.serving)
}

// migrate runs "gateway migrate", which must exit with 0, and returns what it prints.
func (r *rolling) migrate(p *rig.Program) string {
	r.Helper()
	cmd := exec.CommandContext(r.Context(), p.Path(), "migrate")
	cmd.Env = []string{"DOORSTEP_DATABASE_URL=" + r.dsn}
	out, err := cmd.CombinedOutput()
	require.NoError(r, err, "%s", out)
	return string(out)
}

func (r *rolling) start(p *rig.Program) *rig.Gateway {
	r.Helper()
	g, err := p.Start(r.Context(), r.settings...)
	require.NoError(r, err)
	r.Cleanup(func() { _ = g.Kill() })
	r.all = append(r.all, g)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serving = append(r.serving, g)
	return g
}

// stop drains a gateway, which takes requests until /readyz refuses them.
func (r *rolling) stop(g *rig.Gateway) {
	r.Helper()
	ended := make(chan error, 1)
	go func() { ended <- g.Stop(r.Context()) }()
	require.Eventually(r, func() bool { return !g.Ready(r.Context()) }, patience, 5*time.Millisecond)
	r.mu.Lock()
	r.serving = slices.DeleteFunc(r.serving, func(other *rig.Gateway) bool { return other == g })
	r.mu.Unlock()
	require.NoError(r, <-ended, "the exit after SIGTERM")
}

// phase returns when the journeys have had ten more fixes each, on average, and some
// more have arrived.
func (r *rolling) phase(name string) {
	r.Helper()
	n := int64(*journeys * 10)
	if *long {
		n *= 10
	}
	began := time.Now()
	seen, arrived := r.seen.Load()+n, r.arrived.Load()+int64(*journeys/8)
	for r.seen.Load() < seen || r.arrived.Load() < arrived {
		time.Sleep(5 * time.Millisecond)
		require.NoError(r, context.Cause(r.ctx), name)
	}
	r.Logf("%s: %d fixes in %s", name, r.seen.Load()-seen+n, time.Since(began).Round(time.Millisecond))
}

// check compares the database and the logs with what the callers know.
func (r *rolling) check() {
	r.Helper()
	assert.Zero(r, r.count(`SELECT (SELECT count(*) FROM outbox WHERE dead_at IS NOT NULL) + (SELECT count(*) FROM outbox_deliveries WHERE dead_at IS NOT NULL)`), "dead letters")
	assert.Equal(r, 3, r.count(`SELECT count(DISTINCT consumer) FROM outbox_deliveries`), "consumers")
	assert.Zero(r, r.count(`SELECT count(*) FROM outbox o CROSS JOIN (SELECT DISTINCT consumer FROM outbox_deliveries) c
		LEFT JOIN outbox_deliveries d USING (consumer, seq) WHERE d.published_at IS NULL`), "deliveries that were not made or not done")

	var id, events string
	var accepted int64
	r.query(`SELECT o.session_id::text, concat_ws(' ', count(*) FILTER (WHERE o.type = 'TrainerJourneyStarted'),
			count(*) FILTER (WHERE o.type = 'TrainerJourneyEnded'), max(o.detail ->> 'reason'), max(j.reason)), coalesce(max(j.fixes_accepted), 0)
		FROM outbox o LEFT JOIN journey_analytics j USING (session_id) GROUP BY 1`, []any{&id, &events, &accepted}, func() {
		want := r.finished[sessions.ID(id)]
		assert.Equal(r, "1 1 "+string(want.reason)+" "+string(want.reason), events, "starts, ends, reason, reason in its analytics row; journey %s", id)
		assert.GreaterOrEqual(r, accepted, want.stored, "fixes in the analytics row of journey %s", id)
		want.stored = -1
		r.finished[sessions.ID(id)] = want
	})
	for id, journey := range r.finished {
		assert.Equal(r, int64(-1), journey.stored, "journey %s has no events", id)
	}

	pushes := map[string]int{}
	for _, g := range r.all {
		for line := range strings.Lines(g.Log()) {
			var entry map[string]any
			require.NoError(r, json.Unmarshal([]byte(line), &entry), line)
			assert.NotEqual(r, "ERROR", entry["level"], line)
			if strings.HasPrefix(fmt.Sprint(entry["msg"]), "push not sent") {
				push := fmt.Sprint(entry["kind"], " of ", entry["session_id"])
				pushes[push]++
				assert.Equal(r, 1, pushes[push], "pushes for one event: %s", push)
			}
		}
	}
	assert.NotEmpty(r, pushes)
}

// waiting describes the events and deliveries that are not done.
func (r *rolling) waiting() (rows []string) {
	r.Helper()
	var row string
	r.query(`SELECT to_jsonb(o)::text FROM outbox o WHERE published_at IS NULL
		UNION ALL SELECT to_jsonb(d)::text FROM outbox_deliveries d WHERE published_at IS NULL`,
		[]any{&row}, func() { rows = append(rows, row) })
	return rows
}

// count runs a statement that returns one number.
func (r *rolling) count(sql string) (n int) {
	r.Helper()
	r.query(sql, []any{&n}, func() {})
	return n
}

func (r *rolling) query(sql string, into []any, each func()) {
	r.Helper()
	conn, err := pgx.Connect(r.Context(), r.dsn)
	require.NoError(r, err)
	defer func() { _ = conn.Close(context.WithoutCancel(r.Context())) }()
	rows, err := conn.Query(r.Context(), sql)
	require.NoError(r, err)
	_, err = pgx.ForEachRow(rows, into, func() error { each(); return nil })
	require.NoError(r, err)
}
