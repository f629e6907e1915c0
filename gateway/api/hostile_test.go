package api_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/api"
	"doorstep/gateway/app"
	"doorstep/sessions"
)

// watched is a gateway with one running journey that no row of these tests may
// change, and the refusals that it should have counted.
type watched struct {
	*gateway
	v       visit
	before  []any
	peeked  string
	refused map[string]float64 // by series
}

func watch(t *testing.T, b backend) *watched {
	t.Helper()
	h := open(t, b)
	w := &watched{gateway: h, v: h.atTheDoor(t), refused: map[string]float64{}}
	h.Advance(5 * time.Second) // the next fix would be accepted
	w.before, w.peeked = w.state(t), w.peek(t)
	t.Cleanup(func() { w.settle(t) })
	return w
}

// state is everything that a caller can read of the visit.
func (w *watched) state(t testing.TB) []any {
	t.Helper()
	live := w.get(t, w.v.student, w.v.live("")).want(t, 200, "")
	return []any{
		live.etag(), live.data(), w.get(t, w.v.student, w.v.path("")).want(t, 200, "").data(),
		len(w.get(t, w.v.student, base+"/students/me/sessions").want(t, 200, "").data()["sessions"].([]any)),
	}
}

// peek is the session as text, to find the row that changed it.
func (w *watched) peek(t testing.TB) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+w.v.live(""), nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+w.v.student)
	res, err := w.client.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.Header.Get("ETag") + string(text)
}

// refuses checks that the request is refused with this code and changes nothing.
func (w *watched) refuses(t *testing.T, status int, code sessions.Code, request func() answer) {
	t.Helper()
	request().want(t, status, code)
	assert.Equal(t, w.peeked, w.peek(t), "nothing has changed")
	if status == 413 || status == 431 { // before any handler
		w.refused[fmt.Sprintf("doorstep_requests_malformed_total status=%q", fmt.Sprint(status))]++
	} else {
		w.refused[fmt.Sprintf("doorstep_http_refusals_total code=%q", code)]++
	}
}

// settle checks that every refusal was counted and that nothing has changed. It is
// a cleanup that runs while the gateway still does: cleanups run in reverse order.
func (w *watched) settle(t *testing.T) {
	t.Helper()
	for series, n := range w.refused {
		name, label, _ := strings.Cut(series, " ")
		assert.InDelta(t, n, w.metric(t, name, label), 0, series)
	}
	assert.Zero(t, w.metric(t, "doorstep_panics_total"))
	assert.Equal(t, w.before, w.state(t), "nothing has changed")
}

// notAnObject are bodies that are not a JSON object.
var notAnObject = map[string]string{
	"truncated":             `{"sessionId":"0d4a1f62-9f0e`,
	"truncated after colon": `{"latitude":`,
	"array":                 `[]`,
	"array of an object":    `[{}]`,
	"string":                `"{}"`,
	"null":                  `null`,
	"number":                `1`,
	"true":                  `true`,
	"two objects":           `{} {}`,
	"garbage after":         `{}x`,
	"trailing comma":        `{"a":1,}`,
	"single quotes":         `{'a':1}`,
	"no quotes":             `{a:1}`,
	"comment":               `{/**/}`,
	"NaN":                   `{"latitude":NaN}`,
	"Infinity":              `{"a":-Infinity}`,
	"hex":                   `{"a":0x10}`,
	"leading zero":          `{"a":01}`,
	"plus":                  `{"a":+1}`,
	"byte order mark":       "\xef\xbb\xbf{}",
	"utf-16":                "\xff\xfe{\x00}\x00",
	"bad utf-8":             "{\"a\":\"\xc3\x28\"}",
	"bad utf-8 in a key":    "{\"\xff\":1}",
	"bad utf-8 outside":     "{}\x80",
	"overlong utf-8":        "{\"a\":\"\xc0\xaf\"}",
	"utf-8 surrogate":       "{\"a\":\"\xed\xa0\x80\"}",
	"control in a string":   "{\"a\":\"\x01\"}",
	"newline in a string":   "{\"a\":\"\n\"}",
	"nul":                   "{\"a\":1}\x00",
	"bad escape":            `{"a":"\x"}`,
	"deep and open":         strings.Repeat(`{"a":`, 3000),
	"deep arrays, open":     `{"a":` + strings.Repeat(`[`, 16000),
	"deep arrays":           strings.Repeat(`[`, 8000) + strings.Repeat(`]`, 8000),
	"xml":                   `<a/>`,
	"form":                  `latitude=1&longitude=2`,
	"gzip":                  "\x1f\x8b\x08\x00\x00\x00\x00\x00",
	"spaces":                "  \t\r\n ",
}

