package scripts

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
)

// resumeWithin is how soon calls and waits must work again after the failover's
// end: one second, and what a busy machine with the race detector may add.
const resumeWithin = time.Second + 3*time.Second

// shortCalls is the gateway's own time-out, doubled for a busy machine.
var shortCalls = Options{Live: brisk, Timeout: 500 * time.Millisecond}

func onURL(o Options, url string) Options { o.URL = url; return o }

// slotCount is the number of slots of a cluster.
const slotCount = 16384

// slotOf asks a server of a cluster for the slot of a key.
func slotOf(t *testing.T, server *valkeyserver.Server, key string) int {
	t.Helper()
	text, err := server.Do(t.Context(), "CLUSTER", "KEYSLOT", key)
	require.NoError(t, err)
	slot, err := strconv.Atoi(text)
	require.NoError(t, err)
	return slot
}

// failOver has traffic on a cluster, does hurt to its first primary, and returns
// once that has a successor.
func failOver(t *testing.T, hurt func(*valkeyserver.Server) error) (tr *traffic, cluster *valkeyserver.Cluster, took time.Duration) {
	t.Helper()
	cluster = valkeytest.Cluster(t, valkeyserver.ClusterOptions{})
	s := connected(t, onURL(shortCalls, cluster.URL()))
	tr = rush(t, s, 60)
	require.NoError(t, hurt(cluster.Servers[0]))
	began := time.Now()
	_, err := cluster.Successor(t.Context(), cluster.Servers[0], 0)
	require.NoError(t, err)
	return tr, cluster, time.Since(began)
}

// When a primary dies, its journeys go on within a second of the replica's
// promotion. The journeys of the other primaries never stop.
func TestCluster_primary_killed(t *testing.T) {
	t.Parallel()
	tr, cluster, failover := failOver(t, (*valkeyserver.Server).Kill)
	updates, waits := tr.untilFlow()
	failed, refused, backwards := tr.sums()
	t.Logf("failover %v, updates after %v more, waits after %v; %d updates unanswered, %d reads behind what was seen",
		failover.Round(time.Millisecond), updates, waits, failed, backwards)
	require.Less(t, waits, resumeWithin)
	require.Zero(t, refused)
	for _, r := range tr.rides {
		if slot := slotOf(t, cluster.Servers[1], journeyKey(r.Ref)); slot >= slotCount/3 {
			require.Zero(t, r.failed.Load(), "a journey of another primary, slot %d", slot)
		}
	}
	require.NoError(t, cluster.Servers[0].Restart(t.Context())) // it comes back as a replica
	tr.requireFlow()
}

// When a primary hangs, only the calls for its journeys run into the time-out.
func TestCluster_primary_stalled(t *testing.T) {
	t.Parallel()
	tr, cluster, failover := failOver(t, (*valkeyserver.Server).Pause)
	updates, waits := tr.untilFlow()
	t.Logf("failover %v, updates after %v more, waits after %v", failover.Round(time.Millisecond), updates, waits)
	require.Less(t, waits, resumeWithin)
	require.NoError(t, cluster.Servers[0].Resume())
	tr.requireFlow()
	_, refused, _ := tr.sums()
	require.Zero(t, refused)
}

// While slots move, the journeys in them lose no update, and none is refused.
func TestCluster_slots_moved(t *testing.T) {
	t.Parallel()
	cluster := valkeytest.Cluster(t, valkeyserver.ClusterOptions{})
	s := connected(t, Options{URL: cluster.URL(), Live: brisk})
	tr := rush(t, s, 60)
	for round := range 2 {
		for _, r := range tr.rides {
			slot := slotOf(t, cluster.Servers[0], journeyKey(r.Ref))
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

// When an operator has another server made the primary, calls and wake-ups follow, though the old one lives and keeps
// its connections for some seconds.
func TestSentinel_failover_as_planned(t *testing.T) {
	t.Parallel()
	watched := valkeytest.Watched(t, time.Second)
	s := connected(t, onURL(shortCalls, watched.URL()))
	tr := rush(t, s, 60)
	_, err := watched.Sentinels[0].Do(t.Context(), "SENTINEL", "FAILOVER", valkeyserver.MasterSet)
	require.NoError(t, err)
	began := time.Now()
	_, err = watched.Successor(t.Context())
	require.NoError(t, err)
	failover := time.Since(began)
	updates, waits := tr.untilFlow()
	t.Logf("failover %v, updates after %v more, waits after %v", failover.Round(time.Millisecond), updates, waits)
	require.Less(t, waits, resumeWithin)
	_, refused, _ := tr.sums()
	require.Zero(t, refused)
}

// When the sentinels name another primary, calls and wake-ups follow.
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
