package auth

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// inBubble runs a test on a clock that jumps whenever everybody waits.
func inBubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	keysOnce() // outside: the bubble's clock would stand still for it
	synctest.Test(t, test)
}

// rotated is threeKeys with the RSA key replaced, under a new kid.
func rotated(t testing.TB) []byte {
	t.Helper()
	s := keysOnce()
	return document(t, jwk(t, "rsa-next", &s.rsaNext.PublicKey), jwk(t, "ec", &s.p256.PublicKey), jwk(t, "ed", s.ed.Public()))
}

func rsaNext() tokenSpec {
	return tokenSpec{method: jwt.SigningMethodRS256, key: keysOnce().rsaNext, kid: "rsa-next"}
}

// took is how long f waited, on the bubble's clock.
func took(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

func TestRun_PicksUpARotationWithinTheInterval(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := setupInBubble(t, threeKeys(t))
		b.run(t)
		synctest.Wait()
		b.accepts(t, rs256("rsa").sign(t))
		b.issuer.publish(rotated(t))

		time.Sleep(10 * time.Second) // too early to ask again: refused at once, and the others are not harmed
		require.Zero(t, took(func() { b.refuses(t, rsaNext().sign(t), ErrUnknownKey) }))
		b.accepts(t, es256("ec").sign(t))
		require.Equal(t, 1, b.issuer.count())

		time.Sleep(20 * time.Second)
		b.accepts(t, rsaNext().sign(t))
		require.Equal(t, 2, b.issuer.count())
	})
}

func TestRun_RefreshesPeriodically(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := setupInBubble(t, threeKeys(t))
		began := time.Now()
		b.run(t)
		time.Sleep(10*time.Minute - time.Nanosecond)
		require.Equal(t, 1, b.issuer.count())
		b.issuer.publish(rotated(t))
		time.Sleep(20*time.Minute + time.Nanosecond)
		synctest.Wait()
		var at []time.Duration
		for _, fetch := range b.issuer.times() {
			at = append(at, fetch.Sub(began))
		}
		require.Equal(t, []time.Duration{0, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute}, at)
		require.Zero(t, took(func() { b.accepts(t, rsaNext().sign(t)) }), "known before anybody asked")
		require.Len(t, b.issuer.times(), 4)
	})
}

// A key that the issuer has dropped: gone with the refresh for tokens not seen
// lately, and cacheTTL later for the others.
func TestVerify_RemovedKeyIsGoneAfterTheCacheTTL(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := setupInBubble(t, threeKeys(t))
		b.run(t)
		synctest.Wait()
		b.issuer.publish(rotated(t))
		seen, unseen := rs256("rsa").sign(t), rs256("rsa")
		unseen.claims = map[string]any{"jti": "unseen"}

		time.Sleep(10*time.Minute - time.Second)
		b.accepts(t, seen) // remembered for a minute from here
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 2, b.issuer.count())
		b.refuses(t, unseen.sign(t), ErrUnknownKey)

		time.Sleep(time.Minute - time.Second - time.Nanosecond)
		b.accepts(t, seen)
		time.Sleep(time.Nanosecond)
		b.refuses(t, seen, ErrUnknownKey)
	})
}

func TestRun_AnEmptySetTakesAllKeysAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := setupInBubble(t, threeKeys(t))
		b.run(t)
		synctest.Wait()
		require.True(t, b.ready())
		b.issuer.publish(document(t))
		time.Sleep(30 * time.Second)
		b.refuses(t, rs256("new").sign(t), ErrUnknownKey)
		b.refuses(t, rs256("rsa").sign(t), ErrUnknownKey)
		require.False(t, b.ready())
		synctest.Wait()
		require.Contains(t, b.log.String(), "jwks has no usable key")
		b.accepts(t, tokenSpec{}.sign(t))
	})
}

// A thousand at once, each with a kid of its own, over a real listener.
func TestVerify_FloodOfUnknownKidsFetchesOnceAnInterval(t *testing.T) {
	t.Parallel()
	b := setupJWKS(t, threeKeys(t))
	known := es256("ec").sign(t)
	flood := func() {
		var wg sync.WaitGroup
		for n := range 1000 {
			token := tokenSpec{header: map[string]any{"alg": "EdDSA", "kid": fmt.Sprint("stranger-", n)}}.sign(t)
			wg.Go(func() {
				if _, err := b.Verify(t.Context(), []byte(token)); !errors.Is(err, ErrUnknownKey) {
					t.Errorf("stranger's kid: %v", err)
				}
			})
			if n%100 == 0 {
				wg.Go(func() {
					if _, err := b.prove(t.Context(), known, b.clock.Now()); err != nil {
						t.Errorf("known key: %v", err)
					}
				})
			}
		}
		wg.Wait()
	}
	flood()
	require.Equal(t, 1, b.issuer.count(), "the first fetch was just now")
	for interval := range 3 {
		b.clock.Advance(30 * time.Second)
		flood()
		flood()
		require.Equal(t, 2+interval, b.issuer.count())
	}
	require.Zero(t, b.cache.len(), "nothing is kept for them")
}

