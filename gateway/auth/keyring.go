package auth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxJWKSBytes is some hundred times a usual JWKS; with a certificate chain
	// on each of maxKeys keys there is still room.
	maxJWKSBytes = 256 << 10
	// firstRetry is the pause after the first failed fetch; it doubles up to
	// unknownKeyInterval. It is short because a gateway and its issuer often start
	// at the same time.
	firstRetry = time.Second
)

// keyring holds the latest good JWKS and keeps it fresh.
//
// keyfunc was not used (v3.9.1 on jwkset v0.11.4) for these reasons. Its
// constructor fetches and starts a goroutine. A fetch for an unknown kid happens
// in the request, under the same deadline as the wait for its limiter: either it
// blocks the request for as long as the JWKS stalls, or, with a short
// RateLimitWaitMax, it can never succeed. Requests do not share a fetch. The size
// of a body has no limit. One key that it cannot read discards the whole set.
// Symmetric keys are accepted. What it does well, reading a JWK, is jwkset, which
// parseKey uses.
//
// All fetching is done by the one goroutine in run. So there is never more than
// one fetch at a time, it ends with run, and a request only asks and waits.
// Nothing is stored for an unknown kid: the set itself says that there is no such
// key, and the time of the last fetch says whether to fetch again.
type keyring struct {
	opts    Options
	issuer  Issuer
	found   string // where discovery has found the keys; only run uses it
	host    string // for the log: the address may hold a password
	current atomic.Pointer[keySet]
	asked   chan struct{} // capacity 1; written and drained under mu

	mu        sync.Mutex
	running   bool
	fetching  chan struct{} // closed when the current fetch is finished; nil when there is none
	attempted time.Time     // begin of the last fetch, by opts.Clock
	healthy   bool          // the last fetch succeeded
}

// newKeyring expects an issuer that is valid and publishes keys.
func newKeyring(issuer Issuer, opts Options) *keyring {
	k := &keyring{opts: opts, issuer: issuer, asked: make(chan struct{}, 1)}
	if u, err := url.Parse(cmp.Or(issuer.JWKSURL, issuer.Name)); err == nil {
		k.host = u.Host
	}
	k.current.Store(&keySet{})
	return k
}

// find returns the key that a token names. A known key costs one atomic load
// and a map access, whatever the JWKS server does. For an unknown key it asks for
// a fetch, unless the last one was less than unknownKeyInterval ago, and waits for
// at most unknownKeyWait. ErrUnknownKey means that the issuer was asked lately and
// has no such key; ErrKeysUnavailable, that the issuer could not be asked.
func (k *keyring) find(ctx context.Context, ref keyRef) (publicKey, error) {
	if key, ok := k.keys().find(ref); ok {
		return key, nil
	}
	if finished := k.ask(); finished != nil {
		if err := k.await(ctx, finished); err != nil {
			return nil, err
		}
	}
	if key, ok := k.keys().find(ref); ok {
		return key, nil
	}
	return nil, k.missing()
}

func (k *keyring) keys() keySet { return *k.current.Load() }

// ask joins the current fetch or requests one from run. It returns nil if it is
// too early for another fetch, or if run is not running.
func (k *keyring) ask() (finished <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.running {
		return nil
	}
	if k.fetching == nil {
		if k.tooEarly() {
			return nil
		}
		k.startFetch()
		k.asked <- struct{}{} // does not block: startFetch has just emptied it, under mu
	}
	return k.fetching
}

// tooEarly reports whether the last fetch was less than unknownKeyInterval ago. If
// the clock was set back it is not: otherwise nothing would be fetched until the
// clock has caught up.
func (k *keyring) tooEarly() bool {
	since := k.opts.Clock().Sub(k.attempted)
	return 0 <= since && since < k.opts.unknownKeyInterval
}

func (k *keyring) await(ctx context.Context, finished <-chan struct{}) error {
	timer := time.NewTimer(k.opts.unknownKeyWait)
	defer timer.Stop()
	select {
	case <-finished:
		return nil
	case <-timer.C:
		return fmt.Errorf("%w within %s", ErrKeysUnavailable, k.opts.unknownKeyWait)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrKeysUnavailable, context.Cause(ctx))
	}
}

// missing is the error for a key that is not in the set.
func (k *keyring) missing() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.healthy {
		return ErrKeysUnavailable
	}
	return ErrUnknownKey
}

// run fetches at once, then every refreshInterval and when asked, until ctx ends.
// While fetching fails it retries sooner. The last good keys stay in use for as
// long as that lasts: an issuer that is down must not log out every user.
func (k *keyring) run(ctx context.Context) error {
	if !k.start() {
		return errors.New("auth: Run is running already")
	}
	defer k.stop()
	retry := firstRetry
	for {
		pause := k.opts.refreshInterval
		if k.refresh(ctx) {
			retry = firstRetry
		} else {
			pause = min(pause, retry)
			retry = min(2*retry, k.opts.unknownKeyInterval)
		}
		if !k.pause(ctx, pause) {
			return nil
		}
	}
}

// start returns false if another run is running. Only with one run is there only
// one fetch at a time.
func (k *keyring) start() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running {
		return false
	}
	k.running = true
	return true
}

