package rig

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"doorstep/client"
	"doorstep/gateway/auth"
	"doorstep/sessions"
)

// Secret is the key of every rig's tokens.
const Secret = "the secret of a rig, 32 bytes or more"

// Token is a day's token for a user.
func Token(id sessions.ID, role sessions.Role) (string, error) {
	return auth.Issuer{Secret: []byte(Secret)}.Mint(sessions.Caller{ID: id, Role: role}, time.Now(), 24*time.Hour)
}

// Caller is one user's app, which may call any of several gateways. HTTP is the
// client whose connections it uses; nil: http.DefaultClient. Safe for concurrent
// use.
type Caller struct {
	ID    sessions.ID
	Token string
	HTTP  *http.Client
}

// NewCaller is a new user with a token.
func NewCaller(role sessions.Role, connections *http.Client) (*Caller, error) {
	id := sessions.NewID()
	token, err := Token(id, role)
	return &Caller{ID: id, Token: token, HTTP: connections}, err
}

// Answer is what a caller was answered.
type Answer struct {
	Status       int // 0: no answer of a gateway at all, see Err
	Err          error
	Code         string
	Data         json.RawMessage
	ETag         string
	RetryAfter   string // the header
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

// Version is the version in the ETag; 0 where there is none: a degraded read.
func (a Answer) Version() int64 { return VersionOf(a.ETag) }

// VersionOf is the version in an ETag, weak or strong: v0.1.0 wrote strong ones. 0:
// there is none.
func VersionOf(etag string) int64 {
	version, _ := strconv.ParseInt(strings.Trim(etag, `W/"`), 10, 64)
	return version
}

// ETag is how a version is asked for.
func ETag(version int64) string { return fmt.Sprintf(`W/"%d"`, version) }

// noTimeout leaves it to the context how long a call may take: some are long
// polls whose wait is in their path.
const noTimeout = time.Hour

// Do makes one call to base + "/api/v1" + path with package client. A call is
// not repeated. The error is in the answer. header is names and values in turns.
func (c *Caller) Do(ctx context.Context, method, base, path string, body any, header ...string) Answer {
	began := time.Now()
	a, err := c.do(ctx, base, client.Request{Method: method, Path: path, Body: body, Header: headerOf(header)})
	a.Took = time.Since(began)
	if err != nil {
		a.Status, a.Err = 0, err
	}
	return a
}

func (c *Caller) do(ctx context.Context, base string, r client.Request) (Answer, error) {
	to, err := client.New(client.Options{BaseURL: base, Token: client.StaticToken(c.Token), HTTP: c.HTTP, Timeout: noTimeout})
	if err != nil {
		return Answer{}, err
	}
	got, err := to.Do(ctx, r)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Status: got.Status, Data: got.Data, ETag: got.Header.Get("ETag"), RetryAfter: got.Header.Get("Retry-After")}
	if got.Err == nil {
		return a, nil
	}
	if got.Err.Code == "" {
		return a, got.Err // a proxy's page, not a gateway's answer
	}
	a.Code, a.RetryAfterMS = string(got.Err.Code), got.Err.RetryAfter.Milliseconds()
	return a, nil
}

func headerOf(pairs []string) http.Header {
	h := http.Header{}
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}
