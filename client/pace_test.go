package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/client"
)

func TestRepeat(t *testing.T) {
	t.Parallel()
	busy := &client.Error{Status: 503, Code: client.DatabaseUnavailable, RetryAfter: 9 * time.Second}
	gone := &client.Error{Status: 404, Code: client.SessionNotFound}
	for name, c := range map[string]struct {
		errs   []error // of each call
		want   error
		failed int
		least  time.Duration
	}{
		"at once":           {[]error{nil}, nil, 0, 0},
		"after two":         {[]error{errLost, busy, nil}, nil, 2, 9*time.Second + 500*time.Millisecond},
		"a refusal":         {[]error{errLost, gone}, gone, 1, 500 * time.Millisecond},
		"too many failures": {[]error{errLost, errLost, busy}, busy, 3, 1500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				began, calls, failed := time.Now(), 0, 0
				got, err := client.Repeat(t.Context(), 3, nil, func(try int, _ error) { failed++; assert.Equal(t, failed, try) },
					func(context.Context) (int, error) { calls++; return calls, c.errs[calls-1] })
				require.ErrorIs(t, err, c.want)
				assert.Equal(t, len(c.errs), got)
				assert.Equal(t, c.failed, failed)
				assert.GreaterOrEqual(t, time.Since(began), c.least)
			})
		})
	}
}

func TestRepeat_ends_with_its_context(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := client.Repeat(ctx, 3, nil, nil, func(context.Context) (int, error) { cancel(); return 0, errLost })
	require.ErrorIs(t, err, context.Canceled)
	stopped := errors.New("stopped")
	_, err = client.Repeat(t.Context(), 3, func(context.Context, time.Duration) error { return stopped }, nil,
		func(context.Context) (int, error) { return 0, errLost })
	require.ErrorIs(t, err, stopped)
}
