package sessions_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"doorstep/sessions"
)

func TestParseID(t *testing.T) {
	t.Parallel()
	const canonical = "6f1b2a34-9c8d-4e5f-a0b1-c2d3e4f50617"
	for name, test := range map[string]struct {
		text string
		want sessions.ID
	}{
		"canonical":       {canonical, canonical},
		"upper_case":      {strings.ToUpper(canonical), canonical},
		"another_version": {"6f1b2a34-9c8d-1e5f-a0b1-c2d3e4f50617", "6f1b2a34-9c8d-1e5f-a0b1-c2d3e4f50617"},
		"empty":           {"", ""},
		"nil":             {"00000000-0000-0000-0000-000000000000", ""},
		"braces":          {"{" + canonical + "}", ""},
		"urn":             {"urn:uuid:" + canonical, ""},
		"bare_hex":        {strings.ReplaceAll(canonical, "-", ""), ""},
		"too_long":        {canonical + "0", ""},
		"too_short":       {canonical[:35], ""},
		"not_hex":         {"g" + canonical[1:], ""},
		"hyphens_astray":  {"6f1b2a349-c8d-4e5f-a0b1-c2d3e4f50617", ""},
		"a_key's_braces":  {"}:session:{4-9c8d-4e5f-a0b1-c2d3e4f5", ""},
		"36_bytes_utf-8":  {strings.Repeat("é", 18), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id, ok := sessions.ParseID(test.text)
			require.Equal(t, test.want != "", ok)
			require.Equal(t, test.want, id)
		})
	}
}

// Whatever is taken can stand in a key, and has one spelling.
func TestParseID_any(t *testing.T) {
	t.Parallel()
	near := rapid.StringMatching(`[0-9a-fA-F{}:-]{8}-?[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}.?`)
	form := regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.OneOf(near, rapid.String()).Draw(rt, "text")
		id, ok := sessions.ParseID(text)
		if !ok {
			require.Empty(rt, id)
			return
		}
		require.Regexp(rt, form, string(id))
		require.Equal(rt, strings.ToLower(text), string(id))
	})
}

func TestNewID(t *testing.T) {
	t.Parallel()
	seen := map[sessions.ID]bool{}
	for range 1000 {
		id := sessions.NewID()
		parsed, ok := sessions.ParseID(string(id))
		require.True(t, ok)
		require.Equal(t, id, parsed)
		require.False(t, seen[id])
		seen[id] = true
	}
}
