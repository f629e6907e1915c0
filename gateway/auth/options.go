package auth

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"
)

// Options say which tokens a Verifier accepts.
type Options struct {
	// Issuers are the issuers whose tokens are accepted, at least one. Where there are
	// several each has a Name of its own, and a token is judged by the one it names.
	Issuers []Issuer
	// Leeway is the difference between an issuer's clock and this one that exp, nbf and
	// iat tolerate. Zero: none.
	Leeway time.Duration

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
	// KeysRefreshed is called after each fetch of an issuer's JWKS with its outcome and
	// with the number of the issuer's keys in use from then on.
	KeysRefreshed(issuer string, ok bool, keys int)
}

// validate names the first field that is wrong.
func (o Options) validate() error {
	if len(o.Issuers) == 0 {
		return errors.New("auth: no issuer: no token can be verified")
	}
	for n, i := range o.Issuers {
		if err := i.Validate(); err != nil {
			return err
		}
		if len(o.Issuers) > 1 && i.Name == "" {
			return &FieldError{"issuer", "missing: where there are several issuers each needs its name"}
		}
		if slices.ContainsFunc(o.Issuers[:n], func(other Issuer) bool { return other.Name == i.Name }) {
			return &FieldError{"issuer", fmt.Sprintf("%q is there twice", i.Name)}
		}
	}
	return nil
}

// withDefaults fills in the defaults.
func (o Options) withDefaults() Options {
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

func (unobserved) KeysRefreshed(string, bool, int) {}
