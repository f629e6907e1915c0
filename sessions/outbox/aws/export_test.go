package aws

import "time"

// SetSecretClock replaces the clock of a secret's age.
func SetSecretClock(s *Secret, now func() time.Time) { s.now = now }
