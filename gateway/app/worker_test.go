package app_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/internal/servers/awstest"
	"doorstep/scripts"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

// The end of a journey comes late: the journey runs again, and the live store has lost it.
// The worker of its region brings it back, with the student's home. A worker of another
// region must not, because that store would then have the home of a lesson elsewhere.
func TestWorker_leaves_journeys_of_other_regions_alone(t *testing.T) { //nolint:paralleltest // it sets the environment
	awstest.SetEnv(t.Setenv)
	o := settings(onServers(t))
	repo, err := postgres.Open(t.Context(), postgres.Options{URL: o.DatabaseURL})
	require.NoError(t, err)
	defer repo.Close()
	s, _, err := repo.Create(t.Context(), sessions.Session{
		ID: sessions.NewID(), TrainerID: sessions.NewID(), StudentID: sessions.NewID(), Status: sessions.Scheduled, Home: geo.MustPoint(52, 5), Mode: sessions.Car, Region: "us",
	})
	require.NoError(t, err)
	began := time.Now().Add(-time.Minute)
	var events []sessions.Event
	for _, step := range []func(*sessions.Session) ([]sessions.Event, error){
		func(s *sessions.Session) ([]sessions.Event, error) { return s.Start("", began) },
		func(s *sessions.Session) ([]sessions.Event, error) {
			return s.Stop(sessions.EndCancelled, began.Add(time.Second))
		},
		func(s *sessions.Session) ([]sessions.Event, error) { return s.Start("", began.Add(2*time.Second)) },
	} {
		s, err = repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			raised, err := step(s)
			events = append(events, raised...)
			return raised, err
		})
		require.NoError(t, err)
	}
	ended := events[1]
	require.Equal(t, sessions.JourneyEnded, ended.Type)

	live, err := scripts.New(scripts.Options{URL: o.ValkeyURL, Timeout: 2 * time.Second})
	require.NoError(t, err)
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- live.Run(ctx) }()
	defer func() { end(); <-done }()
	require.Eventually(t, live.Ready, patience, 5*time.Millisecond)

	for _, row := range []struct {
		region string
		opens  bool
	}{{"eu", false}, {"us", true}} { // in this order: they have one live store here
		t.Run(row.region, func(t *testing.T) { //nolint:paralleltest // as above
			aws := awstest.Start()
			t.Cleanup(aws.Close)
			for _, queue := range []string{"notify", "cleanup", "analytics"} {
				aws.Queue(queue, time.Minute, 5)
			}
			o := o
			o.Region = row.region
			startedWorker(t, o, aws)
			aws.Send("cleanup", fmt.Sprintf(`{"detail-type":%q,"detail":%s}`, ended.Type, ended.Detail()))
			require.Eventually(t, func() bool { return aws.Waiting("cleanup") == 0 }, patience, 10*time.Millisecond, "it is done with")
			snap, err := live.Latest(t.Context(), s.Journey().Ref)
			require.NoError(t, err)
			require.Equal(t, []bool{row.opens, row.opens}, []bool{snap.Known, snap.Active})
		})
	}
}
