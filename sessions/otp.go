package sessions

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"math/big"
	"time"
)

const (
	otpLifetime = 10 * time.Minute
	// otpTries wrong answers lock the code for its lifetime: five guesses at
	// four digits succeed once in 2,000.
	otpTries = 5
)

// newOTP draws four digits, uniformly, from the system's cryptographic source.
func newOTP() (string, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(10_000))
	if err != nil {
		return "", fmt.Errorf("draw otp: %w", err)
	}
	return fmt.Sprintf("%04d", n), nil
}

// otpEqual compares in time that does not depend on where the two differ.
func otpEqual(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
