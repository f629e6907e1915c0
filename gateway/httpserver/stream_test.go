package httpserver_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/httpserver"
)

const streamPost = "POST /stream/echo HTTP/1.1\r\nHost: x\r\n"

func (c *rawClient) wantBody(want string) *http.Response {
	c.t.Helper()
	res := c.answer()
	require.Equal(c.t, 200, res.StatusCode)
	got, err := io.ReadAll(res.Body)
	require.NoError(c.t, err)
	require.Equal(c.t, want, string(got))
	return res
}

// The body reaches the handler however it is cut, and the connection goes on.
func TestStream_Body(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	large := strings.Repeat("0123456789abcdef", 5<<16) // 5 MB, which no other path takes
	for name, tc := range map[string]struct{ head, body, want string }{
		"length":        {streamPost + "Content-Length: 5\r\n\r\n", "hello", "hello"},
		"empty":         {streamPost + "Content-Length: 0\r\n\r\n", "", ""},
		"none":          {streamPost + "\r\n", "", ""},
		"chunks":        {streamPost + "Transfer-Encoding: chunked\r\n\r\n", "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", "hello"},
		"a_trailer":     {streamPost + "Transfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n0\r\nA: b\r\n\r\n", "hello"},
		"large":         {streamPost + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(large)), large, large},
		"large_chunk":   {streamPost + "Transfer-Encoding: chunked\r\n\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(large), large), large},
		"http_1.0":      {"POST /stream/echo HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n", "hello", "hello"},
		"an_empty_line": {"\r\n" + streamPost + "Content-Length: 5\r\n\r\n", "hello\r\n", "hello"},
		"put":           {"PUT /stream/echo HTTP/1.1\r\nHost: x\r\n" + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(large)), large, large},
		"patch":         {"PATCH /stream/echo HTTP/1.1\r\nHost: x\r\n" + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(large)), large, large},
		"another_path":  {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", "hello", "hello"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			together, apart := dialRaw(t, g.Server), dialRaw(t, g.Server)
			for range 2 {
				together.send(tc.head + tc.body)
				assert.False(t, together.wantBody(tc.want).Close)
				for i := range len(tc.head) { // byte by byte
					apart.send(tc.head[i : i+1])
				}
				apart.send(tc.body)
				assert.False(t, apart.wantBody(tc.want).Close)
			}
		})
	}
	assert.Zero(t, g.Streams())
}

func TestStream_Expect(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	c := dialRaw(t, g.Server)
	c.send(streamPost + "Expect: 100-Continue\r\nContent-Length: 5\r\n\r\n")
	assert.Equal(t, 100, c.answer().StatusCode)
	c.send("hello")
	c.wantBody("hello")
}

// What a handler does not read costs the connection, unless it has come already; and the
// answer reaches a client that still sends.
func TestStream_unread(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	const post = "POST /stream/echo?read=no HTTP/1.1\r\nHost: x\r\n"
	c := dialRaw(t, g.Server)
	for range 2 {
		c.send(post + "Content-Length: 5\r\n\r\nhello")
		assert.False(t, c.wantBody("unread").Close)
	}
	c.send(post + "Content-Length: 1000000\r\n\r\n" + strings.Repeat("x", 500_000))
	assert.True(t, c.wantBody("unread").Close)
	c.wantEnd("")
	c = dialRaw(t, g.Server)
	c.send(post + "Content-Length: 5\r\n\r\nhelloGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
	assert.True(t, c.wantBody("unread").Close, "nothing is pipelined behind a streamed body")
	c.wantEnd("")
	assert.Zero(t, g.smuggle.Load())
}

// In the middle of a pipelined request nothing is taken for the head of a streamed one.
func TestStream_head_in_a_body(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	c := dialRaw(t, g.Server)
	inner := streamPost + "Content-Length: 3\r\n\r\nabc"
	c.send("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n" + fmt.Sprintf("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(inner)))
	assert.Equal(t, "hold", <-g.entered)
	g.release <- struct{}{}
	c.wantBody("held")
	c.send(inner)
	c.wantBody(inner)
}

// One large body more than there are places is told so; small ones need no place.
func TestStream_crowded(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	const most = 1 << 20
	head := streamPost + fmt.Sprintf("Content-Length: %d\r\n\r\n", most)
	large := make([]*rawClient, httpserver.MaxStreams)
	for i := range large {
		large[i] = dialRaw(t, g.Server)
		large[i].send(head + strings.Repeat("x", httpserver.UsualRequest+1))
	}
	eventually(t, func() bool { return g.Streams() == httpserver.MaxStreams }, "every place is taken")
	c := dialRaw(t, g.Server)
	c.send(streamPost + "Content-Length: 5\r\n\r\nhello")
	c.wantBody("hello")
	c.send(head + strings.Repeat("x", most))
	assert.Equal(t, 503, c.answer().StatusCode)
	require.ErrorIs(t, <-g.gone, httpserver.ErrCrowded)
	large[0].send(strings.Repeat("x", most-httpserver.UsualRequest-1))
	large[0].wantStatus(200)
	require.NoError(t, large[1].Conn.Close())
	eventually(t, func() bool { return g.Streams() == httpserver.MaxStreams-2 }, "places are given back by an answer and by a close")
}

// A body may take longer than ReadTimeout, but not pause for as long.
func TestStream_slow(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{ReadTimeout: 2 * time.Second})
	c := dialRaw(t, g.Server)
	c.send(streamPost + "Content-Length: 12\r\n\r\n")
	for range 12 { // 2.4 s, with pauses that a busy machine may make nine times as long
		time.Sleep(200 * time.Millisecond)
		c.send("x")
	}
	c.wantBody(strings.Repeat("x", 12))
	c.send(streamPost + "Content-Length: 5\r\n\r\nhel")
	assert.Equal(t, 503, c.answer().StatusCode)
	require.ErrorIs(t, <-g.gone, httpserver.ErrSlow)
	c.wantEnd("")

	c = dialRaw(t, g.Server)
	c.send(streamPost + "Content-Le")
	wantRefusal(t, c.answer(), 408, "REQUEST_TIMEOUT")
	c = dialRaw(t, g.Server)
	c.send(streamPost + "X: " + strings.Repeat("x", httpserver.MaxHeaderBytes))
	wantRefusal(t, c.answer(), 431, "REQUEST_HEADER_FIELDS_TOO_LARGE")
}

// A body that ends early is an error, and not a shorter body.
func TestStream_cut(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	for _, body := range []string{"Content-Length: 5\r\n\r\nhel", "Transfer-Encoding: chunked\r\n\r\n5\r\nhel", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"} {
		c := dialRaw(t, g.Server)
		c.send(streamPost + body)
		require.NoError(t, c.Conn.(interface{ CloseWrite() error }).CloseWrite())
		require.ErrorIs(t, <-g.gone, io.ErrUnexpectedEOF, body)
	}
}
