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
	"doorstep/internal/servers/haproxy"
	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions"
)

var (
	journeys = flag.Int("journeys", 40, "journeys at the same time, which together send 200 fixes a second")
	gateways = flag.Int("gateways", 1, "gateways of a version")
	rounds   = flag.Int("rounds", 1, "rolling updates, with a roll-back after each")
	perPhase = flag.Int("fixes", 6, "fixes in each phase, for each journey on average")
	quiet    = flag.Duration("quiet", 0, "time between two fixes of the journeys that last for the whole run; 0: as the others")
	alb      = flag.Bool("alb", false, "health checks and DRAIN_DELAY as behind an AWS load balancer")
	faults   = flag.Bool("faults", false, "fail PostgreSQL over, change its password and kill the Valkey primary, once each")
	table    = flag.String("table", "", "write the table to this file")
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// rolling is gateways of both versions behind HAProxy, and the load on them.
type rolling struct {
	*testing.T
	stores
	ledger
	ctx      context.Context // ends when a journey has failed
	current  *rig.Program
	settings []string
	all      []*rig.Gateway
	places   []haproxy.Backend
	front    *haproxy.Server
	caller   *rig.Caller // an admin
	http     *http.Client
	closing  chan struct{} // closed: journeys end, and no more begin
	seen     atomic.Int64  // fixes that were answered 201 and then seen by the reader
	lost     atomic.Int64  // fixes that were answered 201 and died with the live store's primary
	arrived  atomic.Int64  // journeys

	mu       sync.Mutex
	serving  []*member
	finished map[sessions.ID]finished
	played   []fault
	failures []haproxy.Failure
}

// finished is what the database must know of a journey.
type finished struct {
	reason sessions.EndReason
	stored int64 // fixes
}

// TestRollingUpdate goes from the released version to this one and back, by HAProxy, which
// stands for the operator's load balancer.
func TestRollingUpdate(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(8*max(1, *rounds))*time.Minute)
	defer cancel()
	old := buildReleased(ctx, t)
	current, err := rig.Build(ctx)
	require.NoError(t, err)
	defer current.Remove()
	began := time.Now()
	playing, playCtx := errgroup.WithContext(ctx)
	r := &rolling{
		T: t, ctx: playCtx, current: current, closing: make(chan struct{}), finished: map[sessions.ID]finished{}, ledger: newLedger(),
		// A connection for each call: on a used one both HAProxy and net/http would hide a
		// gateway's cut, and send a read again.
		http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
	r.store()
	r.settings = []string{"VALKEY_URL=" + r.valkey, "VALKEY_TIMEOUT=3s", "RATE_INTERVAL=100ms", "DRAIN_DELAY=2s"}
	if *alb {
		r.settings = append(r.settings[:3], "DRAIN_DELAY=17s", "DRAIN_TIMEOUT=30s") // three checks, every 5 s
	}
	r.caller, err = rig.NewCaller(sessions.Admin, r.http)
	require.NoError(t, err)

	r.migrate(old)
	before := r.count(`SELECT max(version) FROM doorstep_migrations`)
	r.balance()
	for range *gateways {
		r.start(old)
	}
	for lane := range *journeys {
		playing.Go(func() error { return r.lane(lane) })
	}
	defer func() { cancel(); _ = playing.Wait() }() // where the test ends early
	r.phase("the released version")
	for round := range *rounds {
		r.Logf("round %d of %d, %s", round+1, *rounds, time.Since(began).Round(time.Second))
		update, alone, back := r.faultsOf(round)
		r.migrate(current)
		r.roll("both", current, update)
		if alone != nil {
			alone()
		}
		opened := time.Now()
		r.phase("this version")
		for round == 0 && time.Since(opened) < max(rig.Ride, fixes*pace()) { // until journeys arrive that this one has opened
			r.phase("this version")
		}
		if r.count(`SELECT max(version) FROM doorstep_migrations`) == before { // no new step: a made-up one
			r.count(`INSERT INTO doorstep_migrations (version, name) SELECT max(version) + 1, 'newer' FROM doorstep_migrations RETURNING version`)
		}
		assert.Contains(t, r.migrate(old), "newer", "it may run again after a roll-back")
		r.roll("both, to roll back", old, back)
		r.phase("the released version again")
	}
	close(r.closing)
	require.NoError(t, playing.Wait())
	took := time.Since(began)
	r.start(current) // for events that the released version does not know, and what waits behind them
	// A claim that a stopped gateway has left holds for 30 s, and a row's retries come on top.
	for closed := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		waiting := r.waiting()
		if len(waiting) == 0 {
			break
		}
		require.Less(t, time.Since(closed), 4*patience, "events are not delivered: %s", strings.Join(waiting, "\n"))
	}
	stats, err := r.front.Stats(ctx)
	require.NoError(t, err)
	for _, m := range r.members() {
		require.NoError(t, m.Stop(ctx))
	}
	r.judge(stats[haproxy.All], took, r.check())
}

