package postgres_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// BenchmarkAddCounts is one call of a FixCounter's flush, 500 journeys under way.
func BenchmarkAddCounts(b *testing.B) {
	repo := setup(b)
	list := make([]sessions.JourneyCounts, 500)
	for i := range list {
		s := repo.booked(b)
		_, err := repo.Change(b.Context(), s.ID, start)
		require.NoError(b, err)
		list[i] = sessions.JourneyCounts{Ref: s.Journey().Ref, Counts: sessions.Counts{Accepted: 6, DistanceM: 300.5, LastSeen: noon}}
		list[i].FixToEye.Count(1)
	}
	for b.Loop() {
		require.NoError(b, repo.AddCounts(b.Context(), list))
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(list)), "us/journey")
}
