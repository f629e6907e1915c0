package auth

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"doorstep/sessions"

	"github.com/golang-jwt/jwt/v5"
)

// lastSecond is the end of the year 9999 in Unix seconds. A larger number is not a
// date, or comes from an issuer that writes milliseconds, whose tokens would
// otherwise be valid for fifty thousand years.
const lastSecond = 253402300799

// rawClaims keeps the claims as bytes while golang-jwt parses a token and checks
// its signature, so that nothing in them is interpreted before they are proven.
// The embedded interface stays nil: only the library's claims validation would
// call its getters, and New switches that off.
type rawClaims struct {
	jwt.Claims
	raw []byte
}

// UnmarshalJSON is called by the parser with the whole claims document.
func (s *rawClaims) UnmarshalJSON(document []byte) error {
	s.raw = slices.Clone(document)
	return nil
}

// grant is the caller of a verified token, and the end of the token.
type grant struct {
	caller  sessions.Caller
	expires time.Time // leeway included
}

// claims is the parsed claims document. It is a map and not a struct, because the
// names are settings, and encoding/json matches a struct's fields in any case.
type claims map[string]any

// open checks the claims of a token whose signature is right. The most frequent
// reason for a refusal (expired) is checked first. The library's own validation is
// not used, because it does not tell which claim was missing, and the reason is a
// metric's label.
func (v *Verifier) open(document []byte, now time.Time) (grant, error) {
	var c claims
	if err := json.Unmarshal(document, &c); err != nil {
		return grant{}, fmt.Errorf("%w: claims are not a JSON object", ErrMalformed)
	}
	expires, err := c.checkTimes(now, v.opts.Leeway)
	if err != nil {
		return grant{}, err
	}
	if v.opts.Issuer != "" && c["iss"] != v.opts.Issuer {
		return grant{}, ErrIssuer
	}
	if v.opts.Audience != "" && !c.isFor(v.opts.Audience) {
		return grant{}, ErrAudience
	}
	caller, err := c.caller(v.opts.SubjectClaim, v.opts.RoleClaim)
	if err != nil {
		return grant{}, err
	}
	return grant{caller: caller, expires: expires}, nil
}

// checkTimes requires exp, and checks nbf and iat if they are there (RFC 7519
// section 4.1). A token whose iat is in the future is refused: either the
// issuer's clock is wrong or the token is an attack.
func (c claims) checkTimes(now time.Time, leeway time.Duration) (expires time.Time, err error) {
	exp, ok, err := c.instant("exp")
	if err != nil {
		return time.Time{}, err
	}
	if !ok {
		return time.Time{}, fmt.Errorf("%w: no exp", ErrMalformed)
	}
	expires = exp.Add(leeway)
	if !now.Before(expires) {
		return time.Time{}, ErrExpired
	}
	for _, name := range []string{"nbf", "iat"} {
		from, ok, err := c.instant(name)
		if err != nil {
			return time.Time{}, err
		}
		if ok && now.Before(from.Add(-leeway)) {
			return time.Time{}, ErrNotYetValid
		}
	}
	return expires, nil
}

// instant reads a NumericDate: Unix seconds, with or without a fraction. Null
// and text are errors and not "absent": otherwise a token with a badly written
// time would have no limit.
func (c claims) instant(name string) (at time.Time, ok bool, err error) {
	value, ok := c[name]
	if !ok {
		return time.Time{}, false, nil
	}
	seconds, ok := value.(float64)
	if !ok || seconds < 0 || seconds > lastSecond {
		return time.Time{}, false, fmt.Errorf("%w: %s is not Unix seconds", ErrMalformed, name)
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)), true, nil
}

// isFor reports whether aud, a string or a list (RFC 7519 section 4.1.3), names
// the audience.
func (c claims) isFor(audience string) bool {
	switch aud := c["aud"].(type) {
	case string:
		return aud == audience
	case []any:
		return slices.Contains(aud, any(audience))
	}
	return false
}

// caller reads the caller's id and role. What it returns shares no memory with the
// token; otherwise a cache entry would keep the token alive.
func (c claims) caller(subjectClaim, roleClaim string) (sessions.Caller, error) {
	subject, _ := c[subjectClaim].(string)
	id, ok := sessions.ParseID(subject)
	if !ok {
		return sessions.Caller{}, ErrSubject
	}
	name, _ := c[roleClaim].(string)
	role, ok := parseRole(name)
	if !ok {
		return sessions.Caller{}, ErrRole
	}
	return sessions.Caller{ID: id, Role: role}, nil
}

// parseRole is case-sensitive: "Admin" is not admin.
func parseRole(name string) (sessions.Role, bool) {
	for _, role := range []sessions.Role{sessions.Trainer, sessions.Student, sessions.Admin} {
		if string(role) == name {
			return role, true
		}
	}
	return "", false
}
