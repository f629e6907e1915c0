package sessions

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// Journeys that all began to be served at one instant are asked about within a second of
// it, then each at least every 15 s, but not all in the same second.
func TestServed_due(t *testing.T) {
	t.Parallel()
	const journeys = 1280
	now := time.Now()
	s := newServed()
	s.asking, s.now = true, func() time.Time { return now }
	asked := map[Ref]time.Time{}
	most := 0
	for second := range 60 {
		for n := 0; second%5 == 0 && n < journeys; n++ {
			s.use(Ref{TrainerID: "t", SessionID: ID(rune('0'+n/256)) + ID("0123456789abcdef"[n/16%16]) + ID("0123456789abcdef"[n%16])}, Meta{})
		}
		due := s.due()
		for ref := range due {
			assert.True(t, second == 0 || now.Sub(asked[ref]) <= askEvery, ref)
			asked[ref] = now
			s.answered(ref, now, Session{})
		}
		if second == 0 {
			assert.Len(t, due, journeys)
		}
		if second > 0 {
			most = max(most, len(due))
		}
		now = now.Add(time.Second)
	}
	assert.Less(t, most, journeys/10, "in one second")
}
