package repotest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

func (f Fixture) history(t testing.TB, id sessions.ID) []sessions.AuditEntry {
	t.Helper()
	list, err := f.Repo.History(t.Context(), id, sessions.HistoryPlace{}, 10_000)
	require.NoError(t, err)
	return list
}

func kinds(list []sessions.AuditEntry) (names []string) {
	for _, e := range list {
		names = append(names, string(e.Kind))
	}
	return names
}

// moments are n of one kind, one a second.
func moments(n int, from time.Time) (list []sessions.Moment) {
	for i := range n {
		list = append(list, sessions.Moment{
			ID: sessions.NewID(), Kind: sessions.AuditNotStored, At: from.Add(time.Duration(i) * time.Second),
			Detail: sessions.AuditDetail{Counts: map[string]int{"stale": i + 1}},
		})
	}
	return list
}

func (f Fixture) add(t testing.TB, s sessions.Session, list ...sessions.Moment) {
	t.Helper()
	require.NoError(t, f.Repo.AddCounts(t.Context(), []sessions.JourneyCounts{{Ref: s.Journey().Ref, Moments: list}}))
}

var auditTests = map[string]func(*testing.T, Fixture){
	"every_change_has_its_entry": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		_, err := f.Repo.Rebook(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			s.TrainerID, s.Mode = sessions.NewID(), sessions.Walk
			return nil, nil
		})
		require.NoError(t, err)
		_, err = f.start(t, s.ID, now)
		require.NoError(t, err)
		_, err = f.stop(t, s.ID, now.Add(time.Minute))
		require.NoError(t, err)
		_, err = f.start(t, s.ID, now.Add(2*time.Minute))
		require.NoError(t, err)
		arrived, err := f.arrive(t, s.ID, now.Add(3*time.Minute))
		require.NoError(t, err)
		_, err = f.verify(t, s.ID, "12345", now.Add(4*time.Minute))
		requireCode(t, sessions.OTPWrong, err)
		change := func(do func(*sessions.Session) ([]sessions.Event, error)) {
			_, err := f.Repo.Change(t.Context(), s.ID, do)
			require.NoError(t, err)
		}
		change(func(s *sessions.Session) ([]sessions.Event, error) { return s.ResendOTP(now.Add(5 * time.Minute)) })
		change(func(s *sessions.Session) ([]sessions.Event, error) { return nil, s.UnlockOTP() })
		_, err = f.verify(t, s.ID, arrived.OTP, now.Add(6*time.Minute))
		require.NoError(t, err)
		change(func(s *sessions.Session) ([]sessions.Event, error) { return nil, s.Complete(now.Add(time.Hour)) })
		_, err = f.review(t, f.read(t, s.ID), 4)
		require.NoError(t, err)

		list := f.history(t, s.ID)
		require.Equal(t, []string{
			"booked", "rebooked", "journey_started", "journey_ended", "journey_started", "journey_ended", "code_issued", "code_wrong",
			"code_resent", "codes_unlocked", "lesson_started", "completed", "reviewed",
		}, kinds(list))
		require.Equal(t, []sessions.ID{s.TrainerID, s.StudentID}, []sessions.ID{list[0].TrainerID, list[0].StudentID})
		require.Equal(t, []string{"travelMode", "trainerId"}, list[1].Detail.Changed)
		require.Equal(t, f.read(t, s.ID).TrainerID, list[1].TrainerID)
		require.Zero(t, list[1].JourneyStartedAt)
		requireLastParties(t, f, s.ID, f.read(t, s.ID).Meta())
		require.Equal(t, []time.Time{now, now.Add(2 * time.Minute)}, []time.Time{list[3].JourneyStartedAt, list[4].JourneyStartedAt})
		var raised, told []sessions.ID
		for _, e := range f.Events(t, s.ID) {
			raised = append(raised, e.ID)
		}
		for _, e := range list {
			told = append(told, e.EventIDs...)
		}
		require.ElementsMatch(t, raised, told, "each event is in one entry")
	},
	"last_parties": func(t *testing.T, f Fixture) {
		requireLastParties(t, f, sessions.NewID(), sessions.Meta{})
		s := f.create(t, booking())
		requireLastParties(t, f, s.ID, s.Meta())
	},
	"who": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		ctx := sessions.WithRequestID(t.Context(), "a-request")
		_, err := f.Repo.Change(ctx, s.ID, func(s *sessions.Session) ([]sessions.Event, error) { return s.Start("", now) })
		require.NoError(t, err)
		list := f.history(t, s.ID)
		require.Equal(t, []sessions.Actor{{}, {RequestID: "a-request"}}, []sessions.Actor{list[0].By, list[1].By})
	},
	"nothing_of_nothing": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		_, _, err := f.Repo.Create(t.Context(), s) // again
		require.NoError(t, err)
		_, err = f.Repo.Change(t.Context(), s.ID, func(*sessions.Session) ([]sessions.Event, error) { return nil, nil })
		require.NoError(t, err)
		_, err = f.stop(t, s.ID, now)
		requireCode(t, sessions.NoActiveJourney, err)
		_, err = f.Repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			s.TrainerID, s.Starts = sessions.NewID(), 1 // the booking is dropped
			return nil, nil
		})
		require.NoError(t, err)
		require.Equal(t, []string{"booked", "changed"}, kinds(f.history(t, s.ID)))
		require.Empty(t, f.history(t, sessions.NewID()))
	},
	"event_of_no_change": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		started, err := f.start(t, s.ID, now)
		require.NoError(t, err)
		arriving := sessions.Event{
			ID: sessions.NewID(), Type: sessions.JourneyArriving, SessionID: s.ID, TrainerID: s.TrainerID, StudentID: s.StudentID,
			At: now.Add(time.Minute), JourneyStartedAt: started.JourneyStartedAt,
		}
		suspicious := arriving
		suspicious.ID, suspicious.Type, suspicious.Verdict, suspicious.Count = sessions.NewID(), sessions.LocationSuspicious, "mock", 1
		for _, e := range []sessions.Event{arriving, suspicious, arriving} {
			_, err := f.Repo.Record(t.Context(), e)
			require.NoError(t, err)
		}
		list := f.history(t, s.ID)
		require.Equal(t, []string{"booked", "journey_started", "arriving", "suspicious"}, kinds(list))
		require.Equal(t, []sessions.ID{arriving.ID}, list[2].EventIDs)
		require.Equal(t, "mock", list[3].Detail.Verdict)
	},
	"pages": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		started, err := f.start(t, s.ID, now)
		require.NoError(t, err)
		f.add(t, started, append(moments(5, now), moments(5, now)...)...) // two of each instant
		all := f.history(t, s.ID)
		require.Len(t, all, 12)
		var paged []sessions.AuditEntry
		for place := (sessions.HistoryPlace{}); ; {
			page, err := f.Repo.History(t.Context(), s.ID, place, 3)
			require.NoError(t, err)
			paged = append(paged, page...)
			if len(page) < 3 {
				break
			}
			place = page[2].Place()
		}
		require.Equal(t, all, paged)
	},
	"moments": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		started, err := f.start(t, s.ID, now)
		require.NoError(t, err)
		first := sessions.Moment{Kind: sessions.AuditFirstFix, At: now.Add(time.Second)}
		silence := sessions.Moment{ID: sessions.NewID(), Kind: sessions.AuditSilenceEnded, At: now.Add(time.Minute), Detail: sessions.AuditDetail{Seconds: 40}}
		f.add(t, started, first, silence)
		f.add(t, started, first, silence) // an answer that was lost, and a gateway that was not told of the first fix
		stranger := started
		stranger.TrainerID = sessions.NewID()
		f.add(t, stranger, moments(1, now)...)
		list := f.history(t, s.ID)
		require.ElementsMatch(t, []string{"booked", "journey_started", "first_fix", "silence_ended"}, kinds(list))
		for _, e := range list {
			if e.Kind == silence.Kind {
				require.Equal(t, sessions.AuditEntry{
					Seq: e.Seq, ID: silence.ID, SessionID: s.ID, JourneyStartedAt: now, At: silence.At, Kind: silence.Kind, Detail: silence.Detail,
				}, e)
			}
		}
	},
	"note": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		found := []sessions.Moment{{ID: sessions.NewID(), Kind: sessions.AuditFoundDatabase, At: now, Detail: sessions.AuditDetail{Found: "home"}}}
		for range 2 { // two gateways
			require.NoError(t, f.Repo.Note(t.Context(), s.ID, found))
		}
		require.NoError(t, f.Repo.Note(t.Context(), sessions.NewID(), found))
		require.ElementsMatch(t, []string{"booked", "database_disagreed"}, kinds(f.history(t, s.ID)))
	},
	// However many gateways write at once, a journey has MomentsKept moments; and every
	// transition gets in.
	"race_for_the_last_place": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		started, err := f.start(t, s.ID, now)
		require.NoError(t, err)
		f.add(t, started, moments(sessions.MomentsKept-10, now)...)
		var all sync.WaitGroup
		errs := make(chan error, 20)
		for range 8 {
			all.Go(func() {
				errs <- f.Repo.AddCounts(context.WithoutCancel(t.Context()), []sessions.JourneyCounts{{Ref: started.Journey().Ref, Moments: moments(4, now)}})
			})
		}
		all.Go(func() { errs <- f.Repo.Note(context.WithoutCancel(t.Context()), s.ID, moments(4, now)) })
		all.Go(func() {
			_, err := f.stop(t, s.ID, now.Add(time.Minute))
			errs <- err
		})
		all.Wait()
		close(errs)
		for err := range errs {
			require.NoError(t, err)
		}
		count := map[sessions.AuditKind]int{}
		for _, e := range f.history(t, s.ID) {
			count[e.Kind]++
		}
		require.Equal(t, map[sessions.AuditKind]int{
			sessions.AuditBooked: 1, sessions.AuditStarted: 1, sessions.AuditEnded: 1, sessions.AuditNotStored: sessions.MomentsKept,
		}, count)
		again, err := f.start(t, s.ID, now.Add(2*time.Minute))
		require.NoError(t, err)
		f.add(t, again, moments(3, now)...)
		require.Len(t, f.history(t, s.ID), sessions.MomentsKept+7, "the next journey has its own")
	},
	"journeys": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		for i := range 3 {
			at := now.Add(time.Duration(2*i) * time.Minute)
			started, err := f.start(t, s.ID, at)
			require.NoError(t, err)
			require.NoError(t, f.Repo.AddCounts(t.Context(), []sessions.JourneyCounts{fixesOf(started, int64(i+1))}))
			_, err = f.stop(t, s.ID, at.Add(time.Minute))
			require.NoError(t, err)
		}
		list, err := f.Repo.JourneysOf(t.Context(), s.ID, 2)
		require.NoError(t, err)
		require.Equal(t, []int64{countsOf(2).Accepted, countsOf(3).Accepted}, []int64{list[0].Accepted, list[1].Accepted})
	},
	"of_a_user": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		_, err := f.Repo.Rebook(t.Context(), s.ID, func(now *sessions.Session) ([]sessions.Event, error) {
			now.TrainerID = sessions.NewID()
			return nil, nil
		})
		require.NoError(t, err)
		f.create(t, booking())
		require.Equal(t, []string{"booked", "rebooked"}, kinds(f.data(t, s.StudentID).Audit))
		require.Equal(t, []string{"booked"}, kinds(f.data(t, s.TrainerID).Audit), "was a party once")
		e := erasure(s.TrainerID)
		_, err = f.Repo.EraseUser(t.Context(), e)
		require.NoError(t, err)
		require.Empty(t, f.data(t, s.TrainerID).Audit)
		require.NotContains(t, fmt.Sprint(f.history(t, s.ID)), string(s.TrainerID))
		require.Equal(t, e.Alias, f.history(t, s.ID)[0].TrainerID)
	},
}

func requireLastParties(t *testing.T, f Fixture, id sessions.ID, want sessions.Meta) {
	t.Helper()
	got, err := f.Repo.LastParties(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, want, got)
}
