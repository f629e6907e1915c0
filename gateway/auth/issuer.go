package auth

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"

	"doorstep/sessions"
)

// Issuer says which tokens of one issuer are accepted, and whom they prove. It needs a
// Secret, a JWKSURL or Discover. The zero value of everything else means its default.
// The JSON names are those of ParseIssuers, and of the errors about a field.
type Issuer struct {
	// Name must be the token's iss. Empty: any, of the only issuer with a Secret.
	Name string `json:"issuer"`
	// Secret verifies HS256 tokens: raw bytes, at least MinSecretBytes. OldSecret, the
	// one before it, does so too; nothing is signed with it.
	Secret    []byte `json:"-"`
	OldSecret []byte `json:"-"`
	// JWKSURL is where the public keys for RS256, ES256 and EdDSA are: http or
	// https. Redirects are not followed, so it is the final address.
	JWKSURL string `json:"jwksUrl"`
	// Discover finds that address by OpenID Connect discovery: below Name, which is a
	// URL then.
	Discover bool `json:"-"`
	// Unchecked permits public keys without Name and Audience. Anybody who gets a token
	// of that issuer, for whatever service, is then a caller: for tests only.
	Unchecked bool `json:"-"`
	// Audience lists values of which the token must name one. Empty: any.
	Audience list `json:"audience"`
	// AudienceClaim is where. Default DefaultAudienceClaim; client_id in access tokens
	// of Cognito.
	AudienceClaim string `json:"audienceClaim"`
	// TokenUse, when set, must be the token's token_use: access or id, of Cognito.
	TokenUse string `json:"tokenUse"`
	// SubjectClaim is the path of the claim with the user's id; see claims.at. Default
	// DefaultSubjectClaim.
	SubjectClaim string `json:"subjectClaim"`
	// SubjectNamespace makes an id of a subject that is no UUID: the UUID of version 5
	// of the issuer's Name, a NUL and the subject. Empty: such a token is refused.
	SubjectNamespace string `json:"subjectNamespace"`
	// RoleClaim is the path of the claim with the user's role, or a list of them; see
	// claims.at. Default DefaultRoleClaim.
	RoleClaim string `json:"roleClaim"`
	// RoleMap makes roles of the issuer's names for them; other names give no role.
	// Empty: the names are trainer, student and admin.
	RoleMap map[string]sessions.Role `json:"roleMap"`
}

// Defaults of Issuer. A test holds the settings of `gateway serve` to them.
const (
	DefaultAudienceClaim = "aud"
	DefaultSubjectClaim  = "sub"
	DefaultRoleClaim     = "role"
)

// FieldError says what is wrong with a field of an Issuer. It has nothing of a secret
// and nothing of an address, which may hold a password.
type FieldError struct {
	Field   string // its JSON name, or secret, oldSecret or discover
	Problem string
}

func (e *FieldError) Error() string { return "auth: " + e.Field + ": " + e.Problem }

// ParseIssuers reads a JSON list of issuers whose keys are fetched; one without a
// jwksUrl is asked for it by OpenID Connect discovery. A name that is not known is an
// error. The error names issuer and field.
func ParseIssuers(document []byte) ([]Issuer, error) {
	var raws []json.RawMessage
	if err := json.Unmarshal(document, &raws); err != nil {
		return nil, errors.New("not a JSON list of issuers")
	}
	issuers := make([]Issuer, len(raws))
	for n, raw := range raws {
		i := &issuers[n]
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(i); err != nil {
			return nil, fmt.Errorf("issuers[%d]: %w", n, plainer(err))
		}
		i.Discover = i.JWKSURL == ""
		if err := i.Validate(); err != nil {
			return nil, fmt.Errorf("issuers[%d].%s", n, strings.TrimPrefix(err.Error(), "auth: "))
		}
	}
	return issuers, nil
}

// plainer is an error of encoding/json in words for who wrote the JSON.
func plainer(err error) error {
	if mistyped, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s: it is a %s", cmp.Or(mistyped.Field, "not an object"), mistyped.Value)
	}
	if errors.Is(err, io.EOF) {
		return errors.New("it is empty")
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}

// list is in JSON a list of texts, or one text.
type list []string

