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

// lastSecond is the end of the year 9999 in Unix seconds. It catches what is
// no date, and an issuer that writes milliseconds, whose tokens would otherwise
// be good for fifty thousand years.
const lastSecond = 253402300799

// sealed keeps the claims as bytes while golang-jwt reads a token and checks
// its signature: nothing in them is interpreted, boxed or branched on before
// they are proven. The embedded interface stays nil; its getters would be called
// only by the library's claims validation, which is switched off (New).
type sealed struct {
	jwt.Claims
	raw []byte
}

// UnmarshalJSON is called by the parser with the whole claims document.
func (s *sealed) UnmarshalJSON(document []byte) error {
	s.raw = slices.Clone(document)
	return nil
}

// grant is what a proven token gives, and until when.
type grant struct {
	caller  sessions.Caller
	expires time.Time // leeway included
}

// claims is the opened document. A map, not a struct: names are settings, and
// encoding/json would match a struct's fields in any case.
type claims map[string]any

// open judges the claims of a token whose signature is right, in an order that
// makes the commonest reason (expired) the first. The library's own validation
// is not used: it cannot tell which claim was missing, and the reason is a label.
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

// checkTimes wants exp, and takes nbf and iat if they are there (RFC 7519
// section 4.1). A token from the future is refused by iat too: whoever can
// make one has an issuer with a wrong clock, or is trying.
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
// and text are errors, not absence: half-read times would be no limit at all.
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

// isFor reads aud as one string or a list (RFC 7519 section 4.1.3).
func (c claims) isFor(audience string) bool {
	switch aud := c["aud"].(type) {
	case string:
		return aud == audience
	case []any:
		return slices.Contains(aud, any(audience))
	}
	return false
}

// caller copies: what it returns shares no memory with the token, which a cache
// entry would otherwise keep alive.
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

// parseRole is exact: "Admin" is not admin.
func parseRole(name string) (sessions.Role, bool) {
	for _, role := range []sessions.Role{sessions.Trainer, sessions.Student, sessions.Admin} {
		if string(role) == name {
			return role, true
		}
	}
	return "", false
}
