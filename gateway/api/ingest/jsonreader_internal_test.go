package ingest

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzJSONReader reads any JSON as encoding/json reads it, except that null, and what
// is too long, is empty; and it reads anything else to some end.
func FuzzJSONReader(f *testing.F) {
	for _, text := range []string{
		`{"a":[1,-2.5e3,true,null,"x\u00e9\ud83d\ude00\"\\\/",[],{}],"":{"b":[[[]]]}}`, ` [ ] `, `"a`, `{"a":}`, `[,]`, `{"a":1,}`, `{"a" 1}`, `[NaN,:]`, "\"\xff\"", `1 2`, `"\q"`,
		`["` + strings.Repeat("x", maxText) + `",1]`, `["` + strings.Repeat(`\n`, maxText) + `",1]`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r := newJSONReader(iotest.HalfReader(strings.NewReader(string(text))), MaxBody)
		got, err := read(r)
		skipped := newJSONReader(strings.NewReader(string(text)), MaxBody)
		errSkipped := skipped.skip()
		if !json.Valid(text) || !utf8.Valid(text) { // which stays as it is here
			return
		}
		require.NoError(t, err)
		require.NoError(t, errSkipped)
		for _, r := range []*jsonReader{r, skipped} {
			ended, err := r.empty()
			assert.True(t, ended && err == nil)
		}
		decoder := json.NewDecoder(strings.NewReader(string(text)))
		decoder.UseNumber()
		var want any
		require.NoError(t, decoder.Decode(&want))
		assert.Equal(t, plain(want), got)
	})
}

// read reads a value as plain gives it.
func read(r *jsonReader) (any, error) {
	first, err := r.next()
	if err != nil {
		return nil, err
	}
	switch first {
	case '{':
		m := map[string]any{}
		err := r.object(func(key []byte) error {
			name := string(key)
			v, err := read(r)
			m[kept(name)] = v
			return err
		})
		return m, err
	case '[':
		var a []any
		err := r.array(func() error {
			v, err := read(r)
			a = append(a, v)
			return err
		})
		return a, err
	}
	text, err := r.label()
	return kept(text), err
}

// kept hides texts that may have been cut.
func kept(text string) string {
	if len(text) > maxText/7 { // six bytes an escape, and some replaced by more
		return ""
	}
	return text
}

func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for key, member := range v {
			m[kept(key)] = plain(member)
		}
		return m
	case []any:
		var a []any
		for _, member := range v {
			a = append(a, plain(member))
		}
		return a
	case string:
		return kept(v)
	case json.Number:
		return kept(v.String())
	case bool:
		return strconv.FormatBool(v)
	default:
		return ""
	}
}
