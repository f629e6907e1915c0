package awstest

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// maxSkew is AWS's limit of a request's age.
const maxSkew = 5 * time.Minute

// verify signs the request again with the account's key and compares the signatures. Only
// the headers that the client lists as signed are part of it.
func verify(r *http.Request, body []byte, service string) error {
	forbidden := func(code, message string) error { return &problem{http.StatusForbidden, code, message} }
	authorization := r.Header.Get("Authorization")
	fields, ok := strings.CutPrefix(authorization, "AWS4-HMAC-SHA256 ")
	if !ok {
		return forbidden("MissingAuthenticationToken", "Request is missing Authentication Token")
	}
	part := map[string]string{}
	for field := range strings.SplitSeq(fields, ", ") {
		name, value, _ := strings.Cut(field, "=")
		part[name] = value
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || time.Since(at).Abs() > maxSkew {
		return forbidden("InvalidSignatureException", "Signature expired or not yet current")
	}
	scope := strings.Join([]string{AccessKey, at.Format("20060102"), Region, service, "aws4_request"}, "/")
	if key, _, _ := strings.Cut(part["Credential"], "/"); key != AccessKey {
		return forbidden("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	if part["Credential"] != scope {
		return forbidden("InvalidSignatureException", "Credential should be scoped to "+scope)
	}
	again, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+r.Host+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(part["SignedHeaders"], ";") {
		if name != "host" && name != "content-length" {
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	hash := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(r.Context(), aws.Credentials{AccessKeyID: AccessKey, SecretAccessKey: SecretKey},
		again, hex.EncodeToString(hash[:]), service, Region, at)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(again.Header.Get("Authorization")), []byte(authorization)) != 1 {
		return forbidden("InvalidSignatureException", "The request signature we calculated does not match the signature you provided.")
	}
	return nil
}
