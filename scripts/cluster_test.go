package scripts

import (
	"testing"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions/livetest"
)

// The contract of a live store holds on a cluster, too.
func TestCluster(t *testing.T) {
	t.Parallel()
	cluster := valkeytest.Cluster(t, valkeyserver.ClusterOptions{})
	t.Run("Store", func(t *testing.T) { livetest.Run(t, virtualOn(cluster.URL())) })
	t.Run("Histories", func(t *testing.T) { livetest.Histories(t, virtualOn(cluster.URL())) })
}
