package repotest

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
)

func linkOf(s sessions.Session, at time.Time) sessions.ShareLink {
	l := sessions.ShareLink{
		ID: sessions.NewID(), SessionID: s.ID, Parties: s.Meta(), TokenHash: sessions.HashLinkToken(string(sessions.NewID())), CreatedAt: at,
	}
	if s.JourneyActive() {
		l.JourneyStartedAt = s.JourneyStartedAt
	}
	return l
}

func (f Fixture) tryLink(t testing.TB, id sessions.ID, rotate bool, at time.Time) (l sessions.ShareLink, err error) {
	t.Helper()
	err = f.Repo.PutShareLink(t.Context(), id, rotate, func(s sessions.Session) (sessions.ShareLink, error) {
		l = linkOf(s, at)
		return l, nil
	})
	return l, err
}

func (f Fixture) putLink(t testing.TB, id sessions.ID, at time.Time) sessions.ShareLink {
	t.Helper()
	l, err := f.tryLink(t, id, false, at)
	require.NoError(t, err)
	return l
}

func (f Fixture) links(t testing.TB, id sessions.ID) []sessions.ShareLink {
	t.Helper()
	list, err := f.Repo.ShareLinksOf(t.Context(), id)
	require.NoError(t, err)
	return list
}

var shareLinkTests = map[string]func(*testing.T, Fixture){
	"as_stored": func(t *testing.T, f Fixture) {
		s, other := f.create(t, booking()), f.create(t, booking())
		require.Empty(t, f.links(t, s.ID))
		old, young := f.putLink(t, s.ID, now), f.putLink(t, s.ID, now.Add(time.Second))
		theirs := f.putLink(t, other.ID, now)
		require.Equal(t, []sessions.ShareLink{young, old}, f.links(t, s.ID))
		found, err := f.Repo.ShareLinks(t.Context(), []sessions.LinkHash{old.TokenHash, theirs.TokenHash, sessions.HashLinkToken("")})
		require.NoError(t, err)
		require.Equal(t, map[sessions.LinkHash]sessions.ShareLink{old.TokenHash: old, theirs.TokenHash: theirs}, found)
		data, err := f.Repo.UserData(t.Context(), s.StudentID)
		require.NoError(t, err)
		require.Equal(t, []sessions.ShareLink{young, old}, data.ShareLinks)
	},
	"five_a_session": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		var each sync.WaitGroup
		refused := make(chan error, 2*sessions.MaxShareLinks)
		for range 2 * sessions.MaxShareLinks {
			each.Go(func() {
				if _, err := f.tryLink(t, s.ID, false, now); err != nil {
					refused <- err
				}
			})
		}
		each.Wait()
		close(refused)
		require.Len(t, refused, sessions.MaxShareLinks)
		for err := range refused {
			requireCode(t, sessions.TooManyShareLinks, err)
		}
		list := f.links(t, s.ID)
		require.Len(t, list, sessions.MaxShareLinks)
		require.NoError(t, f.Repo.DeleteShareLink(t.Context(), s, list[0].ID))
		f.putLink(t, s.ID, now)
		rotated, err := f.tryLink(t, s.ID, true, now)
		require.NoError(t, err)
		require.Equal(t, []sessions.ShareLink{rotated}, f.links(t, s.ID))

		made := []string{"booked", "share_link_made", "share_link_made", "share_link_made", "share_link_made", "share_link_made"}
		history := f.history(t, s.ID)
		require.Equal(t, append(made, "share_link_ended", "share_link_made", "share_link_made"), kinds(history))
		require.Equal(t, sessions.MaxShareLinks, history[len(history)-1].Detail.Ended, "those that the rotation ended")
	},
	"refused": func(t *testing.T, f Fixture) {
		_, err := f.tryLink(t, sessions.NewID(), false, now)
		requireCode(t, sessions.SessionNotFound, err)
		s, no := f.create(t, booking()), sessions.Refuse(sessions.Forbidden, "no")
		kept := f.putLink(t, s.ID, now)
		err = f.Repo.PutShareLink(t.Context(), s.ID, true, func(sessions.Session) (sessions.ShareLink, error) { return sessions.ShareLink{}, no })
		require.ErrorIs(t, err, no)
		require.NoError(t, f.Repo.DeleteShareLink(t.Context(), f.create(t, booking()), kept.ID), "it is not that session's")
		require.Len(t, f.links(t, s.ID), 1)
		require.Equal(t, []string{"booked", "share_link_made"}, kinds(f.history(t, s.ID)), "what is refused, and what ends nothing, has no entry")
	},
	"of_one_journey": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		before := f.putLink(t, s.ID, now)
		started, err := f.start(t, s.ID, now.Add(time.Minute))
		require.NoError(t, err)
		during := f.putLink(t, s.ID, now.Add(2*time.Minute))
		before.JourneyStartedAt = started.JourneyStartedAt
		require.Equal(t, []sessions.ShareLink{during, before}, f.links(t, s.ID), "the one that waited belongs to the journey, too")
		_, err = f.stop(t, s.ID, now.Add(3*time.Minute))
		require.NoError(t, err)
		require.Empty(t, f.links(t, s.ID))
		f.putLink(t, s.ID, now.Add(4*time.Minute))
		_, err = f.start(t, s.ID, now.Add(5*time.Minute))
		require.NoError(t, err)
		require.Len(t, f.links(t, s.ID), 1)
	},
	"of_an_event": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		for range sessions.MaxShareLinks {
			f.putLink(t, s.ID, now)
		}
		var own sessions.ShareLink
		started, err := f.Repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			events, err := s.Start("", now.Add(time.Minute))
			own = linkOf(*s, now.Add(time.Minute))
			events[0].Link = &own
			return events, err
		})
		require.NoError(t, err)
		list := f.links(t, s.ID)
		require.Len(t, list, sessions.MaxShareLinks+1, "beside those of people")
		require.Equal(t, own, list[0])
		require.Equal(t, started.JourneyStartedAt, list[1].JourneyStartedAt)
	},
	"end_with_the_session": func(t *testing.T, f Fixture) {
		for what, change := range map[string]func(s *sessions.Session){
			"trainer": func(s *sessions.Session) { s.TrainerID = sessions.NewID() },
			"student": func(s *sessions.Session) { s.StudentID = sessions.NewID() },
			"cancelled": func(s *sessions.Session) {
				_, err := s.Cancel(sessions.Caller{ID: s.StudentID, Role: sessions.Student}, "", now)
				require.NoError(t, err)
			},
		} {
			s := f.create(t, booking())
			f.putLink(t, s.ID, now)
			_, err := f.Repo.Rebook(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
				s.Home, s.HomeMovedAt = geo.MustPoint(1, 1), now
				return nil, nil
			})
			require.NoError(t, err)
			require.Len(t, f.links(t, s.ID), 1, "another home changes nothing")
			_, err = f.Repo.Rebook(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
				change(s)
				return nil, nil
			})
			require.NoError(t, err)
			require.Empty(t, f.links(t, s.ID), what)
		}
		s := f.create(t, booking())
		f.putLink(t, s.ID, now)
		_, err := f.Repo.EraseUser(t.Context(), sessions.Erasure{UserID: s.StudentID, Alias: sessions.NewID(), By: sessions.Caller{Role: sessions.Admin}, At: now})
		require.NoError(t, err)
		require.Empty(t, f.links(t, s.ID), "erased")
	},
}
