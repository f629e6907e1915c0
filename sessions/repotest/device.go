package repotest

import (
	"crypto/sha256"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

func phone(trainer sessions.ID, at time.Time) sessions.Device {
	return sessions.Device{
		ID: sessions.NewID(), TrainerID: trainer, Name: strings.Repeat("é", 64), Format: sessions.OwnTracks,
		SecretHash: sha256.Sum256([]byte(sessions.NewID())), CreatedAt: at, LastUsedAt: at,
	}
}

func (f Fixture) putDevice(t testing.TB, d sessions.Device) sessions.Device {
	t.Helper()
	require.NoError(t, f.Repo.PutDevice(t.Context(), d))
	return d
}

func (f Fixture) phones(t testing.TB, trainer sessions.ID) []sessions.Device {
	t.Helper()
	list, err := f.Repo.DevicesOf(t.Context(), trainer)
	require.NoError(t, err)
	return list
}

var deviceTests = map[string]func(*testing.T, Fixture){
	"as_stored": func(t *testing.T, f Fixture) {
		trainer := sessions.NewID()
		require.Empty(t, f.phones(t, trainer))
		old, young := f.putDevice(t, phone(trainer, now)), phone(trainer, now.Add(time.Second))
		young.Format, young.Name = sessions.Overland, ""
		f.putDevice(t, young)
		other := f.putDevice(t, phone(sessions.NewID(), now))
		require.Equal(t, []sessions.Device{young, old}, f.phones(t, trainer))
		found, err := f.Repo.Devices(t.Context(), []sessions.ID{old.ID, other.ID, sessions.NewID()})
		require.NoError(t, err)
		require.Equal(t, map[sessions.ID]sessions.Device{old.ID: old, other.ID: other}, found)
	},
	"formats": func(t *testing.T, f Fixture) {
		for _, format := range sessions.Formats() {
			d := phone(sessions.NewID(), now)
			d.Format = format
			f.putDevice(t, d)
		}
	},
	"ten_a_trainer": func(t *testing.T, f Fixture) {
		trainer := sessions.NewID()
		var each sync.WaitGroup
		refused := make(chan error, 2*sessions.MaxDevices)
		for range 2 * sessions.MaxDevices {
			each.Go(func() {
				if err := f.Repo.PutDevice(t.Context(), phone(trainer, now)); err != nil {
					refused <- err
				}
			})
		}
		each.Wait()
		close(refused)
		require.Len(t, refused, sessions.MaxDevices)
		for err := range refused {
			requireCode(t, sessions.TooManyDevices, err)
		}
		list := f.phones(t, trainer)
		require.Len(t, list, sessions.MaxDevices)
		require.NoError(t, f.Repo.DeleteDevice(t.Context(), trainer, list[0].ID))
		f.putDevice(t, phone(trainer, now))
	},
	"deleted_by_its_trainer_only": func(t *testing.T, f Fixture) {
		d := f.putDevice(t, phone(sessions.NewID(), now))
		require.NoError(t, f.Repo.DeleteDevice(t.Context(), sessions.NewID(), d.ID))
		require.Len(t, f.phones(t, d.TrainerID), 1)
		for range 2 {
			require.NoError(t, f.Repo.DeleteDevice(t.Context(), d.TrainerID, d.ID))
			require.Empty(t, f.phones(t, d.TrainerID))
		}
	},
	"used": func(t *testing.T, f Fixture) {
		d := f.putDevice(t, phone(sessions.NewID(), now))
		other := f.putDevice(t, phone(sessions.NewID(), now))
		for _, at := range []time.Time{now.Add(time.Hour + time.Microsecond), now.Add(time.Minute)} {
			require.NoError(t, f.Repo.DevicesUsed(t.Context(), map[sessions.ID]time.Time{d.ID: at, sessions.NewID(): at}))
		}
		d.LastUsedAt = now.Add(time.Hour)
		require.Equal(t, []sessions.Device{d}, f.phones(t, d.TrainerID), "the latest use")
		require.Equal(t, []sessions.Device{other}, f.phones(t, other.TrainerID))
	},
	"running_sessions": func(t *testing.T, f Fixture) {
		running, over, idle := f.create(t, booking()), f.create(t, booking()), f.create(t, booking())
		for _, s := range []sessions.Session{running, over} {
			_, err := f.Repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
				s.Region = "eu"
				return s.Start("", now)
			})
			require.NoError(t, err)
		}
		_, err := f.stop(t, over.ID, now.Add(time.Minute))
		require.NoError(t, err)
		found, err := f.Repo.RunningSessions(t.Context(), []sessions.ID{running.TrainerID, over.TrainerID, idle.TrainerID, sessions.NewID()})
		require.NoError(t, err)
		require.Equal(t, map[sessions.ID]sessions.RunningSession{running.TrainerID: {SessionID: running.ID, Region: "eu"}}, found)
	},
}