func (r *rolling) closed() bool {
	select {
	case <-r.closing:
		return true
	default:
		return false
	}
}

// migrate runs "gateway migrate", which must exit with 0, and returns what it prints.
func (r *rolling) migrate(p *rig.Program) string {
	r.Helper()
	cmd := exec.CommandContext(r.Context(), p.Path(), "migrate")
	cmd.Env = []string{"DOORSTEP_DATABASE_URL=" + r.database}
	out, err := cmd.CombinedOutput()
	require.NoError(r, err, "%s", out)
	return string(out)
}

// phase returns when the journeys have had some more fixes, and some more have arrived.
func (r *rolling) phase(name string) {
	r.Helper()
	n := int64(*journeys * *perPhase)
	began := time.Now()
	seen, arrived := r.seen.Load()+n, r.arrived.Load()+n/80
	for r.seen.Load() < seen || r.arrived.Load() < arrived {
		time.Sleep(5 * time.Millisecond)
		require.NoError(r, context.Cause(r.ctx), name)
	}
	r.Logf("%s: %d fixes in %s", name, r.seen.Load()-seen+n, time.Since(began).Round(time.Millisecond))
}

// check compares the database and the logs with what the callers know. It returns what it
// has counted.
func (r *rolling) check() string {
	r.Helper()
	assert.Zero(r, r.count(`SELECT (SELECT count(*) FROM outbox WHERE dead_at IS NOT NULL) + (SELECT count(*) FROM outbox_deliveries WHERE dead_at IS NOT NULL)`), "dead letters")
	assert.Equal(r, 3, r.count(`SELECT count(DISTINCT consumer) FROM outbox_deliveries`), "consumers")
	assert.Zero(r, r.count(`SELECT count(*) FROM outbox o CROSS JOIN (SELECT DISTINCT consumer FROM outbox_deliveries) c
		LEFT JOIN outbox_deliveries d USING (consumer, seq) WHERE d.published_at IS NULL`), "deliveries that were not made or not done")

	var id, events string
	var accepted, mayLack int64
	if *faults { // the count of the last one died with the live store's primary
		mayLack = 1
	}
	r.query(`SELECT o.session_id::text, concat_ws(' ', count(*) FILTER (WHERE o.type = 'TrainerJourneyStarted'),
			count(*) FILTER (WHERE o.type = 'TrainerJourneyEnded'), max(o.detail ->> 'reason'), max(j.reason)), coalesce(max(j.fixes_accepted), 0)
		FROM outbox o LEFT JOIN journey_analytics j USING (session_id) GROUP BY 1`, []any{&id, &events, &accepted}, func() {
		want := r.finished[sessions.ID(id)]
		assert.Equal(r, "1 1 "+string(want.reason)+" "+string(want.reason), events, "starts, ends, reason, reason in its analytics row; journey %s", id)
		assert.GreaterOrEqual(r, accepted+mayLack, want.stored, "fixes in the analytics row of journey %s", id)
		want.stored = -1
		r.finished[sessions.ID(id)] = want
	})
	for id, journey := range r.finished {
		assert.Equal(r, int64(-1), journey.stored, "journey %s has no events", id)
	}

	pushes, odd, again := map[string]int{}, map[string]int{}, 0
	for _, g := range r.all {
		for line := range strings.Lines(g.Log()) {
			var entry map[string]any
			require.NoError(r, json.Unmarshal([]byte(line), &entry), line)
			if entry["level"] == "ERROR" {
				odd[fmt.Sprint(entry["msg"])]++
				assert.True(r, *faults, line)
			}
			if strings.HasPrefix(fmt.Sprint(entry["msg"]), "push not sent") {
				push := fmt.Sprint(entry["kind"], " of ", entry["session_id"])
				pushes[push]++
				if pushes[push] > 1 { // the push and its mark in the database are two things
					again++
					assert.True(r, *faults, "pushes for one event: %s", push)
				}
			}
		}
	}
	assert.NotEmpty(r, pushes)
	r.Logf("errors in the logs: %v", odd)
	return fmt.Sprintf("%d events, each delivered to 3 consumers, none a dead letter; %d pushes, %d of them twice",
		r.count(`SELECT count(*) FROM outbox`), len(pushes), again)
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
	conn := r.connect()
	rows, err := conn.Query(r.Context(), sql)
	require.NoError(r, err)
	_, err = pgx.ForEachRow(rows, into, func() error { each(); return nil })
	require.NoError(r, err)
	require.NoError(r, conn.Close(r.Context()))
}

// exec runs statements that return nothing of interest.
func (r *rolling) exec(statements ...string) {
	r.Helper()
	conn := r.connect()
	for _, sql := range statements {
		_, err := conn.Exec(r.Context(), sql)
		require.NoError(r, err, sql)
	}
	require.NoError(r, conn.Close(r.Context()))
}

func (r *rolling) connect() *pgx.Conn {
	r.Helper()
	conn, err := pgx.Connect(r.Context(), r.admin)
	require.NoError(r, err)
	return conn
}
