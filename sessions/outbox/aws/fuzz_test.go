package aws

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

var (
	plain = regexp.MustCompile(`^[ -~]{1,120}$`)
	told  = regexp.MustCompile(`[0-9]{4,}`)
)

// What lies in a queue is an event, the same one after another trip over the
// bus; or it is refused in words that can stand in a log and in a dead letter's
// attributes, and tell nothing of what was in it.
func FuzzEnvelope(f *testing.F) {
	const ids = `"eventId":"0d4a1f62-9f0e-4c57-8a3c-2f6d3f1b7a10","sessionId":"6f1b2a34-9c8d-4e5f-a0b1-c2d3e4f50617","trainerId":"7d0c1c3e-6f0a-4b0f-9d5e-2a9f6c1b8e21"`
	const began = `"startTime":"2026-03-14T09:26:53.589Z"`
	for _, detail := range []string{
		`{"schemaVersion":1,` + ids + `,` + began + `}`,
		`{"schemaVersion":1,` + ids + `,` + began + `,"studentId":"f3a1b7c4-1d2e-4f5a-8b6c-9d0e1f2a3b4c","endTime":"2026-03-14T09:46:53.589Z","reason":"arrived"}`,
		`{"schemaVersion":1,` + ids + `,` + began + `,"verdict":"mock","count":3,"at":"2026-03-14T09:30:00.000Z"}`,
		`{"schemaVersion":1,` + ids + `,` + began + `,"count":12.9716345}`, `{"schemaVersion":2}`, `{}`, `[]`, `null`, `"x"`,
		`{"schemaVersion":1,` + ids + `,"startTime":"0000-01-01T00:00:00,000Z"}`, `{"schemaVersion":1,"eventId":["` + "\\u0000" + `"]}`,
	} {
		for _, eventType := range []string{"TrainerJourneyStarted", "TrainerArriving", "TrainerJourneyEnded", "TrainerLocationSuspicious", "TrainerLocationUpdated", "Other", ""} {
			f.Add(`{"detail-type":"` + eventType + `","detail":` + detail + `,"source":"admin-service"}`)
		}
	}
	f.Add(`{"Type":"Notification","Message":"{}"}`)
	f.Add("\xff")
	f.Fuzz(func(t *testing.T, body string) {
		e, err := parseEnvelope(body)
		if err != nil {
			require.Regexp(t, plain, err.Error())
			if !strings.Contains(err.Error(), "schema version ") {
				require.NotRegexp(t, told, err.Error())
			}
			return
		}
		for _, id := range []sessions.ID{e.ID, e.SessionID, e.TrainerID} {
			parsed, ok := sessions.ParseID(string(id))
			require.True(t, ok)
			require.Equal(t, parsed, id)
		}
		require.Contains(t, sessions.EventTypes(), e.Type)
		again, err := json.Marshal(map[string]any{"detail-type": e.Type, "detail": json.RawMessage(e.Detail())})
		require.NoError(t, err)
		back, err := parseEnvelope(string(again))
		require.NoError(t, err)
		require.Equal(t, e, back)
	})
}
