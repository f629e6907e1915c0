package aws

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// IAM makes passwords of the process's own credentials, those of a task's role for
// example. RDS and ElastiCache take them instead of a stored one, for a user that is set
// up for it. Each is good for 15 minutes, and for one user at one server: make one for
// each new connection. Safe for concurrent use.
type IAM struct {
	settings sdk.Config
	now      func() time.Time
}

// NewIAM reads the SDK's own settings and makes no call.
func NewIAM() (*IAM, error) {
	settings, err := loadSettings()
	return &IAM{settings, time.Now}, err
}

// Database is a password for RDS or Aurora at host:port. It makes a call where the
// credentials have to be renewed.
func (i *IAM) Database(ctx context.Context, address, user string) (string, error) {
	return i.presign(ctx, "rds-db", regionOf(address, i.settings.Region), "https://", address, url.Values{"DBUser": {user}})
}

// regionOf is the region that the address of a server of RDS names, as in
// db.c0ffee.eu-west-1.rds.amazonaws.com: primary and reader may be in two.
func regionOf(address, byDefault string) string {
	before, _, named := strings.Cut(address, ".rds.amazonaws.com")
	if !named {
		return byDefault
	}
	return before[strings.LastIndexByte(before, '.')+1:]
}

// Cache is a password for the ElastiCache replication group of that name.
func (i *IAM) Cache(ctx context.Context, name, user string) (string, error) {
	return i.presign(ctx, "elasticache", i.settings.Region, "http://", strings.ToLower(name), url.Values{"User": {user}})
}

// Credentials are the process's own, as others than AWS ask for them.
type Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken, Region string }

// Own are the process's own credentials. It makes a call where they have to be renewed.
func (i *IAM) Own(ctx context.Context) (Credentials, error) {
	own, err := i.settings.Credentials.Retrieve(ctx)
	if err != nil {
		return Credentials{}, fmt.Errorf("aws: credentials: %w", err)
	}
	return Credentials{own.AccessKeyID, own.SecretAccessKey, own.SessionToken, i.settings.Region}, nil
}

// emptyHash is the SHA-256 of no body.
const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// presign is the URL, without its scheme, of a request to connect, signed as Signature
// Version 4 has it.
func (i *IAM) presign(ctx context.Context, service, region, scheme, host string, query url.Values) (string, error) {
	query.Set("Action", "connect")
	query.Set("X-Amz-Expires", "900")
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+host+"/?"+query.Encode(), nil)
	if err != nil {
		return "", fmt.Errorf("aws: %q is no address for %s", host, service)
	}
	credentials, err := i.settings.Credentials.Retrieve(ctx)
	if err != nil {
		return "", fmt.Errorf("aws: credentials: %w", err)
	}
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, credentials, request, emptyHash, service, region, i.now())
	if err != nil {
		return "", fmt.Errorf("aws: sign for %s: %w", service, err)
	}
	return strings.TrimPrefix(signed, scheme), nil
}
