package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bytedance/sonic"
	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

const (
	jsonType = "application/json; charset=utf-8"
	// plainJSONType is jsonType of a body in ASCII, where the parameter, which JSON does not have
	// (RFC 8259, section 11), says nothing to old clients that look for one.
	plainJSONType = "application/json"

	timeLayout = "2006-01-02T15:04:05.000Z"
)

// strict refuses what encoding/json refuses; sonic's default lets raw control
// characters through. Like every JSON library it uses the last of two equal keys
// and takes keys in any case.
var strict = sonic.ConfigStd

// maxBody is how large a body may be, a batch of fixes excepted.
const maxBody = 16 << 10

// limitBody is the middleware that refuses a body over maxBody. gateway/httpserver
// refuses what is larger than a batch. Call 2 finds out itself whether its body is
// one.
func (a *API) limitBody(ctx context.Context, c *app.RequestContext) {
	if len(c.Request.Body()) > maxBody && c.FullPath() != updatesPath && !strings.HasPrefix(c.FullPath(), ingestPath) {
		a.fail(c, errTooLarge)
		c.Abort()
		return
	}
	c.Next(ctx)
}

var errTooLarge = sessions.Refuse(PayloadTooLarge, "the body is larger than 16 KiB")

// decode reads the body, which must be one JSON object. Unknown fields are
// ignored.
func decode(c *app.RequestContext, into any) error {
	body := c.Request.Body()
	switch {
	case isBlank(body):
		return invalid("", "the body is empty; a JSON object is expected")
	case !utf8.Valid(body):
		return notJSON(c, "the body is not UTF-8")
	case bytes.TrimSpace(body)[0] != '{':
		return notJSON(c, "the body is not a JSON object")
	}
	if err := strict.Unmarshal(body, into); err != nil {
		if field := wrongField(body, into); field != "" {
			return invalid(field, field+" has the wrong type")
		}
		return notJSON(c, "the body is not a JSON object with the expected types")
	}
	return nil
}

// isBlank reports whether a body counts as empty.
func isBlank(body []byte) bool { return len(bytes.TrimSpace(body)) == 0 }

// wrongField is the path of the field that has the wrong type; empty where the
// body is not JSON. encoding/json names it and sonic does not, so a body that was
// refused is decoded once more.
func wrongField(body []byte, into any) string {
	err := json.Unmarshal(body, reflect.New(reflect.TypeOf(into).Elem()).Interface())
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return wrong.Field
	}
	return ""
}

// notJSON is 415 if the content type is not JSON either, else 400. A wrong
// content type on good JSON does no harm and is accepted.
func notJSON(c *app.RequestContext, message string) error {
	if kind := c.ContentType(); len(kind) > 0 && !bytes.Contains(bytes.ToLower(kind), []byte("json")) {
		return sessions.Refuse(UnsupportedMediaType, message+"; send application/json")
	}
	return invalid("", message)
}

// prefers reports whether the request's Prefer headers (RFC 7240) name a preference with this
// value; both in any case. Of two of one name the first counts, and parameters are not looked
// at. A comma in a quoted value ends it: no preference that is known here has one.
func prefers(c *app.RequestContext, name, value string) bool {
	if len(c.Request.Header.Peek("Prefer")) == 0 { // as in most requests
		return false
	}
	for _, line := range c.Request.Header.PeekAll("Prefer") {
		for item := range bytes.SplitSeq(line, []byte(",")) {
			item, _, _ = bytes.Cut(item, []byte(";"))
			got, with, _ := bytes.Cut(item, []byte("="))
			if strings.EqualFold(string(bytes.TrimSpace(got)), name) {
				return strings.EqualFold(string(bytes.Trim(with, ` 	"`)), value)
			}
		}
	}
	return false
}

// invalid refuses a request. field is the field that is wrong; empty where it is the
// whole body.
func invalid(field, message string) error { return sessions.InvalidField(field, message) }

// pathID is the session id in the path.
func pathID(c *app.RequestContext) (sessions.ID, error) {
	id, err := parseID("sessionId", c.Param("sessionId"))
	recordOf(c).session = id
	return id, err
}

func parseID(field, text string) (sessions.ID, error) {
	id, ok := sessions.ParseID(text)
	if !ok {
		return "", invalid(field, field+" must be a UUID")
	}
	return id, nil
}

// success is the body of every success.
type success struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	Data    any    `json:"data"`
}

// succeed writes a success. Answer a RequestContext only once.
func succeed(c *app.RequestContext, status int, message string, data any) error {
	writeJSON(c, status, success{Success: true, Message: message, Data: data})
	return nil
}

func writeJSON(c *app.RequestContext, status int, body any) {
	text, err := sonic.ConfigDefault.Marshal(body)
	if err != nil {
		// Cannot happen: every body is a struct of this package with finite numbers.
		panic(fmt.Sprintf("encode %T: %v", body, err))
	}
	c.SetStatusCode(status)
	c.Response.Header.SetContentType(jsonType)
	c.Response.SetBody(text)
}

// timestamp is RFC 3339 in UTC with milliseconds; nil for "not yet".
func timestamp(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := t.UTC().Format(timeLayout)
	return &s
}

// The two most frequent answers, to updates and to live reads, are not encoded
// by writeJSON. They are appended to the response's own pooled buffer, field by
// field, without an allocation and in a fifth of an encoder's time
// (BenchmarkStages_JSON).

// beginSuccess starts the body of a success. Append the fields of data, then call
// endSuccess. message is a constant that needs no escaping, and all is ASCII.
func beginSuccess(c *app.RequestContext, status int, message string) []byte {
	c.SetStatusCode(status)
	c.Response.Header.SetContentType(plainJSONType)
	b := c.Response.BodyBuffer().B[:0]
	b = append(b, `{"success":true,"message":"`...)
	b = append(b, message...)
	return append(b, `","data":{`...)
}

// setNumber sets a header to a number between two texts. It writes it into the buffer of the
// body, which must not have begun: no allocation.
func setNumber(c *app.RequestContext, name, before string, n int64, after string) {
	buffer := c.Response.BodyBuffer()
	buffer.B = append(strconv.AppendInt(append(buffer.B[:0], before...), n, 10), after...)
	c.Response.Header.SetBytesV(name, buffer.B)
	buffer.B = buffer.B[:0]
}

func endSuccess(c *app.RequestContext, b []byte) {
	b = append(b, '}', '}')
	c.Response.BodyBuffer().B = b
}

// appendWord appends a text that needs no escaping: an id, a phase.
func appendWord[S ~string](b []byte, name string, word S) []byte {
	b = append(appendName(b, name), '"')
	b = append(b, word...)
	return append(b, '"')
}

func appendName(b []byte, name string) []byte {
	if last := b[len(b)-1]; last != '{' {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

func appendInt(b []byte, name string, n int64) []byte {
	return strconv.AppendInt(appendName(b, name), n, 10)
}

func appendBool(b []byte, name string, v bool) []byte {
	return strconv.AppendBool(appendName(b, name), v)
}

// appendFloat appends a finite number in the fewest digits that give it back.
func appendFloat(b []byte, name string, f float64) []byte {
	return strconv.AppendFloat(appendName(b, name), f, 'f', -1, 64)
}

func appendNull(b []byte, name string) []byte { return append(appendName(b, name), "null"...) }

// appendTime appends an instant; null for "not yet".
func appendTime(b []byte, name string, t time.Time) []byte {
	if t.IsZero() {
		return appendNull(b, name)
	}
	b = append(appendName(b, name), '"')
	b = t.UTC().AppendFormat(b, timeLayout)
	return append(b, '"')
}
