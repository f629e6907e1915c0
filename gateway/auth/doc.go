// Package auth turns a bearer token into a sessions.Caller, or says from a
// closed list why not. It knows nothing of HTTP requests; gateway/api takes the
// token out of the header and turns a refusal into an answer.
//
// One token's way: Verifier.Verify → cache (proven less than a minute ago?) →
// header and algorithm → key (secret, or the JWKS by kid) → signature → only
// then the claims: times, issuer, audience, subject, role → cache.
//
// What holds whatever a stranger sends:
//
//   - The algorithm chooses the key source, never the other way round: HS256 is
//     checked with the secret only; RS256, ES256 and EdDSA only with public keys
//     of their own type. Every other algorithm, "none" first of all, is refused.
//   - Nothing in a token makes the gateway fetch an address (jku, x5u and jwk
//     headers are not read), and no kid makes it fetch the configured one more
//     often than once per UnknownKeyInterval.
//   - Memory does not depend on tokens: at most CacheSize entries of fixed size,
//     nothing at all kept for a token that was refused.
//   - Claims of an unproven token are never interpreted, and nothing of a token
//     appears in an error or a log line.
//
// Rules are from RFC 7515 (JWS), 7517 (JWK), 7518 (algorithms), 7519 (JWT) and
// 8725 (best practice).
package auth
