package worker

import (
	_ "embed"
	"strings"
	"text/template"
)

//go:embed texts.tmpl
var textFile string

var texts = template.Must(template.New("texts").Parse(textFile))

// fallback is the language that has every text.
const fallback = "en"

// write is the title and the body of a push in the language of a tag: pt-BR
// looks for pt-br, then for pt, then for English.
func write(kind Kind, tag, otp string) (title, body string) {
	language := languageOf(tag)
	return part(language, kind, "title", otp), part(language, kind, "body", otp)
}

func languageOf(tag string) string {
	tag = strings.ToLower(tag)
	for tag != "" {
		if texts.Lookup(tag+"/started/title") != nil {
			return tag
		}
		tag = tag[:max(0, strings.LastIndexByte(tag, '-'))]
	}
	return fallback
}

func part(language string, kind Kind, part, otp string) string {
	var b strings.Builder
	// A test renders every one there is: this cannot fail.
	_ = texts.ExecuteTemplate(&b, language+"/"+string(kind)+"/"+part, struct{ OTP string }{otp})
	return b.String()
}
