package api

import (
	"strconv"
	"strings"
	"testing"

	"github.com/cloudwego/hertz/pkg/app"
	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

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
