package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
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
	host    string // for the log: the address may hold a password
	current atomic.Pointer[keySet]
	asked   chan struct{} // capacity 1; written and drained under mu

	mu        sync.Mutex
	running   bool
	fetching  chan struct{} // closed when the current fetch is finished; nil when there is none
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

// fetch gets and parses the JWKS within fetchTimeout. It uses a new connection
// each time: with one fetch in ten minutes an idle one would be closed anyway.
func (k *keyring) fetch(ctx context.Context) (set keySet, skipped int, err error) {
	ctx, cancel := context.WithTimeout(ctx, k.opts.fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.opts.JWKSURL, nil)
	if err != nil {
		return nil, 0, errors.New("make the request") // the cause would repeat the address
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Close = true
	res, err := k.opts.httpClient.Do(req)
	if err != nil {
		return nil, 0, withoutURL(err)
	}
	defer func() { _ = res.Body.Close() }() // read to the end or given up: its error means nothing
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

const (
	// maxKeys is far more than any issuer publishes: usually two or three, or a
	// dozen with a rotation every day.
	maxKeys = 64
	// RSA moduli in bits: RFC 7518 section 3.3 asks for 2048 at least. The upper
	// end keeps one check below a millisecond.
	minRSABits = 2048
	maxRSABits = 8192
)

// publicKey is a verification key of any of the three kinds. A byte slice does
// not have this method, so by its type no key of a JWKS can be used as the secret
// of an HMAC.
type publicKey interface {
	Equal(x crypto.PublicKey) bool
}

// keyRef is how a token names its key. The algorithm is part of the name: a
// key is for one algorithm, fixed when it is loaded.
type keyRef struct{ alg, kid string }

// keySet is one JWKS as fetched. It never changes after parseKeys.
type keySet map[keyRef]publicKey

// find returns the key that a token names. A token without a kid is accepted only
// if one key has its algorithm. Trying every key would let a stranger send one
// token and have the gateway do maxKeys checks.
func (s keySet) find(ref keyRef) (publicKey, bool) {
	if ref.kid != "" {
		key, ok := s[ref]
		return key, ok
	}
	var only publicKey
	for other, key := range s {
		if other.alg != ref.alg {
			continue
		}
		if only != nil {
			return nil, false
		}
		only = key
	}
	return only, only != nil
}

func (s keySet) equal(other keySet) bool {
	return maps.EqualFunc(s, other, func(a, b publicKey) bool { return a.Equal(b) })
}

// parseKeys reads a JWKS. Keys that cannot verify one of our algorithms
// (encryption keys, other curves, short moduli, broken ones) are counted in
// skipped and left out, so that an issuer can add a new kind without harm to the
// others. Of two keys with one kid and algorithm the first counts. An empty set is
// valid and means that no key is valid any more. A document that is not a JWKS is
// an error.
func parseKeys(document []byte) (set keySet, skipped int, err error) {
	var jwks struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &jwks); err != nil {
		return nil, 0, errors.New("not a JSON Web Key Set")
	}
	if jwks.Keys == nil {
		return nil, 0, errors.New(`not a JSON Web Key Set: no "keys"`)
	}
	if len(jwks.Keys) > maxKeys {
		return nil, 0, fmt.Errorf("%d keys, more than %d", len(jwks.Keys), maxKeys)
	}
	set = make(keySet, len(jwks.Keys))
	for _, raw := range jwks.Keys {
		ref, key, ok := parseKey(raw)
		if _, twice := set[ref]; !ok || twice {
			skipped++
			continue
		}
		set[ref] = key
	}
	return set, skipped, nil
}

// parseKey reads one JWK. jwkset decodes it and checks the point, the modulus and
// any certificate in it. With Private unset it returns only public keys and
// refuses symmetric ones; without GetX5U it fetches nothing.
func parseKey(raw json.RawMessage) (keyRef, publicKey, bool) {
	jwk, err := jwkset.NewJWKFromRawJSON(raw, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil || !forSignatures(jwk.Marshal()) {
		return keyRef{}, nil, false
	}
	alg, key, ok := algorithmOf(jwk.Key())
	if declared := jwk.Marshal().ALG.String(); !ok || (declared != "" && declared != alg) {
		return keyRef{}, nil, false
	}
	return keyRef{alg: alg, kid: jwk.Marshal().KID}, key, true
}

// forSignatures reports whether a key may verify signatures, by its "use" and
// "key_ops". A key that has neither may do anything (RFC 7517 sections 4.2 and
// 4.3).
func forSignatures(jwk jwkset.JWKMarshal) bool {
	if jwk.USE != "" && jwk.USE != jwkset.UseSig {
		return false
	}
	return len(jwk.KEYOPS) == 0 || slices.Contains(jwk.KEYOPS, jwkset.KeyOpsVerify)
}

// algorithmOf is the one algorithm that a key may verify. The curve is checked
// here because golang-jwt's ES256 takes a key on any curve.
func algorithmOf(key any) (alg string, _ publicKey, ok bool) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		bits := key.N.BitLen()
		return jwt.SigningMethodRS256.Alg(), key, minRSABits <= bits && bits <= maxRSABits
	case *ecdsa.PublicKey:
		return jwt.SigningMethodES256.Alg(), key, key.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return jwt.SigningMethodEdDSA.Alg(), key, true
	}
	return "", nil, false
}
