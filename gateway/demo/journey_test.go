package demo

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// verify plays the lesson's beginning with this answer to the student's read.
func TestJourney_verify(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
		end    State
		err    string
	}{
		"shown":         {http.StatusOK, `{"data":{"status":"pending_verification","otp":"0042"}}`, Verified, ""},
		"not arrived":   {http.StatusOK, `{"data":{"status":"scheduled"}}`, "", "the session is scheduled"},
		"not theirs":    {http.StatusForbidden, `{"code":"FORBIDDEN"}`, "", "403 FORBIDDEN"},
		"not an object": {http.StatusOK, `[1]`, "", "not the API's"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := setup(t, every(5, 0, 5), func(n int, w http.ResponseWriter, _ *http.Request) {
					if n == 0 {
						reply(t, w, c.status, c.body)
						return
					}
					reply(t, w, http.StatusOK, `{"data":{}}`)
				})
				end, err := s.verify(t.Context())
				assert.Equal(t, c.end, end)
				if c.err != "" {
					require.ErrorContains(t, err, c.err)
					return
				}
				require.NoError(t, err)
				assert.Equal(t, "POST /api/v1/admin/sessions/s1/verify-otp ", s.asked[1])
				assert.NotContains(t, s.said.String(), "0042")
			})
		})
	}
}

// A lost answer is normal for an app; nothing explains a fault.
func TestInsist(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := setup(t, every(5, 0, 5), func(n int, w http.ResponseWriter, _ *http.Request) {
			switch n {
			case 0:
				panic(http.ErrAbortHandler)
			case 1:
				reply(t, w, http.StatusInternalServerError, `{"code":"INTERNAL"}`)
			default:
				reply(t, w, http.StatusOK, `{"data":{}}`)
			}
		})
		_, err := insist(t.Context(), s.journey, "stop", s.phone.StopJourney)
		require.NoError(t, err)
		now := s.report.now()
		assert.Equal(t, 1, now.failures)
		assert.Equal(t, 1, now.oddCount)
		assert.True(t, strings.Contains(s.said.String(), "no answer to stop, try 1") && strings.Contains(s.said.String(), "UNEXPLAINED: stop journey: 500 INTERNAL"), s.said)
	})
}
