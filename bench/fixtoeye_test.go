// Package bench measures Doorstep whole, through its own HTTP API.
package bench

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
	"doorstep/gateway/app"
	"doorstep/geo"
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
	j, base := beginJourney(b, valkeyURL)
	ctx, etag := context.Background(), j.Live(context.Background(), base, "", 0).ETag
	var gaps []time.Duration
	for n := 0; b.Loop(); n++ {
		type sight struct {
			answer rig.Answer
			at     time.Time
		}
		seen := make(chan sight, 1)
		go func() { seen <- sight{j.Live(ctx, base, etag, 25), time.Now()} }()
		time.Sleep(2 * time.Millisecond) // most of the time a student is waiting already
		require.Equal(b, "201", j.Update(ctx, base, geo.Offset(j.Home, 0, 10_000+float64(n%2))).Label())
		posted, s := time.Now(), <-seen
		require.Equal(b, "200", s.answer.Label(), "the long poll")
		etag, gaps = s.answer.ETag, append(gaps, s.at.Sub(posted))
	}
	slices.Sort(gaps)
	b.ReportMetric(gaps[len(gaps)/2].Seconds()*1000, "p50-ms")
	b.ReportMetric(gaps[len(gaps)*99/100].Seconds()*1000, "p99-ms")
}

// beginJourney starts a journey on a gateway in this process.
func beginJourney(b *testing.B, valkeyURL string) (j *rig.Journey, base string) {
	b.Helper()
	ctx := context.Background()
	a, err := app.New(app.Options{
		Listen: "127.0.0.1:0", ValkeyURL: valkeyURL, JWTSecret: rig.Secret, OTPInResponse: true,
		RateInterval: time.Microsecond, RateTolerance: time.Second, CallerRate: -1,
	})
	require.NoError(b, err)
	require.NoError(b, a.Start(ctx))
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		require.NoError(b, a.Stop(ctx))
	})
	base = "http://" + a.Addr().String()
	admin, err := rig.NewCaller(sessions.Admin, nil)
	require.NoError(b, err)
	j, err = rig.NewJourney(geo.MustPoint(52, 5), nil)
	require.NoError(b, err)
	require.Equal(b, "201", j.Book(ctx, base, admin).Label())
	require.Eventually(b, func() bool {
		res, err := rig.Get(ctx, base+"/readyz")
		return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK
	}, 5*time.Second, 10*time.Millisecond)
	require.Equal(b, "201", j.Start(ctx, base).Label())
	return j, base
}
