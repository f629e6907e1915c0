package scripts

import (
	"testing"

	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions/livetest"
)

// All that holds on one server holds on a cluster.
func TestCluster(t *testing.T) {
	t.Parallel()
	cluster := valkeytest.Cluster(t, valkeyserver.ClusterOptions{})
	t.Run("Store", func(t *testing.T) { livetest.Run(t, virtualOn(cluster.URL())) })
	t.Run("Histories", func(t *testing.T) { livetest.Histories(t, virtualOn(cluster.URL())) })
	for name, test := range watchTests {
		t.Run("Watch/"+name, func(t *testing.T) { test(t, cluster.URL(), rawClient(t, cluster.URL())) })
	}
	t.Run("every_server_has_its_share", func(t *testing.T) {
		s := connected(t, Options{URL: cluster.Servers[1].URL()}) // one is enough to find the others
		require.Len(t, s.nodes.inUse(), 3)
	})
}
