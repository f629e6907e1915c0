package demo

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/client"
)

func TestStudent_follow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		recorded := time.Date(2026, 1, 1, 8, 0, 5, 0, time.UTC)
		located := func(left float64, eta string) string {
			return fmt.Sprintf(`{"data":{"isActive":true,"location":{"timestamp":%q},"distanceMeters":%v,"etaSeconds":%s}}`,
				recorded.Format(time.RFC3339Nano), left, eta)
		}
		s := setup(t, every(5, 0, 5), func(n int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", fmt.Sprintf(`W/"%d"`, n))
			time.Sleep(time.Millisecond)
			switch n {
			case 0:
				reply(t, w, http.StatusOK, `{"data":{"isActive":true,"location":null}}`)
			case 1:
				time.Sleep(25 * time.Second)
				w.WriteHeader(http.StatusNotModified)
			case 2:
				reply(t, w, http.StatusOK, located(1200, "90"))
			case 3:
				reply(t, w, http.StatusTooManyRequests, `{"code":"TOO_MANY_WAITS"}`)
			case 4:
				reply(t, w, http.StatusOK, located(100, "null"))
			default:
				reply(t, w, http.StatusOK, `{"data":{"isActive":false,"location":null}}`)
			}
		})
		s.line(func(l *Line) { l.State = OnTheWay })
		s.sends.note(recorded, time.Now())
		require.NoError(t, s.student.follow(t.Context()))

		path := "GET /api/v1/admin/location-tracking/journey/live?sessionId=s1&wait="
		assert.Equal(t, []string{strings.TrimSuffix(path, "&wait=") + " ", path + `25 W/"0"`, path + `25 W/"0"`, path + `25 W/"2"`, path + `25 W/"2"`, path + `25 W/"4"`}, s.asked)
		now := s.report.now()
		assert.Equal(t, 1, now.seen, "one fix, seen once")
		assert.Equal(t, 1, now.oddCount, "the refused read")
		line := s.board.now()[0]
		assert.Equal(t, Arriving, line.State)
		assert.InDelta(t, 100, line.LeftM, 0)
		assert.InDelta(t, 1200, line.FromM, 0)
		assert.True(t, line.Guess, "the service gave no ETA the second time")
		assert.Equal(t, 25*time.Second+3*time.Millisecond, line.FixToEye, "seen in the third answer")
	})
}

func TestStudent_follow_fails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := setup(t, every(5, 0, 5), func(int, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		require.ErrorContains(t, s.student.follow(t.Context()), "the student cannot read the journey")
		assert.Len(t, s.asked, readTries)
	})
}

func TestStudent_eta(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := setup(t, every(5, 0, 5), nil)
		began := time.Unix(1_700_000_000, 0)
		s.student.firstAt, s.student.firstLeftM = began, 3000
		at := func(left float64) client.View { return client.View{DistanceM: &left} }

		eta, guess := s.student.eta(at(2000), began.Add(time.Minute))
		assert.Equal(t, 2*time.Minute, eta, "a kilometre a minute")
		assert.True(t, guess)
		eta, _ = s.student.eta(at(2990), began.Add(time.Minute))
		assert.Zero(t, eta, "too early to tell")
		eta, guess = s.student.eta(client.View{DistanceM: new(42.0), ETASeconds: new(42)}, began)
		assert.Equal(t, 42*time.Second, eta)
		assert.False(t, guess)
	})
}

func TestSends(t *testing.T) {
	t.Parallel()
	sent, at := time.Unix(100, 0), func(n int64) time.Time { return time.Unix(n, 0) }
	var s sends
	s.note(at(5), sent)
	s.note(at(10), sent)
	s.note(at(10), sent.Add(time.Second)) // sent again
	s.note(at(15), sent)
	took, ok := s.seen(at(10), sent.Add(3*time.Second))
	assert.True(t, ok)
	assert.Equal(t, 2*time.Second, took, "from the last try")
	_, ok = s.seen(at(10), sent)
	assert.False(t, ok, "seen before")
	_, ok = s.seen(at(5), sent)
	assert.False(t, ok, "overtaken")
	_, ok = s.seen(at(15), sent)
	assert.True(t, ok)
}
