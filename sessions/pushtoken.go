package sessions

import (
	"context"
	"time"
)

// Platform is the kind of device that a push goes to.
type Platform string

// The platforms. FCM carries to all three.
const (
	Android Platform = "android"
	IOS     Platform = "ios"
	Web     Platform = "web"
)

const (
	// maxPushToken bounds a token, in bytes. FCM's have some 160, and no
	// promise that they stay so short.
	maxPushToken = 1024
	// maxLanguage is that of RFC 5646's longest usual tag.
	maxLanguage = 35
)

// PushToken is the address of one device.
type PushToken struct {
	Token        string
	UserID       ID
	Platform     Platform
	Language     string // a BCP 47 tag; empty: not said
	RegisteredAt time.Time
}

// PushTokens is the part of the Repository that knows the devices.
type PushTokens interface {
	// PutPushToken stores a token. One that is known moves to the user that
	// has registered it last; of more than ten of a user the oldest go.
	PutPushToken(ctx context.Context, t PushToken) error
	// DeletePushToken forgets a token if it is that user's.
	DeletePushToken(ctx context.Context, userID ID, token string) error
	// PushTokensOf lists a user's devices, the latest first.
	PushTokensOf(ctx context.Context, userID ID) ([]PushToken, error)
}

// PutPushToken registers the caller's device. Errors: InvalidRequest,
// DatabaseUnavailable.
func (s *Service) PutPushToken(ctx context.Context, c Caller, token string, platform Platform, language string) error {
	if err := checkPushToken(token); err != nil {
		return err
	}
	switch platform {
	case Android, IOS, Web:
	default:
		return Refuse(InvalidRequest, "platform must be android, ios or web")
	}
	if !isLanguage(language) {
		return Refuse(InvalidRequest, "language must be a tag such as en or pt-BR")
	}
	return s.repo.PutPushToken(context.WithoutCancel(ctx), PushToken{
		Token: token, UserID: c.ID, Platform: platform, Language: language, RegisteredAt: ms(s.opts.Now()),
	})
}

// DeletePushToken forgets the caller's device; one that is not theirs, or not
// known, is left alone without a word. Errors: InvalidRequest,
// DatabaseUnavailable.
func (s *Service) DeletePushToken(ctx context.Context, c Caller, token string) error {
	if err := checkPushToken(token); err != nil {
		return err
	}
	return s.repo.DeletePushToken(context.WithoutCancel(ctx), c.ID, token)
}

// checkPushToken takes what can stand in a URL and a log's hash alike: visible
// ASCII.
func checkPushToken(token string) error {
	if token == "" || len(token) > maxPushToken {
		return Refuse(InvalidRequest, "token must be of 1 to 1024 characters")
	}
	for _, b := range []byte(token) {
		if b <= ' ' || b > '~' {
			return Refuse(InvalidRequest, "token must be visible ASCII")
		}
	}
	return nil
}

func isLanguage(tag string) bool {
	if len(tag) > maxLanguage {
		return false
	}
	for i, b := range []byte(tag) {
		letter := b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
		if !letter && (i < 2 || b != '-' && (b < '0' || b > '9')) {
			return false
		}
	}
	return len(tag) != 1
}
