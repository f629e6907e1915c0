package httpserver_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"doorstep/gateway/httpserver"
)

// Each row is sent with a second request behind it, which a reader that sees the
// end of the first one elsewhere would run. A refused row closes the connection,
// and the second request never runs.
func TestServer_Framing(t *testing.T) {
	t.Parallel()
	const (
		post     = "POST /echo HTTP/1.1\r\nHost: x\r\n"
		smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
		chunked  = "Transfer-Encoding: chunked\r\n"
	)
	g := guardedServer(t, httpserver.Options{})
	for _, tc := range []struct {
		name, send string
		status     int
	}{
		{"cl_and_te", post + "Content-Length: 4\r\n" + chunked + "\r\n0\r\n\r\n", 400},
		{"te_and_cl", post + chunked + "Content-Length: 4\r\n\r\n0\r\n\r\n", 400},
		{"two_different_cl", post + "Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc", 400},
		{"two_equal_cl", post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400},
		{"two_equal_cl_in_two_cases", post + "Content-Length: 3\r\ncontent-length: 3\r\n\r\nabc", 400},
		{"cl_list", post + "Content-Length: 3, 3\r\n\r\nabc", 400},
		{"cl_plus", post + "Content-Length: +3\r\n\r\nabc", 400},
		{"cl_negative", post + "Content-Length: -1\r\n\r\nabc", 400},
		{"te_identity", post + "Transfer-Encoding: identity\r\n\r\n", 400},
		{"te_xchunked", post + "Transfer-Encoding: xchunked\r\n\r\n", 400},
		{"te_list", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400},
		{"two_te", post + chunked + chunked + "\r\n0\r\n\r\n", 400},
		{"te_in_http_1.0", "POST /echo HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n" + chunked + "\r\n0\r\n\r\n", 400},
		{"chunk_extension", post + chunked + "\r\n3;a=b\r\nabc\r\n0\r\n\r\n", 400},
		{"chunk_size_0x", post + chunked + "\r\n0x3\r\nabc\r\n0\r\n\r\n", 400},
		{"chunk_size_negative", post + chunked + "\r\n-3\r\nabc\r\n0\r\n\r\n", 400},
		{"chunk_without_end", post + chunked + "\r\n3\r\nabcd\r\n0\r\n\r\n", 400},
		{"two_hosts", "GET /ping HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400},
		{"obs_fold", "GET /ping HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400},
		{"obs_fold_tab", "GET /ping HTTP/1.1\r\nHost: x\r\nA: b\r\n\tc\r\n\r\n", 400},
		{"obs_fold_hides_te", post + "A: b\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", 400},
		{"fold_on_first_line", "GET /ping HTTP/1.1\r\n Host: x\r\n\r\n", 400},
		{"bare_lf", "GET /ping HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400},
		{"bare_lf_at_the_end", "GET /ping HTTP/1.1\r\nHost: x\r\n\n", 400},
		{"bare_cr", "GET /ping HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", 400},
		{"nul", "GET /ping HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n", 400},
		{"space_before_colon", post + "Content-Length : 3\r\n\r\nabc", 400},
		{"no_name", "GET /ping HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", 400},
		{"no_token_for_a_name", post + "Transfer-Encoding\x0b: chunked\r\nContent-Length: 0\r\n\r\n", 400},
		{"no_token_but_utf_8", "GET /ping HTTP/1.1\r\nHost: x\r\nÄ: b\r\n\r\n", 400},
		{"host_with_a_path", "GET /ping HTTP/1.1\r\nHost: x/y\r\n\r\n", 400},
		{"host_with_a_blank", "GET /ping HTTP/1.1\r\nHost: x y\r\n\r\n", 400},
		{"host_with_a_user", "GET /ping HTTP/1.1\r\nHost: a@x\r\n\r\n", 400},
		{"tab_beside_a_length", post + "Content-Length:\t3\r\n\r\nabc", 400},
		{"no_colon", "GET /ping HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", 400},
		{"no_version", "GET /ping\r\nHost: x\r\n\r\n", 400},

		{"plain", "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n", 200},
		{"cl", post + "Content-Length: 3\r\n\r\nabc", 200},
		{"chunks", post + chunked + "\r\n3\r\nabc\r\n0\r\n\r\n", 200},
		{"te_in_capitals", post + "TRANSFER-ENCODING: Chunked\r\n\r\n0\r\n\r\n", 200},
		{"host_of_ipv6", "GET /ping HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", 200},
		{"get_with_a_body", "GET /ping HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 200},
		// Hertz reads any other version as 1.0 and closes; the request line cannot be checked later.
		{"http_1.2", "GET /ping HTTP/1.2\r\nHost: x\r\n\r\n", 200},
		{"http_3.7", "GET /ping HTTP/3.7\r\nHost: x\r\n\r\n", 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := dialRaw(t, g.Server)
			if tc.status == 200 {
				c.send(tc.send)
				c.wantStatus(200)
				return
			}
			c.send(tc.send + smuggled)
			res := c.answer()
			wantRefusal(t, res, 400, "BAD_REQUEST")
			assert.True(t, res.Close, "Connection: close")
			c.wantEnd("")
			assert.Zero(t, g.smuggle.Load())
		})
		t.Run("streamed/"+tc.name, func(t *testing.T) {
			t.Parallel()
			send := strings.Replace(tc.send, "/echo", "/stream/echo", 1)
			c := dialRaw(t, g.Server)
			if tc.status == 200 {
				c.send(send)
				c.wantStatus(200)
				return
			}
			c.send(send + smuggled)
			res := c.answer()
			assert.True(t, res.StatusCode == http.StatusBadRequest || strings.HasPrefix(tc.name, "chunk_"), "%d", res.StatusCode) // a handler finds out what is wrong with chunks
			assert.True(t, res.Close, "Connection: close")
			c.wantEnd("")
			assert.Zero(t, g.smuggle.Load())
		})
	}
}
