package api

import (
	"bytes"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/bytedance/sonic"
	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/geo"
	"doorstep/sessions"
)

const jsonType = "application/json; charset=utf-8"

// strict refuses what encoding/json refuses: sonic's default lets raw control
// characters through. Like every JSON library it lets the last of two equal
// keys win and takes keys in any case.
var strict = sonic.ConfigStd

// success is the body of every success.
type success struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	Data    any    `json:"data"`
}

// succeed writes a success. A RequestContext that has been answered must not
// be answered again.
func succeed(c *app.RequestContext, status int, message string, data any) error {
	writeJSON(c, status, success{Success: true, Message: message, Data: data})
	return nil
}

func writeJSON(c *app.RequestContext, status int, body any) {
	text, err := sonic.ConfigDefault.Marshal(body)
	if err != nil {
		// Every body is a struct of ours with finite numbers.
		panic(fmt.Sprintf("encode %T: %v", body, err))
	}
	c.SetStatusCode(status)
	c.Response.Header.SetContentType(jsonType)
	c.Response.SetBody(text)
}

// decode reads a JSON object. Unknown fields are ignored; an empty body is an
// error, and so is anything but one object.
func decode(c *app.RequestContext, into any) error {
	body := c.Request.Body()
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return invalid("the body is empty; a JSON object is expected")
	case !utf8.Valid(body):
		return notJSON(c, "the body is not UTF-8")
	case bytes.TrimSpace(body)[0] != '{':
		return notJSON(c, "the body is not a JSON object")
	}
	if err := strict.Unmarshal(body, into); err != nil {
		return notJSON(c, "the body is not a JSON object with the expected types")
	}
	return nil
}

// notJSON is 415 when the caller also calls the body something else than JSON:
// a wrong label on good JSON harms nobody.
func notJSON(c *app.RequestContext, message string) error {
	if kind := c.ContentType(); len(kind) > 0 && !bytes.Contains(bytes.ToLower(kind), []byte("json")) {
		return sessions.Refuse(sessions.UnsupportedMediaType, message+"; send application/json")
	}
	return invalid(message)
}

func invalid(message string) error { return sessions.Refuse(sessions.InvalidRequest, message) }

// pathID is the session of the path.
func pathID(c *app.RequestContext) (sessions.ID, error) {
	return parseID("sessionId", c.Param("sessionId"))
}

func parseID(field, text string) (sessions.ID, error) {
	id, ok := sessions.ParseID(text)
	if !ok {
		return "", invalid(field + " must be a UUID")
	}
	return id, nil
}

const timeLayout = "2006-01-02T15:04:05.000Z"

// timestamp is RFC 3339 UTC with milliseconds; nil for "not yet".
func timestamp(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := t.UTC().Format(timeLayout)
	return &s
}

// coordinates is a place in a body. Pointers tell an absent number from 0.
type coordinates struct {
	Latitude  *float64 `json:"latitude"`
	Longitude *float64 `json:"longitude"`
}

func (p coordinates) point(field string) (geo.Point, error) {
	if p.Latitude == nil || p.Longitude == nil {
		return geo.Point{}, invalid(field + "latitude and " + field + "longitude are required")
	}
	at, err := geo.NewPoint(*p.Latitude, *p.Longitude)
	if err != nil {
		return geo.Point{}, invalid(field + "latitude must be in [-90, 90] and " + field + "longitude in [-180, 180]")
	}
	return at, nil
}
