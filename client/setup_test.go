package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"doorstep/client"
)

// fake is an API that gives one answer and keeps the last request.
type fake struct {
	status int
	header map[string]string
	answer string

	method, target, body string
	got                  http.Header
}

func (f *fake) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	body, _ := io.ReadAll(in.Body)
	f.method, f.target, f.body, f.got = in.Method, in.URL.RequestURI(), string(body), in.Header
	for name, value := range f.header {
		out.Header().Set(name, value)
	}
	out.WriteHeader(f.status)
	_, _ = io.WriteString(out, f.answer)
}

// setup is a client of a fake with this answer.
func setup(t *testing.T, status int, answer string) (*client.Client, *fake) {
	t.Helper()
	f := &fake{status: status, answer: answer, header: map[string]string{}}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	c, err := client.New(client.Options{BaseURL: server.URL, Token: client.StaticToken("a-token"), HTTP: server.Client()})
	require.NoError(t, err)
	return c, f
}
