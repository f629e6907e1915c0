package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxJWKSBytes is some hundred times a usual JWKS; with a certificate chain
	// on each of maxKeys keys there is still room.
	maxJWKSBytes = 256 << 10
	// firstRetry is the pause after the first failed fetch; it doubles up to
	// UnknownKeyInterval. Short, for a gateway and its issuer often start together.
	firstRetry = time.Second
)

// keyring holds the latest good JWKS and keeps it fresh.
//
// It is our own and not keyfunc's for what keyfunc v3.9.1 on jwkset v0.11.4
// does: its constructor fetches and starts a goroutine; a fetch for an unknown
// kid happens in the request and runs under the same deadline as the wait for
// its limiter, so that it either blocks the request as long as the JWKS stalls
// or (with a short RateLimitWaitMax) can never succeed; nothing joins requests
// to one fetch; a body has no limit; one key it dislikes discards the whole
// set; symmetric keys are taken in. What it does well, reading a JWK, is jwkset,
// and that is used (keyset.go).
//
// All fetching is done by the one goroutine in run: so there is never more than
// one fetch at a time, it ends with run, and a request only asks and waits.
// Nothing is stored for an unknown kid: the set itself is the negative answer,
// and the clock says whether it may be asked again.
type keyring struct {
	opts    Options
	host    string // for the log: the address may hold a password
	current atomic.Pointer[keySet]
	asked   chan struct{} // capacity 1; written and drained under mu

	mu        sync.Mutex
	running   bool
	flight    chan struct{} // closed when the fetch under way has landed; nil when there is none
	attempted time.Time     // begin of the last fetch, by opts.Clock
	healthy   bool          // the last fetch succeeded
}

// newKeyring expects options that are valid and have a JWKSURL.
func newKeyring(opts Options) *keyring {
	k := &keyring{opts: opts, asked: make(chan struct{}, 1)}
	if u, err := url.Parse(opts.JWKSURL); err == nil {
		k.host = u.Host
	}
	k.current.Store(&keySet{})
	return k
}

// find returns the key that a token names. A known key costs one atomic load
// and a map access, whatever the JWKS server does. For an unknown one a fetch
// is asked for, if it is time for one, and awaited for at most UnknownKeyWait.
// ErrUnknownKey: the issuer was asked lately and has no such key.
// ErrKeysUnavailable: the issuer could not be asked.
func (k *keyring) find(ctx context.Context, ref keyRef) (publicKey, error) {
	if key, ok := k.keys().find(ref); ok {
		return key, nil
	}
	if landed := k.ask(); landed != nil {
		if err := k.await(ctx, landed); err != nil {
			return nil, err
		}
	}
	if key, ok := k.keys().find(ref); ok {
		return key, nil
	}
	return nil, k.absence()
}

func (k *keyring) keys() keySet { return *k.current.Load() }

// ask joins the fetch under way or requests one from run. It returns nil when
// it is too early for another, or when nobody would do it.
func (k *keyring) ask() (landed <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.running {
		return nil
	}
	if k.flight == nil {
		if k.tooEarly() {
			return nil
		}
		k.takeOff()
		k.asked <- struct{}{} // has room: takeOff has just emptied it, under mu
	}
	return k.flight
}

// tooEarly lets a clock that was set back fetch again at once, rather than
// hold fetching off until it has caught up.
func (k *keyring) tooEarly() bool {
	since := k.opts.Clock().Sub(k.attempted)
	return 0 <= since && since < k.opts.UnknownKeyInterval
}

func (k *keyring) await(ctx context.Context, landed <-chan struct{}) error {
	patience := time.NewTimer(k.opts.UnknownKeyWait)
	defer patience.Stop()
	select {
	case <-landed:
		return nil
	case <-patience.C:
		return fmt.Errorf("%w within %s", ErrKeysUnavailable, k.opts.UnknownKeyWait)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrKeysUnavailable, context.Cause(ctx))
	}
}

func (k *keyring) absence() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.healthy {
		return ErrKeysUnavailable
	}
	return ErrUnknownKey
}