func TestHostile_bodies_that_are_no_object(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		w := watch(t, b)
		for name, call := range map[string]struct{ token, path string }{
			"start": {w.v.trainer, w.v.path("start-journey")}, "update": {w.v.trainer, updatesPath},
			"book": {w.v.admin, base + "/admin/sessions"}, "verify": {w.v.trainer, w.v.path("verify-otp")},
		} {
			for kind, body := range notAnObject {
				if name == "start" && kind == "spaces" {
					continue // blank counts as empty, and the body of a start may be empty
				}
				t.Run(name+"/"+kind, func(t *testing.T) { //nolint:paralleltest // they watch one journey
					w.refuses(t, 400, sessions.InvalidRequest, func() answer { return w.post(t, call.token, call.path, body) })
					if kind != "spaces" { // nothing is in no format
						w.refuses(t, 415, api.UnsupportedMediaType, func() answer {
							return w.post(t, call.token, call.path, body, header("Content-Type", "text/plain"))
						})
					}
				})
			}
			t.Run(name+"/2 MB", func(t *testing.T) { //nolint:paralleltest // as above
				w.refuses(t, 413, api.PayloadTooLarge, func() answer {
					return w.post(t, call.token, call.path, bytes.Repeat([]byte(`{"a":1}`), 300_000))
				})
			})
		}
	})
}

// with is a valid update with one field replaced by raw text, or removed if raw is
// empty.
func with(v visit, field, raw string) string {
	fields := map[string]string{"sessionId": `"` + string(v.id) + `"`, "latitude": "12.9362", "longitude": "77.6245"}
	if fields[field] = raw; raw == "" {
		delete(fields, field)
	}
	var parts []string
	for name, text := range fields {
		parts = append(parts, `"`+name+`":`+text)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func TestHostile_update_fields(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		w := watch(t, b)
		for field, values := range map[string][]string{
			"sessionId": {
				``, `null`, `5`, `""`, `"x"`, `{}`, `[]`, `"0d4a1f629f0e4c578a3c2f6d3f1b7a10"`,
				`"{0d4a1f62-9f0e-4c57-8a3c-2f6d3f1b7a10}"`, `"urn:uuid:0d4a1f62-9f0e-4c57-8a3c-2f6d3f1b7a10"`,
				`"00000000-0000-0000-0000-000000000000"`, `"0d4a1f62-9f0e-4c57-8a3c-2f6d3f1b7a1 "`, `"0d4a1f62-9f0e-4c57-8a3c-2f6d3f1b7a1g"`,
				`"0d4a1f62-9f0e-4c57-8a3c-2f6d3f1b7a10\r\nDEL x"`, `"0d4a1f62_9f0e_4c57_8a3c_2f6d3f1b7a10"`, `"../../../../../../../../../../../../"`,
				`"}:session:{0d4a1f62-9f0e-4c57-8a3c-2f"`,
			},
			"latitude":  {``, `null`, `"12.9"`, `true`, `{}`, `[12.9]`, `1e999`, `-1e999`, `90.0000001`, `-90.1`, `91`, `1e308`},
			"longitude": {``, `null`, `"77"`, `false`, `1e999`, `180.0000001`, `-181`, `1e300`},
			"fixes":     {`5`, `"x"`, `{}`, `[]`, `[5]`, `[null,{}]`, `[{"latitude":"12"}]`, `[` + strings.Repeat(`{},`, 500) + `{}]`},
		} {
			for _, raw := range values {
				t.Run(field+"/"+raw, func(t *testing.T) { //nolint:paralleltest // they watch one journey
					w.refuses(t, 400, sessions.InvalidRequest, func() answer {
						refused := w.post(t, w.v.trainer, updatesPath, with(w.v, field, raw))
						assert.Equal(t, field, refused.fields["field"], "%s", refused.body)
						assert.Contains(t, refused.fields["message"], field)
						return refused
					})
				})
			}
		}
	})
}

