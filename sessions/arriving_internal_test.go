package sessions

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Where the queue is full, the update returns, and the next one offers again.
func TestOfferArriving_full_queue(t *testing.T) {
	t.Parallel()
	s := NewService(nil, nil, ServiceOptions{})
	for s.tell(news{}) {
	}
	id, near := NewID(), Receipt{Verdict: VerdictStored, Arriving: true}
	s.offerArriving(id, near)
	require.Len(t, s.news, newsQueue)
	<-s.news
	s.offerArriving(id, near)
	require.Len(t, s.news, newsQueue)
	<-s.news
	s.offerArriving(id, near)
	require.Len(t, s.news, newsQueue-1, "not twice")
}

func TestOfferArriving_by_verdict(t *testing.T) {
	t.Parallel()
	s := NewService(nil, nil, ServiceOptions{})
	id := NewID()
	s.offerArriving(id, Receipt{Verdict: VerdictTooSoon, Arriving: true})
	s.offerArriving(id, Receipt{Verdict: VerdictStored})
	require.Empty(t, s.news)
	s.offerArriving(id, Receipt{Verdict: VerdictStale, Arriving: true})
	require.Len(t, s.news, 1)
	s.offerArriving(id, Receipt{Verdict: VerdictTooSoon}) // which does not say
	s.offerArriving(id, Receipt{Verdict: VerdictStored, Arriving: true})
	require.Len(t, s.news, 1)
	s.offerArriving(id, Receipt{Verdict: VerdictStored}) // the session's next journey
	s.offerArriving(id, Receipt{Verdict: VerdictStored, Arriving: true})
	require.Len(t, s.news, 2)
}

func TestArrivings_due_again(t *testing.T) {
	t.Parallel()
	a, id, now := newArrivings(), NewID(), time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	require.True(t, a.due(id, now))
	require.False(t, a.due(id, now.Add(arrivingAgain-1)))
	require.True(t, a.due(id, now.Add(arrivingAgain)))
	require.True(t, a.due(id, now.Add(-arrivingAgain)), "a clock was set back")
	for range arrivingsRoom {
		a.due(NewID(), now)
	}
	require.Equal(t, arrivingsRoom, a.sessions.Len())
	require.True(t, a.due(id, now), "forgotten")
}
