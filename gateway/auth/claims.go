package auth

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"doorstep/sessions"
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
func (i *trusted) open(document []byte, now time.Time, leeway time.Duration) (grant, error) {
	var c claims
	if err := json.Unmarshal(document, &c); err != nil {
		return grant{}, fmt.Errorf("%w: claims are not a JSON object", ErrMalformed)
	}
	expires, err := c.checkTimes(now, leeway)
	if err != nil {
		return grant{}, err
	}
	if i.Name != "" && c["iss"] != i.Name {
		return grant{}, ErrIssuer
	}
	if len(i.Audience) > 0 && !i.isFor(c[i.AudienceClaim]) {
		return grant{}, ErrAudience
	}
	if i.TokenUse != "" && c["token_use"] != i.TokenUse {
		return grant{}, ErrTokenUse
	}
	caller, err := i.caller(c)
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

// isFor reports whether aud, a text or a list (RFC 7519 section 4.1.3), names one of
// the audiences.
func (i *trusted) isFor(aud any) bool {
	return slices.ContainsFunc(texts(aud), func(name string) bool { return slices.Contains(i.Audience, name) })
}

// texts are the texts in a claim that is one, or a list of them.
func texts(value any) (list []string) {
	switch value := value.(type) {
	case string:
		return []string{value}
	case []any:
		for _, one := range value {
			if text, ok := one.(string); ok {
				list = append(list, text)
			}
		}
	}
	return list
}

// at finds the claim at a path: names that are joined by dots. A name may have dots and
// slashes itself, as Auth0's namespaced claims have: the whole path is tried as a name
// first, then each of its beginnings, the shortest first.
func (c claims) at(path string) any {
	if value, ok := c[path]; ok {
		return value
	}
	for n, r := range path {
		if inner, ok := c[path[:n]].(map[string]any); ok && r == '.' {
			if value := claims(inner).at(path[n+1:]); value != nil {
				return value
			}
		}
	}
	return nil
}

// caller reads the caller's id and roles. What it returns shares no memory with the
// token; otherwise a cache entry would keep the token alive.
func (i *trusted) caller(c claims) (sessions.Caller, error) {
	subject, _ := c.at(i.SubjectClaim).(string)
	id, ok := sessions.ParseID(subject)
	if !ok && subject != "" && i.SubjectNamespace != "" {
		id, ok = sessions.ID(uuid.NewSHA1(uuid.MustParse(i.SubjectNamespace), []byte(i.Name+"\x00"+subject)).String()), true
	}
	if !ok {
		return sessions.Caller{}, ErrSubject
	}
	var held sessions.Roles
	for _, name := range texts(c.at(i.RoleClaim)) {
		if role, ok := i.role(name); ok {
			held |= sessions.RolesOf(role)
		}
	}
	roles := sessions.Caller{Also: held}.Roles()
	if len(roles) == 0 {
		return sessions.Caller{}, ErrRole
	}
	return sessions.CallerOf(id, roles...), nil
}

// role is what an issuer's name for a role means here.
func (i *trusted) role(name string) (sessions.Role, bool) {
	if len(i.RoleMap) == 0 {
		return parseRole(name)
	}
	role, ok := i.RoleMap[name]
	return role, ok
}

// parseRole is case-sensitive: "Admin" is not admin.
func parseRole(name string) (sessions.Role, bool) {
	role := sessions.Role(name)
	return role, sessions.RolesOf(role) != 0
}