// These look wrong and are valid.
func TestHostile_update_that_is_good(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.begun(t)
	for name, body := range map[string]string{
		"unknown fields":        with(v, "colour", `{"deep":[1,{"er":null}]}`),
		"nulls":                 with(v, "accuracy", `null`),
		"exponent":              with(v, "latitude", `1.29362e1`),
		"negative zero":         with(v, "accuracy", `-0.0`),
		"tiny":                  with(v, "speed", `1e-400`),
		"many digits":           with(v, "latitude", "12.9362"+strings.Repeat("0", 5000)+"1"),
		"escaped key":           strings.Replace(with(v, "mock", "false"), "latitude", `lat\u0069tude`, 1),
		"upper case id":         with(v, "sessionId", `"`+strings.ToUpper(string(v.id))+`"`),
		"duplicate, last good":  strings.Replace(with(v, "mock", "false"), "{", `{"latitude":1,"latitude":999,`, 1),
		"spaces around":         " \r\n" + with(v, "mock", "true") + "\t ",
		"3,000 unknown keys":    strings.Replace(with(v, "mock", "false"), "{", "{"+strings.Repeat(`"a":1,`, 2000), 1),
		"an offset":             with(v, "recordedAt", `"`+h.Now().In(time.FixedZone("", 19800)).Format(time.RFC3339Nano)+`"`),
		"nanoseconds":           with(v, "recordedAt", `"`+h.Now().UTC().Format("2006-01-02T15:04:05")+`.123456789Z"`),
		"nested 60 deep":        with(v, "x", strings.Repeat("[", 60)+strings.Repeat("]", 60)),
		"escaped line break":    with(v, "x", `"a\r\nb"`),
		"emoji, even astral":    with(v, "x", `"😀\ud83d\ude00"`),
		"the pole":              "",
		"whatever content type": "",
	} {
		if body == "" {
			continue
		}
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // one phone
			h.Advance(5 * time.Second)
			got := h.post(t, v.trainer, updatesPath, body, off)
			assert.Contains(t, []int{200, 201}, got.status, "%s", got.body)
		})
	}
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=x", "nonsense", "application/json; charset=utf-16"} {
		t.Run("Content-Type "+kind, func(t *testing.T) { //nolint:paralleltest // one phone
			h.Advance(5 * time.Second)
			h.post(t, v.trainer, updatesPath, with(v, "mock", "false"), off, header("Content-Type", kind)).want(t, 201, "")
		})
	}
}

// An optional field never costs the fix, whatever stands in it.
func TestHostile_optional_fields(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.begun(t)
	for field, values := range map[string][]string{
		"accuracy": {`-1`, `-0.0001`, `"8"`, `{}`, `[]`, `true`, `"NaN"`, `""`},
		"speed":    {`-1`, `-3.6`, `2001`, `"25"`, `1e999`, `-1e999`, `[]`, `"fast"`, `"-Infinity"`},
		"heading":  {`-1`, `361`, `360.1`, `"north"`, `1e999`, `{}`},
		"recordedAt": {
			`"yesterday"`, `""`, `5`, `{}`, `[]`, `true`, `"2026-13-01T00:00:00Z"`, `"2026-02-30T00:00:00Z"`, `"1999-12-31T23:59:59Z"`, `"2200-01-02T00:00:00Z"`,
			`"0001-01-01T00:00:00Z"`, `"9999-12-31T23:59:59Z"`, `"-2026-03-14T09:27:00Z"`, `"2569-03-14T09:27:00Z"`, `"\ud800"`, `1e400`,
		},
		"sentAt": {`"yesterday"`, `5`, `{}`, `"2569-03-14T09:27:00Z"`},
		"mock":   {`"no"`, `0`, `{}`, `""`},
	} {
		for _, raw := range values {
			t.Run(field+"/"+raw, func(t *testing.T) { //nolint:paralleltest // one phone
				h.Advance(5 * time.Second)
				h.post(t, v.trainer, updatesPath, with(v, field, raw), off).want(t, 201, "")
			})
		}
	}
	h.Advance(5 * time.Second)
	vague := h.post(t, v.trainer, updatesPath, with(v, "accuracy", `1e999`), off).want(t, 201, "")
	assert.Equal(t, "low_accuracy", vague.data()["ignored"], "a huge accuracy is vague, and not unknown")
}

// The last value of a duplicate key counts, in every body.
func TestHostile_duplicate_key_last_one_counts(t *testing.T) {
	t.Parallel()
	w := watch(t, embedded)
	other := w.book(t)
	body := strings.TrimSuffix(with(w.v, "mock", "false"), "}") + `,"sessionId":"` + string(other.id) + `"}`
	w.refuses(t, 403, sessions.Forbidden, func() answer { return w.post(t, w.v.trainer, updatesPath, body) })
}

func TestHostile_content_type_of_what_is_not_JSON(t *testing.T) {
	t.Parallel()
	w := watch(t, embedded)
	for kind, want := range map[string]int{
		"": 400, "application/json": 400, "APPLICATION/JSON": 400, "application/json; charset=utf-8": 400, "application/vnd.api+json": 400, "text/json": 400,
		"text/plain": 415, "application/xml": 415, "multipart/form-data; boundary=x": 415, "multipart/form-data": 415, "application/octet-stream": 415,
		"application/x-www-form-urlencoded": 415, "nonsense": 415, ";": 415,
	} {
		code := sessions.InvalidRequest
		if want == 415 {
			code = api.UnsupportedMediaType
		}
		t.Run(kind, func(t *testing.T) { //nolint:paralleltest // they watch one journey
			w.refuses(t, want, code, func() answer { return w.post(t, w.v.trainer, updatesPath, "--x\r\n", header("Content-Type", kind)) })
		})
	}
}

