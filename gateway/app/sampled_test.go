package app_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
)

// passed are the lines of a message that came through, and the sum of what they
// say was suppressed.
func passed(t *testing.T, log *bytes.Buffer, message string) (lines, suppressed int) {
	t.Helper()
	for line := range strings.Lines(log.String()) {
		var fields struct {
			Msg        string `json:"msg"`
			Suppressed int    `json:"suppressed"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &fields))
		if fields.Msg == message {
			lines, suppressed = lines+1, suppressed+fields.Suppressed
		}
	}
	return lines, suppressed
}

func TestSampled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := slog.New(app.Sampled(slog.NewJSONHandler(&log, nil)))
		storm := func(n int) {
			for range n {
				l.With(slog.Int("n", n)).Warn("request failed")
			}
		}
		storm(100)
		lines, suppressed := passed(t, &log, "request failed")
		assert.Equal(t, []int{100, 0}, []int{lines, suppressed}, "the first of a second")

		storm(1000)
		lines, suppressed = passed(t, &log, "request failed")
		assert.Equal(t, []int{110, 990}, []int{lines, suppressed}, "then every hundredth, which tells of the others")

		l.Warn("bus is down")
		l.Error("request failed")
		lines, _ = passed(t, &log, "bus is down")
		assert.Equal(t, 1, lines, "another message")
		lines, _ = passed(t, &log, "request failed")
		assert.Equal(t, 111, lines, "another level")

		storm(50)
		time.Sleep(time.Second) // synctest's
		storm(1)
		lines, suppressed = passed(t, &log, "request failed")
		assert.Equal(t, []int{112, 990 + 50}, []int{lines, suppressed}, "a new second begins with what the last one left out")
	})
}

func TestSampled_asks_the_level_first(t *testing.T) {
	t.Parallel()
	h := app.Sampled(slog.NewJSONHandler(new(bytes.Buffer), nil))
	assert.False(t, h.Enabled(t.Context(), slog.LevelDebug))
}
