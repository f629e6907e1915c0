package api

import (
	"strings"
	"testing"
	"time"

	"github.com/cloudwego/hertz/pkg/app"
	"github.com/stretchr/testify/assert"

	"doorstep/sessions"
)

func TestWaitOf(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]time.Duration{
		"": 0, "wait=0": 0, "wait=1": time.Second, "wait=30": 30 * time.Second, "wait=007": 7 * time.Second,
		"wait=31": DefaultMaxWait, "wait=999": DefaultMaxWait, "wait=4294967297": DefaultMaxWait, "wait=18446744073709551615": DefaultMaxWait,
		"wait=18446744073709551616": DefaultMaxWait, "wait=" + strings.Repeat("9", 1000): DefaultMaxWait,
		"wait=abc": -1, "wait=-1": -1, "wait=": -1, "wait": -1, "wait=1e3": -1, "wait=%2B1": -1, "wait=1.0": -1, "wait=0x1": -1, "wait=1_0": -1,
	} {
		c := app.NewContext(0)
		c.Request.SetRequestURI("/?" + query)
		got, err := waitOf(c, DefaultMaxWait)
		if want < 0 {
			assert.Equal(t, sessions.InvalidRequest, sessions.CodeOf(err), query)
			continue
		}
		assert.NoError(t, err, query)
		assert.Equal(t, want, got, query)
		short, err := waitOf(c, 2500*time.Millisecond)
		assert.NoError(t, err, query)
		assert.Equal(t, min(want, 2500*time.Millisecond), short, query)
	}
}