func TestHostile_other_bodies(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		w := watch(t, b)
		trainer, student, home := sessions.NewID(), sessions.NewID(), `{"latitude":1,"longitude":2}`
		booking := func(trainer, student, rest string) string {
			return fmt.Sprintf(`{"trainerId":%s,"studentId":%s%s}`, trainer, student, rest)
		}
		good := func(id sessions.ID) string { return `"` + string(id) + `"` }
		for name, body := range map[string]string{
			"empty":                   `{}`,
			"no trainer":              booking(`null`, good(student), `,"studentHome":`+home),
			"trainer no id":           booking(`"me"`, good(student), `,"studentHome":`+home),
			"no student":              booking(good(trainer), `null`, `,"studentHome":`+home),
			"with oneself":            booking(good(trainer), `"`+strings.ToUpper(string(trainer))+`"`, `,"studentHome":`+home),
			"no home":                 booking(good(trainer), good(student), ``),
			"home of the wrong type":  booking(good(trainer), good(student), `,"studentHome":"here"`),
			"home without a half":     booking(good(trainer), good(student), `,"studentHome":{"latitude":1}`),
			"home off the globe":      booking(good(trainer), good(student), `,"studentHome":{"latitude":1,"longitude":181}`),
			"session no id":           booking(good(trainer), good(student), `,"sessionId":"1","studentHome":`+home),
			"session of nil":          booking(good(trainer), good(student), `,"sessionId":"00000000-0000-0000-0000-000000000000","studentHome":`+home),
			"mode":                    booking(good(trainer), good(student), `,"travelMode":"boat","studentHome":`+home),
			"mode empty":              booking(good(trainer), good(student), `,"travelMode":"","studentHome":`+home),
			"mode of the wrong type":  booking(good(trainer), good(student), `,"travelMode":1,"studentHome":`+home),
			"scheduled in year 1":     booking(good(trainer), good(student), `,"scheduledAt":"0001-01-01T00:00:00Z","studentHome":`+home),
			"scheduled in year 10000": booking(good(trainer), good(student), `,"scheduledAt":"10000-01-01T00:00:00Z","studentHome":`+home),
		} {
			t.Run("book/"+name, func(t *testing.T) { //nolint:paralleltest // they watch one journey
				w.refuses(t, 400, sessions.InvalidRequest, func() answer { return w.post(t, w.v.admin, base+"/admin/sessions", body) })
			})
		}
		for _, body := range []string{
			`{}`, `{"otp":null}`, `{"otp":1234}`, `{"otp":""}`, `{"otp":"123"}`, `{"otp":"12345"}`, `{"otp":"12a4"}`, `{"otp":" 1234"}`,
			`{"otp":"１２３４"}`, `{"otp":["1234"]}`, `{"otp":"1234 OR 1=1"}`, `{"otp":"-123"}`,
		} {
			t.Run("verify/"+body, func(t *testing.T) { //nolint:paralleltest // as above
				w.refuses(t, 400, sessions.InvalidRequest, func() answer { return w.post(t, w.v.trainer, w.v.path("verify-otp"), body) })
			})
		}
		for _, body := range []string{`{"travelMode":"boat"}`, `{"travelMode":""}`, `{"travelMode":1}`, `{"travelMode":["car"]}`, `{"travelMode":"Car"}`} {
			t.Run("start/"+body, func(t *testing.T) { //nolint:paralleltest // as above
				w.refuses(t, 400, sessions.InvalidRequest, func() answer { return w.post(t, w.v.trainer, w.v.path("start-journey"), body) })
			})
		}
	})
}

