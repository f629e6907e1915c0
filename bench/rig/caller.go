package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"doorstep/gateway/auth"
	"doorstep/sessions"
)

// Secret is the key of every rig's tokens.
const Secret = "the secret of a rig, 32 bytes or more"

// Token is a day's token for a user.
func Token(id sessions.ID, role sessions.Role) (string, error) {
	return auth.Options{Secret: []byte(Secret)}.Mint(sessions.Caller{ID: id, Role: role}, 24*time.Hour)
}

// Caller is one user's app. HTTP is whose connections it uses; nil:
// http.DefaultClient. Safe for concurrent use.
type Caller struct {
	ID    sessions.ID
	Token string
	HTTP  *http.Client
}

// NewCaller is a new user with a token.
func NewCaller(role sessions.Role, client *http.Client) (*Caller, error) {
	id := sessions.NewID()
	token, err := Token(id, role)
	return &Caller{ID: id, Token: token, HTTP: client}, err
}

// Answer is what a caller saw.
type Answer struct {
	Status       int // 0: no answer at all, see Err
	Err          error
	Code         string
	Data         json.RawMessage
	ETag         string
	RetryAfter   string
	RetryAfterMS int64
	Took         time.Duration
}

// Label names the answer in a table: "201", "429 RATE_LIMITED", "no answer".
func (a Answer) Label() string {
	switch {
	case a.Status == 0:
		return "no answer"
	case a.Code == "":
		return fmt.Sprint(a.Status)
	default:
		return fmt.Sprintf("%d %s", a.Status, a.Code)
	}
}

// Do makes one call to base + "/api/v1" + path. A call is not repeated. The
// error is in the answer.
func (c *Caller) Do(ctx context.Context, method, base, path string, body any, header ...string) Answer {
	began := time.Now()
	a, err := c.do(ctx, method, base, path, body, header)
	a.Took = time.Since(began)
	if err != nil {
		a.Status, a.Err = 0, err
	}
	return a
}

func (c *Caller) do(ctx context.Context, method, base, path string, body any, header []string) (Answer, error) {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return Answer{}, err
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+"/api/v1"+path, reader)
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	a := Answer{Status: res.StatusCode, ETag: res.Header.Get("ETag"), RetryAfter: res.Header.Get("Retry-After")}
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil || len(text) == 0 {
		return a, err
	}
	var envelope struct {
		Code         string          `json:"code"`
		RetryAfterMS int64           `json:"retryAfterMs"`
		Data         json.RawMessage `json:"data"`
	}
	err = json.Unmarshal(text, &envelope)
	a.Code, a.RetryAfterMS, a.Data = envelope.Code, envelope.RetryAfterMS, envelope.Data
	return a, err
}
