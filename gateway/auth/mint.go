package auth

import (
	"errors"
	"fmt"
	"time"

	"doorstep/sessions"

	"github.com/golang-jwt/jwt/v5"
)

// Mint makes an HS256 token that a Verifier with the same options accepts, from
// now by their Clock until now+ttl. It is for `gateway token`, the demo and tests;
// in production an identity service issues tokens. The ttl is at least a second,
// the resolution of exp.
func (o Options) Mint(caller sessions.Caller, ttl time.Duration) (string, error) {
	if err := checkSecret(o.Secret); err != nil {
		return "", err
	}
	if err := checkCaller(caller); err != nil {
		return "", err
	}
	if ttl < time.Second {
		return "", fmt.Errorf("auth: ttl is %s, want at least 1s", ttl)
	}
	o = o.withDefaults()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, o.claimsFor(caller, ttl)).SignedString(o.Secret)
	if err != nil {
		return "", fmt.Errorf("auth: sign the token: %w", err)
	}
	return token, nil
}

func checkCaller(caller sessions.Caller) error {
	if id, ok := sessions.ParseID(string(caller.ID)); !ok || id != caller.ID {
		return errors.New("auth: the caller's id is not a canonical UUID")
	}
	if _, ok := parseRole(string(caller.Role)); !ok {
		return errors.New("auth: the caller's role is not trainer, student or admin")
	}
	return nil
}

func (o Options) claimsFor(caller sessions.Caller, ttl time.Duration) jwt.MapClaims {
	now := o.Clock()
	c := jwt.MapClaims{
		o.SubjectClaim: string(caller.ID),
		o.RoleClaim:    string(caller.Role),
		"iat":          now.Unix(),
		"exp":          now.Add(ttl).Unix(),
	}
	if o.Issuer != "" {
		c["iss"] = o.Issuer
	}
	if o.Audience != "" {
		c["aud"] = o.Audience
	}
	return c
}
