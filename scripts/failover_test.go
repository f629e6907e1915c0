package scripts

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
)

// resumeWithin is the promise of one second after the failover's end, and what
// a busy machine with the race detector may add.
const resumeWithin = time.Second + 3*time.Second

// shortCalls is the gateway's own time-out, doubled for a busy machine.
var shortCalls = Options{Live: brisk, Timeout: 500 * time.Millisecond}

func onURL(o Options, url string) Options { o.URL = url; return o }

// failOver has traffic on a cluster whose first primary is hurt, and returns once
// that has a successor.
func failOver(t *testing.T, hurt func(*valkeyserver.Server) error) (tr *traffic, first *valkeyserver.Server, took time.Duration) {
	t.Helper()
	cluster := valkeytest.Cluster(t, valkeyserver.ClusterOptions{})
	s := connected(t, onURL(shortCalls, cluster.URL()))
	tr, first = rush(t, s, 60), cluster.Servers[0]
	require.NoError(t, hurt(first))
	began := time.Now()
	_, err := cluster.Successor(t.Context(), first, 0)
	require.NoError(t, err)
	return tr, first, time.Since(began)
}

// A primary dies: its journeys go on by themselves within a second of the
// replica's promotion, the others' at no time stop.
func TestCluster_primary_killed(t *testing.T) {
	t.Parallel()
	tr, dead, failover := failOver(t, (*valkeyserver.Server).Kill)
	updates, waits := tr.untilFlow()
	failed, refused, backwards := tr.sums()
	t.Logf("failover %v, updates after %v more, waits after %v; %d updates unanswered, %d reads behind what was seen",
		failover.Round(time.Millisecond), updates, waits, failed, backwards)
	require.Less(t, waits, resumeWithin)
	require.Zero(t, refused)
	for _, r := range tr.rides {
		if slot := slotOf(journeyKey(r.Ref)); slot >= slotCount/3 {
			require.Zero(t, r.failed.Load(), "a journey of another server's, slot %d", slot)
		}
	}
	require.NoError(t, dead.Restart(t.Context())) // it comes back as a replica
	tr.requireFlow()
}

// A primary hangs: what it owes costs its callers their time-out, no others.
func TestCluster_primary_stalled(t *testing.T) {
	t.Parallel()
	tr, stalled, failover := failOver(t, (*valkeyserver.Server).Pause)
	updates, waits := tr.untilFlow()
	t.Logf("failover %v, updates after %v more, waits after %v", failover.Round(time.Millisecond), updates, waits)
	require.Less(t, waits, resumeWithin)
	require.NoError(t, stalled.Resume())
	tr.requireFlow()
	_, refused, _ := tr.sums()
	require.Zero(t, refused)
}

// Slots that move while journeys run in them lose no update and refuse none.
func TestCluster_slots_moved(t *testing.T) {
	t.Parallel()
	cluster := valkeytest.Cluster(t, valkeyserver.ClusterOptions{})
	s := connected(t, Options{URL: cluster.URL(), Live: brisk})
	tr := rush(t, s, 60)
	for round := range 2 {
		for _, r := range tr.rides {
			slot := int(slotOf(journeyKey(r.Ref)))
			from, err := cluster.Owner(t.Context(), slot)
			require.NoError(t, err)
			to := cluster.Servers[rand.IntN(3)]
			if to != from {
				require.NoError(t, cluster.Move(t.Context(), slot, from, to))
			}
		}
		updates, waits := tr.untilFlow()
		t.Logf("round %d: updates after %v, waits after %v", round, updates, waits)
		require.Less(t, waits, resumeWithin)
	}
	failed, refused, backwards := tr.sums()
	require.Zero(t, failed)
	require.Zero(t, refused)
	require.Zero(t, backwards)
}

// Sentinels name another primary: the store and its wake-ups follow.
func TestSentinel_primary_killed(t *testing.T) {
	t.Parallel()
	watched := valkeytest.Watched(t, time.Second)
	s := connected(t, onURL(shortCalls, watched.URL()))
	tr := rush(t, s, 60)
	require.NoError(t, watched.Servers[0].Kill())
	killed := time.Now()
	_, err := watched.Successor(t.Context())
	require.NoError(t, err)
	failover := time.Since(killed)
	updates, waits := tr.untilFlow()
	failed, refused, backwards := tr.sums()
	t.Logf("failover %v, updates after %v more, waits after %v; %d updates unanswered, %d reads behind what was seen",
		failover.Round(time.Millisecond), updates, waits, failed, backwards)
	require.Less(t, waits, resumeWithin)
	require.Zero(t, refused)
}
