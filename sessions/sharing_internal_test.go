package sessions

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A link shows its own journey: none before it, none after it, and nothing of one that the
// live store has not forgotten yet.
func TestSharing_sees_its_own_journey(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return time.Date(2026, 3, 14, 9, minute, 0, 0, time.UTC) }
	running := func(minute int) Snapshot {
		return Snapshot{Known: true, Active: true, StartedAt: at(minute), Location: &Location{}, Version: 7}
	}
	over := func(p Phase) Snapshot { return Snapshot{Known: true, Over: p, Version: 7} }
	for name, row := range map[string]struct {
		link, last time.Time // the link's journey, and the session's last
		live       Snapshot
		want       any // a Phase, or a Code
	}{
		"its own":                          {at(5), at(5), running(5), OnTheWay},
		"its own, arrived":                 {at(5), at(5), over(Arrived), Arrived},
		"its own has not reached the live": {at(5), at(5), running(1), LiveStoreUnavailable},
		"a later one":                      {at(5), at(5), running(9), LinkGone},
		"none yet":                         {time.Time{}, time.Time{}, over(NotStarted), NotStarted},
		"cancelled before it":              {time.Time{}, time.Time{}, over(Ended), Ended},
		"none after an earlier one":        {time.Time{}, at(1), over(Ended), NotStarted},
		"the earlier one is still there":   {time.Time{}, at(1), running(1), NotStarted},
		"it has just started":              {time.Time{}, at(1), running(5), OnTheWay},
	} {
		s := sharing{ShareLink{JourneyStartedAt: row.link}, Session{JourneyStartedAt: row.last}}
		view, err := s.Sees(View{Snapshot: row.live})
		if code, refused := row.want.(Code); refused {
			require.Equal(t, code, CodeOf(err), name)
			require.Nil(t, view.Location, name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, row.want, view.Phase(), name)
		require.Equal(t, view.Active, view.Location != nil, name)
	}
	_, err := sharing{}.Sees(View{Degraded: true})
	require.Equal(t, LiveStoreUnavailable, CodeOf(err))
}

// startingRepo is a repository in which a journey starts between the two queries of a look-up.
type startingRepo struct {
	Repository
	link  ShareLink
	asked int
}

func (r *startingRepo) ShareLinks(context.Context, []LinkHash) (map[LinkHash]ShareLink, error) {
	r.asked++
	if r.asked > 1 {
		r.link.JourneyStartedAt = noonInternal
	}
	return map[LinkHash]ShareLink{r.link.TokenHash: r.link}, nil
}

func (r *startingRepo) Sessions(context.Context, []ID) (map[ID]Session, error) {
	return map[ID]Session{r.link.SessionID: {ID: r.link.SessionID, Status: Scheduled, JourneyStartedAt: noonInternal}}, nil
}

var noonInternal = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

func TestSharing_journey_starts_within_a_look_up(t *testing.T) {
	t.Parallel()
	repo := &startingRepo{link: ShareLink{ID: NewID(), SessionID: NewID(), TokenHash: HashLinkToken("x")}}
	s := NewService(repo, nil, ServiceOptions{Now: func() time.Time { return noonInternal }})
	found, ok, err := s.links.lookUps.ask(t.Context(), repo.link.TokenHash)
	require.NoError(t, err)
	require.True(t, ok)
	require.True(t, s.opens(found))
	require.Equal(t, 2, repo.asked)
}