func TestVerify_StalledJWKSHoldsARequestForTheWaitOnly(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := setupInBubble(t, threeKeys(t))
		b.run(t)
		time.Sleep(30 * time.Second)
		b.issuer.stall(true)

		var wg sync.WaitGroup
		for n := range 100 {
			token := rs256(fmt.Sprint("stranger-", n)).sign(t)
			wg.Go(func() {
				waited := took(func() {
					if _, err := b.Verify(t.Context(), []byte(token)); !errors.Is(err, ErrKeysUnavailable) {
						t.Error(err)
					}
				})
				if waited != 250*time.Millisecond {
					t.Errorf("held for %s", waited)
				}
			})
		}
		synctest.Wait()
		require.Zero(t, took(func() { b.accepts(t, rs256("rsa").sign(t)) }), "a known key waits for nobody")
		wg.Wait()
		require.Equal(t, 2, b.issuer.count())

		time.Sleep(750*time.Millisecond - time.Nanosecond)
		require.NotContains(t, b.log.String(), "jwks fetch failed")
		time.Sleep(time.Nanosecond) // a second after it began
		synctest.Wait()
		require.Contains(t, b.log.String(), "jwks fetch failed")
		require.Zero(t, took(func() { b.refuses(t, rs256("late").sign(t), ErrKeysUnavailable) }), "not held again so soon")

		b.issuer.stall(false)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Zero(t, took(func() { b.refuses(t, rs256("late").sign(t), ErrUnknownKey) }), "it answers again")
	})
}

// A fetch that outlasts the wait is not lost: its keys serve the next request.
func TestVerify_SlowJWKSServesTheNextRequest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := setupInBubble(t, threeKeys(t))
		b.run(t)
		time.Sleep(30 * time.Second)
		b.issuer.publish(rotated(t))
		b.issuer.slow(900 * time.Millisecond)
		b.refuses(t, rsaNext().sign(t), ErrKeysUnavailable)
		time.Sleep(650 * time.Millisecond)
		synctest.Wait()
		require.Zero(t, took(func() { b.accepts(t, rsaNext().sign(t)) }))
		require.Equal(t, 2, b.issuer.count())
	})
}

func TestVerify_AtStartWaitsForTheFirstFetch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := setupInBubble(t, threeKeys(t))
		b.issuer.slow(100 * time.Millisecond)
		token := rs256("rsa").sign(t)
		require.Zero(t, took(func() { b.refuses(t, token, ErrKeysUnavailable) }), "nobody would fetch yet")
		b.run(t)
		synctest.Wait()
		require.False(t, b.ready())
		require.Equal(t, 100*time.Millisecond, took(func() { b.accepts(t, token) }))
		require.True(t, b.ready())
		require.Equal(t, 1, b.issuer.count())
	})
}

func TestVerify_LeavingClientIsNotHeld(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := setupInBubble(t, threeKeys(t))
		b.run(t)
		time.Sleep(30 * time.Second)
		b.issuer.stall(true)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		waited := took(func() {
			_, err := b.Verify(ctx, []byte(rs256("new").sign(t)))
			require.ErrorIs(t, err, ErrKeysUnavailable)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
		require.Equal(t, 10*time.Millisecond, waited)
	})
}

func TestRun_JWKSDownAtStartIsRetriedUntilItIsUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := setupInBubble(t, threeKeys(t))
		b.issuer.answer(http.StatusServiceUnavailable)
		began := time.Now()
		b.run(t)
		synctest.Wait()
		require.False(t, b.ready())
		b.refuses(t, rs256("rsa").sign(t), ErrKeysUnavailable)
		b.accepts(t, tokenSpec{}.sign(t))

		time.Sleep(92 * time.Second)
		var at []float64
		for _, fetch := range b.issuer.times() {
			at = append(at, fetch.Sub(began).Seconds())
		}
		require.Equal(t, []float64{0, 1, 3, 7, 15, 31, 61, 91}, at)

		b.issuer.answer(http.StatusOK)
		time.Sleep(29 * time.Second)
		synctest.Wait()
		require.True(t, b.ready())
		b.accepts(t, rs256("rsa").sign(t))
	})
}

func TestRun_EachOutageIsRetriedSoonAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := setupInBubble(t, threeKeys(t))
		b.issuer.answer(http.StatusBadGateway)
		b.run(t)
		time.Sleep(2 * time.Second) // fetched at 0 s and 1 s, next at 3 s
		b.issuer.answer(http.StatusOK)
		time.Sleep(time.Minute)
		require.Equal(t, 3, b.issuer.count())
		b.issuer.answer(http.StatusBadGateway)
		time.Sleep(541500 * time.Millisecond) // to 603.5 s: the good fetch was at 3 s
		require.Equal(t, 4, b.issuer.count())
		time.Sleep(time.Second)
		require.Equal(t, 5, b.issuer.count(), "a second after the failure, as the first time")
	})
}

func TestRun_JWKSDownLaterKeepsTheLastGoodKeys(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := setupInBubble(t, threeKeys(t))
		b.run(t)
		synctest.Wait()
		b.issuer.answer(http.StatusBadGateway)
		time.Sleep(24 * time.Hour)
		token := rs256("rsa")
		token.claims = map[string]any{"exp": testNow.Add(25 * time.Hour).Unix()}
		b.accepts(t, token.sign(t))
		require.True(t, b.ready())
		b.refuses(t, rs256("new").sign(t), ErrKeysUnavailable)
		require.Less(t, b.issuer.count(), 24*60*60/30+10, "retried gently")
	})
}

// Each over a real listener and the real client.
func TestRun_BadAnswerKeepsTheLastGoodKeys(t *testing.T) {
	t.Parallel()
	huge := append([]byte(`{"keys":[],"x":"`), []byte(strings.Repeat("x", maxJWKSBytes)+`"}`)...)
	for name, spoil := range map[string]func(*issuer){
		"over the size limit": func(i *issuer) { i.publish(huge) },
		"too many keys":       func(i *issuer) { i.publish([]byte(`{"keys":[{}` + strings.Repeat(`,{}`, maxKeys) + `]}`)) },
		"a sign-in page":      func(i *issuer) { i.publish([]byte("<html>")) },
		"an empty body":       func(i *issuer) { i.publish(nil) },
		"not found":           func(i *issuer) { i.answer(http.StatusNotFound) },
		"an inner error":      func(i *issuer) { i.answer(http.StatusInternalServerError) },
		"no content":          func(i *issuer) { i.answer(http.StatusNoContent) },
		"a redirect":          func(i *issuer) { i.answer(http.StatusFound) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupJWKS(t, threeKeys(t))
			spoil(b.issuer)
			b.clock.Advance(30 * time.Second)
			b.refuses(t, rs256("new").sign(t), ErrKeysUnavailable)
			require.False(t, <-b.refreshes)
			require.Equal(t, 2, b.issuer.count(), "a redirect is not followed")
			b.accepts(t, rs256("rsa").sign(t))
			require.True(t, b.ready())
			require.Contains(t, b.log.String(), "jwks fetch failed")
		})
	}
}

// fetchFrom does one fetch from a handler with the default client.
func fetchFrom(t *testing.T, serve http.HandlerFunc) error {
	t.Helper()
	server := httptest.NewServer(serve)
	t.Cleanup(server.Close)
	b := setup(t, func(o *Options) { o.Issuers[0].JWKSURL, o.fetchTimeout = server.URL, 30*time.Second })
	_, _, err := b.issuers[0].keys.fetch(t.Context())
	return err
}

func TestFetch_StopsReadingAnEndlessBody(t *testing.T) {
	t.Parallel()
	hungUp := make(chan struct{})
	err := fetchFrom(t, func(w http.ResponseWriter, _ *http.Request) {
		defer close(hungUp)
		for blank := make([]byte, 64<<10); ; {
			if _, err := w.Write(blank); err != nil {
				return
			}
		}
	})
	require.ErrorContains(t, err, "over 262144 bytes")
	<-hungUp
}

func TestFetch_LimitsWhatABombUnpacksTo(t *testing.T) {
	t.Parallel()
	err := fetchFrom(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		packed := gzip.NewWriter(w)
		_, _ = packed.Write(make([]byte, 16<<20)) // 16 KiB on the wire
		_ = packed.Close()
	})
	require.ErrorContains(t, err, "over 262144 bytes")
}

func TestFetch_SaysNothingOfTheAddress(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.Issuers[0].JWKSURL = "http://user:hush@127.0.0.1:1/jwks.json?api_key=hush" })
	_, _, err := b.issuers[0].keys.fetch(t.Context())
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hush")
}

func TestRun_EndLetsWaitersGo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := setupInBubble(t, threeKeys(t))
		b.issuer.stall(true)
		stop := b.run(t)
		synctest.Wait()
		var wg sync.WaitGroup
		wg.Go(func() {
			waited := took(func() {
				if _, err := b.Verify(t.Context(), []byte(rs256("rsa").sign(t))); !errors.Is(err, ErrKeysUnavailable) {
					t.Error(err)
				}
			})
			if waited != 100*time.Millisecond {
				t.Errorf("held for %s", waited)
			}
		})
		time.Sleep(100 * time.Millisecond)
		require.Zero(t, took(stop))
		wg.Wait()
		require.NotContains(t, b.log.String(), "jwks fetch failed", "a shutdown is not the issuer's fault")
		require.Zero(t, took(func() { b.refuses(t, rs256("rsa").sign(t), ErrKeysUnavailable) }), "nobody would fetch any more")
	})
}

