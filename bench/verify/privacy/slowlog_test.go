package privacy

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A server's slow log keeps the arguments of slow calls, and so their places,
// for as long as it likes: no key, and nothing that a gateway could clean. The
// runbook has it switched off; this is why.
func TestSlowLog_remembers_unless_it_is_off(t *testing.T) {
	t.Parallel()
	for limit, remembers := range map[string]bool{"0": true, "-1": false} {
		t.Run("slower_than_"+limit, func(t *testing.T) {
			t.Parallel()
			h := open(t, false)
			_, err := h.store.Do(t.Context(), "CONFIG", "SET", "slowlog-log-slower-than", limit)
			require.NoError(t, err)
			j := h.book(t, 1)
			require.Equal(t, 201, j.fix(t, "fix", 61.3, 43.7, "").status)
			require.Equal(t, 200, j.post(t, "stop-journey", "").status)
			log, err := h.store.Do(t.Context(), "SLOWLOG", "GET", "128")
			require.NoError(t, err)
			assert.Equal(t, remembers, len(Search(Streams{"slow log": []byte(log)}, j.places)) > 0)
		})
	}
}
