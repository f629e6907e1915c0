package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
)

// keys are the decoded secrets.
type keys [][]byte

// secretPrefix and the bounds of a secret in bytes are the specification's.
const (
	secretPrefix         = "whsec_"
	minSecret, maxSecret = 24, 64
)

func parseSecrets(secrets []string) (keys, error) {
	if len(secrets) < 1 || len(secrets) > 2 {
		return nil, errors.New("webhook: Secrets must be one, or two during a rotation")
	}
	var list keys
	for _, secret := range secrets {
		text, is := strings.CutPrefix(strings.TrimSpace(secret), secretPrefix)
		key, err := base64.StdEncoding.DecodeString(text)
		if !is || err != nil || len(key) < minSecret || len(key) > maxSecret {
			return nil, errors.New("webhook: Secrets: each must be whsec_ and 24 to 64 random bytes in base64")
		}
		list = append(list, key)
	}
	return list, nil
}

// sign is the header webhook-signature: a signature a key, with spaces between them.
func (k keys) sign(id, timestamp string, body []byte) string {
	signatures := make([]string, len(k))
	for i, key := range k {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + timestamp + "."))
		mac.Write(body)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(signatures, " ")
}