func TestHostile_ids_and_waits(t *testing.T) {
	t.Parallel()
	w := watch(t, embedded)
	for _, id := range []string{
		"1", "me", "0d4a1f629f0e4c578a3c2f6d3f1b7a10", "%7B0d4a1f62-9f0e-4c57-8a3c-2f6d3f1b7a10%7D", "urn:uuid:0d4a1f62-9f0e-4c57-8a3c-2f6d3f1b7a10",
		"00000000-0000-0000-0000-000000000000", string(w.v.id) + "%00", string(w.v.id) + "%20", string(w.v.id)[:35], string(w.v.id) + "0", "%FF",
		string(w.v.id) + ";x", "..%5C", strings.Repeat("a", 4000),
	} {
		t.Run("id/"+id[:min(len(id), 50)], func(t *testing.T) { //nolint:paralleltest // they watch one journey
			w.refuses(t, 400, sessions.InvalidRequest, func() answer { return w.get(t, w.v.student, livePath+"?sessionId="+id) })
			w.refuses(t, 400, sessions.InvalidRequest, func() answer { return w.get(t, w.v.student, base+"/admin/sessions/"+id) })
			for _, verb := range []string{"start-journey", "arrived", "stop-journey", "verify-otp"} {
				w.refuses(t, 400, sessions.InvalidRequest, func() answer { return w.post(t, w.v.trainer, base+"/admin/sessions/"+id+"/"+verb, nil) })
			}
		})
	}
	for _, wait := range []string{
		"abc", "-1", "", "1e3", "1.5", "%2B1", "0x10", "%201", "1%20", "1_0", "%EF%BC%91", "NaN", "Inf", "1%00", "null", "true", "1;2", "-0",
		strings.Repeat("-", 2000),
	} {
		t.Run("wait/"+wait[:min(len(wait), 20)], func(t *testing.T) { //nolint:paralleltest // as above
			w.refuses(t, 400, sessions.InvalidRequest, func() answer { return w.get(t, w.v.student, w.v.live("&wait="+wait)) })
		})
	}
	for _, wait := range []string{"999", "99999999999", "999999999999999999999999999999", strings.Repeat("9", 4000)} {
		poll := w.wait(t, w.v.student, w.v, "&wait="+wait) // more than the longest wait is the longest wait
		poll.cancel()
		until(t, func() bool { return w.metric(t, "doorstep_waits_open") == 0 }, "the poll is dropped")
	}
}

