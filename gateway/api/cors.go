package api

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/cloudwego/hertz/pkg/app"
)

// What a browser is told about a page of another origin (the CORS protocol of the
// Fetch standard). Credentials in the sense of that standard, which are cookies,
// are never allowed: the token is a header that the page itself sets.
const (
	// exposedHeaders are those of an answer that the page may read, besides the few
	// that it always may.
	exposedHeaders = "ETag, Next-Update-Ms, Retry-After, X-Request-Id"
	// acceptedHeaders are those of a request that the page may set.
	acceptedHeaders = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Prefer, X-Request-Id, traceparent, tracestate"
	// preflightAge is how long a browser may remember a preflight, in seconds. Two
	// hours is the most that Chromium accepts.
	preflightAge = "7200"
)

// ParseOrigin returns an origin as browsers send it: the scheme and the host in
// lower case, and the port unless it is the scheme's own. The error says what is
// wrong.
func ParseOrigin(text string) (string, error) {
	u, err := url.Parse(strings.ToLower(strings.TrimSpace(text)))
	switch {
	case err != nil:
		return "", fmt.Errorf("%q is not an origin: %w", text, err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.Contains(u.Host, "*"):
		return "", fmt.Errorf("%q is not an origin such as https://app.example.com", text)
	case u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.Opaque != "":
		return "", fmt.Errorf("%q is more than an origin: scheme, host and port are enough", text)
	}
	if u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80" {
		u.Host = strings.TrimSuffix(u.Host, ":"+u.Port())
	}
	return u.Scheme + "://" + u.Host, nil
}

// preflight answers a browser's question whether a page may make a call: yes, if
// the page's origin is allowed. Which call and which headers it asks for makes no
// difference: the answer lists what there is.
func (a *API) preflight(c *app.RequestContext, methods string) {
	if len(c.Response.Header.Peek("Access-Control-Allow-Origin")) == 0 {
		return
	}
	c.Response.Header.Set("Access-Control-Allow-Methods", methods)
	c.Response.Header.Set("Access-Control-Allow-Headers", acceptedHeaders)
	c.Response.Header.Set("Access-Control-Max-Age", preflightAge)
}
