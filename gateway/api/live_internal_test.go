package api

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudwego/hertz/pkg/app"
	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

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

// A list matches if and only if it holds the version, whatever else is in it and
// however it is spaced.
func TestValidator(t *testing.T) {
	t.Parallel()
	assert.Nil(t, validator(nil))
	assert.Nil(t, validator([]byte(" \t")))
	assert.False(t, (*etags)(nil).match(0), "no validator matches nothing")
	rapid.Check(t, func(t *rapid.T) {
		version := rapid.Int64Range(1, 1<<53).Draw(t, "version")
		others := rapid.SliceOf(rapid.StringMatching(`(W/)?"[!#-+\-./:-~]{0,9}"`)).Draw(t, "others") // no digits, no comma
		space := rapid.SampledFrom([]string{"", " ", "\t "})
		list := strings.Join(others, space.Draw(t, "space")+","+space.Draw(t, "space"))
		assert.False(t, validator([]byte(list)).match(version), list)
		c := app.NewContext(0)
		validators(c, version)
		tag := c.Response.Header.Get("ETag")
		number := strconv.FormatInt(version, 10)
		for _, mine := range []string{tag, strings.TrimPrefix(tag, "W/"), number, `"` + number + `-gzip"`, `W/"` + number + `;br"`} {
			assert.True(t, validator([]byte(mine)).match(version), mine)
			assert.True(t, validator([]byte(list+" , "+mine)).match(version), list)
			assert.True(t, validator([]byte(mine+","+list)).match(version), list)
			assert.False(t, validator([]byte(mine)).match(version+1), mine)
		}
	})
}
