package auth

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// MinSecretBytes is the shortest HS256 secret: RFC 7518 section 3.2 requires at
// least the length of the hash. With a single token a shorter one can be
// guessed offline.
const MinSecretBytes = 32

// leeway is the difference between the issuer's clock and this one that exp, nbf
// and iat tolerate.
const leeway = 5 * time.Second

// Defaults of Options. A test holds the settings of `gateway serve` to them.
const (
	DefaultSubjectClaim = "sub"
	DefaultRoleClaim    = "role"
)

// Options say which tokens a Verifier accepts. At least one of Secret and JWKSURL
// is required; the zero value of everything else means its default.
type Options struct {
	// Secret verifies HS256 tokens: raw bytes, at least MinSecretBytes.
	Secret []byte
	// JWKSURL is where the public keys for RS256, ES256 and EdDSA are: http or
	// https. Redirects are not followed, so it is the final address.
	JWKSURL string
	// Issuer and Audience, when set, must be in the token.
	Issuer   string
	Audience string
	// SubjectClaim and RoleClaim name the top-level claims that hold the user's
	// id and role. Empty: DefaultSubjectClaim and DefaultRoleClaim.
	SubjectClaim string
	RoleClaim    string

	// Clock is read once a Verify. Default time.Now.
	Clock func() time.Time
	// Logger gets fetches that fail and keys that change. Default: discards.
	Logger *slog.Logger
	// Observer counts fetches. Default: none.
	Observer Observer

	limits // tests change them; the defaults suit every gateway
}

// limits bound the memory and the fetching. Zero means the default.
type limits struct {
	// cacheSize is the largest number of verified tokens remembered. Default
	// 200,000, those of 100,000 trainers and their students: about 50 MB when full,
	// however long the tokens are. If more callers than that are active within
	// cacheTTL, most tokens are verified at each request: 100,000 callers with a
	// cache of 65,536 cost some 10 µs of CPU a request more.
	cacheSize int
	// cacheTTL is how long a verified token is accepted without a new check of its
	// signature. So it is also how long a token can outlive a key that the JWKS has
	// dropped. Default 60 s.
	cacheTTL time.Duration

	// refreshInterval is the time from one good fetch of the JWKS to the next.
	// Default 10 min.
	refreshInterval time.Duration
	// unknownKeyInterval is the least time between a fetch and another one that a
	// token with an unknown kid causes. So it is the longest time until a new key is
	// known here, and it limits the fetching that made-up kids can cause. It is also
	// the longest pause between retries while fetching fails. Default 30 s.
	unknownKeyInterval time.Duration
	// unknownKeyWait is how long Verify waits for such a fetch at most; the fetch
	// itself goes on. Default 250 ms.
	unknownKeyWait time.Duration
	// fetchTimeout bounds one fetch, from dial to last byte. Default 1 s.
	fetchTimeout time.Duration
	// httpClient fetches the JWKS. It is copied and the copy follows no
	// redirects. Default: a plain client on http.DefaultTransport.
	httpClient *http.Client
}

// Observer counts what the answers of Verify do not show. It must not block.
type Observer interface {
	// KeysRefreshed is called after each fetch of the JWKS with its outcome and
	// with the number of keys in use from then on.
	KeysRefreshed(ok bool, keys int)
}

// validate names the first field that is wrong.
func (o Options) validate() error {
	if len(o.Secret) == 0 && o.JWKSURL == "" {
		return errors.New("auth: Options needs Secret or JWKSURL: without either no token can be verified")
	}
	if len(o.Secret) > 0 {
		if err := checkSecret(o.Secret); err != nil {
			return err
		}
	}
	if o.JWKSURL != "" {
		if err := checkJWKSURL(o.JWKSURL); err != nil {
			return err
		}
	}
	return nil
}

// checkSecret checks the length. The error does not contain the secret.
func checkSecret(secret []byte) error {
	if len(secret) < MinSecretBytes {
		return fmt.Errorf("auth: Options.Secret has %d bytes, want at least %d random ones (openssl rand -base64 32)",
			len(secret), MinSecretBytes)
	}
	return nil
}

// checkJWKSURL checks the address. The error does not contain it, because it may
// hold a password.
func checkJWKSURL(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return errors.New("auth: Options.JWKSURL is not a URL")
	}
	if u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("auth: Options.JWKSURL has scheme %q, want https or http", u.Scheme)
	}
	if u.Hostname() == "" {
		return errors.New("auth: Options.JWKSURL names no host")
	}
	return nil
}

// withDefaults fills in the defaults, and copies what the caller could still
// write to.
func (o Options) withDefaults() Options {
	o.Secret = slices.Clone(o.Secret)
	o.SubjectClaim = cmp.Or(o.SubjectClaim, DefaultSubjectClaim)
	o.RoleClaim = cmp.Or(o.RoleClaim, DefaultRoleClaim)
	o.cacheSize = cmp.Or(o.cacheSize, 200_000)
	o.cacheTTL = cmp.Or(o.cacheTTL, time.Minute)
	o.refreshInterval = cmp.Or(o.refreshInterval, 10*time.Minute)
	o.unknownKeyInterval = cmp.Or(o.unknownKeyInterval, 30*time.Second)
	o.unknownKeyWait = cmp.Or(o.unknownKeyWait, 250*time.Millisecond)
	o.fetchTimeout = cmp.Or(o.fetchTimeout, time.Second)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observer == nil {
		o.Observer = unobserved{}
	}
	o.httpClient = withoutRedirects(o.httpClient)
	return o
}

// withoutRedirects copies the client and makes it follow no redirect. With
// redirects, an attacker who can change one answer (or use an open redirect on
// the issuer's host) could choose where the gateway gets its keys from, also
// over plain http or inside the network. A 302 is an error, like any status
// but 200.
func withoutRedirects(client *http.Client) *http.Client {
	strict := http.Client{}
	if client != nil {
		strict = *client
	}
	strict.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &strict
}

type unobserved struct{}

func (unobserved) KeysRefreshed(bool, int) {}
