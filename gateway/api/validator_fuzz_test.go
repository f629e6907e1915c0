package api

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// An If-None-Match matches a version if and only if one of its runs of digits is
// that number. A wrong match would keep a change from a student; a missing one
// turns a proxy's rewritten tag into a busy loop.
func FuzzValidator(f *testing.F) {
	const version = int64(1773480420412)
	for _, header := range []string{
		`"1773480420412"`, `W/"1773480420412"`, `"1", "1773480420412"`, ` "1773480420412" ,`, `*`, ``, `"`, `""`, `"1773480420412`, `1773480420412`,
		`"1773480420412-gzip"`, `%221773480420412%22`, `"177348042041"`, `"17734804204120"`, `"9223372036854775808"`, `*, "1"`, `w/"1773480420412"`,
		"\x00", `W/W/"1773480420412"`, `"1,1773480420412"`, `%`, `%2`, `%1773480420412`,
	} {
		f.Add([]byte(header), version)
	}
	number := regexp.MustCompile(`[0-9]+`)
	escaped := regexp.MustCompile(`(?s)%.{0,2}`)
	f.Fuzz(func(t *testing.T, header []byte, version int64) {
		tags := validator(header)
		trimmed := strings.TrimSpace(string(header))
		if trimmed == "" {
			require.Nil(t, tags)
			return
		}
		if strings.ContainsFunc(trimmed, func(r rune) bool { return r >= utf8.RuneSelf }) {
			return // the regular expressions read runes
		}
		plain := escaped.ReplaceAllString(trimmed, " ")
		said := slices.ContainsFunc(number.FindAllString(plain, -1), func(n string) bool {
			v, err := strconv.ParseInt(n, 10, 64)
			return err == nil && v == version
		})
		require.Equal(t, said || trimmed == "*", tags.match(version), "%q", header)
	})
}
