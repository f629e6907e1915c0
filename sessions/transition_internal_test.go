package sessions

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNewOTP(t *testing.T) {
	t.Parallel()
	const draws = 20_000
	var digits [4][10]int
	for range draws {
		otp, err := newOTP()
		require.NoError(t, err)
		require.Regexp(t, `^\d{4}$`, otp)
		for place, digit := range []byte(otp) {
			digits[place][digit-'0']++
		}
	}
	for place, counts := range digits {
		chi := 0.0
		for _, n := range counts {
			d := float64(n) - draws/10
			chi += d * d / (draws / 10)
		}
		// Nine degrees of freedom: a fair source is over 60 once in 10^9.
		require.Less(t, chi, 60.0, "place %d: %v", place, counts)
	}
}

func TestOTPEqual(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"0042", "0042", true},
		{"0042", "0043", false},
		{"0042", "42", false},
		{"0042", "", false},
		{"0042", "00420", false},
		{"0042", "٠٠٤٢", false},
	} {
		require.Equal(t, test.want, otpEqual(test.a, test.b), "%q, %q", test.a, test.b)
	}
}
