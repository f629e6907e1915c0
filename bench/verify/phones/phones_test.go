package phones_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/bench/verify/phones"
	"doorstep/gateway/api/ingest"
	"doorstep/geo"
	"doorstep/internal/phoneapps"
	"doorstep/sessions"
)

var (
	home  = geo.MustPoint(12.9716, 77.5946)
	now   = time.Date(2026, 3, 14, 9, 27, 0, 0, time.UTC)
	login = phoneapps.Login{User: "t1", Secret: "s3cret"}
)

// stub is the least gateway: it decodes, keeps the newest point and answers.
type stub struct {
	mu      sync.Mutex
	pin     time.Time
	steer   ingest.Steer
	revoked bool
	refuse  func(ingest.Report) int // a status, or 0
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	format := sessions.Format(path.Base(r.URL.Path))
	report, err := ingest.Decode(format, ingest.Request{Query: r.URL.RawQuery, Body: r.Body})
	user, password, _ := r.BasicAuth()
	secret := map[sessions.Format]string{sessions.OwnTracks: password, sessions.OsmAnd: report.DeviceID}[format]
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		secret = bearer
	}
	if secret != login.Secret || s.revoked || err != nil || format == sessions.OwnTracks && user != login.User {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if s.refuse != nil {
		if status := s.refuse(report); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	if n := len(report.Points); n > 0 && report.Points[n-1].Fix.RecordedAt.After(s.pin) {
		s.pin = report.Points[n-1].Fix.RecordedAt
	}
	kind, body := ingest.Answer(format, s.steer)
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(body)
}

func (s *stub) target(t *testing.T) phones.Target {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return phones.Target{URL: server.URL + "/ingest", Login: login, HTTP: server.Client(), Pin: func(context.Context) (time.Time, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.pin, nil
	}}
}

// Every queue empties, whatever the network does, and no answer blinds a phone.
func TestPlay(t *testing.T) {
	t.Parallel()
	const day = 1500
	var results []phones.Result
	for _, app := range phoneapps.Apps {
		for _, scenario := range phones.Scenarios(home, now, day, time.Millisecond) {
			r, err := phones.Play(t.Context(), app, (&stub{}).target(t), scenario)
			require.NoError(t, err)
			results = append(results, r)
			assert.Zero(t, r.Left+r.Lost+r.FourXX(), "%+v", r)
			assert.GreaterOrEqual(t, r.Present, time.Duration(0), "%+v", r)
			assert.False(t, r.PinIsOld || r.PinWentBack, "%+v", r)
			if scenario.LoseAnswers > 0 && app.Most() == 1 {
				assert.Greater(t, r.Refused["no answer"], 30, "%+v", r)
				assert.Greater(t, r.Empty, time.Minute, "the pauses count")
			}
			if scenario.Name == "a long backlog" && app.Most() != 1 {
				assert.Less(t, r.Present, time.Minute, "%+v", r)
			}
		}
	}
	assert.Contains(t, phones.Table(results), "| a long backlog | overland | 1500 | 8 | ")
}

// The models can be blinded: these are the answers that the gateway must not give.
func TestPlay_blinded(t *testing.T) {
	t.Parallel()
	burst := phones.Scenario{Points: phones.Way(home, 3000, now, 60, time.Second)}
	for _, app := range phoneapps.Apps {
		bad := &stub{refuse: func(r ingest.Report) int {
			if r.Total > 0 && r.Points[0].Fix.RecordedAt.Equal(now.Add(-50*time.Second)) || r.Total == 60 {
				return http.StatusBadRequest
			}
			return 0
		}}
		r, err := phones.Play(t.Context(), app, bad.target(t), burst)
		if app == phoneapps.OwnTracksIOS {
			require.NoError(t, err)
			assert.Equal(t, 1, r.Lost)
			continue
		}
		require.NoError(t, err)
		assert.GreaterOrEqual(t, r.Left, 50, "%s", app)
		assert.Negative(t, r.Empty)
		assert.Equal(t, 20, r.FourXX())
	}
}

// A revoked secret is the one 401, and Overland needs its words, and not a status.
func TestPlay_refused(t *testing.T) {
	t.Parallel()
	burst := phones.Scenario{Points: phones.Way(home, 3000, now, 60, time.Second)}
	for _, app := range phoneapps.Apps {
		revoked := &stub{}
		burst.Before = func(_ context.Context, request int) error {
			revoked.mu.Lock()
			defer revoked.mu.Unlock()
			revoked.revoked = request >= 5
			return nil
		}
		r, err := phones.Play(t.Context(), app, revoked.target(t), burst)
		require.NoError(t, err)
		switch {
		case app == phoneapps.OwnTracksIOS:
			assert.Equal(t, 20, r.FourXX())
			assert.Equal(t, 20, r.Lost)
		case app.Most() == 1:
			assert.Equal(t, 55, r.Left)
		default:
			assert.Zero(t, r.Left, "%s", app)
		}
	}
	assert.False(t, phoneapps.Overland.Accepted(http.StatusOK, []byte(`{}`)))
	assert.False(t, phoneapps.OwnTracksAndroid.Accepted(http.StatusOK, nil))
	assert.True(t, phoneapps.OwnTracksAndroid.Accepted(http.StatusNoContent, nil))
}

// An app does what the answers say, if it can.
func TestClient_steered(t *testing.T) {
	t.Parallel()
	for _, app := range phoneapps.Apps {
		record := func(s ingest.Steer) (kept int, c *phones.Client) {
			c = phones.NewClient(app, login)
			points := phones.Way(home, 3000, now, 62, time.Second)
			c.Record(points[0])
			_, _, _, ok := c.Next()
			require.True(t, ok)
			_, body := ingest.Answer(sessions.Format(app.Format()), s)
			c.Answered(http.StatusOK, body)
			require.Zero(t, c.Queued(), "%s", app)
			for _, p := range points[1:] {
				c.Record(p)
			}
			return c.Queued(), c
		}
		kept, c := record(ingest.Steer{Interval: 15 * time.Second, SpeedKMH: 36})
		switch app.Format() {
		case "osmand": // cannot be steered
			assert.Equal(t, 61, kept)
		case "overland": // keeps all, and sends less often
			assert.Equal(t, 61, kept)
			_, _, pause, _ := c.Next()
			assert.Equal(t, 15*time.Second, pause)
		default:
			assert.Equal(t, 4, kept, "%s", app)
		}
		kept, c = record(ingest.Steer{Stop: true})
		if app.Format() != "osmand" {
			assert.True(t, c.Stopped(), "%s", app)
			assert.Zero(t, kept)
		}
	}
}

// The pauses are those of the sources.
func TestClient_pauses(t *testing.T) {
	t.Parallel()
	for app, want := range map[phoneapps.App]string{
		phoneapps.OwnTracksAndroid: "0s 1s 2s 4s 8s 16s 32s 1m4s 2m0s 2m0s",
		phoneapps.OwnTracksIOS:     "0s 1s 2s 4s 8s 16s 32s 1m4s 1m4s 1m4s",
		phoneapps.Traccar10:        "0s 5s 10s 20s 40s 1m20s 2m40s 5m0s 5m0s 5m0s",
		phoneapps.Traccar8:         "0s 30s 30s 30s 30s 30s 30s 30s 30s 30s",
		phoneapps.Traccar9:         "0s - 0s - 0s - 0s - 0s -", // only an event goes on
		phoneapps.Transistorsoft:   "0s - 0s - 0s - 0s - 0s -",
		phoneapps.Overland:         "0s 30s 30s 30s 30s 30s 30s 30s 30s 30s",
	} {
		c := phones.NewClient(app, login)
		c.Record(phones.Way(home, 3000, now, 1, time.Second)[0])
		var pauses []string
		for range 10 {
			_, _, pause, ok := c.Next()
			if !ok {
				pauses = append(pauses, "-")
				c.Wake()
				continue
			}
			pauses = append(pauses, pause.String())
			c.Answered(http.StatusServiceUnavailable, nil)
		}
		assert.Equal(t, want, strings.Join(pauses, " "), "%s", app)
		c.Restart()
		_, _, pause, ok := c.Next()
		assert.True(t, ok && pause == 0)
	}
}
