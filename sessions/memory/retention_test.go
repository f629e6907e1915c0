package memory_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
	"doorstep/sessions/memory"
)

func TestRepository_DeleteOld(t *testing.T) {
	t.Parallel()
	repo, now, user := memory.NewRepository(nil), time.Now(), sessions.NewID()
	for i, token := range []string{"old", "older", "young"} {
		require.NoError(t, repo.PutPushToken(t.Context(), sessions.PushToken{Token: token, UserID: user, RegisteredAt: now.AddDate(0, 0, 10*i-31)}))
	}
	require.NoError(t, repo.PutPushToken(t.Context(), sessions.PushToken{Token: "used", UserID: user, RegisteredAt: now.AddDate(-1, 0, 0)}))
	require.NoError(t, repo.PushTokenUsed(t.Context(), user, "used", now))
	for days := range 3 {
		at := now.AddDate(0, 0, -20*days)
		_, _, err := repo.RecordJourney(t.Context(), sessions.Event{Type: sessions.JourneyStarted, SessionID: user, TrainerID: user, At: at, JourneyStartedAt: at})
		require.NoError(t, err)
	}
	gone := func(kind sessions.Kept, limit int) int {
		n, mine, err := repo.DeleteOld(t.Context(), kind, 15*24*time.Hour, limit)
		require.NoError(t, err)
		require.True(t, mine)
		return n
	}
	require.Equal(t, 1, gone(sessions.UnusedPushTokens, 1))
	require.Equal(t, 1, gone(sessions.UnusedPushTokens, 10))
	list, err := repo.PushTokensOf(t.Context(), user)
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, 2, gone(sessions.JourneyRecords, 10))
	for _, days := range []int{20, 1} {
		require.NoError(t, repo.PutDevice(t.Context(), sessions.Device{ID: sessions.NewID(), TrainerID: user, LastUsedAt: now.AddDate(0, 0, -days)}))
	}
	require.Equal(t, 1, gone(sessions.UnusedDevices, 10))
	for _, days := range []int{20, 1} {
		session, _, err := repo.Create(t.Context(), sessions.Session{ID: sessions.NewID(), TrainerID: user, Status: sessions.Scheduled})
		require.NoError(t, err)
		require.NoError(t, repo.PutShareLink(t.Context(), session.ID, false, func(sessions.Session) (sessions.ShareLink, error) {
			return sessions.ShareLink{ID: sessions.NewID(), TokenHash: sessions.HashLinkToken(string(session.ID)), CreatedAt: now.AddDate(0, 0, -days)}, nil
		}))
	}
	require.Equal(t, 1, gone(sessions.OldShareLinks, 10))
	for _, kind := range sessions.AllKept() {
		require.Zero(t, gone(kind, 10), kind)
	}
}

// The ids of events that were recorded are forgotten in the same way.
func TestRepository_DeleteOld_recorded(t *testing.T) {
	t.Parallel()
	repo := memory.NewRepository(nil)
	s := sessions.Session{ID: sessions.NewID(), TrainerID: sessions.NewID(), StudentID: sessions.NewID(), Status: sessions.Scheduled}
	_, _, err := repo.Create(t.Context(), s)
	require.NoError(t, err)
	e := sessions.Event{ID: sessions.NewID(), Type: sessions.LocationSuspicious, SessionID: s.ID}
	record := func() bool {
		first, err := repo.Record(t.Context(), e)
		require.NoError(t, err)
		return first
	}
	require.True(t, record())
	require.False(t, record())
	n, _, err := repo.DeleteOld(t.Context(), sessions.DoneEvents, time.Hour, 10)
	require.NoError(t, err)
	require.Zero(t, n)
	require.False(t, record())
	n, _, err = repo.DeleteOld(t.Context(), sessions.DoneEvents, -time.Second, 10)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.True(t, record())
}
