package api_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// document is openapi.yaml and a router from a request to its operation.
type document struct {
	*openapi3.T
	router routers.Router
}

// theDocument is loaded once a run.
var theDocument = sync.OnceValues(func() (document, error) {
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		return document{}, err
	}
	// The document's one server is "/", relative to the document's own address. The router compares servers with a
	// request's absolute URL and would find no call; without servers it compares the path alone.
	doc.Servers = nil
	router, err := legacy.NewRouter(doc) // validates the document, examples and all
	return document{doc, router}, err
})

func readDocument(t testing.TB) document {
	t.Helper()
	doc, err := theDocument()
	require.NoError(t, err)
	return doc
}

// outcome is one possible answer of a call. code is empty for a success, and call
// for an answer outside any call.
type outcome struct {
	call   string
	status int
	code   string
}

func (o outcome) String() string {
	return strings.TrimSpace(fmt.Sprint(o.call, " ", o.status, " ", o.code))
}

// coverage is the outcomes that were seen in a run.
type coverage struct {
	mu   sync.Mutex
	seen map[outcome]bool
}

func (c *coverage) add(o outcome) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[outcome]bool{}
	}
	c.seen[o] = true
}

// outcomes is every answer in the document.
func (d document) outcomes(t testing.TB) map[outcome]bool {
	t.Helper()
	all := map[outcome]bool{}
	for _, r := range d.Extensions["x-anywhere"].([]any) {
		r := r.(map[string]any)
		all[outcome{"", int(r["status"].(float64)), r["code"].(string)}] = true
	}
	for _, item := range d.Paths.Map() {
		for _, op := range item.Operations() {
			for status, response := range op.Responses.Map() {
				n, err := strconv.Atoi(status)
				require.NoError(t, err, "%s: every status is named", op.OperationID)
				for _, code := range codesOf(response.Value) {
					all[outcome{op.OperationID, n, code}] = true
				}
			}
		}
	}
	return all
}

// codesOf is the codes that a response may carry, or one empty code if it has none.
func codesOf(r *openapi3.Response) []string {
	media := r.Content.Get("application/json")
	if media == nil {
		return []string{""}
	}
	var codes []string
	for _, part := range media.Schema.Value.AllOf {
		if code := part.Value.Properties["code"]; code != nil && part.Ref == "" {
			for _, v := range code.Value.Enum {
				codes = append(codes, v.(string))
			}
		}
	}
	if codes == nil {
		return []string{""}
	}
	return codes
}

// documented fails the test unless the document has this answer for the request:
// status, code, headers and body, without a field that the document does not
// name. A request that succeeded must match the document, too.
func documented(t testing.TB, seen *coverage, req *http.Request, sent []byte, a answer) {
	t.Helper()
	doc := readDocument(t)
	route, params, err := doc.router.FindRoute(req)
	if err != nil {
		seen.add(outcome{"", a.status, a.code()})
		assert.Contains(t, doc.outcomes(t), outcome{"", a.status, a.code()}, "%s %s is no call", req.Method, req.URL.Path)
		assert.NotEmpty(t, a.header.Get("X-Request-Id"))
		return
	}
	got := outcome{route.Operation.OperationID, a.status, a.code()}
	seen.add(got)
	input := &openapi3filter.RequestValidationInput{
		Request: req, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, SkipSettingDefaults: true},
	}
	if a.status < 400 && req.Context().Value(offKey{}) == nil {
		req.Body = io.NopCloser(bytes.NewReader(sent))
		assert.NoError(t, openapi3filter.ValidateRequest(context.Background(), input), "a request that succeeded: %s", got)
	}
	assert.NoError(t, openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)),
		Options: input.Options,
	}), "%s", got)
	response := route.Operation.Responses.Status(a.status)
	if !assert.NotNil(t, response, "not documented: %s", got) {
		return
	}
	assert.Contains(t, codesOf(response.Value), a.code(), "not documented: %s", got)
	if media := response.Value.Content.Get("application/json"); media != nil {
		if kind := a.header.Get("Content-Type"); kind != "application/json" || bytes.ContainsFunc(a.body, func(r rune) bool { return r > unicode.MaxASCII }) {
			assert.Equal(t, "application/json; charset=utf-8", kind, "%s", got)
		}
		assert.Empty(t, unnamed(media.Schema.Value, a.fields, ""), "fields that are not documented: %s", got)
	}
	if a.status == http.StatusNotModified { // which kin-openapi does not look at
		assert.Empty(t, a.body)
		assert.Empty(t, a.header.Get("Content-Type"))
		assert.NotEmpty(t, a.header.Get("X-Request-Id"))
	}
}

// unnamed lists the fields of value that its schema does not name.
func unnamed(schema *openapi3.Schema, value any, at string) []string {
	var found []string
	switch v := value.(type) {
	case map[string]any:
		names := properties(schema)
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if p := names[name]; p != nil {
				found = append(found, unnamed(p, v[name], at+"/"+name)...)
			} else if len(names) > 0 {
				found = append(found, at+"/"+name)
			}
		}
	case []any:
		for i, e := range v {
			found = append(found, unnamed(schema.Items.Value, e, fmt.Sprint(at, "/", i))...)
		}
	}
	return found
}

func properties(schema *openapi3.Schema) map[string]*openapi3.Schema {
	all := map[string]*openapi3.Schema{}
	for _, part := range schema.AllOf {
		for name, p := range properties(part.Value) {
			if all[name] == nil {
				all[name] = p
			}
		}
	}
	for name, p := range schema.Properties {
		all[name] = p.Value
	}
	return all
}

func TestOpenAPI_is_served_as_it_is(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("openapi.yaml")
	require.NoError(t, err)
	got := open(t, embedded).get(t, "", "/openapi.yaml").want(t, 200, "")
	assert.Equal(t, "application/yaml", got.header.Get("Content-Type"))
	assert.Equal(t, string(text), string(got.body))
}