// UnmarshalJSON reads either form.
func (l *list) UnmarshalJSON(document []byte) error {
	var one string
	if json.Unmarshal(document, &one) == nil {
		*l = list{one}
		return nil
	}
	return json.Unmarshal(document, (*[]string)(l))
}

// Validate returns a *FieldError that names the first field that is wrong.
func (i Issuer) Validate() error {
	for _, check := range []func() *FieldError{i.checkKeys, i.checkWhose, i.checkNames} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (i Issuer) checkKeys() *FieldError {
	switch {
	case len(i.Secret) == 0 && len(i.OldSecret) > 0:
		return &FieldError{"oldSecret", "it is set without the secret that comes after it"}
	case len(i.Secret) == 0 && !i.hasKeys():
		return &FieldError{"secret", "without a secret, a JWKS URL or discovery no token can be verified"}
	}
	for name, secret := range map[string][]byte{"secret": i.Secret, "oldSecret": i.OldSecret} {
		if len(secret) > 0 && len(secret) < MinSecretBytes {
			return &FieldError{name, shortSecret(secret)}
		}
	}
	if i.JWKSURL != "" {
		if problem := checkURL(i.JWKSURL); problem != "" {
			return &FieldError{"jwksUrl", problem}
		}
		if i.Discover {
			return &FieldError{"discover", "the JWKS URL is given"}
		}
	}
	if i.Discover {
		if problem := checkURL(i.Name); problem != "" {
			return &FieldError{"issuer", "its keys are to be found by discovery, but " + problem}
		}
	}
	return nil
}

// checkWhose checks that public keys come with whose tokens they are for: many services
// trust the keys of one issuer, and each of its tokens is good for one of them only.
func (i Issuer) checkWhose() *FieldError {
	if !i.hasKeys() || i.Unchecked {
		return nil
	}
	if i.Name == "" {
		return &FieldError{"issuer", "missing: without it a token of any issuer with the same keys is accepted"}
	}
	if len(i.Audience) == 0 {
		return &FieldError{"audience", "missing: without it a token that the issuer made for any other service is accepted"}
	}
	return nil
}

func (i Issuer) checkNames() *FieldError {
	if slices.Contains(i.Audience, "") {
		return &FieldError{"audience", "one of its values is empty"}
	}
	if strings.ContainsRune(i.Name, 0) {
		return &FieldError{"issuer", "it has a NUL"}
	}
	if _, err := uuid.Parse(i.SubjectNamespace); i.SubjectNamespace != "" && err != nil {
		return &FieldError{"subjectNamespace", "it is not a UUID"}
	}
	for name, role := range i.RoleMap {
		if _, ok := parseRole(string(role)); !ok || name == "" {
			return &FieldError{"roleMap", fmt.Sprintf("%q is mapped to %q, which is not trainer, student or admin", name, role)}
		}
	}
	return nil
}

// hasKeys reports whether the issuer publishes keys.
func (i Issuer) hasKeys() bool { return i.JWKSURL != "" || i.Discover }

// MinSecretBytes is the shortest HS256 secret: RFC 7518 section 3.2 requires at
// least the length of the hash. With a single token a shorter one can be
// guessed offline.
const MinSecretBytes = 32

func shortSecret(secret []byte) string {
	return fmt.Sprintf("it has %d bytes, want at least %d random ones (openssl rand -base64 32)", len(secret), MinSecretBytes)
}

// checkURL says what is wrong with an address of keys.
func checkURL(address string) string {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return "it is not a URL"
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Sprintf("its scheme is %q, want https or http", u.Scheme)
	case u.Hostname() == "":
		return "it names no host"
	}
	return ""
}

// withDefaults fills in the defaults, and copies what the caller could still write to.
func (i Issuer) withDefaults() Issuer {
	i.Secret, i.OldSecret = slices.Clone(i.Secret), slices.Clone(i.OldSecret)
	i.Audience, i.RoleMap = slices.Clone(i.Audience), maps.Clone(i.RoleMap)
	i.AudienceClaim = cmp.Or(i.AudienceClaim, DefaultAudienceClaim)
	i.SubjectClaim = cmp.Or(i.SubjectClaim, DefaultSubjectClaim)
	i.RoleClaim = cmp.Or(i.RoleClaim, DefaultRoleClaim)
	return i
}
