package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

const (
	// maxKeys is far more than any issuer publishes: two or three, a dozen for
	// one that rotates daily.
	maxKeys = 64
	// RSA moduli in bits: RFC 7518 section 3.3 asks for 2048 at least. The upper
	// end keeps one check below a millisecond.
	minRSABits = 2048
	maxRSABits = 8192
)

// publicKey is what all three kinds of verification key have in common, and
// what a byte slice lacks: so no key of a JWKS can ever be used as the secret
// of an HMAC, by type.
type publicKey interface {
	Equal(x crypto.PublicKey) bool
}

// keyRef is how a token names its key. The algorithm is part of the name: a
// key is for one algorithm, fixed when it is loaded.
type keyRef struct{ alg, kid string }

// keySet is one JWKS as fetched. It never changes after parseKeys.
type keySet map[keyRef]publicKey

// find looks a key up. A token without a kid is accepted only where there is
// no choice: trying every key would let a stranger pay for one check and have
// the gateway do maxKeys of them.
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
// (encryption keys, other curves, short moduli, broken ones) are counted and
// left out: an issuer that adds a new kind must not take the others down. Of
// two keys with one kid and algorithm the first counts. An empty set is a valid
// answer, "no key is good any more"; a document that is no JWKS is an error.
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

// parseKey reads one JWK. jwkset decodes and checks the point, the modulus and
// any certificate that comes along; with Private unset it gives out public keys
// only and refuses symmetric ones; without GetX5U it fetches nothing.
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

// forSignatures reads "use" and "key_ops"; a key that has neither is for
// anything (RFC 7517 sections 4.2 and 4.3).
func forSignatures(jwk jwkset.JWKMarshal) bool {
	if jwk.USE != "" && jwk.USE != jwkset.UseSig {
		return false
	}
	return len(jwk.KEYOPS) == 0 || slices.Contains(jwk.KEYOPS, jwkset.KeyOpsVerify)
}

// algorithmOf binds a key to the one algorithm it may verify. The curve is
// checked here because golang-jwt does not: its ES256 takes a key on any curve.
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
