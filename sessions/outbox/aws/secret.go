package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"
)

// Secret is a user and a password in Secrets Manager, under the JSON keys username and
// password, as RDS and its rotation have them. Safe for concurrent use.
type Secret struct {
	id     string
	client *secretsmanager.Client
	now    func() time.Time

	mu    sync.Mutex // held while the secret is asked for: those who wait get the same answer
	asked time.Time
	last  signIn
	err   error // of the last question
}

type signIn struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

const (
	// secretAge is how long an answer stands, so that a pool that connects anew asks once.
	// After a sign-in that was refused it is the longest wait for the new password.
	secretAge = time.Second
	// secretTimeout bounds one question, the SDK's one retry included.
	secretTimeout = 2 * time.Second
)

// secretName is a name or an ARN. What has another form may be the secret itself, which is
// what ECS puts into a variable.
var secretName = regexp.MustCompile(`^(arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:)?[A-Za-z0-9/_+=.@!-]{1,512}$`)

// NewSecret is for the secret of that name or ARN. It reads the SDK's own settings and
// makes no call.
func NewSecret(id string) (*Secret, error) {
	if !secretName.MatchString(id) {
		return nil, errors.New("aws: not the name or ARN of a secret; the secret itself does not belong there")
	}
	settings, err := loadSettings()
	if err != nil {
		return nil, err
	}
	return &Secret{id: id, client: secretsmanager.NewFromConfig(settings), now: time.Now}, nil
}

// SignIn is the present user and password. User is empty where the secret has none. While
// Secrets Manager cannot be asked, or does not answer as it should, the last ones hold.
func (s *Secret) SignIn(ctx context.Context) (user, password string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked.IsZero() || s.now().Sub(s.asked) >= secretAge {
		next, err := s.ask(ctx)
		if s.err = err; err == nil {
			s.last = next
		}
		s.asked = s.now()
	}
	if s.last.Password == "" {
		return "", "", s.err
	}
	return s.last.Username, s.last.Password, nil
}

// ask gets the secret. No error holds any of it, nor AWS's own text, which names what was
// asked for.
func (s *Secret) ask(ctx context.Context) (found signIn, err error) {
	ctx, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()
	out, err := s.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: sdk.String(s.id)})
	if answer, ok := errors.AsType[smithy.APIError](err); ok {
		return found, fmt.Errorf("aws: secret: Secrets Manager answered %s", answer.ErrorCode())
	}
	if err != nil {
		return found, fmt.Errorf("aws: secret: %w", err)
	}
	if json.Unmarshal([]byte(sdk.ToString(out.SecretString)), &found) != nil || found.Password == "" {
		return signIn{}, errors.New("aws: secret: not a JSON object with username and password")
	}
	return found, nil
}
