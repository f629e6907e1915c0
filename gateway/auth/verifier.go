package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/errgroup"

	"doorstep/sessions"
)

// maxTokenBytes is the longest token that is looked at. A token with our claims
// has 300 bytes, with an RSA signature 600; servers limit all headers to 8 KiB or
// so.
const maxTokenBytes = 8 << 10

// Verifier verifies tokens and returns their callers. Safe for concurrent use.
type Verifier struct {
	opts    Options
	parser  *jwt.Parser
	cache   *cache
	issuers []trusted
}

// trusted is an issuer with its keys.
type trusted struct {
	Issuer
	keys *keyring // nil: it publishes none
}

// New makes a Verifier. It does no I/O and starts nothing: a token that needs a key of
// a JWKS is ErrKeysUnavailable until Run has fetched it. The error names the field
// that is wrong.
func New(opts Options) (*Verifier, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	v := &Verifier{
		opts: opts,
		// Strict, because otherwise the last character of a signature could be
		// changed. Verifier.open checks the claims. WithValidMethods is not needed:
		// keyFor has no key for any other algorithm, and unlike the library it can
		// tell that reason from a wrong signature.
		parser: jwt.NewParser(jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation()),
		cache:  newCache(opts.cacheSize),
	}
	for _, issuer := range opts.Issuers {
		t := trusted{Issuer: issuer.withDefaults()}
		if t.hasKeys() {
			t.keys = newKeyring(t.Issuer, opts)
		}
		v.issuers = append(v.issuers, t)
	}
	return v, nil
}

// Run keeps the keys of all issuers fresh until ctx ends, then returns nil. Where none
// has any it only waits. A JWKS that cannot be fetched is logged and retried, not
// returned. A second call while the first one runs is an error.
func (v *Verifier) Run(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error {
		<-ctx.Done()
		return nil
	})
	for _, t := range v.issuers {
		if t.Unchecked && t.hasKeys() {
			v.opts.Logger.WarnContext(ctx, "issuer and audience of tokens are not checked")
		}
		if t.keys != nil {
			warnIfForgeable(ctx, v.opts.Logger, cmp.Or(t.JWKSURL, t.Name))
			all.Go(func() error { return t.keys.run(ctx) })
		}
	}
	return all.Wait()
}

// Ready reports whether tokens can be verified: where issuers publish keys, whether
// those of one are here. So an issuer that is away keeps out its own users only.
// Missing names the issuers whose keys are not here. Both stay as they are when a JWKS
// goes down after a first success.
func (v *Verifier) Ready() (ready bool, missing []string) {
	published := 0
	for _, t := range v.issuers {
		if t.keys == nil {
			continue
		}
		if published++; len(t.keys.keys()) == 0 {
			missing = append(missing, t.Name)
		}
	}
	return published == 0 || len(missing) < published, missing
}

// Publishers names the issuers that publish keys, as Observer hears of them; one without
// a name where there is none, so that their metrics are there, at zero.
func (v *Verifier) Publishers() []string {
	var names []string
	for _, t := range v.issuers {
		if t.keys != nil {
			names = append(names, t.Name)
		}
	}
	if names == nil {
		return []string{""}
	}
	return names
}

// Verify returns the caller of a token. The token comes without "Bearer ", and is not kept. The
// error is one of the Err values; use errors.Is or Reason.
//
// A token that was verified within cacheTTL costs a SHA-256 and a map access: 0.3
// to 0.5 µs and no allocation. Any other costs 8 µs (HS256) to 70 µs (ES256).
// Verify blocks only for a kid that the JWKS did not have, at most for
// unknownKeyWait or until ctx ends.
func (v *Verifier) Verify(ctx context.Context, token []byte) (sessions.Caller, error) {
	if len(token) == 0 {
		return sessions.Caller{}, ErrMissing
	}
	if len(token) > maxTokenBytes {
		return sessions.Caller{}, fmt.Errorf("%w: over %d bytes", ErrMalformed, maxTokenBytes)
	}
	now := v.opts.Clock()
	key := digestOf(token)
	if caller, ok := v.cache.get(key, now.UnixNano()); ok {
		return caller, nil
	}
	proven, err := v.prove(ctx, string(token), now)
	if err != nil {
		return sessions.Caller{}, err
	}
	v.cache.put(key, remember(proven, now, v.opts.cacheTTL))
	return proven.caller, nil
}

// prove verifies a token without the cache.
func (v *Verifier) prove(ctx context.Context, token string, now time.Time) (grant, error) {
	if !compact(token) {
		return grant{}, fmt.Errorf("%w: not a compact JWS", ErrMalformed)
	}
	var claims rawClaims
	var issuer *trusted
	var refused error // keyFor's own error, which the parser would wrap in another one
	_, err := v.parser.ParseWithClaims(token, &claims, func(t *jwt.Token) (key any, err error) {
		if issuer, refused = v.issuerOf(claims.raw); refused == nil {
			key, refused = issuer.keyFor(ctx, t)
		}
		return key, refused
	})
	switch {
	case refused != nil:
		return grant{}, refused
	case err != nil:
		return grant{}, classify(err)
	}
	return issuer.open(claims.raw, now, v.opts.Leeway)
}

// issuerOf is the issuer whose rules a token is judged by. Where there are several it is
// the one that the token names, which is not proven yet: open compares the name again
// when it is.
func (v *Verifier) issuerOf(document []byte) (*trusted, error) {
	if len(v.issuers) == 1 {
		return &v.issuers[0], nil
	}
	var c map[string]json.RawMessage // not a struct, whose names would match in any case
	var name string
	if json.Unmarshal(document, &c) != nil || json.Unmarshal(c["iss"], &name) != nil {
		return nil, ErrIssuer
	}
	for n := range v.issuers {
		if v.issuers[n].Name == name {
			return &v.issuers[n], nil
		}
	}
	return nil, ErrIssuer
}

