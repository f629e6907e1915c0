package aws_test

import (
	"context"
	"os"
	"sync"
	"testing"

	"doorstep/internal/servers/awstest"
	"doorstep/sessions"
)

// The SDK reads its settings from the environment; they are the same for all
// tests here.
func TestMain(m *testing.M) {
	awstest.SetEnv(func(name, value string) { _ = os.Setenv(name, value) })
	os.Exit(m.Run())
}

func endpoint(t *testing.T) *awstest.Server {
	t.Helper()
	s := awstest.Start()
	t.Cleanup(s.Close)
	return s
}

// consumer is a handler whose answers a test chooses.
type consumer struct {
	mu     sync.Mutex
	calls  int
	done   []sessions.Event
	answer func(sessions.Event) error // nil: success
}

func (c *consumer) Handle(_ context.Context, e sessions.Event) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if c.answer != nil {
		if err := c.answer(e); err != nil {
			return err
		}
	}
	c.done = append(c.done, e)
	return nil
}

func (c *consumer) count() (calls, done int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls, len(c.done)
}