func TestHostile_tokens(t *testing.T) {
	t.Parallel()
	h := open(t, embedded, func(o *app.Options) { o.JWTIssuer, o.JWTAudience = "issuer", []string{"gateway"} })
	v := h.begun(t)
	now := time.Now()
	claims := func(edits ...any) map[string]any {
		c := map[string]any{
			"sub": v.studentID, "role": "student", "iss": "issuer", "aud": "gateway",
			"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		}
		for i := 0; i < len(edits); i += 2 {
			c[edits[i].(string)] = edits[i+1]
		}
		return c
	}
	hs, key := map[string]any{"alg": "HS256", "typ": "JWT"}, []byte(secret)
	good := handmade(t, hs, claims(), key)
	h.get(t, good, v.live("")).want(t, 200, "")
	parts := strings.Split(good, ".")
	for name, row := range map[string]struct{ authorization, reason string }{
		"none":                  {"", "missing"},
		"empty":                 {"Bearer ", "missing"},
		"no scheme":             {good, "missing"},
		"another scheme":        {"Basic " + good, "missing"},
		"scheme glued":          {"Bearer" + good, "missing"},
		"garbage":               {"Bearer garbage", "malformed"},
		"dots":                  {"Bearer ..", "malformed"},
		"two parts":             {"Bearer " + parts[0] + "." + parts[1], "malformed"},
		"four parts":            {"Bearer " + good + ".x", "malformed"},
		"two tokens":            {"Bearer " + good + " " + good, "malformed"},
		"9 KB":                  {"Bearer " + strings.Repeat("a", 9000), "malformed"},
		"unicode":               {"Bearer ｂｅａｒｅｒ", "malformed"},
		"alg none":              {"Bearer " + handmade(t, map[string]any{"alg": "none"}, claims(), nil), "algorithm"},
		"alg None":              {"Bearer " + handmade(t, map[string]any{"alg": "None"}, claims(), nil), "algorithm"},
		"alg none, signed":      {"Bearer " + handmade(t, map[string]any{"alg": "none"}, claims(), key), "algorithm"},
		"no alg":                {"Bearer " + handmade(t, map[string]any{"typ": "JWT"}, claims(), key), "algorithm"},
		"alg of another type":   {"Bearer " + handmade(t, map[string]any{"alg": 1}, claims(), key), "algorithm"},
		"RS256 by the secret":   {"Bearer " + handmade(t, map[string]any{"alg": "RS256"}, claims(), key), "algorithm"},
		"HS384":                 {"Bearer " + handmade(t, map[string]any{"alg": "HS384"}, claims(), key), "algorithm"},
		"another secret":        {"Bearer " + handmade(t, hs, claims(), []byte("another secret of 32 bytes or more")), "signature"},
		"no signature":          {"Bearer " + handmade(t, hs, claims(), nil), "signature"},
		"other claims":          {"Bearer " + strings.Split(handmade(t, hs, claims("role", "admin"), key), ".")[0] + "." + strings.Split(handmade(t, hs, claims("role", "admin"), key), ".")[1] + "." + parts[2], "signature"},
		"expired":               {"Bearer " + handmade(t, hs, claims("exp", now.Add(-time.Minute).Unix()), key), "expired"},
		"never expires":         {"Bearer " + handmade(t, hs, claims("exp", nil), key), ""},
		"expires as text":       {"Bearer " + handmade(t, hs, claims("exp", "tomorrow"), key), ""},
		"not yet":               {"Bearer " + handmade(t, hs, claims("nbf", now.Add(10*time.Minute).Unix()), key), "not_yet_valid"},
		"another issuer":        {"Bearer " + handmade(t, hs, claims("iss", "evil"), key), "issuer"},
		"another audience":      {"Bearer " + handmade(t, hs, claims("aud", []string{"a", "b"}), key), "audience"},
		"no audience":           {"Bearer " + handmade(t, hs, claims("aud", nil), key), "audience"},
		"subject no id":         {"Bearer " + handmade(t, hs, claims("sub", "root"), key), "subject"},
		"subject of two":        {"Bearer " + handmade(t, hs, claims("sub", []sessions.ID{v.studentID}), key), ""},
		"no subject":            {"Bearer " + handmade(t, hs, claims("sub", nil), key), "subject"},
		"role of a god":         {"Bearer " + handmade(t, hs, claims("role", "root"), key), "role"},
		"roles that are none":   {"Bearer " + handmade(t, hs, claims("role", []any{"root", 1}), key), "role"},
		"no role":               {"Bearer " + handmade(t, hs, claims("role", nil), key), "role"},
		"role in another case":  {"Bearer " + handmade(t, hs, claims("role", "Student"), key), "role"},
		"critical extension":    {"Bearer " + handmade(t, map[string]any{"alg": "HS256", "crit": []string{"exp"}}, claims(), key), "malformed"},
		"token in base64 twice": {"Bearer " + base64.RawURLEncoding.EncodeToString([]byte(good)), "malformed"},
	} {
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // they count by one counter
			var labels []string
			if row.reason != "" {
				labels = []string{fmt.Sprintf("reason=%q", row.reason)}
			}
			n, codes := h.metric(t, "doorstep_unauthenticated_total", labels...), h.metric(t, "doorstep_http_refusals_total", `code="UNAUTHENTICATED"`)
			got := h.get(t, "", v.live(""), header("Authorization", row.authorization)).want(t, 401, api.Unauthenticated)
			assert.InDelta(t, n+1, h.metric(t, "doorstep_unauthenticated_total", labels...), 0, "counted as %q", row.reason)
			assert.InDelta(t, codes+1, h.metric(t, "doorstep_http_refusals_total", `code="UNAUTHENTICATED"`), 0)
			if token := strings.TrimPrefix(row.authorization, "Bearer "); len(token) > 20 {
				assert.NotContains(t, string(got.body), token[:20], "no part of the token is in the answer")
			}
		})
	}
	// The right id with the wrong role has no rights.
	h.get(t, handmade(t, hs, claims("role", "trainer"), key), v.live("")).want(t, 403, sessions.Forbidden)
	h.get(t, handmade(t, hs, claims("sub", v.trainerID), key), v.live("")).want(t, 403, sessions.Forbidden)
	h.get(t, good, v.live(""), header("Authorization", "bEaReR   "+good+"  ")).want(t, 200, "")
}

// A token that is signed by HMAC with the public key, which anybody has, is refused.
func TestHostile_tokens_RS_HS_confusion(t *testing.T) {
	t.Parallel()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	public := private.PublicKey
	encode := base64.RawURLEncoding.EncodeToString
	jwks := fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":"1","alg":"RS256","use":"sig","n":%q,"e":%q}]}`,
		encode(public.N.Bytes()), encode(big.NewInt(int64(public.E)).Bytes()))
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, jwks) }))
	t.Cleanup(issuer.Close)
	h := open(t, embedded, func(o *app.Options) { o.JWTSecret, o.JWKSURL, o.JWTUnchecked = "", issuer.URL, true })
	until(t, func() bool { return h.get(t, "", "/readyz").status == 200 }, "the keys are there")

	der, err := x509.MarshalPKIXPublicKey(&public)
	require.NoError(t, err)
	claims := map[string]any{"sub": sessions.NewID(), "role": "admin", "exp": time.Now().Add(time.Hour).Unix()}
	for name, key := range map[string][]byte{
		"DER": der, "PKIX": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		"PKCS1": pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&public)}),
		"JWKS":  []byte(jwks), "modulus": public.N.Bytes(), "empty": {},
	} {
		for _, alg := range []string{"HS256", "RS256"} {
			token := handmade(t, map[string]any{"alg": alg, "kid": "1"}, claims, key)
			h.get(t, token, base+"/students/me/sessions").want(t, 401, api.Unauthenticated)
			require.NotEmpty(t, name)
		}
	}
}