// compact reports whether a token has only the characters of a compact JWS (RFC
// 7515 section 7.1). Go's base64 skips CR and LF even when strict, so without this
// check one token would have any number of spellings.
func compact(token string) bool {
	for i := range len(token) {
		switch c := token[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// keyFor returns the key to verify a token with. Nothing in the token is trusted
// at this point. The algorithm alone decides where the key comes from, and only
// four algorithms have one. This switch is what keeps out "none", HS384, PS256
// and a public key used as an HMAC secret.
func (i *trusted) keyFor(ctx context.Context, t *jwt.Token) (any, error) {
	// "crit" lists extensions that must be understood (RFC 7515 section 4.1.11).
	// We understand none, and golang-jwt ignores the header.
	if _, critical := t.Header["crit"]; critical {
		return nil, fmt.Errorf("%w: critical extension", ErrMalformed)
	}
	alg := t.Method.Alg()
	switch alg {
	case jwt.SigningMethodHS256.Alg():
		switch {
		case len(i.OldSecret) > 0:
			return jwt.VerificationKeySet{Keys: []jwt.VerificationKey{i.Secret, i.OldSecret}}, nil
		case len(i.Secret) > 0:
			return i.Secret, nil
		}
	case jwt.SigningMethodRS256.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodEdDSA.Alg():
		if i.keys != nil {
			return i.publicKey(ctx, alg, t.Header["kid"])
		}
	}
	return nil, ErrAlgorithm
}

func (i *trusted) publicKey(ctx context.Context, alg string, kid any) (any, error) {
	name, ok := kid.(string)
	if !ok && kid != nil {
		return nil, fmt.Errorf("%w: kid is not text", ErrMalformed)
	}
	return i.keys.find(ctx, keyRef{alg: alg, kid: name})
}

// classify turns the parser's error into one of the Err values. Its text is
// dropped, because it quotes the token.
func classify(err error) error {
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return ErrMalformed
	case errors.Is(err, jwt.ErrTokenUnverifiable): // an unknown alg, or none given
		return ErrAlgorithm
	default:
		return ErrSignature
	}
}

// cacheShards keeps cores from queueing for one lock.
const cacheShards = 16

// digest stands for a token in the cache. SHA-256 was chosen over maphash with
// the token beside it, although that is ten times as fast (42 ns against 0.45 µs
// for 528 bytes). With SHA-256 an entry has one size whatever the token's (8 KiB
// tokens would make 1.6 GB of 200,000 entries), a heap dump holds no usable
// token, and it is not possible to construct a token with the digest of another
// caller's. Half of SHA-256 is enough for that: it takes 2^128 tries. Two tokens of
// one digest take 2^64, but both would have to be signed by the issuer. It saves 53
// bytes a caller (docs/adr/0017).
type digest [sha256.Size / 2]byte

func digestOf(token []byte) digest {
	sum := sha256.Sum256(token)
	return digest(sum[:len(digest{})])
}

// entry is valid from the moment it was made until its end, both in nanoseconds
// of Unix time. The lower bound matters when the clock is set back: without it
// the entry would outlive cacheTTL by as much, and nbf would not be checked again.
type entry struct {
	from, until int64
	caller      sessions.Caller
}

func (e entry) alive(now int64) bool { return e.from <= now && now < e.until }

// cache remembers verified tokens, the most recently used ones. It keeps no
// refused token: a stranger can make any number of different ones. Safe for
// concurrent use.
//
// It is hashicorp's plain LRU and not its expirable one, which runs a goroutine
// that never ends and reads the wall clock.
type cache struct{ shards []shard }

type shard struct {
	mu      sync.Mutex
	entries *simplelru.LRU[digest, entry]
	_       [48]byte // a cache line to itself: neighbours' locks don't slow it
}

// newCache makes a cache of at most size entries, size > 0. It grows as it is
// filled.
func newCache(size int) *cache {
	c := &cache{shards: make([]shard, min(cacheShards, size))}
	for i := range c.shards {
		c.shards[i].entries, _ = simplelru.NewLRU[digest, entry](size/len(c.shards), nil) // fails only for a size of 0 or less
	}
	return c
}

// get finds the caller of a token. It costs one lock and one map access, and
// allocates nothing.
func (c *cache) get(key digest, now int64) (sessions.Caller, bool) {
	s := c.shard(key)
	s.mu.Lock()
	e, ok := s.entries.Get(key)
	s.mu.Unlock()
	if !ok || !e.alive(now) {
		return sessions.Caller{}, false
	}
	return e.caller, true
}

// put adds an entry and removes the least recently used ones that have ended. An
// entry lives for cacheTTL at most, so one that was not used for that long has
// ended, and all such are at the tail. So the number of entries follows the
// number of callers, not the number of tokens they have had.
func (c *cache) put(key digest, e entry) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		_, oldest, ok := s.entries.GetOldest()
		if !ok || oldest.alive(e.from) {
			break
		}
		s.entries.RemoveOldest()
	}
	s.entries.Add(key, e)
}

// shard is chosen by the digest's first byte, which is as good as random.
func (c *cache) shard(key digest) *shard { return &c.shards[int(key[0])%len(c.shards)] }

// remember makes an entry that lasts for ttl, and not beyond the token's own end.
func remember(proven grant, now time.Time, ttl time.Duration) entry {
	until := now.Add(ttl)
	if proven.expires.Before(until) {
		until = proven.expires
	}
	return entry{from: now.UnixNano(), until: until.UnixNano(), caller: proven.caller}
}
