// Package bench measures Doorstep whole, through its own HTTP API.
package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

// BenchmarkFixToEye prints how long after the trainer's 201 the waiting
// student's answer is there, on loopback, one journey at a time: p50 and p99
// in milliseconds. Below zero means that the student had it first: the script
// wakes before it answers.
func BenchmarkFixToEye(b *testing.B) {
	b.Run("embedded", func(b *testing.B) { fixToEye(b, "") })
	b.Run("valkey", func(b *testing.B) { fixToEye(b, valkeytest.Private(b, valkeyserver.Valkey).URL()) })
}

func fixToEye(b *testing.B, valkeyURL string) {
	j := beginJourney(b, valkeyURL)
	var gaps []time.Duration
	for n := 0; b.Loop(); n++ {
		seen := make(chan time.Time, 1)
		go func() { seen <- j.awaitChange() }()
		time.Sleep(2 * time.Millisecond) // most of the time a student is waiting already
		posted := j.post(b, n)
		at := <-seen
		require.False(b, at.IsZero(), "the long poll failed")
		gaps = append(gaps, at.Sub(posted))
	}
	slices.Sort(gaps)
	b.ReportMetric(gaps[len(gaps)/2].Seconds()*1000, "p50-ms")
	b.ReportMetric(gaps[len(gaps)*99/100].Seconds()*1000, "p99-ms")
}

// journey is one under way, with the tokens of its two sides.
type journey struct {
	base, session, trainer, student, etag string
}

func beginJourney(b *testing.B, valkeyURL string) *journey {
	b.Helper()
	a, err := app.New(app.Options{
		Listen: "127.0.0.1:0", ValkeyURL: valkeyURL, JWTSecret: strings.Repeat("k", 32), OTPInResponse: true,
		RateInterval: time.Microsecond, RateTolerance: time.Second, CallerRate: -1,
	})
	require.NoError(b, err)
	require.NoError(b, a.Start(context.Background()))
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		require.NoError(b, a.Stop(ctx))
	})
	trainer, student := sessions.NewID(), sessions.NewID()
	token := func(id sessions.ID, role sessions.Role) string {
		t, err := a.Token(sessions.Caller{ID: id, Role: role}, time.Hour)
		require.NoError(b, err)
		return t
	}
	j := &journey{
		base: "http://" + a.Addr().String(), session: string(sessions.NewID()),
		trainer: token(trainer, sessions.Trainer), student: token(student, sessions.Student),
	}
	booking := fmt.Sprintf(`{"sessionId":%q,"trainerId":%q,"studentId":%q,"studentHome":{"latitude":52,"longitude":5}}`, j.session, trainer, student)
	j.call(b, http.MethodPost, "/api/v1/admin/sessions", token(sessions.NewID(), sessions.Admin), booking, http.StatusCreated)
	require.Eventually(b, func() bool {
		res, _ := j.send(b, http.MethodGet, "/readyz", "", "")
		return res.StatusCode == http.StatusOK
	}, 5*time.Second, 10*time.Millisecond)
	j.call(b, http.MethodPost, "/api/v1/admin/sessions/"+j.session+"/start-journey", j.trainer, "", http.StatusCreated)
	j.look(b)
	return j
}

// look reads once, for the first ETag.
func (j *journey) look(b *testing.B) {
	b.Helper()
	res, _ := j.send(b, http.MethodGet, "/api/v1/admin/location-tracking/journey/live?sessionId="+j.session, j.student, "")
	j.etag = res.Header.Get("ETag")
}

// awaitChange is the student's long poll. It runs beside the benchmark's own
// goroutine, so it gives its error back: a zero time.
func (j *journey) awaitChange() time.Time {
	for {
		res, _, err := j.try(http.MethodGet, "/api/v1/admin/location-tracking/journey/live?wait=25&sessionId="+j.session, j.student, "")
		if err != nil {
			return time.Time{}
		}
		if res.StatusCode == http.StatusOK {
			j.etag = res.Header.Get("ETag")
			return time.Now()
		}
	}
}

func (j *journey) post(b *testing.B, n int) time.Time {
	b.Helper()
	body := fmt.Sprintf(`{"sessionId":%q,"latitude":%.7f,"longitude":5.1,"accuracy":8.5,"speed":40,"heading":90}`, j.session, 52+float64(n%2)*1e-5)
	j.call(b, http.MethodPost, "/api/v1/admin/location-tracking/journey/updates", j.trainer, body, http.StatusCreated)
	return time.Now()
}

func (j *journey) call(b *testing.B, method, path, token, body string, want int) {
	b.Helper()
	res, text := j.send(b, method, path, token, body)
	require.Equal(b, want, res.StatusCode, "%s %s: %s", method, path, text)
	require.True(b, json.Valid(text))
}

func (j *journey) send(b *testing.B, method, path, token, body string) (*http.Response, []byte) {
	b.Helper()
	res, text, err := j.try(method, path, token, body)
	require.NoError(b, err)
	return res, text
}

func (j *journey) try(method, path, token, body string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, j.base+path, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if method == http.MethodGet && j.etag != "" {
		req.Header.Set("If-None-Match", j.etag)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return res, text, err
}