func TestHostile_request_ids(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	for _, id := range []string{"a", "req-1_2.3:4", strings.Repeat("x", 64), "0d4a1f62-9f0e-4c57-8a3c-2f6d3f1b7a10"} {
		for path, status := range map[string]int{"/healthz": 200, "/nothing": 404, livePath: 401} {
			got := h.get(t, "", path, header("X-Request-Id", id))
			assert.Equal(t, []any{status, []string{id}}, []any{got.status, got.header.Values("X-Request-Id")}, "the caller's own id")
			if status > 200 {
				assert.Equal(t, id, got.fields["requestId"])
			}
		}
	}
	for _, id := range []string{
		"", " ", "a b", strings.Repeat("x", 65), strings.Repeat("x", 8000), "żółw", "\"", "a\tb", "<script>", "a,b", "a/b", "${jndi:ldap://x}", "\x80", "a%0d%0aSet-Cookie:x", "'; DROP TABLE",
	} {
		got := h.get(t, "", livePath, header("X-Request-Id", id)).want(t, 401, api.Unauthenticated)
		made := got.header.Get("X-Request-Id")
		assert.Regexp(t, "^[0-9a-v]{16}$", made, "a new one for %q", id)
		assert.Equal(t, made, got.fields["requestId"])
	}
	two := h.get(t, "", livePath, func(r *http.Request) { r.Header["X-Request-Id"] = []string{"one", "two"} })
	assert.Len(t, two.header.Values("X-Request-Id"), 1)
	for _, injected := range []string{"a\r\nSet-Cookie: x=1", "a\nSet-Cookie: x=1", "a\rSet-Cookie: x=1", "a\r\n\r\nHTTP/1.1 200 OK\r\nSet-Cookie: x=1"} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", h.Addr().String())
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: "+injected+"\r\n\r\n")
		require.NoError(t, err)
		text, err := io.ReadAll(conn)
		require.NoError(t, err)
		assert.NotContains(t, string(text), "Set-Cookie")
		assert.NotContains(t, string(text), " 500 ")
		_ = conn.Close()
	}
}

// Any spelling of a path is one of the routes or not found. It never reaches
// another caller's session and never causes a 500.
func TestHostile_paths(t *testing.T) {
	t.Parallel()
	w := watch(t, embedded)
	id := string(w.v.id)
	for _, row := range []struct {
		method, target string
		status         int
		code           sessions.Code
	}{
		{"POST", base + "/admin/sessions/" + id + "%2Fstop-journey", 405, api.MethodNotAllowed},
		{"POST", base + "/admin/sessions/" + id + "%2fstop-journey", 405, api.MethodNotAllowed},
		{"POST", base + "/admin/sessions/" + id + "/stop-journey/", 404, api.RouteNotFound},
		{"POST", base + "/admin/sessions/" + id + "//stop-journey", 404, api.RouteNotFound},
		{"POST", base + "/admin/sessions/" + id + "/stop-journey%00", 404, api.RouteNotFound},
		{"POST", base + "/admin/sessions/" + id + "%00/stop-journey", 400, sessions.InvalidRequest},
		{"POST", base + "/admin/sessions/" + strings.Replace(id, "-", "%2d", 1) + "/stop-journey", 400, sessions.InvalidRequest},
		{"POST", base + "/admin/sessions/" + id + "/STOP-JOURNEY", 404, api.RouteNotFound},
		{"POST", base + "/admin/sessions//stop-journey", 400, sessions.InvalidRequest},
		{"POST", base + "/admin/sessions/stop-journey", 405, api.MethodNotAllowed},
		{"POST", base + "/admin/sessions/../sessions/" + id + "/stop-journey", 404, api.RouteNotFound},
		{"GET", base + "/admin/sessions/%2e%2e/%2e%2e/%2e%2e/%2e%2e/metrics", 404, api.RouteNotFound},
		{"GET", base + "/admin/sessions/..%2f..%2f..%2f..%2fmetrics", 400, sessions.InvalidRequest},
		{"GET", base + "/admin/sessions/..%5c..%5cmetrics", 400, sessions.InvalidRequest},
		{"GET", "/../../etc/passwd", 404, api.RouteNotFound},
		{"GET", "/openapi.yaml/../server.go", 404, api.RouteNotFound},
		{"GET", "/openapi.yaml%00.txt", 404, api.RouteNotFound},
		{"GET", "/healthz/", 404, api.RouteNotFound},
		{"GET", "/HEALTHZ", 404, api.RouteNotFound},
		{"GET", "/healthz;x=1", 404, api.RouteNotFound},
		{"GET", "/" + strings.Repeat("a", 8000), 404, api.RouteNotFound},
		{"GET", "/%", 404, api.RouteNotFound},
		{"GET", "/%zz", 404, api.RouteNotFound},
		{"GET", "/\xff\xfe", 404, api.RouteNotFound},
		{"GET", "*", 400, sessions.InvalidRequest},
		{"OPTIONS", "*", 204, ""},
		{"BREW", "/healthz", 405, api.MethodNotAllowed},
		{"HEAD", "/healthz", 200, ""},
		{"HEAD", base + "/admin/sessions/" + id + "/cancel", 405, ""},
		{"OPTIONS", "/healthz", 204, ""},
		{"OPTIONS", "/nothing", 404, api.RouteNotFound},
		{"TRACE", "/healthz", 405, api.MethodNotAllowed},
		{"CONNECT", "/healthz", 405, api.MethodNotAllowed},
		{"GET", base + "/admin/sessions/" + id + "/cancel", 405, api.MethodNotAllowed},
		{"get", "/healthz", 405, api.MethodNotAllowed},
		{"PUT", base + "/admin/sessions/" + id, 405, api.MethodNotAllowed},
		{"DELETE", base + "/admin/sessions/" + id, 405, api.MethodNotAllowed},
	} {
		t.Run(row.method+" "+row.target[:min(len(row.target), 120)], func(t *testing.T) { //nolint:paralleltest // they watch one journey
			status, code := w.line(t, row.method, row.target)
			assert.Equal(t, []any{row.status, string(row.code)}, []any{status, code})
			assert.Equal(t, w.peeked, w.peek(t), "nothing has changed")
		})
	}
	for target, want := range map[string]int{
		"//healthz": 404, "/./healthz": 404, "/x/../healthz": 404, "/%68ealthz": 404,
		"/healthz?": 200, "/healthz?%zz=%": 200, "/healthz#x": 200, "http://elsewhere/healthz": 200,
	} {
		status, _ := w.line(t, "GET", target)
		assert.Equal(t, want, status, target)
	}
}

