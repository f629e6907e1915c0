package valkeytest

import (
	"testing"
	"time"

	"doorstep/internal/servers/valkeyserver"
)

// Cluster starts a Valkey cluster that is this test's alone, and stops it when
// the test ends.
func Cluster(t testing.TB, with valkeyserver.ClusterOptions) *valkeyserver.Cluster {
	t.Helper()
	with.Path = options(t, valkeyserver.Valkey).Path
	c, err := valkeyserver.StartCluster(t.Context(), with)
	if err != nil {
		t.Fatal(err)
	}
	stopWith(t, c)
	return c
}

// Watched starts a primary, a replica and three sentinels that are this test's
// alone, and stops them when the test ends.
func Watched(t testing.TB, deadAfter time.Duration) *valkeyserver.Watched {
	t.Helper()
	w, err := valkeyserver.StartWatched(t.Context(), options(t, valkeyserver.Valkey).Path, deadAfter)
	if err != nil {
		t.Fatal(err)
	}
	stopWith(t, w)
	return w
}

func stopWith(t testing.TB, s interface{ Stop() error }) {
	t.Helper()
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
}
