package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/client"
)

func TestNew_refuses(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "gateway", "ftp://gateway", "http://", "http://u:p@gateway", "http://gateway/api/v1", "http://gateway?x", "http://gateway#x", "http://%zz"} {
		_, err := client.New(client.Options{BaseURL: base})
		require.ErrorContains(t, err, "BaseURL", base)
		assert.NotContains(t, err.Error(), "u:p")
	}
	_, err := client.New(client.Options{BaseURL: "https://gateway.example:8443/"})
	require.NoError(t, err)
}

// Each method makes the request that gateway/api/openapi.yaml describes.
func TestClient_requests(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 14, 9, 27, 0, 1_500_000, time.FixedZone("", 3600))
	booking := client.Booking{SessionID: "s", TrainerID: "t", StudentID: "u", ScheduledAt: at, StudentHome: client.Point{Latitude: 12.5, Longitude: 77.5}, TravelMode: client.Bike}
	fix := client.Fix{Point: client.Point{Latitude: 12.5, Longitude: -77.5}, AccuracyM: new(8.5), SpeedKMH: new(0.0), HeadingDeg: new(271.5), RecordedAt: at, Mock: true}
	for name, c := range map[string]struct {
		call                 func(ctx context.Context, c *client.Client) error
		method, target, body string
	}{
		"Book": {
			func(ctx context.Context, c *client.Client) error { return second(c.Book(ctx, booking)) }, "POST", "/api/v1/admin/sessions",
			`{"sessionId":"s","trainerId":"t","studentId":"u","scheduledAt":"2026-03-14T08:27:00.001Z","studentHome":{"latitude":12.5,"longitude":77.5},"travelMode":"bike"}`,
		},
		"Book/least": {
			func(ctx context.Context, c *client.Client) error {
				return second(c.Book(ctx, client.Booking{TrainerID: "t", StudentID: "u"}))
			},
			"POST", "/api/v1/admin/sessions", `{"trainerId":"t","studentId":"u","studentHome":{"latitude":0,"longitude":0}}`,
		},
		"Session": {
			func(ctx context.Context, c *client.Client) error { return second(c.Session(ctx, "s/../x")) }, "GET", "/api/v1/admin/sessions/s%2F..%2Fx", "",
		},
		"MySessions": {
			func(ctx context.Context, c *client.Client) error { return second(c.MySessions(ctx)) }, "GET", "/api/v1/students/me/sessions", "",
		},
		"StartJourney": {
			func(ctx context.Context, c *client.Client) error { return second(c.StartJourney(ctx, "s", "")) },
			"POST", "/api/v1/admin/sessions/s/start-journey", "",
		},
		"StartJourney/mode": {
			func(ctx context.Context, c *client.Client) error {
				return second(c.StartJourney(ctx, "s", client.Walk))
			},
			"POST", "/api/v1/admin/sessions/s/start-journey", `{"travelMode":"walk"}`,
		},
		"Update": {
			func(ctx context.Context, c *client.Client) error { return second(c.Update(ctx, "s", fix)) }, "POST", "/api/v1/admin/location-tracking/journey/updates",
			`{"sessionId":"s","latitude":12.5,"longitude":-77.5,"accuracy":8.5,"speed":0,"heading":271.5,"recordedAt":"2026-03-14T08:27:00.001Z","mock":true}`,
		},
		"Update/sentAt": {
			func(ctx context.Context, c *client.Client) error {
				return second(c.Update(ctx, "s", client.Fix{SentAt: at}))
			},
			"POST", "/api/v1/admin/location-tracking/journey/updates", `{"sessionId":"s","latitude":0,"longitude":0,"sentAt":"2026-03-14T08:27:00.001Z"}`,
		},
		"UpdateBatch": {
			func(ctx context.Context, c *client.Client) error {
				return second(c.UpdateBatch(ctx, "s", []client.Fix{{Point: client.Point{Latitude: 1}, RecordedAt: at.Add(-time.Second)}, {RecordedAt: at, SentAt: at}}))
			},
			"POST", "/api/v1/admin/location-tracking/journey/updates",
			`{"sessionId":"s","sentAt":"2026-03-14T08:27:00.001Z","fixes":[` +
				`{"latitude":1,"longitude":0,"recordedAt":"2026-03-14T08:26:59.001Z"},{"latitude":0,"longitude":0,"recordedAt":"2026-03-14T08:27:00.001Z"}]}`,
		},
		"Update/least": {
			func(ctx context.Context, c *client.Client) error { return second(c.Update(ctx, "s", client.Fix{})) },
			"POST", "/api/v1/admin/location-tracking/journey/updates", `{"sessionId":"s","latitude":0,"longitude":0}`,
		},
		"Live": {
			func(ctx context.Context, c *client.Client) error {
				return second(c.Live(ctx, "s", client.ReadOptions{}))
			},
			"GET", "/api/v1/admin/location-tracking/journey/live?sessionId=s", "",
		},
		"Live/wait": {
			func(ctx context.Context, c *client.Client) error {
				return second(c.Live(ctx, "s", client.ReadOptions{Wait: 25*time.Second + time.Millisecond}))
			},
			"GET", "/api/v1/admin/location-tracking/journey/live?sessionId=s&wait=25", "",
		},
		"Live/by a share link": {
			func(ctx context.Context, c *client.Client) error {
				return second(client.ShareLink{Client: c}.Live(ctx, "", client.ReadOptions{}))
			},
			"GET", "/api/v1/share/live", "",
		},
		"Live/wait by a share link": {
			func(ctx context.Context, c *client.Client) error {
				return second(client.ShareLink{Client: c}.Live(ctx, "", client.ReadOptions{Wait: 25 * time.Second}))
			},
			"GET", "/api/v1/share/live?wait=25", "",
		},
		"Arrive": {
			func(ctx context.Context, c *client.Client) error { return second(c.Arrive(ctx, "s", nil)) }, "POST", "/api/v1/admin/sessions/s/arrived", "",
		},
		"Arrive/fix": {
			func(ctx context.Context, c *client.Client) error {
				return second(c.Arrive(ctx, "s", &client.Fix{RecordedAt: at, SentAt: at}))
			},
			"POST", "/api/v1/admin/sessions/s/arrived", `{"latitude":0,"longitude":0,"recordedAt":"2026-03-14T08:27:00.001Z","sentAt":"2026-03-14T08:27:00.001Z"}`,
		},
		"StopJourney": {
			func(ctx context.Context, c *client.Client) error { return second(c.StopJourney(ctx, "s")) }, "POST", "/api/v1/admin/sessions/s/stop-journey", "",
		},
		"Verify": {
			func(ctx context.Context, c *client.Client) error { return second(c.Verify(ctx, "s", "0042")) },
			"POST", "/api/v1/admin/sessions/s/verify-otp", `{"otp":"0042"}`,
		},
		"Complete": {
			func(ctx context.Context, c *client.Client) error { return second(c.Complete(ctx, "s")) }, "POST", "/api/v1/admin/sessions/s/complete", "",
		},
		"Review": {
			func(ctx context.Context, c *client.Client) error { return second(c.Review(ctx, "s", 5, "good")) },
			"POST", "/api/v1/students/sessions/s/review", `{"rating":5,"comment":"good"}`,
		},
		"PutPushToken": {
			func(ctx context.Context, c *client.Client) error { return c.PutPushToken(ctx, "p", client.IOS, "de") },
			"PUT", "/api/v1/me/push-tokens", `{"token":"p","platform":"ios","language":"de"}`,
		},
		"DeletePushToken": {
			func(ctx context.Context, c *client.Client) error { return c.DeletePushToken(ctx, "p") }, "DELETE", "/api/v1/me/push-tokens", `{"token":"p"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to, f := setup(t, http.StatusOK, `{"success":true,"data":{}}`)
			require.NoError(t, c.call(t.Context(), to))
			assert.Equal(t, c.method+" "+c.target, f.method+" "+f.target)
			assert.Equal(t, c.body, f.body)
			assert.Equal(t, "Bearer a-token", f.got.Get("Authorization"))
			if c.body != "" {
				assert.Equal(t, "application/json", f.got.Get("Content-Type"))
			}
		})
	}
}

// second drops the value of a call.
func second[T any](_ T, err error) error { return err }

func TestClient_Update(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		answer string
		want   client.Receipt
	}{
		"stored": {
			http.StatusCreated, `{"data":{"timestamp":"2026-03-14T09:27:00.412Z","ttl":300,"seq":17,"distanceMeters":1532.4,"arriving":true,"nextUpdateMs":5000}}`,
			client.Receipt{
				Verdict: client.Stored, At: time.Date(2026, 3, 14, 9, 27, 0, 412_000_000, time.UTC), TTL: 5 * time.Minute, Seq: 17,
				DistanceM: new(1532.4), Arriving: true, NextUpdate: 5 * time.Second,
			},
		},
		"ignored": {http.StatusCreated, `{"data":{"distanceMeters":null,"ignored":"low_accuracy"}}`, client.Receipt{Verdict: client.LowAccuracy}},
		"stale":   {http.StatusOK, `{"data":{"stale":true}}`, client.Receipt{Verdict: client.Stale}},
		"a batch": {
			http.StatusOK, `{"data":{"distanceMeters":94,"counts":{"stored":2,"too_soon":1}}}`,
			client.Receipt{Verdict: client.Stored, DistanceM: new(94.0), Counts: map[client.Verdict]int{client.Stored: 2, client.TooSoon: 1}},
		},
		"a batch whose newest is refused": {
			http.StatusOK, `{"data":{"distanceMeters":null,"counts":{"implausible_speed":1}}}`,
			client.Receipt{Verdict: client.Implausible, Counts: map[client.Verdict]int{client.SpeedRefused: 1}},
		},
		"not stored": {http.StatusAccepted, `{"data":{"stored":false,"nextUpdateMs":5000}}`, client.Receipt{Verdict: client.NotStored, NextUpdate: 5 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to, _ := setup(t, c.status, c.answer)
			got, err := to.Update(t.Context(), "s", client.Fix{})
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

// An answer without a body is told in its headers. A captive portal's 204 has none of them.
func TestClient_Update_minimal(t *testing.T) {
	t.Parallel()
	f := &fake{status: http.StatusNoContent, header: map[string]string{"Next-Update-Ms": "5000", "ETag": `W/"17"`}}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	to, err := client.New(client.Options{BaseURL: server.URL, Minimal: true})
	require.NoError(t, err)
	want := client.Receipt{Verdict: client.Stored, Seq: 17, NextUpdate: 5 * time.Second}
	got, err := to.Update(t.Context(), "s", client.Fix{})
	require.NoError(t, err)
	assert.Equal(t, want, got)
	assert.Equal(t, "return=minimal", f.got.Get("Prefer"))
	got, err = to.UpdateBatch(t.Context(), "s", make([]client.Fix, 3))
	require.NoError(t, err)
	want.Counts = map[client.Verdict]int{client.Stored: 3}
	assert.Equal(t, want, got)

	f.header = nil
	_, err = to.Update(t.Context(), "s", client.Fix{})
	require.ErrorContains(t, err, "not the API's")
	f.status, f.answer = http.StatusCreated, `{"data":{"ignored":"low_accuracy"}}`
	got, err = to.Update(t.Context(), "s", client.Fix{})
	require.NoError(t, err)
	assert.Equal(t, client.LowAccuracy, got.Verdict, "what is not stored has a body")
}

func TestClient_Live(t *testing.T) {
	t.Parallel()
	to, f := setup(t, http.StatusOK, `{"data":{"sessionId":"s","trainerId":"t","isActive":true,"lastUpdate":"2026-03-14T09:27:00.412Z","distanceMeters":94,"etaSeconds":20,
		"location":{"latitude":12.5,"longitude":77.5,"accuracy":8.5,"timestamp":"2026-03-14T09:27:00.000Z"}}}`)
	f.header["ETag"] = `W/"17"`
	got, err := to.Live(t.Context(), "s", client.ReadOptions{ETag: `W/"16"`})
	require.NoError(t, err)
	assert.Equal(t, `W/"16"`, f.got.Get("If-None-Match"))
	assert.Equal(t, client.View{
		SessionID: "s", TrainerID: "t", Active: true, LastUpdate: time.Date(2026, 3, 14, 9, 27, 0, 412_000_000, time.UTC), DistanceM: new(94.0), ETASeconds: new(20),
		Location: &client.Location{Point: client.Point{Latitude: 12.5, Longitude: 77.5}, AccuracyM: new(8.5), RecordedAt: time.Date(2026, 3, 14, 9, 27, 0, 0, time.UTC)},
		ETag:     `W/"17"`,
	}, got)

	f.status, f.answer = http.StatusNotModified, ""
	got, err = to.Live(t.Context(), "s", client.ReadOptions{ETag: `W/"17"`})
	require.NoError(t, err)
	assert.Equal(t, client.View{NotModified: true, ETag: `W/"17"`}, got)

	f.status, f.answer = http.StatusOK, `{"data":[]}`
	_, err = to.Live(t.Context(), "s", client.ReadOptions{})
	require.ErrorContains(t, err, "live: 200: the answer is not the API's")
}

func TestClient_answers(t *testing.T) {
	t.Parallel()
	to, f := setup(t, http.StatusOK, `{"data":{"sessions":[{"sessionId":"s","status":"pending_verification","otp":"0042","scheduledAt":null,"studentHome":{"latitude":1}}]}}`)
	list, err := to.MySessions(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []client.Session{{SessionID: "s", Status: client.PendingVerification, OTP: "0042", StudentHome: client.Point{Latitude: 1}}}, list)

	f.answer = `{"data":{"otp":"0042","arrivedAt":"2026-03-14T09:27:00.000Z"}}`
	arrival, err := to.Arrive(t.Context(), "s", nil)
	require.NoError(t, err)
	assert.Equal(t, "0042", arrival.OTP)

	f.answer = `{"data":{"stoppedAt":"2026-03-14T09:27:00.000Z"}}`
	stopped, err := to.StopJourney(t.Context(), "s")
	require.NoError(t, err)
	assert.Equal(t, 27, stopped.Minute())

	f.answer = `{"data":{"rating":5,"trainerRating":{"average":4.5,"count":2}}}`
	review, err := to.Review(t.Context(), "s", 5, "")
	require.NoError(t, err)
	assert.InDelta(t, 4.5, review.TrainerRating.Average, 0)

	f.status, f.answer = http.StatusNoContent, ""
	require.NoError(t, to.DeletePushToken(t.Context(), "p"))
}

func TestClient_health(t *testing.T) {
	t.Parallel()
	to, f := setup(t, http.StatusOK, `{"success":true,"data":{"liveStore":"ok"}}`)
	require.NoError(t, to.Alive(t.Context()))
	assert.Equal(t, "GET /healthz", f.method+" "+f.target)
	assert.Empty(t, f.got.Get("Authorization"), "health needs no token")
	r, err := to.Ready(t.Context())
	require.NoError(t, err)
	assert.Equal(t, client.Readiness{Ready: true, Parts: map[string]string{"liveStore": "ok"}}, r)

	f.status = http.StatusServiceUnavailable
	require.Error(t, to.Alive(t.Context()))
	r, err = to.Ready(t.Context())
	require.NoError(t, err, "not ready is an answer")
	assert.False(t, r.Ready)
	f.answer = "<html>"
	_, err = to.Ready(t.Context())
	require.Error(t, err)
}

func TestClient_Do(t *testing.T) {
	t.Parallel()
	to, f := setup(t, http.StatusConflict, `{"success":false,"code":"TRAINER_BUSY"}`)
	a, err := to.Do(t.Context(), client.Request{Method: http.MethodPost, Path: "/x?y=1", Header: http.Header{"if-none-match": {"z"}}, Body: map[string]int{"a": 1}})
	require.NoError(t, err, "a refusal is an answer")
	assert.Equal(t, client.TrainerBusy, a.Err.Code)
	assert.Equal(t, "POST /api/v1/x?y=1", f.method+" "+f.target)
	assert.Equal(t, "z", f.got.Get("If-None-Match"))

	_, err = to.Do(t.Context(), client.Request{Method: http.MethodPost, Path: "/x", Body: func() {}})
	require.ErrorContains(t, err, "encode the body")
}

func TestClient_no_answer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	slow, err := client.New(client.Options{BaseURL: server.URL, Token: client.StaticToken("a-token"), Timeout: 20 * time.Millisecond})
	require.NoError(t, err)
	_, err = slow.Session(t.Context(), "s")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Empty(t, client.CodeOf(err))
	assert.True(t, client.Temporary(err))
	assert.NotContains(t, err.Error(), "a-token")

	signedOut := errors.New("signed out")
	nobody, err := client.New(client.Options{BaseURL: server.URL, Token: func(context.Context) (string, error) { return "", signedOut }})
	require.NoError(t, err)
	_, err = nobody.Session(t.Context(), "s")
	require.ErrorIs(t, err, signedOut)
}
