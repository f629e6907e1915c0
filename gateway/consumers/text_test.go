package consumers

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestTexts_are_whole(t *testing.T) {
	t.Parallel()
	for _, language := range []string{"en", "de", "fr", "es"} {
		for _, kind := range []Kind{Started, Arriving, Arrived, Code, Cancelled, TimedOut, Begun, Done, CalledOff, NoShow} {
			title, body := write(kind, language, "0417")
			require.NotEmpty(t, title, "%s %s", language, kind)
			require.NotEmpty(t, body, "%s %s", language, kind)
			require.LessOrEqual(t, utf8.RuneCountInString(title), 40, title)
			require.LessOrEqual(t, utf8.RuneCountInString(body), 120, body)
			require.Equal(t, kind == Arrived || kind == Code, strings.Contains(body, "0417"), "%s %s", language, kind)
			require.NotContains(t, title, "0417")
			require.NotContains(t, title+body, "{")
		}
	}
}

func TestLanguageOf(t *testing.T) {
	t.Parallel()
	for tag, want := range map[string]string{
		"": "en", "de": "de", "DE-at": "de", "fr-CA-x-y": "fr", "es-419": "es", "pt-BR": "en", "-": "en", "d": "en", "x/../de": "en",
	} {
		require.Equal(t, want, languageOf(tag), tag)
	}
}
