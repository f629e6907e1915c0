package auth

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"doorstep/sessions"

	"github.com/golang-jwt/jwt/v5"
)

// Mint makes an HS256 token that a Verifier accepts of this issuer, from now until
// now+ttl. It is for `gateway token`, the demo and tests; in production an identity
// service issues tokens. The ttl is at least a second, the resolution of exp.
func (i Issuer) Mint(caller sessions.Caller, now time.Time, ttl time.Duration) (string, error) {
	if len(i.Secret) < MinSecretBytes {
		return "", &FieldError{"secret", shortSecret(i.Secret)}
	}
	if id, ok := sessions.ParseID(string(caller.ID)); !ok || id != caller.ID {
		return "", errors.New("auth: the caller's id is not a canonical UUID")
	}
	if ttl < time.Second {
		return "", fmt.Errorf("auth: ttl is %s, want at least 1s", ttl)
	}
	i = i.withDefaults()
	names, err := i.namesOf(caller)
	if err != nil {
		return "", err
	}
	c := jwt.MapClaims{i.SubjectClaim: string(caller.ID), i.RoleClaim: names, "iat": now.Unix(), "exp": now.Add(ttl).Unix()}
	if len(names) == 1 {
		c[i.RoleClaim] = names[0]
	}
	if len(i.Audience) > 0 {
		c[i.AudienceClaim] = i.Audience[0]
	}
	for name, value := range map[string]string{"iss": i.Name, "token_use": i.TokenUse} {
		if value != "" {
			c[name] = value
		}
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(i.Secret)
	if err != nil {
		return "", fmt.Errorf("auth: sign the token: %w", err)
	}
	return token, nil
}

// namesOf are the issuer's names for the caller's roles, at least one.
func (i Issuer) namesOf(caller sessions.Caller) (names []string, err error) {
	for _, role := range caller.Roles() {
		if len(i.RoleMap) == 0 {
			names = append(names, string(role))
			continue
		}
		of := slices.Sorted(maps.Keys(i.RoleMap))
		at := slices.IndexFunc(of, func(name string) bool { return i.RoleMap[name] == role })
		if at < 0 {
			return nil, fmt.Errorf("auth: no name is mapped to the role %s", role)
		}
		names = append(names, of[at])
	}
	if len(names) == 0 {
		return nil, errors.New("auth: the caller's role is not trainer, student or admin")
	}
	return names, nil
}
