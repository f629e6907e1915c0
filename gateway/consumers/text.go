package consumers

import (
	_ "embed"
	"strings"
)

//go:embed texts.txt
var textFile string

// texts maps "language/kind/part" to a text. text/template was rejected: it calls
// methods by name, so the linker keeps every method of every type, and the process
// takes 50 % more memory; see docs/adr/0007.
var texts = textsOf(textFile)

func textsOf(file string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(file) {
		if key, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); ok && !strings.HasPrefix(line, "#") {
			all[key] = text
		}
	}
	return all
}

// fallback is the language that has every text.
const fallback = "en"

// write is the title and the body of a push in the language of a tag: for pt-BR it looks
// for pt-br, then for pt, then for English.
func write(kind Kind, tag, otp string) (title, body string) {
	language := languageOf(tag)
	return part(language, kind, "title", otp), part(language, kind, "body", otp)
}

func languageOf(tag string) string {
	tag = strings.ToLower(tag)
	for tag != "" {
		if texts[tag+"/started/title"] != "" {
			return tag
		}
		tag = tag[:max(0, strings.LastIndexByte(tag, '-'))]
	}
	return fallback
}

// part is one text; a test reads them all.
func part(language string, kind Kind, part, otp string) string {
	return strings.ReplaceAll(texts[language+"/"+string(kind)+"/"+part], "{otp}", otp)
}
