package app_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/client"
	"doorstep/gateway/app"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

// A region that is cut off from the database serves its journeys until its lease ends, and
// goes on when it has a lease again. Its live store is there all the time. Without regions
// nothing of this happens.
func TestApp_lease(t *testing.T) {
	t.Parallel()
	for _, region := range []string{"eu", ""} {
		t.Run("region="+region, func(t *testing.T) {
			t.Parallel()
			database := postgrestest.Private(t)
			url := database.New(t)
			require.NoError(t, postgres.Migrate(t.Context(), url, nil))
			const leaseFor = 2 * time.Second
			a := started(t, settings(func(o *app.Options) {
				o.Region, o.ValkeyURL, o.DatabaseURL, o.RateInterval = region, valkeytest.Valkey(t), url, time.Millisecond
				app.WithLeaseFor(o, leaseFor)
			}))
			trainer, id := onTheWay(t, a)
			update := func() client.Verdict {
				r, err := trainer.Update(t.Context(), id, client.Fix{Point: client.Point{Latitude: 12.95, Longitude: 77.6245}})
				require.NoError(t, err)
				return r.Verdict
			}
			live := func() client.View {
				view, err := trainer.Live(t.Context(), id, client.ReadOptions{})
				require.NoError(t, err)
				return view
			}
			require.Equal(t, client.Stored, update())
			require.NotNil(t, live().Location)

			require.NoError(t, database.Pause())
			require.Equal(t, client.Stored, update(), "no update needs the database")
			if region == "" {
				time.Sleep(2 * leaseFor)
				require.Equal(t, client.Stored, update())
				require.NotNil(t, live().Location)
				require.NoError(t, database.Resume())
				return
			}
			require.Eventually(t, func() bool { return update() == client.NotStored }, patience, 50*time.Millisecond)
			view := live()
			require.True(t, view.Degraded)
			require.True(t, view.Active)
			require.Nil(t, view.Location)
			require.Equal(t, client.NotStored, update())

			require.NoError(t, database.Resume())
			require.Eventually(t, func() bool { return update() == client.Stored }, patience, 50*time.Millisecond)
			require.NotNil(t, live().Location)
		})
	}
}

// onTheWay is the trainer of a journey that has started.
func onTheWay(t *testing.T, a *app.App) (trainer *client.Client, id string) {
	t.Helper()
	as := func(role sessions.Role, user sessions.ID) *client.Client {
		token, err := a.Token(sessions.Caller{ID: user, Role: role}, time.Hour)
		require.NoError(t, err)
		c, err := client.New(client.Options{BaseURL: "http://" + a.Addr().String(), Token: client.StaticToken(token), HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
		require.NoError(t, err)
		return c
	}
	user := sessions.NewID()
	booked, err := as(sessions.Admin, sessions.NewID()).Book(t.Context(), client.Booking{
		TrainerID: string(user), StudentID: string(sessions.NewID()), StudentHome: client.Point{Latitude: 12.9352, Longitude: 77.6245},
	})
	require.NoError(t, err)
	trainer = as(sessions.Trainer, user)
	_, err = trainer.StartJourney(t.Context(), booked.SessionID, "")
	require.NoError(t, err)
	return trainer, booked.SessionID
}
