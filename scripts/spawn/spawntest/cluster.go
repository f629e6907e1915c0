package spawntest

import (
	"testing"
	"time"

	"doorstep/scripts/spawn"
)

// Cluster starts a Valkey cluster that is this test's alone, and stops it when
// the test ends.
func Cluster(t testing.TB, with spawn.ClusterOptions) *spawn.Cluster {
	t.Helper()
	with.Path = options(t, spawn.Valkey).Path
	c, err := spawn.StartCluster(t.Context(), with)
	if err != nil {
		t.Fatal(err)
	}
	stopWith(t, c)
	return c
}

// Watched starts a primary, a replica and three sentinels that are this test's
// alone, and stops them when the test ends.
func Watched(t testing.TB, deadAfter time.Duration) *spawn.Watched {
	t.Helper()
	w, err := spawn.StartWatched(t.Context(), options(t, spawn.Valkey).Path, deadAfter)
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
