package client_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/client"
)

var (
	errLost = errors.New("connection reset")
	stored  = result{receipt: client.Receipt{Verdict: client.Stored, NextUpdate: 5 * time.Second}}
)

type result struct {
	receipt client.Receipt
	err     error
	took    time.Duration
}

func refusal(status int, code client.Code, after time.Duration) result {
	return result{err: &client.Error{Status: status, Code: code, RetryAfter: after}}
}

// gateway gives scripted answers to fixes, and then stores all others.
type gateway struct {
	began   time.Time
	answers []result
	mu      sync.Mutex
	sent    []sent
	batches [][]float64 // the fixes of each request
	sentAt  []time.Time // of each request
}

// sent is one request: which fix, and when in the test.
type sent struct {
	fix float64
	at  time.Duration
}

func (g *gateway) Update(ctx context.Context, session string, f client.Fix) (client.Receipt, error) {
	return g.UpdateBatch(ctx, session, []client.Fix{f})
}

func (g *gateway) UpdateBatch(ctx context.Context, session string, fixes []client.Fix) (client.Receipt, error) {
	f := fixes[len(fixes)-1]
	g.mu.Lock()
	g.batches = append(g.batches, numbers(fixes))
	r := stored
	if n := len(g.sent); n < len(g.answers) {
		r = g.answers[n]
	}
	g.sent, g.sentAt = append(g.sent, sent{f.Latitude, time.Since(g.began)}), append(g.sentAt, f.SentAt)
	g.mu.Unlock()
	if session != "s" {
		return client.Receipt{}, errors.New("another session")
	}
	select {
	case <-time.After(r.took):
		return r.receipt, r.err
	case <-ctx.Done():
		return client.Receipt{}, ctx.Err()
	}
}

// fixes are the numbers of the fixes that were sent.
func (g *gateway) fixes() (numbers []float64) {
	for _, s := range g.sent {
		numbers = append(numbers, s.fix)
	}
	return numbers
}

func numbers(fixes []client.Fix) (list []float64) {
	for _, f := range fixes {
		list = append(list, f.Latitude)
	}
	return list
}

func number(n int) client.Fix { return client.Fix{Point: client.Point{Latitude: float64(n)}} }

// phone reports n fixes, one in 5 s, to a gateway with these answers, and
// returns once Run has.
func phone(t *testing.T, n int, o client.ReporterOptions, answers ...result) (*gateway, error) {
	t.Helper()
	g := &gateway{began: time.Now(), answers: answers}
	r := client.NewReporter(g, "s", o)
	done := make(chan error, 1)
	go func() { done <- r.Run(t.Context()) }()
	for i := range n {
		r.Report(number(i))
		time.Sleep(5 * time.Second)
	}
	r.Close()
	return g, <-done
}

func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, test)
}

func TestReporter_Run(t *testing.T) {
	t.Parallel()
	s := time.Second
	for name, c := range map[string]struct {
		answers []result
		sent    []sent
	}{
		"each in its turn": {nil, []sent{{0, 0}, {1, 5 * s}, {2, 10 * s}}},
		"told to wait": {
			[]result{{receipt: client.Receipt{Verdict: client.Stored, NextUpdate: 8 * s}}},
			[]sent{{0, 0}, {1, 7500 * time.Millisecond}, {2, 12 * s}},
		},
		"too soon":               {[]result{stored, refusal(429, client.RateLimited, 2*s)}, []sent{{0, 0}, {1, 5 * s}, {1, 7 * s}, {2, 11500 * time.Millisecond}}},
		"too soon, in no time":   {[]result{refusal(429, client.RateLimited, time.Millisecond)}, []sent{{0, 0}, {0, s}, {1, 5500 * time.Millisecond}, {2, 10 * s}}},
		"stale, with no time":    {[]result{{receipt: client.Receipt{Verdict: client.Stale}}}, []sent{{0, 0}, {1, 5 * s}, {2, 10 * s}}},
		"the live store is away": {[]result{{receipt: client.Receipt{Verdict: client.NotStored, NextUpdate: 4 * s}}}, []sent{{0, 0}, {0, 4 * s}, {1, 8500 * time.Millisecond}, {2, 13 * s}}},
		"implausible":            {[]result{refusal(400, client.ImplausibleSpeed, 6*s)}, []sent{{0, 0}, {1, 6 * s}, {2, 10500 * time.Millisecond}}},
		"malformed":              {[]result{refusal(400, client.InvalidRequest, 0)}, []sent{{0, 0}, {1, 5 * s}, {2, 10 * s}}},
		"a slow answer":          {[]result{{receipt: stored.receipt, took: 3 * s}}, []sent{{0, 0}, {1, 7500 * time.Millisecond}, {2, 12 * s}}},
		"overtaken while slow":   {[]result{{receipt: stored.receipt, took: 11 * s}}, []sent{{0, 0}, {2, 15500 * time.Millisecond}}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g, err := phone(t, 3, client.ReporterOptions{}, c.answers...)
				require.NoError(t, err)
				assert.Equal(t, c.sent, g.sent)
			})
		})
	}
}

