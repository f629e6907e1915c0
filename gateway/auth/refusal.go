package auth

import "errors"

// refusal is why a token is refused. reason is a metric's label: short, constant
// and one of few.
type refusal struct {
	reason string
	text   string
}

func (r *refusal) Error() string { return "auth: " + r.text }

// Why a token is refused. Verify returns each as it is, or wrapped with a constant
// detail; use errors.Is. None carries any part of the token. All mean that the
// token is not valid (401), except ErrKeysUnavailable, which means that it cannot
// be verified now (503): an app should not log its user out for that.
var (
	ErrMissing         error = &refusal{"missing", "no token"}
	ErrMalformed       error = &refusal{"malformed", "token is malformed"}
	ErrAlgorithm       error = &refusal{"algorithm", "token algorithm is not accepted"}
	ErrUnknownKey      error = &refusal{"unknown_key", "token is signed with an unknown key"}
	ErrSignature       error = &refusal{"signature", "token signature is wrong"}
	ErrExpired         error = &refusal{"expired", "token has expired"}
	ErrNotYetValid     error = &refusal{"not_yet_valid", "token is not valid yet"}
	ErrIssuer          error = &refusal{"issuer", "token is from another issuer"}
	ErrAudience        error = &refusal{"audience", "token is for another audience"}
	ErrTokenUse        error = &refusal{"token_use", "token is for another use"}
	ErrSubject         error = &refusal{"subject", "token names no user"}
	ErrRole            error = &refusal{"role", "token has none of the roles trainer, student and admin"}
	ErrKeysUnavailable error = &refusal{"keys_unavailable", "signing keys cannot be fetched"}
)

// The labels of Reason for what is not a refusal.
const (
	reasonOK    = "ok"
	reasonOther = "other"
)

// Reason is the metric label of what Verify returned: "ok" for nil, the
// refusal's own label, "other" for an error that is not from this package.
// Always one of Reasons.
func Reason(err error) string {
	if err == nil {
		return reasonOK
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.reason
	}
	return reasonOther
}

// Reasons is the closed list of what Reason returns. The metrics make every series
// from it at the start.
func Reasons() []string {
	reasons := []string{reasonOK, reasonOther}
	for _, err := range refusals() {
		reasons = append(reasons, Reason(err))
	}
	return reasons
}

// refusals lists every sentinel above; a test checks that it is complete.
func refusals() []error {
	return []error{
		ErrMissing, ErrMalformed, ErrAlgorithm, ErrUnknownKey, ErrSignature, ErrExpired,
		ErrNotYetValid, ErrIssuer, ErrAudience, ErrTokenUse, ErrSubject, ErrRole, ErrKeysUnavailable,
	}
}
