package app

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"doorstep/gateway/auth"
	"doorstep/metrics"
	"doorstep/sessions"
)

// TokenOptions are the settings of the claims of tokens, for who checks them and for who
// makes them.
type TokenOptions struct {
	JWTIssuer           string   `env:"DOORSTEP_JWT_ISSUER" help:"Issuer (iss) that a token must have. Empty: any; with a JWKS it is required."`
	JWTAudience         []string `env:"DOORSTEP_JWT_AUDIENCE" help:"Audiences (aud) of which a token must have one. Empty: any; with a JWKS one is required."`
	JWTAudienceClaim    string   `default:"aud" env:"DOORSTEP_JWT_AUDIENCE_CLAIM" help:"Name of the claim that holds the audience: client_id in access tokens of Cognito."`
	JWTTokenUse         string   `env:"DOORSTEP_JWT_TOKEN_USE" help:"Value that the claim token_use must have: access or id, of Cognito. Empty: any."`
	JWTSubject          string   `default:"sub" env:"DOORSTEP_JWT_SUBJECT_CLAIM" help:"Name of the claim that holds the user's id, or its path, joined by dots."`
	JWTSubjectNamespace string   `env:"DOORSTEP_JWT_SUBJECT_NAMESPACE" help:"UUID of the namespace in which a subject that is no UUID becomes one; see docs/identity.md. It must never change. Empty: such a token is refused."`
	JWTRole             string   `default:"role" env:"DOORSTEP_JWT_ROLE_CLAIM" help:"Name of the claim that holds the role or a list of roles, or its path, joined by dots."`
	JWTRoleMap          []string `env:"DOORSTEP_JWT_ROLE_MAP" help:"What the issuer's names for roles mean: name=trainer, name=student or name=admin, separated by commas. Other names give no role. Empty: the names are trainer, student and admin."`
}

// Issuer is the issuer of these claims, still without keys.
func (o TokenOptions) Issuer() (auth.Issuer, error) {
	i := auth.Issuer{
		Name: o.JWTIssuer, Audience: o.JWTAudience, AudienceClaim: o.JWTAudienceClaim, TokenUse: o.JWTTokenUse,
		SubjectClaim: o.JWTSubject, SubjectNamespace: o.JWTSubjectNamespace, RoleClaim: o.JWTRole,
	}
	for _, pair := range o.JWTRoleMap {
		at := strings.LastIndexByte(pair, '=')
		if at < 0 {
			return i, fmt.Errorf("jwt-role-map: %q is not name=role", pair)
		}
		if i.RoleMap == nil {
			i.RoleMap = map[string]sessions.Role{}
		}
		i.RoleMap[pair[:at]] = sessions.Role(pair[at+1:])
	}
	return i, nil
}

// settingOf names the settings of an issuer's fields.
var settingOf = map[string]string{ //nolint:gosec // names, no secrets
	"issuer": "jwt-issuer ($DOORSTEP_JWT_ISSUER)", "audience": "jwt-audience ($DOORSTEP_JWT_AUDIENCE)",
	"secret": "jwt-secret ($DOORSTEP_JWT_SECRET)", "oldSecret": "jwt-old-secret ($DOORSTEP_JWT_OLD_SECRET)",
	"jwksUrl": "jwks-url ($DOORSTEP_JWKS_URL)", "discover": "jwt-discovery ($DOORSTEP_JWT_DISCOVERY)",
	"subjectNamespace": "jwt-subject-namespace ($DOORSTEP_JWT_SUBJECT_NAMESPACE)", "roleMap": "jwt-role-map ($DOORSTEP_JWT_ROLE_MAP)",
}

// hasKeys reports whether the single settings give keys.
func (o Options) hasKeys() bool {
	return o.JWTSecret != "" || o.JWTOldSecret != "" || o.JWKSURL != "" || o.JWTDiscovery
}

// keyless reports whether there is no setting that a token could be verified with.
func (o Options) keyless() bool { return !o.hasKeys() && len(o.IssuerList) == 0 }

// Issuers are those whose tokens are accepted. The first one is that of the single
// settings, where they give keys or there is no other. Fully embedded and without key material a random secret is made: validate
// has checked that the address is a loopback one.
func (o Options) Issuers() (list []auth.Issuer, err error) {
	one, err := o.Issuer()
	if err != nil {
		return nil, err
	}
	one.Secret, one.OldSecret = []byte(o.JWTSecret), []byte(o.JWTOldSecret)
	one.JWKSURL, one.Discover, one.Unchecked = o.JWKSURL, o.JWTDiscovery, o.JWTUnchecked
	if o.keyless() {
		one.Secret = []byte(rand.Text() + rand.Text())
	}
	if len(o.IssuerList) > 0 {
		if list, err = auth.ParseIssuers(o.IssuerList); err != nil {
			return nil, fmt.Errorf("issuers: %w", err)
		}
	}
	if !o.hasKeys() && len(list) > 0 {
		return list, nil
	}
	if err := one.Validate(); err != nil {
		return nil, bySetting(err)
	}
	return append([]auth.Issuer{one}, list...), nil
}

// bySetting names the setting in the place of an issuer's field.
func bySetting(err error) error {
	if wrong, ok := errors.AsType[*auth.FieldError](err); ok {
		return fmt.Errorf("%s: %s", cmp.Or(settingOf[wrong.Field], wrong.Field), wrong.Problem)
	}
	return err
}

// newVerifier makes what verifies tokens, and the issuer in whose name App.Token mints.
func newVerifier(o Options, p *process, m *metrics.Metrics, now func() time.Time) (*auth.Verifier, auth.Issuer, error) {
	issuers, err := o.Issuers()
	if err != nil {
		return nil, auth.Issuer{}, err
	}
	v, err := auth.New(auth.Options{Issuers: issuers, Leeway: o.JWTLeeway, Logger: p.log, Observer: m, Clock: now})
	return v, issuers[0], bySetting(err)
}

// tokenClock is the clock of tokens: not a test's own, which drives the rules.
func tokenClock(o Options, clock *sessions.Clock) func() time.Time {
	if o.Now != nil {
		return time.Now
	}
	return clock.Now
}
