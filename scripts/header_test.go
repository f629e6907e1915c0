package scripts

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// header is what a script says of itself.
type header struct {
	keys, argv, codes []int
	names             map[int]string // of the codes
	sections          map[string][]string
}

var (
	headline = regexp.MustCompile(`^-- ([A-Z]+)\b`)
	numbered = regexp.MustCompile(`^-- +(\d+)  \S`)
	coded    = regexp.MustCompile(`^-- +\{?(\d+)[,}]?`)
)

func readHeader(t *testing.T, source string) (header, string) {
	t.Helper()
	lines := strings.Split(source, "\n")
	require.Equal(t, "#!lua", strings.SplitN(lines[0], " ", 2)[0], "it makes a cluster refuse keys outside the slot")
	h := header{sections: map[string][]string{}}
	section, body := "", len(lines)
	for i, line := range lines[1:] {
		if !strings.HasPrefix(line, "--") {
			body = i + 1
			break
		}
		if m := headline.FindStringSubmatch(line); m != nil {
			section = m[1]
		}
		h.sections[section] = append(h.sections[section], line)
	}
	h.keys = numbers(h.sections["KEYS"], numbered)
	h.argv = numbers(h.sections["ARGV"], numbered)
	h.codes, h.names = numbers(h.sections["RETURN"], coded), map[int]string{}
	for i, m := range regexp.MustCompile(`(?m)^-- +\{?\d.*? +([A-Z_]+)\b`).FindAllStringSubmatch(strings.Join(h.sections["RETURN"], "\n"), -1) {
		h.names[h.codes[i]] = m[1]
	}
	require.Len(t, h.names, len(h.codes), "each code has a name")
	return h, code(lines[body:])
}

func numbers(lines []string, pattern *regexp.Regexp) []int {
	var found []int
	for _, line := range lines {
		if m := pattern.FindStringSubmatch(line); m != nil {
			n, _ := strconv.Atoi(m[1])
			found = append(found, n)
		}
	}
	return found
}

// code is the script without its comments.
func code(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		before, _, _ := strings.Cut(line, "--")
		b.WriteString(before + "\n")
	}
	return b.String()
}

func indexes(body, array string) []int {
	return numbers(strings.Split(strings.ReplaceAll(body, array, "\n"+array), "\n"), regexp.MustCompile(`^`+array+`\[(\d+)\]`))
}

func upTo(n, from int) []int {
	var all []int
	for i := from; i <= n; i++ {
		all = append(all, i)
	}
	return all
}

// constantsIn lists the constants that a script declares, and their values.
func constantsIn(source string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(source) {
		names, defaults, _ := declaration(strings.TrimSuffix(line, "\n"))
		for i, name := range names {
			values[name] = defaults[i]
		}
	}
	return values
}

func TestScripts_header(t *testing.T) {
	t.Parallel()
	for name, s := range scriptsUnderTest() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, body := readHeader(t, s.source)
			assert.Contains(t, h.sections[""][0], "-- "+name+": ", "it begins with its verb")
			assert.NotEmpty(t, h.sections["COMPLEXITY"])

			assert.Equal(t, []int{1}, h.keys, "one key: with two, a cluster answers TRYAGAIN while it moves the slot")
			assert.Equal(t, h.keys, indexes(body, "KEYS"), "each is named once, in order")
			assert.Equal(t, upTo(len(s.args), 1), h.argv, "as many as are sent")
			assert.Equal(t, h.argv, indexes(body, "ARGV"), "each is named once, in order")

			values := constantsIn(s.source)
			assert.Equal(t, returned(body, values), h.codes, "documented and returned")
			for code, name := range h.names {
				assert.Equal(t, strconv.Itoa(code), values[name], "%s in the header and in the code", name)
			}
			assert.Equal(t, h.codes, rowsOf(name), "each has a row in TestScripts")
		})
	}
}

// returned lists the codes that a script replies: those behind a return, by
// name, and those that update's variable code takes.
func returned(body string, values map[string]string) []int {
	var codes []int
	for _, statement := range regexp.MustCompile(`(?:return \{?|\bcode = )(\w[^\n},]*)`).FindAllStringSubmatch(body, -1) {
		for _, name := range constantName.FindAllString(statement[1], -1) {
			if n, err := strconv.Atoi(values[name]); err == nil {
				codes = append(codes, n)
			}
		}
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

func rowsOf(name string) []int {
	var codes []int
	for _, r := range rows() {
		if r.script == name && r.fails == "" {
			code, _ := r.reply[0].(int64)
			if n, ok := r.reply[0].(int); ok {
				code = int64(n)
			}
			codes = append(codes, int(code))
		}
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

// Every command works on the key that was given, or is one that has none; no
// key is built in Lua.
func TestScripts_touch_only_their_key(t *testing.T) {
	t.Parallel()
	call := regexp.MustCompile(`redis\.p?call\('(\w+)'(?:, (\w+))?`)
	for name, s := range scriptsUnderTest() {
		_, body := readHeader(t, s.source)
		calls := call.FindAllStringSubmatch(body, -1)
		assert.Len(t, calls, strings.Count(body, "redis.")-strings.Count(body, "redis.error_reply("), "%s: a call that this test cannot read", name)
		for _, c := range calls {
			want := map[string]string{"TIME": "", "SPUBLISH": "channel"}
			first, special := want[c[1]]
			if !special {
				first = "key"
			}
			assert.Equal(t, first, c[2], "%s: %s", name, c[0])
		}
		assert.Equal(t, 1, strings.Count(body, "local key = KEYS[1]"), name)
		assert.NotRegexp(t, `\bkey =[^=]`, strings.Replace(body, "local key = KEYS[1]", "", 1), name)
		assert.NotRegexp(t, `\bchannel =[^=]`, strings.Replace(body, "local channel, ", "", 1), name)
	}
}

// The Go side sends what the headers document: all of it with a clock of its
// own, and without one all but the clock, which is the last.
func TestScripts_argument_count(t *testing.T) {
	t.Parallel()
	h, _ := readHeader(t, updateLua)
	for want, clock := range map[int]func() time.Time{len(h.argv): time.Now, len(h.argv) - 1: nil} {
		s, err := New(Options{URL: "unix:///nowhere", Now: clock})
		require.NoError(t, err)
		require.Len(t, s.fixArgs(newRef(), sessions.Fix{Point: home}), want)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	ref := sessions.Ref{TrainerID: trainer, SessionID: student}
	assert.Equal(t, "location:trainer:{"+trainer+"}:session:"+student, journeyKey(ref))
	assert.Equal(t, "location:live:{"+trainer+"}:"+student, liveChannel(ref))
	assert.Equal(t, "session:meta:"+student, metaKey(student))
	for _, header := range []string{openLua, updateLua, updateAllLua, moveLua, endLua} {
		assert.Contains(t, header, "location:trainer:{<trainerId>}:session:<sessionId>")
		assert.Contains(t, header, "location:live:{<trainerId>}:<sessionId>")
	}
	assert.Contains(t, metaLua, "session:meta:<sessionId>")
}
