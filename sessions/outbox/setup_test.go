package outbox_test

import (
	"os"
	"strings"
	"testing"

	"doorstep/internal/servers/awstest"
)

// The SDK reads its settings from the environment; they are the same for all
// tests here.
func TestMain(m *testing.M) {
	for _, setting := range awstest.Env() {
		name, value, _ := strings.Cut(setting, "=")
		_ = os.Setenv(name, value)
	}
	os.Exit(m.Run())
}

func aws(t *testing.T) *awstest.Server {
	t.Helper()
	s := awstest.Start()
	t.Cleanup(s.Close)
	return s
}
