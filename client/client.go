package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// basePath is in front of every path but those of health.
	basePath = "/api/v1"
	// defaultTimeout is Options.Timeout where it is zero.
	defaultTimeout = 10 * time.Second
	// maxAnswer bounds how much of an answer is read. The largest one, a list of
	// sessions, has some hundred kB.
	maxAnswer = 4 << 20
)

// TokenSource gives the bearer token of the next request. It is called once a
// request, so it should cache the token and renew it in time. It must be safe
// for concurrent use.
type TokenSource func(ctx context.Context) (string, error)

// StaticToken always gives the same token.
func StaticToken(token string) TokenSource {
	return func(context.Context) (string, error) { return token, nil }
}

// Options are the settings of a Client.
type Options struct {
	// BaseURL is the gateway's address without a path: https://gateway.example.
	BaseURL string
	// Token authenticates the user. Nil: no token is sent, which is enough for
	// Alive and Ready.
	Token TokenSource
	// HTTP carries the requests. Nil: http.DefaultClient. It should have no
	// Timeout below 40 s, because that would cut long polls short.
	HTTP *http.Client
	// Timeout bounds one call, the wait of a long poll not counted. 0: 10 s.
	Timeout time.Duration
	// Minimal asks for answers to updates without a body, which are a third as long. The
	// Receipt of stored fixes then has no At, TTL, DistanceM and Arriving.
	Minimal bool
}

// Client calls one gateway, or a load balancer in front of several, as one
// user. A method makes one request and never repeats it, except that a session of
// another region is called there, as the gateway says. Safe for concurrent use.
type Client struct {
	base    string
	token   TokenSource
	http    *http.Client
	timeout time.Duration
	minimal bool
	homes   *homes
}

// New makes a Client. It does no I/O. The error names the option that is wrong.
func New(o Options) (*Client, error) {
	base, err := url.Parse(o.BaseURL)
	switch {
	case err != nil:
		return nil, errors.New("client: BaseURL cannot be parsed") // the parser's error repeats the URL, which may hold a password
	case base.Scheme != "http" && base.Scheme != "https", base.Host == "":
		return nil, errors.New("client: BaseURL must be http://host or https://host")
	case base.User != nil, base.RawQuery != "", base.Fragment != "", strings.Trim(base.Path, "/") != "":
		return nil, errors.New("client: BaseURL must have no user, path, query or fragment")
	}
	c := &Client{base: base.Scheme + "://" + base.Host, token: o.Token, http: o.HTTP, timeout: o.Timeout, minimal: o.Minimal, homes: &homes{}}
	if c.http == nil {
		c.http = http.DefaultClient
	}
	if c.timeout == 0 {
		c.timeout = defaultTimeout
	}
	return c, nil
}

// Request is one call of the API, for Do.
type Request struct {
	Method string
	Path   string        // below /api/v1, with its query: /admin/sessions
	Header http.Header   // besides Authorization and Content-Type; may be nil
	Body   any           // sent as JSON; nil: no body
	Wait   time.Duration // how long the gateway may hold the call; added to Options.Timeout

	// Session is the session that the call is about: where it belongs to another region, the
	// call is made there. Empty: the gateway is not asked for that, and forwards such a call.
	Session string
}

// Answer is what a gateway answered, whatever its status.
type Answer struct {
	Status int
	Header http.Header
	Data   json.RawMessage // the field data; nil where there is none
	Err    *Error          // nil below status 400
}

// Do makes one call that may have any answer. The typed methods are built on
// it. An error means that there was no answer: the gateway could not be reached,
// the time was up, or the token source failed. A refusal is in Answer.Err.
func (c *Client) Do(ctx context.Context, r Request) (Answer, error) {
	r.Path = basePath + r.Path
	return c.do(ctx, r)
}

func (c *Client) do(ctx context.Context, r Request) (Answer, error) {
	base, direct := c.homes.of(r.Session, c.base)
	a, err := c.once(ctx, base, direct, r)
	if direct && err == nil && a.Err != nil && a.Err.Code == WrongRegion {
		base = c.base
		if c.homes.move(r.Session, c.base, a.Err.URL) {
			base, _ = c.homes.of(r.Session, c.base)
		}
		// Not asked for the URL again: where it cannot be called, or two regions each say that the
		// session is the other's, as just after its booking was moved, the call is to be forwarded.
		a, err = c.once(ctx, base, false, r)
	}
	if base != c.base && ctx.Err() == nil && (err != nil || a.Err != nil && a.Err.Code == "" && a.Status >= http.StatusInternalServerError) {
		c.homes.away(r.Session)
	}
	return a, err
}

// once makes a request to a gateway. direct asks it for the URL of the right region instead
// of forwarding the call.
func (c *Client) once(ctx context.Context, base string, direct bool, r Request) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout+r.Wait)
	defer cancel()
	req, err := c.request(ctx, base, r)
	if err != nil {
		return Answer{}, err
	}
	if direct {
		req.Header.Add("Prefer", "redirect")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return Answer{}, fmt.Errorf("client: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	_ = res.Body.Close() // read to its end; nothing depends on it
	if err != nil {
		return Answer{}, fmt.Errorf("client: %s %s: read the answer: %w", r.Method, path(r), err)
	}
	return answerOf(res, text), nil
}

func (c *Client) request(ctx context.Context, base string, r Request) (*http.Request, error) {
	var body io.Reader
	if r.Body != nil {
		text, err := json.Marshal(r.Body)
		if err != nil {
			return nil, fmt.Errorf("client: %s %s: encode the body: %w", r.Method, path(r), err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, base+r.Path, body)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	for name, values := range r.Header {
		req.Header[http.CanonicalHeaderKey(name)] = slices.Clone(values)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != nil {
		token, err := c.token(ctx)
		if err != nil {
			return nil, fmt.Errorf("client: token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}

// path is the path without the query, for error messages.
func path(r Request) string {
	p, _, _ := strings.Cut(r.Path, "?")
	return p
}

func answerOf(res *http.Response, text []byte) Answer {
	a := Answer{Status: res.StatusCode, Header: res.Header}
	var envelope struct {
		Data json.RawMessage `json:"data"`
	}
	err := json.Unmarshal(text, &envelope)
	a.Data = envelope.Data
	switch {
	case a.Status >= http.StatusBadRequest:
		a.Err = errorOf(res, text)
	case err != nil && len(text) > 0: // not a gateway's: a captive portal, a proxy
		a.Err = unreadable(res)
	}
	return a
}

// call makes a call whose success is 2xx, and reads the data into the variable unless
// it is nil.
func (c *Client) call(ctx context.Context, r Request, into any) error {
	a, err := c.Do(ctx, r)
	if err != nil {
		return err
	}
	return a.into(into)
}

// into reads the data of a success; nil reads none.
func (a Answer) into(v any) error {
	switch {
	case a.Err != nil:
		return a.Err
	case a.Status >= http.StatusMultipleChoices, v != nil && json.Unmarshal(a.Data, v) != nil:
		return &Error{Status: a.Status, Message: notTheAPI, RequestID: a.Header.Get(headerRequestID)}
	default:
		return nil
	}
}