func TestReporter_Run_backs_off(t *testing.T) {
	for name, failure := range map[string]result{
		"no answer": {err: errLost}, "a fault": refusal(500, client.Internal, 0), "overloaded": refusal(503, client.Overloaded, time.Second), "a 429 without a time": refusal(429, "", 0),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var tries []int
				var answers []result
				for range 12 {
					answers = append(answers, failure)
				}
				g, err := phone(t, 1, client.ReporterOptions{OnAttempt: func(a client.Attempt) { tries = append(tries, a.Try) }}, answers...)
				require.NoError(t, err, "it goes on until the fix is answered")
				require.Len(t, g.sent, 13)
				assert.Equal(t, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}, tries)
				for i := range 12 {
					gap, d := g.sent[i+1].at-g.sent[i].at, min(time.Second<<i, 30*time.Second)
					assert.GreaterOrEqual(t, gap, max(time.Second, d/2), "failure %d", i)
					assert.Less(t, gap, d+d/2, "failure %d", i)
				}
			})
		})
	}
}

// While a fix cannot be delivered, newer ones take its place.
func TestReporter_Run_sends_the_newest_after_an_outage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var overtaken []float64
		g, err := phone(t, 10, client.ReporterOptions{OnOvertaken: func(f client.Fix) { overtaken = append(overtaken, f.Latitude) }},
			stored, result{err: errLost, took: 21 * time.Second})
		require.NoError(t, err)
		assert.Equal(t, []float64{0, 1, 5, 6, 7, 8, 9}, g.fixes())
		assert.Equal(t, []float64{2, 3, 4}, overtaken, "those that were never sent")
	})
}

// recorded is a fix that was recorded now.
func recorded(n int) client.Fix {
	f := number(n)
	f.RecordedAt = time.Now()
	return f
}

// After a time without network all that waited leaves in one request.
func TestReporter_Run_sends_a_batch(t *testing.T) {
	for name, c := range map[string]struct {
		queue  int
		apart  time.Duration
		answer result
		want   [][]float64
	}{
		"all that waited":         {0, 5 * time.Second, stored, [][]float64{{0, 1, 2, 3}, {9}}},
		"the newest":              {2, 5 * time.Second, stored, [][]float64{{2, 3}, {9}}},
		"more than the gateway":   {client.MaxBatch + 1, 5 * time.Second, stored, [][]float64{{0, 1, 2, 3}, {9}}},
		"one that is asked for":   {1, 5 * time.Second, stored, [][]float64{{3}, {9}}},
		"a receiver at 1 Hz":      {0, 1500 * time.Millisecond, stored, [][]float64{{0, 3}, {9}}},
		"again, with newer ones":  {0, 5 * time.Second, refusal(503, client.Overloaded, 9*time.Second), [][]float64{{0, 1, 2, 3}, {0, 1, 2, 3, 9}}},
		"not after it was judged": {0, 5 * time.Second, refusal(400, client.InvalidRequest, 0), [][]float64{{0, 1, 2, 3}, {9}}},
		"while the store is away": {
			0, 5 * time.Second,
			result{receipt: client.Receipt{Verdict: client.NotStored, NextUpdate: 6 * time.Second}},
			[][]float64{{0, 1, 2, 3}, {0, 1, 2, 3, 9}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := &gateway{began: time.Now(), answers: []result{c.answer}}
				var attempts []client.Attempt
				r := client.NewReporter(g, "s", client.ReporterOptions{Queue: c.queue, OnAttempt: func(a client.Attempt) { attempts = append(attempts, a) }})
				for i := range 4 { // nobody runs yet
					r.Report(recorded(i))
					time.Sleep(c.apart)
				}
				done := make(chan error, 1)
				go func() { done <- r.Run(t.Context()) }()
				time.Sleep(5 * time.Second)
				r.Report(recorded(9))
				r.Close()
				r.Report(recorded(10))
				require.NoError(t, <-done)
				assert.Equal(t, c.want, g.batches, "and none after Close")
				for i, a := range attempts {
					assert.Equal(t, c.want[i], append(numbers(a.Older), a.Fix.Latitude))
					assert.Equal(t, a.SentAt, g.sentAt[i], "of this try")
				}
			})
		})
	}
}

