package httpserver_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/httpserver"
)

// What RFC 9112 asks of a robust server, and what it leaves to the server:
// docs/http.md has the list.
func TestServer_Robust(t *testing.T) {
	t.Parallel()
	const ping = "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"
	post := "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok"
	g := guardedServer(t, httpserver.Options{})
	for _, tc := range []struct {
		name, send string
		statuses   []int
		closes     bool // after the last
	}{
		{"one_empty_line_before", "\r\n" + ping, []int{200}, false},
		{"many_empty_lines_before", strings.Repeat("\r\n", 100) + ping, []int{200}, false},
		{"bare_line_feeds_before", "\n\n" + ping, []int{200}, false},
		{"empty_line_after_a_body", post + "\r\n" + ping, []int{200, 200}, false},
		{"empty_lines_between", ping + "\r\n\r\n" + ping + "\r\n" + ping, []int{200, 200, 200}, false},
		{"absolute_form", "GET http://x/ping HTTP/1.1\r\nHost: x\r\n\r\n", []int{200}, false},
		{"absolute_form_of_another_host", "GET http://other:1/ping HTTP/1.1\r\nHost: x\r\n\r\n", []int{200}, false},
		{"absolute_form_by_https", "GET https://x/ping HTTP/1.1\r\nHost: x\r\n\r\n", []int{200}, false},
		{"blanks_around_a_value", "POST /echo HTTP/1.1\r\nHost:\t x \t\r\nContent-Length:   2  \r\n\r\nok", []int{200}, false},
		{"no_blank_after_the_colon", "GET /ping HTTP/1.1\r\nHost:x\r\n\r\n", []int{200}, false},
		{"empty_value", "GET /ping HTTP/1.1\r\nHost: x\r\nAccept:\r\n\r\n", []int{200}, false},
		{"names_in_any_case", "POST /echo HTTP/1.1\r\nHOST: x\r\ncOnTeNt-LeNgTh: 2\r\n\r\nok", []int{200}, false},
		{"trailers", "POST /echo HTTP/1.1\r\nHost: x\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n" + ping, []int{200, 200}, false},
		{"trailers_not_announced", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n" + ping, []int{200, 200}, false},
		{"chunk_sizes_in_capitals_and_with_zeros", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n00A\r\n0123456789\r\n0\r\n\r\n", []int{200}, false},
		{"range_is_ignored", "GET /ping HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1\r\n\r\n", []int{200}, false},
		{"upgrade_is_ignored", "GET /ping HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", []int{200}, false},
		{"te_is_ignored", "GET /ping HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: TE\r\n\r\n", []int{200}, false},
		{"unknown_expectation_is_ignored", "GET /ping HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\n\r\n", []int{200}, false},
		{"method_in_lower_case_is_another_method", "get /ping HTTP/1.1\r\nHost: x\r\n\r\n", []int{405}, false},
		{"two_blanks_in_the_request_line", "GET  /ping HTTP/1.1\r\nHost: x\r\n\r\n", []int{400}, true},
		{"http_1.0_without_a_host", "GET /ping HTTP/1.0\r\n\r\n", []int{200}, true},
		{"http_1.0_kept_alive", "GET /ping HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n" + ping, []int{200, 200}, false},
		{"close", "GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", []int{200}, true},
		{"close_with_a_capital", "GET /ping HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n", []int{200}, true},
		{"close_in_capitals", "GET /ping HTTP/1.1\r\nHost: x\r\nCONNECTION: CLOSE\r\n\r\n", []int{200}, true},
		{"close_in_a_list", "GET /ping HTTP/1.1\r\nHost: x\r\nConnection: keep-alive ,\tclose, TE\r\n\r\n", []int{200}, true},
		{"close_on_the_first_of_two_lines", "GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\nConnection: TE\r\n\r\n", []int{200}, true},
		{"close_and_not_found", "GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n", []int{404}, true},
		{"closed_is_not_close", "GET /ping HTTP/1.1\r\nHost: x\r\nConnection: closed\r\n\r\n" + ping, []int{200, 200}, false},
	} {
		for how, piece := range map[string]int{"at_once": 1 << 20, "byte_by_byte": 1} {
			t.Run(tc.name+"/"+how, func(t *testing.T) {
				t.Parallel()
				c := dialRaw(t, g.Server)
				go func() {
					for rest := tc.send; rest != ""; rest = rest[min(piece, len(rest)):] {
						if _, err := io.WriteString(c.Conn, rest[:min(piece, len(rest))]); err != nil {
							return
						}
						if piece == 1 {
							time.Sleep(50 * time.Microsecond)
						}
					}
				}()
				for i, status := range tc.statuses {
					res := c.answer()
					assert.Equal(t, status, res.StatusCode)
					assert.Equal(t, tc.closes && i == len(tc.statuses)-1, res.Close, "Connection: close")
					assert.NotEmpty(t, res.Header.Get("Date"))
				}
				if tc.closes {
					c.wantEnd("")
				} else {
					c.get("/ping")
					c.wantStatus(200)
				}
			})
		}
	}
}

// Empty lines are not a request, so they do not prolong the wait for one.
func TestServer_Robust_empty_lines_for_ever(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{ReadTimeout: shortRead})
	c := dialRaw(t, g.Server)
	c.drip(strings.Repeat("\r\n", 5000), shortRead/20)
	c.wantEnd("")
}

func TestServer_Expect(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	for _, tc := range []struct {
		name, version, expect string
		continues             bool
	}{
		{"as_usual", "1.1", "Expect: 100-continue", true},
		{"with_a_capital", "1.1", "Expect: 100-Continue", true},
		{"in_another_case", "1.1", "expect: 100-CONTINUE", true},
		{"http_1.0", "1.0", "Expect: 100-continue", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := dialRaw(t, g.Server)
			c.send("POST /echo HTTP/" + tc.version + "\r\nHost: x\r\n" + tc.expect + "\r\nContent-Length: 2\r\n\r\n")
			if tc.continues {
				c.wantStatus(100)
			}
			c.send("ok")
			res := c.answer()
			assert.Equal(t, 200, res.StatusCode)
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			assert.Equal(t, "ok", string(body))
		})
	}
}

// A body that looks like a header is left as it is.
func TestServer_Expect_in_a_body(t *testing.T) {
	t.Parallel()
	g := guardedServer(t, httpserver.Options{})
	c := dialRaw(t, g.Server)
	const sent = "\r\nExpect: 100-Continue\r\n"
	c.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 24\r\n\r\n" + sent)
	body, err := io.ReadAll(c.answer().Body)
	require.NoError(t, err)
	assert.Equal(t, sent, string(body))
}