func TestHostile_method_that_the_path_has_not(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	for path, allow := range map[string]string{
		"/healthz": "GET, HEAD, OPTIONS", base + "/admin/sessions": "POST, GET, HEAD, OPTIONS", base + "/admin/sessions/x": "GET, HEAD, PATCH, OPTIONS",
		base + "/admin/sessions/x/arrived": "POST, OPTIONS", updatesPath: "POST, OPTIONS", livePath + "?sessionId=x": "GET, HEAD, OPTIONS",
	} {
		got := h.do(t, http.MethodPut, "", path, nil).want(t, 405, api.MethodNotAllowed)
		assert.Equal(t, allow, got.header.Get("Allow"), "RFC 9110, section 15.5.6: %s", path)
	}
	got := h.do(t, "BREW", "", "/nothing", nil).want(t, 404, api.RouteNotFound)
	assert.Empty(t, got.header.Get("Allow"))
}

func TestHostile_no_host(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	for _, c := range calls(t, sessions.NewID()) {
		h.raw(t, c, c.method+" "+c.path+" HTTP/1.1\r\n\r\n").want(t, 400, sessions.InvalidRequest)
	}
}

// line sends a request line unchanged, with the trainer's token.
func (w *watched) line(t *testing.T, method, target string) (status int, code string) {
	t.Helper()
	return w.requestLine(t, w.v.trainer, method, target)
}

func (h *gateway) requestLine(t *testing.T, token, method, target string) (status int, code string) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", h.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\nContent-Length: 0\r\n\r\n", method, target, token)
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method, URL: &url.URL{}})
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	var fields struct{ Code string }
	_ = jsonInto(text, &fields)
	return res.StatusCode, fields.Code
}

func TestHostile_headers(t *testing.T) {
	t.Parallel()
	w := watch(t, embedded)
	w.refuses(t, 431, api.HeadersTooLarge, func() answer {
		return w.get(t, w.v.student, w.v.live(""), header("Cookie", strings.Repeat("x", 17<<10)))
	})
	w.refuses(t, 431, api.HeadersTooLarge, func() answer {
		return w.get(t, w.v.student, w.v.live(""), func(r *http.Request) {
			for i := range 2000 {
				r.Header.Set(fmt.Sprint("X-", i), "xxxxxxxx")
			}
		})
	})
	w.get(t, w.v.student, w.v.live(""), func(r *http.Request) { // many headers, below the limit in total
		for i := range 500 {
			r.Header.Set(fmt.Sprint("X-", i), "x")
		}
	}).want(t, 200, "")
}