// run fetches at once, then every RefreshInterval and when asked, until ctx
// ends. While fetching fails it retries sooner, and the last good keys stay in
// use for as long as that lasts: an issuer that is down must not log everybody out.
func (k *keyring) run(ctx context.Context) error {
	if !k.start() {
		return errors.New("auth: Run is running already")
	}
	defer k.stop()
	retry := firstRetry
	for {
		pause := k.opts.RefreshInterval
		if k.refresh(ctx) {
			retry = firstRetry
		} else {
			pause = min(pause, retry)
			retry = min(2*retry, k.opts.UnknownKeyInterval)
		}
		if !k.pause(ctx, pause) {
			return nil
		}
	}
}

// start reports false where another run is at work: single flight rests on
// there being one.
func (k *keyring) start() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running {
		return false
	}
	k.running = true
	return true
}

// stop lets go whoever still waits for a fetch that will not happen.
func (k *keyring) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running = false
	k.land()
}

func (k *keyring) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-k.asked:
	}
	return true
}

// refresh does one fetch and reports whether it succeeded.
func (k *keyring) refresh(ctx context.Context) bool {
	k.mu.Lock()
	k.takeOff()
	k.mu.Unlock()

	set, skipped, err := k.fetch(ctx)
	before := k.keys()
	if err == nil {
		k.current.Store(&set)
	}

	k.mu.Lock()
	k.healthy = err == nil
	k.land() // after the store: who was waiting finds the new keys
	k.mu.Unlock()

	k.report(ctx, before, skipped, err)
	return err == nil
}

// takeOff opens a flight, or takes over the one that ask has opened together
// with its request, which must then not cause a second fetch. Call it with mu held.
func (k *keyring) takeOff() {
	select {
	case <-k.asked:
	default:
	}
	if k.flight == nil {
		k.flight = make(chan struct{})
	}
	k.attempted = k.opts.Clock()
}

// land lets go whoever waits. Call it with mu held.
func (k *keyring) land() {
	if k.flight != nil {
		close(k.flight)
		k.flight = nil
	}
}

// report says what an operator would want to know: that fetching fails, and
// that the keys are others. A refresh that changes nothing is not worth a line.
func (k *keyring) report(ctx context.Context, before keySet, skipped int, err error) {
	if ctx.Err() != nil {
		return // shutting down: not the issuer's fault
	}
	now := k.keys()
	k.opts.Observer.KeysRefreshed(err == nil, len(now))
	if err != nil {
		k.opts.Logger.WarnContext(ctx, "jwks fetch failed", "host", k.host, "keys", len(now), "error", err)
		return
	}
	if len(now) == 0 {
		k.opts.Logger.WarnContext(ctx, "jwks has no usable key", "host", k.host, "skipped", skipped)
		return
	}
	if !now.equal(before) {
		k.opts.Logger.InfoContext(ctx, "jwks keys changed", "host", k.host, "keys", len(now), "skipped", skipped)
	}
}

// fetch gets and reads the JWKS within FetchTimeout. A connection of its own
// each time: at one fetch in ten minutes an idle one would be closed anyway.
func (k *keyring) fetch(ctx context.Context) (set keySet, skipped int, err error) {
	ctx, cancel := context.WithTimeout(ctx, k.opts.FetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.opts.JWKSURL, nil)
	if err != nil {
		return nil, 0, errors.New("make the request") // the cause would repeat the address
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Close = true
	res, err := k.opts.HTTPClient.Do(req)
	if err != nil {
		return nil, 0, withoutURL(err)
	}
	defer func() { _ = res.Body.Close() }() // read to the end or given up: nothing to learn
	if res.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("status %d", res.StatusCode)
	}
	// The limit is on the unpacked bytes: the transport has undone any gzip.
	document, err := io.ReadAll(io.LimitReader(res.Body, maxJWKSBytes+1))
	if err != nil {
		return nil, 0, fmt.Errorf("read the body: %w", err)
	}
	if len(document) > maxJWKSBytes {
		return nil, 0, fmt.Errorf("body is over %d bytes", maxJWKSBytes)
	}
	return parseKeys(document)
}

// withoutURL takes the address, which may carry a key in its query, out of
// what net/http says about it.
func withoutURL(err error) error {
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		return urlErr.Err
	}
	return err
}

// warnIfForgeable is for a JWKS over plain http from another machine: whoever
// sits on the way chooses the keys. A sidecar on loopback is fine.
func warnIfForgeable(ctx context.Context, logger *slog.Logger, address string) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" || u.Hostname() == "localhost" {
		return
	}
	if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
		logger.WarnContext(ctx, "jwks is fetched without tls", "host", u.Host)
	}
}
