package aws

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/require"
)

// The passwords are what AWS's documentation says, signed as a server would check it:
// docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
func TestIAM(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)
	i := &IAM{sdk.Config{Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "session/token")}, func() time.Time { return at }}
	database, err := i.Database(t.Context(), "db.example.com:5432", "doorstep app")
	require.NoError(t, err)
	cache, err := i.Cache(t.Context(), "Doorstep-Live", "doorstep")
	require.NoError(t, err)
	for token, want := range map[string][3]string{
		database: {"db.example.com:5432", "rds-db", "DBUser=doorstep app"},
		cache:    {"doorstep-live", "elasticache", "User=doorstep"},
	} {
		u, err := url.Parse("x://" + token)
		require.NoError(t, err)
		require.Equal(t, []string{want[0], "/"}, []string{u.Host, u.Path})
		q := u.Query()
		name, user, _ := strings.Cut(want[2], "=")
		require.Equal(t, []string{"connect", user, "900", "AWS4-HMAC-SHA256", "20260314T092653Z", "session/token", "host", "AKIDEXAMPLE/20260314/eu-west-1/" + want[1] + "/aws4_request"},
			[]string{q.Get("Action"), q.Get(name), q.Get("X-Amz-Expires"), q.Get("X-Amz-Algorithm"), q.Get("X-Amz-Date"), q.Get("X-Amz-Security-Token"), q.Get("X-Amz-SignedHeaders"), q.Get("X-Amz-Credential")})
		require.Equal(t, signature(q, want[0], want[1]), q.Get("X-Amz-Signature"))
	}
	_, err = i.Database(t.Context(), "no host", "x")
	require.Error(t, err)

	// Primary and reader may be in two regions, of which the settings have one.
	for address, region := range map[string]string{
		"near.c0ffee.us-east-1.rds.amazonaws.com:5432":              "us-east-1",
		"doorstep.cluster-c0ffee.ap-south-1.rds.amazonaws.com:5432": "ap-south-1",
		"db.c0ffee.rds.cn-north-1.amazonaws.com.cn:5432":            "eu-west-1",
		"a-name-of-the-operators-own.example.com:5432":              "eu-west-1",
	} {
		token, err := i.Database(t.Context(), address, "doorstep")
		require.NoError(t, err)
		u, err := url.Parse("x://" + token)
		require.NoError(t, err)
		require.Equal(t, "AKIDEXAMPLE/20260314/"+region+"/rds-db/aws4_request", u.Query().Get("X-Amz-Credential"), address)
	}
}

// signature is the one of a GET of / with that query.
func signature(q url.Values, host, service string) string {
	signed := url.Values{}
	for name, values := range q {
		if name != "X-Amz-Signature" {
			signed[name] = values
		}
	}
	query := strings.ReplaceAll(signed.Encode(), "+", "%20") // sorted
	sum := sha256.Sum256([]byte("GET\n/\n" + query + "\nhost:" + host + "\n\nhost\n" + emptyHash))
	key := []byte("AWS4secret")
	for _, part := range []string{"20260314", "eu-west-1", service, "aws4_request", "AWS4-HMAC-SHA256\n20260314T092653Z\n20260314/eu-west-1/" + service + "/aws4_request\n" + hex.EncodeToString(sum[:])} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key)
}
