// Package auth verifies a bearer token and returns its sessions.Caller, or a
// reason from a closed list. It knows nothing of HTTP requests: gateway/api takes
// the token out of the header and turns the reason into an answer.
//
// The way of one token: Verifier.Verify → cache (verified less than a minute
// ago?) → issuer → header and algorithm → key (the issuer's secret, or its JWKS by
// kid) → signature → and only then the claims: times, issuer, audience, subject,
// roles → cache.
//
// These hold whatever a stranger sends:
//
//   - The algorithm chooses the key source, never the other way round: HS256 is
//     checked with the secret only; RS256, ES256 and EdDSA only with public keys
//     of their own type. Every other algorithm is refused, also "none".
//   - Nothing in a token makes the gateway fetch an address (jku, x5u and jwk
//     headers are not read), and no kid makes it fetch the configured one more
//     often than once per unknownKeyInterval.
//   - Memory does not depend on the tokens: the cache has at most cacheSize entries
//     of fixed size, and nothing is kept of a token that was refused.
//   - A token is judged by the rules and with the keys of one issuer, which it names.
//     With several, that name is all that is read of the claims before the signature
//     is verified; afterwards it is compared again. With one, nothing is.
//   - Nothing of a token appears in an error or a log line.
//
// Rules are from RFC 7515 (JWS), 7517 (JWK), 7518 (algorithms), 7519 (JWT) and
// 8725 (best practice).
package auth
