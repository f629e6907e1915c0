package sessions

import (
	"context"
	"strings"
	"time"
)

// Platform is the kind of a device that gets pushes.
type Platform string

// The platforms. FCM delivers to all three.
const (
	Android Platform = "android"
	IOS     Platform = "ios"
	Web     Platform = "web"
)

const (
	// maxPushToken bounds a token, in bytes. FCM's have some 160, and FCM does not
	// say that they stay so short.
	maxPushToken = 1024
	// maxLanguage is the length of the longest usual tag of RFC 5646.
	maxLanguage = 35
)

// PushToken is the address of one device.
type PushToken struct {
	Token        string
	UserID       ID
	Platform     Platform
	Language     string // a BCP 47 tag; empty: not said
	RegisteredAt time.Time
	// LiveActivity is the one that this device shows; zero: none. iOS only.
	LiveActivity LiveActivity
	// LastUsedAt is when it was registered or reached by a push, to the day. PutPushToken
	// does not read it.
	LastUsedAt time.Time
}

// LiveActivity is an activity of iOS about one session. Whose session it is was not checked
// when it was registered: whoever pushes to it must.
type LiveActivity struct {
	SessionID ID
	Token     string // of APNs for this activity, in hexadecimal
}

// PushTokens is the part of the Repository that keeps the addresses of pushes.
type PushTokens interface {
	// PutPushToken stores a token. A known token moves to the user who registered it
	// last. Of more than ten of a user the oldest are deleted. All that was known of the
	// token is replaced, its LiveActivity too.
	PutPushToken(ctx context.Context, t PushToken) error
	// PushTokenUsed notes that a push has reached a token of that user's. For another
	// token it does nothing.
	PushTokenUsed(ctx context.Context, userID ID, token string, at time.Time) error
	// DeletePushToken deletes a token if it is that user's.
	DeletePushToken(ctx context.Context, userID ID, token string) error
	// DropLiveActivity makes a token of that user's have no LiveActivity, if it still has
	// the one with the token activity.
	DropLiveActivity(ctx context.Context, userID ID, token, activity string) error
	// PushTokensOf lists a user's devices, the latest first.
	PushTokensOf(ctx context.Context, userID ID) ([]PushToken, error)
}

// PutPushToken registers the caller's device; a zero activity is none. Errors:
// InvalidRequest, DatabaseUnavailable.
func (s *Service) PutPushToken(ctx context.Context, c Caller, token string, platform Platform, language string, activity LiveActivity) error {
	if err := checkPushToken(token); err != nil {
		return err
	}
	switch platform {
	case Android, IOS, Web:
	default:
		return InvalidField("platform", "platform must be android, ios or web")
	}
	if !isLanguage(language) {
		return InvalidField("language", "language must be a tag such as en or pt-BR")
	}
	if activity != (LiveActivity{}) {
		if platform != IOS {
			return InvalidField("liveActivity", "liveActivity is for the platform ios only")
		}
		if err := checkActivityToken(activity.Token); err != nil {
			return err
		}
	}
	return s.repo.PutPushToken(context.WithoutCancel(ctx), PushToken{
		Token: token, UserID: c.ID, Platform: platform, Language: language, LiveActivity: activity, RegisteredAt: ms(s.opts.Now()),
	})
}

// DeletePushToken deletes the caller's device. For a token that is not the caller's,
// or not known, it does nothing and returns no error. Errors: InvalidRequest,
// DatabaseUnavailable.
func (s *Service) DeletePushToken(ctx context.Context, c Caller, token string) error {
	if err := checkPushToken(token); err != nil {
		return err
	}
	return s.repo.DeletePushToken(context.WithoutCancel(ctx), c.ID, token)
}

// checkPushToken accepts visible ASCII, which can stand in a URL.
func checkPushToken(token string) error {
	if token == "" || len(token) > maxPushToken {
		return InvalidField("token", "token must have 1 to 1024 characters")
	}
	for _, b := range []byte(token) {
		if b <= ' ' || b > '~' {
			return InvalidField("token", "token must be visible ASCII")
		}
	}
	return nil
}

// checkActivityToken accepts what APNs gives: bytes of no fixed number, in hexadecimal.
func checkActivityToken(token string) error {
	if token == "" || len(token) > maxPushToken || strings.Trim(token, "0123456789abcdefABCDEF") != "" {
		return InvalidField("liveActivity.token", "liveActivity.token must have 1 to 1024 hexadecimal digits")
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
