package consumers

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"regexp"
	"strings"

	"cloud.google.com/go/auth/credentials/externalaccount"
	fcm "google.golang.org/api/fcm/v1"
	"google.golang.org/api/option"
)

// AWSCredentials are the process's own in AWS.
type AWSCredentials struct{ AccessKeyID, SecretAccessKey, SessionToken, Region string }

// account is what the credentials say: of a service account with its key, or of a workload
// identity federation, which acts as a service account and holds no secret.
type account struct {
	Type       string `json:"type"`
	ProjectID  string `json:"project_id"`
	PrivateKey string `json:"private_key"`

	Audience         string `json:"audience"`
	SubjectTokenType string `json:"subject_token_type"`
	TokenURL         string `json:"token_url"`
	ActsAs           string `json:"service_account_impersonation_url"`
	Source           struct {
		EnvironmentID string `json:"environment_id"`
	} `json:"credential_source"`
}

// projectActedFor is in the address at which a federation gets the service account's token.
var projectActedFor = regexp.MustCompile(`/serviceAccounts/[^/@]+@([a-z0-9-]+)\.iam\.gserviceaccount\.com:generateAccessToken$`)

// signIn is the project to send for, and how to sign in. It also checks a file's key, which
// the client would only do at the first push. No error holds any of the file's text, which
// is secret.
func (o FCMOptions) signIn() (project string, by option.ClientOption, err error) {
	var a account
	if err := json.Unmarshal(o.Credentials, &a); err != nil {
		return "", nil, errors.New("fcm: the credentials are not a JSON object")
	}
	if a.Type != "external_account" {
		return a.ProjectID, option.WithAuthCredentialsJSON(option.ServiceAccount, o.Credentials), a.checkKey()
	}
	acts := projectActedFor.FindStringSubmatch(a.ActsAs)
	if acts == nil {
		return "", nil, errors.New("fcm: the credentials name no service account to act as: make them with --service-account")
	}
	if !strings.HasPrefix(a.Source.EnvironmentID, "aws") || o.AWS == nil {
		return acts[1], option.WithAuthCredentialsJSON(option.ExternalAccount, o.Credentials), nil
	}
	// Google's client knows AWS's variables and instances, but not the tasks of ECS.
	credentials, err := externalaccount.NewCredentials(&externalaccount.Options{
		Audience: a.Audience, SubjectTokenType: a.SubjectTokenType, TokenURL: a.TokenURL, ServiceAccountImpersonationURL: a.ActsAs,
		Scopes: []string{fcm.FirebaseMessagingScope}, AwsSecurityCredentialsProvider: awsProvider{o.AWS}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return "", nil, errors.New("fcm: the credentials lack the audience or the subject_token_type")
	}
	return acts[1], option.WithAuthCredentials(credentials), nil
}

// checkKey is for a service account with a key.
func (a account) checkKey() error {
	if a.ProjectID == "" {
		return errors.New("fcm: the credentials name no project_id")
	}
	block, _ := pem.Decode([]byte(a.PrivateKey))
	if block == nil {
		return errors.New("fcm: the credentials' private_key is not PEM")
	}
	if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
		return errors.New("fcm: the credentials' private_key is not a PKCS #8 key")
	}
	return nil
}

// awsProvider gives Google's client the credentials that AWS's own finds.
type awsProvider struct {
	find func(context.Context) (AWSCredentials, error)
}

var _ externalaccount.AwsSecurityCredentialsProvider = awsProvider{}

// AwsRegion implements externalaccount.AwsSecurityCredentialsProvider.
func (p awsProvider) AwsRegion(ctx context.Context, _ *externalaccount.RequestOptions) (string, error) {
	found, err := p.find(ctx)
	return found.Region, err
}

// AwsSecurityCredentials implements externalaccount.AwsSecurityCredentialsProvider.
func (p awsProvider) AwsSecurityCredentials(ctx context.Context, _ *externalaccount.RequestOptions) (*externalaccount.AwsSecurityCredentials, error) {
	found, err := p.find(ctx)
	return &externalaccount.AwsSecurityCredentials{
		AccessKeyID: found.AccessKeyID, SecretAccessKey: found.SecretAccessKey, SessionToken: found.SessionToken,
	}, err
}