// An ask that comes between the end of the context and the end of Run has
// nobody left to serve it.
func TestKeyring_StopLandsAFlightThatNeverTookOff(t *testing.T) {
	t.Parallel()
	k := setup(t, func(o *Options) { o.Issuers[0].JWKSURL = "https://issuer.test/" }).issuers[0].keys
	require.True(t, k.start())
	finished := k.ask()
	k.stop()
	select {
	case <-finished:
	default:
		t.Fatal("its waiters are held to the last")
	}
	require.Nil(t, k.ask())
}

// An ask that comes just before the periodic refresh is served by it.
func TestKeyring_RefreshTakesOverWhatWasAsked(t *testing.T) {
	t.Parallel()
	iss := newIssuer(threeKeys(t))
	k := setup(t, func(o *Options) {
		o.Issuers[0].JWKSURL, o.httpClient = "https://issuer.test/", &http.Client{Transport: iss}
	}).issuers[0].keys
	require.True(t, k.start())
	finished := k.ask()
	require.Equal(t, finished, k.ask(), "the second joins the first")
	require.Len(t, k.asked, 1)
	require.True(t, k.refresh(t.Context()))
	<-finished
	require.Empty(t, k.asked, "no second fetch is due")
	require.Equal(t, 1, iss.count())
}

func TestRun_CanRunAgainButNotTwiceAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := setupInBubble(t, threeKeys(t))
		stop := b.run(t)
		synctest.Wait()
		require.ErrorContains(t, b.Run(t.Context()), "running already")
		b.accepts(t, rs256("rsa").sign(t)) // the second one did the first no harm
		stop()
		b.run(t)
		synctest.Wait()
		require.Equal(t, 2, b.issuer.count())
	})
}

func TestRun_OneAskIsOneFetch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := setupInBubble(t, threeKeys(t))
		b.run(t)
		synctest.Wait()
		// Ask at the moment of the periodic refresh; either may come first.
		time.Sleep(10 * time.Minute)
		b.refuses(t, rs256("new").sign(t), ErrUnknownKey)
		synctest.Wait()
		require.Equal(t, 2, b.issuer.count())
		time.Sleep(29 * time.Second)
		b.refuses(t, rs256("new").sign(t), ErrUnknownKey)
		require.Equal(t, 2, b.issuer.count())
	})
}

func TestVerify_ClockSetBackDoesNotHoldOffFetching(t *testing.T) {
	t.Parallel()
	b := setupJWKS(t, threeKeys(t))
	b.issuer.publish(rotated(t))
	b.clock.Advance(-24 * time.Hour)
	token := rsaNext()
	token.claims = map[string]any{"iat": nil}
	b.accepts(t, token.sign(t))
	require.Equal(t, 2, b.issuer.count())
}

func TestRun_LogsChangesOnly(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := setupInBubble(t, threeKeys(t))
		b.run(t)
		time.Sleep(time.Hour)
		require.Equal(t, 1, strings.Count(b.log.String(), "jwks keys changed"))
		b.issuer.publish(rotated(t))
		time.Sleep(time.Hour)
		require.Equal(t, 2, strings.Count(b.log.String(), "jwks keys changed"))
		require.Contains(t, b.log.String(), "host=issuer.test keys=3 skipped=0")
	})
}

func TestRun_TellsTheObserver(t *testing.T) {
	t.Parallel()
	b := setupJWKS(t, threeKeys(t)) // has taken the first, a success
	b.issuer.answer(http.StatusTeapot)
	b.clock.Advance(time.Minute)
	b.refuses(t, rs256("new").sign(t), ErrKeysUnavailable)
	require.False(t, <-b.refreshes)
}

func TestWarnIfForgeable(t *testing.T) {
	t.Parallel()
	for address, warns := range map[string]bool{
		"http://issuer.test/jwks.json":     true,
		"http://user:hush@10.1.2.3/?hush":  true,
		"https://issuer.test/jwks.json":    false,
		"http://localhost:8081/jwks.json":  false,
		"http://127.0.0.1:8081/jwks.json":  false,
		"http://[::1]:8081/jwks.json":      false,
		"http://localhost.issuer.test:80/": true,
	} {
		var log lockedBuffer
		warnIfForgeable(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), address)
		require.Equal(t, warns, strings.Contains(log.String(), "without tls"), address)
		require.NotContains(t, log.String(), "hush")
	}
}
