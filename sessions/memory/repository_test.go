package memory_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
	"doorstep/sessions/memory"
	"doorstep/sessions/repotest"
)

var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

func TestRepository(t *testing.T) { repotest.Run(t, repotest.Memory) }

// Against itself: what it proves is that the suite has no randomness of its own.
func TestRepository_Histories(t *testing.T) { repotest.Histories(t, repotest.Memory) }

func TestRepository_Change(t *testing.T) {
	t.Parallel()
	t.Run("tells_events_in_order_after_they_are_stored", func(t *testing.T) {
		t.Parallel()
		var told []sessions.Event
		repo := memory.NewRepository(func(e sessions.Event) { told = append(told, e) })
		s := sessions.Session{ID: sessions.NewID(), TrainerID: sessions.NewID(), Status: sessions.Scheduled, Home: geo.MustPoint(52, 5)}
		_, _, err := repo.Create(t.Context(), s)
		require.NoError(t, err)
		_, err = repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			started, _ := s.Start(sessions.Car, noon)
			ended, _ := s.Stop(sessions.EndTimeout, noon)
			return append(started, ended...), nil
		})
		require.NoError(t, err)
		require.Len(t, told, 2)
		require.Equal(t, sessions.JourneyEnded, told[1].Type)
	})
	t.Run("tells_nothing_of_a_refusal", func(t *testing.T) {
		t.Parallel()
		repo := memory.NewRepository(func(e sessions.Event) { t.Errorf("told of %v", e) })
		s := sessions.Session{ID: sessions.NewID(), Status: sessions.Cancelled}
		_, _, err := repo.Create(t.Context(), s)
		require.NoError(t, err)
		_, err = repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			return s.Start(sessions.Car, noon)
		})
		require.Equal(t, sessions.NotScheduled, sessions.CodeOf(err))
	})
}
