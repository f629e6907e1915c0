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
// refuses symmetric ones. Thumbprints and addresses of certificates are passed over:
// the key is here, and older tenants of Auth0 publish thumbprints in a form of their own,
// for which jwkset would leave the key out.
func parseKey(raw json.RawMessage) (keyRef, publicKey, bool) {
	var written jwkset.JWKMarshal
	if json.Unmarshal(raw, &written) != nil {
		return keyRef{}, nil, false
	}
	written.X5T, written.X5TS256, written.X5U = "", "", ""
	jwk, err := jwkset.NewJWKFromMarshal(written, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
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