func TestReporter_Run_ends_with_the_journey(t *testing.T) {
	for _, code := range []client.Code{client.NoActiveJourney, client.SessionNotFound, client.Unauthenticated, client.Forbidden} {
		t.Run(string(code), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := &gateway{began: time.Now(), answers: []result{refusal(404, code, 0)}}
				r := client.NewReporter(g, "s", client.ReporterOptions{})
				r.Report(number(1))
				require.ErrorIs(t, r.Run(t.Context()), &client.Error{Code: code})
				assert.Len(t, g.sent, 1)
				r.Close()
				require.NoError(t, r.Run(t.Context()), "after a new sign-in, say")
				assert.Equal(t, []float64{1, 1}, g.fixes(), "the queue stays")
			})
		})
	}
}

func TestReporter_Run_ends_with_its_context(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, answer := range []result{stored, {took: time.Hour}, refusal(429, client.RateLimited, time.Hour)} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			r := client.NewReporter(&gateway{answers: []result{answer}}, "s", client.ReporterOptions{})
			r.Report(number(1))
			require.ErrorIs(t, r.Run(ctx), context.DeadlineExceeded)
			cancel()
		}
	})
}

func TestReporter_clock(t *testing.T) {
	bubble(t, func(t *testing.T) { // ten times as fast
		began := time.Now()
		now := func() time.Time { return began.Add(10 * time.Since(began)) }
		g := &gateway{began: began, answers: []result{refusal(429, client.RateLimited, 20*time.Second)}}
		var attempts []client.Attempt
		r := client.NewReporter(g, "s", client.ReporterOptions{
			Now: now, Sleep: func(_ context.Context, d time.Duration) error { time.Sleep(d / 10); return nil },
			OnAttempt: func(a client.Attempt) { attempts = append(attempts, a) },
		})
		r.Report(number(1))
		r.Close()
		require.NoError(t, r.Run(t.Context()))
		assert.Equal(t, []sent{{1, 0}, {1, 2 * time.Second}}, g.sent)
		assert.Equal(t, client.Attempt{Fix: number(1), Try: 2, SentAt: began.Add(20 * time.Second), Receipt: stored.receipt}, attempts[1])
		assert.Equal(t, client.RateLimited, client.CodeOf(attempts[0].Err))
	})
}

// A phone whose clock is an hour slow is offline on its way, and is let in at the
// door by a real gateway.
func TestReporter_with_a_gateway(t *testing.T) {
	t.Parallel()
	admin, trainer, _, stop := embedded()
	defer stop()
	book(t.Context(), admin)
	_, err := trainer.StartJourney(t.Context(), sessionID, "")
	require.NoError(t, err)
	slow := func() time.Time { return now().Add(-time.Hour) }
	fix := func(i int) client.Fix {
		return client.Fix{Point: client.Point{Latitude: home.Latitude + 0.0008*float64(5-i), Longitude: home.Longitude}, RecordedAt: slow()}
	}
	var attempts []client.Attempt
	r := client.NewReporter(trainer, sessionID, client.ReporterOptions{
		Now: slow, Sleep: wait, OnAttempt: func(a client.Attempt) { attempts = append(attempts, a) },
	})
	for i := range 5 {
		r.Report(fix(i))
		require.NoError(t, wait(t.Context(), 6*time.Second))
	}
	r.Close()
	require.NoError(t, r.Run(t.Context()))
	require.Len(t, attempts, 1)
	assert.Equal(t, map[client.Verdict]int{client.Stored: 5}, positive(attempts[0].Receipt.Counts))

	_, err = client.Repeat(t.Context(), 5, wait, nil, func(ctx context.Context) (client.Arrival, error) {
		at := fix(5)
		at.SentAt = at.RecordedAt
		return trainer.Arrive(ctx, sessionID, &at)
	})
	require.NoError(t, err)
}

func positive(counts map[client.Verdict]int) map[client.Verdict]int {
	maps.DeleteFunc(counts, func(_ client.Verdict, n int) bool { return n == 0 })
	return counts
}
