package api

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"testing"
	"time"
	"unicode"

	"github.com/cloudwego/hertz/pkg/app"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"doorstep/geo"
	"doorstep/sessions"
)

// What is appended by hand parses as JSON, and every value comes back unchanged.
func TestAnswerUpdate_is_JSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := sessions.Receipt{
			Verdict: rapid.SampledFrom([]sessions.Verdict{
				sessions.VerdictStored, sessions.VerdictVague, sessions.VerdictStale,
				sessions.VerdictNoPosition, sessions.VerdictBeforeStart, sessions.VerdictIgnoredTooSoon,
			}).Draw(rt, "verdict"),
			At: drawInstant(rt, "at"), TTL: time.Duration(rapid.Int64Range(0, 3_600_000).Draw(rt, "ttl_ms")) * time.Millisecond,
			Version: rapid.Int64().Draw(rt, "version"), Arriving: rapid.Bool().Draw(rt, "arriving"),
			DistanceM: finite(rt, "distance"), NextUpdate: time.Duration(rapid.Int64Range(0, 6000).Draw(rt, "next_ms")) * time.Millisecond,
		}
		id := sessions.NewID()
		want := map[string]any{
			"sessionId": string(id), "timestamp": r.At.Format(timeLayout), "ttl": json.Number(text(int64(r.TTL / time.Second))),
			"seq": json.Number(text(r.Version)), "arriving": r.Arriving, "nextUpdateMs": json.Number(text(max(1000, r.NextUpdate.Milliseconds()))),
			"distanceMeters": nil,
		}
		switch r.Verdict {
		case sessions.VerdictStored:
			want["distanceMeters"] = r.DistanceM
		case sessions.VerdictVague:
			want["ignored"] = "low_accuracy"
		case sessions.VerdictNoPosition:
			want["ignored"] = "no_position"
		case sessions.VerdictBeforeStart:
			want["ignored"] = "before_start"
		case sessions.VerdictIgnoredTooSoon:
			want["ignored"] = "too_soon"
		default:
			want["stale"] = true
		}
		c := app.NewContext(0)
		require.NoError(rt, answerUpdate(c, id, r))
		requireData(rt, c, want)
	})
}

func TestAnswerLive_is_JSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		v := sessions.View{
			Ref:      sessions.Ref{TrainerID: sessions.NewID(), SessionID: sessions.NewID()},
			Snapshot: sessions.Snapshot{Known: true, Active: rapid.Bool().Draw(rt, "active"), Version: rapid.Int64().Draw(rt, "version")},
			Degraded: rapid.Bool().Draw(rt, "degraded"),
		}
		v.Over, v.Arriving = rapid.SampledFrom([]sessions.Phase{sessions.NotStarted, sessions.Arrived, sessions.Ended}).Draw(rt, "over"), rapid.Bool().Draw(rt, "arriving")
		want := map[string]any{
			"sessionId": string(v.SessionID), "trainerId": string(v.TrainerID), "isActive": v.Active, "phase": string(v.Phase()),
			"location": nil, "lastUpdate": nil, "fixAgeMs": nil, "distanceMeters": nil, "etaSeconds": nil,
		}
		if v.Degraded {
			want["degraded"] = true
		}
		if rapid.Bool().Draw(rt, "located") {
			locate(rt, &v, want)
		}
		c := app.NewContext(0)
		require.NoError(rt, answerLive(c, v))
		requireData(rt, c, want)
	})
}

// locate gives the view a location.
func locate(rt *rapid.T, v *sessions.View, want map[string]any) {
	fix := sessions.Fix{
		Point:     geo.MustPoint(rapid.Float64Range(-90, 90).Draw(rt, "lat"), rapid.Float64Range(-180, 180).Draw(rt, "lng")),
		AccuracyM: rapid.SampledFrom([]float64{0, 0.1, 8.5, 1e5}).Draw(rt, "accuracy"), RecordedAt: drawInstant(rt, "recorded"),
	}
	place := map[string]any{"latitude": fix.Point.Lat(), "longitude": fix.Point.Lng(), "timestamp": fix.RecordedAt.Format(timeLayout)}
	if fix.AccuracyM > 0 {
		place["accuracy"] = fix.AccuracyM
	}
	if rapid.Bool().Draw(rt, "moving") {
		speed, heading := finite(rt, "speed"), finite(rt, "heading")
		fix.SpeedKMH, fix.HeadingDeg = &speed, &heading
		place["speed"], place["heading"] = speed, heading
	}
	v.Location = &sessions.Location{Fix: fix, At: drawInstant(rt, "at")}
	v.DistanceM, v.Pace = rapid.Float64Range(0, 1e6).Draw(rt, "distance"), sessions.Pace{MMS: 12_000, OverMS: 60_000}
	age := rapid.Int64Range(-5_000, 600_000).Draw(rt, "age")
	v.Now = fix.RecordedAt.Add(time.Duration(age) * time.Millisecond)
	want["location"], want["lastUpdate"], want["distanceMeters"] = place, v.Location.At.Format(timeLayout), v.DistanceM
	want["fixAgeMs"] = json.Number(text(max(0, age)))
	if eta := v.ETASeconds(); eta != nil {
		want["etaSeconds"] = json.Number(text(*eta))
	}
}

func drawInstant(rt *rapid.T, name string) time.Time {
	return time.UnixMilli(rapid.Int64Range(946_684_800_000, 7_258_118_400_000).Draw(rt, name)).UTC()
}

func finite(rt *rapid.T, name string) float64 {
	return rapid.Float64Range(-math.MaxFloat64, math.MaxFloat64).Draw(rt, name)
}

func text(n int64) string { b, _ := json.Marshal(n); return string(b) }

// requireData compares floats by value and integers digit by digit.
func requireData(rt *rapid.T, c *app.RequestContext, want map[string]any) {
	require.True(rt, bytes.Equal([]byte(plainJSONType), c.Response.Header.ContentType()))
	require.False(rt, bytes.ContainsFunc(c.Response.Body(), func(r rune) bool { return r > unicode.MaxASCII }))
	require.Contains(rt, []int{http.StatusOK, http.StatusCreated}, c.Response.StatusCode())
	var got struct {
		Success bool                       `json:"success"`
		Message string                     `json:"message"`
		Data    map[string]json.RawMessage `json:"data"`
	}
	require.NoError(rt, json.Unmarshal(c.Response.Body(), &got), "%s", c.Response.Body())
	require.True(rt, got.Success)
	require.NotEmpty(rt, got.Message)
	require.Len(rt, got.Data, len(want), "%s", c.Response.Body())
	for name, value := range want {
		if number, ok := value.(json.Number); ok {
			require.Equal(rt, number.String(), string(got.Data[name]), name)
			continue
		}
		var v any
		require.NoError(rt, json.Unmarshal(got.Data[name], &v))
		require.Equal(rt, value, v, name)
	}
}
