package sessions_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

var canonicalID = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// ParseID accepts one spelling, in either case, and no other: what it accepts stands
// in keys and channel names without escaping.
func FuzzParseID(f *testing.F) {
	const canonical = "6f1b2a34-9c8d-4e5f-a0b1-c2d3e4f50617"
	for _, text := range []string{
		canonical, strings.ToUpper(canonical), "", "00000000-0000-0000-0000-000000000000", "{" + canonical[:34] + "}", "urn:uuid:" + canonical[:27],
		strings.ReplaceAll(canonical, "-", ""), canonical[:35] + "\n", canonical[:35] + "\x00", canonical[:35] + "}", canonical[:35] + "g",
		strings.ReplaceAll(canonical, "-", "_"), canonical[:33] + "é1", "６f1b2a34-9c8d-4e5f-a0b1-c2d3e4f506",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, ok := sessions.ParseID(text)
		want := canonicalID.MatchString(text) && strings.Trim(text, "0-") != ""
		require.Equal(t, want, ok, "%q", text)
		if !ok {
			require.Empty(t, id)
			return
		}
		require.Equal(t, strings.ToLower(text), string(id))
	})
}