// stop releases the requests that still wait for a fetch.
func (k *keyring) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running = false
	k.finishFetch()
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
	k.startFetch()
	k.mu.Unlock()

	set, skipped, err := k.fetch(ctx)
	before := k.keys()
	if err == nil {
		k.current.Store(&set)
	}

	k.mu.Lock()
	k.healthy = err == nil
	k.finishFetch() // after the keys are stored, so that the waiting requests find them
	k.mu.Unlock()

	k.report(ctx, before, skipped, err)
	return err == nil
}

// startFetch marks a fetch as begun. It takes over a fetch that ask has marked and
// requested, so that the request does not cause a second one. Call it with mu held.
func (k *keyring) startFetch() {
	select {
	case <-k.asked:
	default:
	}
	if k.fetching == nil {
		k.fetching = make(chan struct{})
	}
	k.attempted = k.opts.Clock()
}

// finishFetch releases the requests that wait for the fetch. Call it with mu held.
func (k *keyring) finishFetch() {
	if k.fetching != nil {
		close(k.fetching)
		k.fetching = nil
	}
}

// report logs what an operator wants to know: that fetching fails, or that the
// keys have changed. A refresh that changes nothing is not logged.
func (k *keyring) report(ctx context.Context, before keySet, skipped int, err error) {
	if ctx.Err() != nil {
		return // shutting down; the issuer did not fail
	}
	now := k.keys()
	defer k.opts.Observer.KeysRefreshed(k.issuer.Name, err == nil, len(now)) // last, for who waits for it
	if err != nil {
		k.opts.Logger.WarnContext(ctx, "jwks fetch failed", "issuer", k.issuer.Name, "host", k.host, "keys", len(now), "error", err)
		return
	}
	if len(now) == 0 {
		k.opts.Logger.WarnContext(ctx, "jwks has no usable key", "issuer", k.issuer.Name, "host", k.host, "skipped", skipped)
		return
	}
	if !now.equal(before) {
		k.opts.Logger.InfoContext(ctx, "jwks keys changed", "issuer", k.issuer.Name, "host", k.host, "keys", len(now), "skipped", skipped)
	}
}

// fetch gets and parses the JWKS.
func (k *keyring) fetch(ctx context.Context) (set keySet, skipped int, err error) {
	address, err := k.address(ctx)
	if err != nil {
		return nil, 0, err
	}
	document, err := k.get(ctx, address)
	if err != nil {
		return nil, 0, err
	}
	return parseKeys(document)
}

// address is where the JWKS is. Discovery is asked each time, as an issuer may move its
// keys; while it does not answer, the address that it gave last is good.
func (k *keyring) address(ctx context.Context) (string, error) {
	if !k.issuer.Discover {
		return k.issuer.JWKSURL, nil
	}
	found, err := k.discover(ctx)
	if err == nil {
		k.found = found
	} else if k.found == "" {
		return "", fmt.Errorf("discovery: %w", err)
	}
	return k.found, nil
}

// discover asks the issuer where its keys are (OpenID Connect Discovery 1.0, section 4).
func (k *keyring) discover(ctx context.Context) (string, error) {
	document, err := k.get(ctx, strings.TrimSuffix(k.issuer.Name, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", err
	}
	var about struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"` //nolint:tagliatelle // the specification's name
	}
	switch err := json.Unmarshal(document, &about); {
	case err != nil:
		return "", errors.New("not a JSON object")
	case about.Issuer != k.issuer.Name: // as section 4.3 demands
		return "", errors.New("the document names another issuer")
	case checkURL(about.JWKSURI) != "":
		return "", errors.New("jwks_uri: " + checkURL(about.JWKSURI))
	case strings.HasPrefix(k.issuer.Name, "https:") && !strings.HasPrefix(about.JWKSURI, "https:"):
		return "", errors.New("jwks_uri: it is without TLS")
	}
	return about.JWKSURI, nil
}

// get gets a document within fetchTimeout. It uses a new connection each time: with one
// fetch in ten minutes an idle one would be closed anyway.
func (k *keyring) get(ctx context.Context, address string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, k.opts.fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("make the request") // the cause would repeat the address
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Close = true
	res, err := k.opts.httpClient.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer func() { _ = res.Body.Close() }() // read to the end or given up: its error means nothing
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", res.StatusCode)
	}
	// The limit is on the unpacked bytes: the transport has undone any gzip.
	document, err := io.ReadAll(io.LimitReader(res.Body, maxJWKSBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	if len(document) > maxJWKSBytes {
		return nil, fmt.Errorf("body is over %d bytes", maxJWKSBytes)
	}
	return document, nil
}

// withoutURL removes the address from an error of net/http. The address may hold
// a secret in its query.
func withoutURL(err error) error {
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		return urlErr.Err
	}
	return err
}

// warnIfForgeable warns of a JWKS over plain http from another machine: anybody
// on the way can replace the keys. A sidecar on loopback is fine.
func warnIfForgeable(ctx context.Context, logger *slog.Logger, address string) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" || u.Hostname() == "localhost" {
		return
	}
	if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
		logger.WarnContext(ctx, "jwks is fetched without tls", "host", u.Host)
	}
}
