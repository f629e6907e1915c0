package api

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/cloudwego/hertz/pkg/protocol"
	"github.com/cloudwego/hertz/pkg/protocol/consts"
)

// soundFraming reports whether every proxy in front of us must have read the
// request's head as Hertz did. Hertz v0.10.6 refuses most of what can be read
// in two ways; it lets these pass (measured), and where two readers disagree
// about Host or the body's end, one's body is the other's next request:
// two Host lines, a Content-Length said twice, a folded line (RFC 9112 5.2), a
// line that ends in a bare LF, a name that is no token, down to none at all
// (RFC 9110 5.1), and Transfer-Encoding in HTTP/1.0 (RFC 9112 6.1).
func soundFraming(h *protocol.RequestHeader) bool {
	var hosts, lengths, encodings int
	for raw := h.RawHeaders(); len(raw) > 0; {
		line, rest, _ := bytes.Cut(raw, []byte("\n"))
		raw = rest
		line, crlf := bytes.CutSuffix(line, []byte("\r"))
		if !crlf {
			return false
		}
		if len(line) == 0 {
			break // the end of the head
		}
		name, _, _ := bytes.Cut(line, []byte(":"))
		if !isToken(name) { // a folded line begins with a blank, so neither is its "name"
			return false
		}
		switch {
		case bytes.EqualFold(name, []byte("Host")):
			hosts++
		case bytes.EqualFold(name, []byte("Content-Length")):
			lengths++
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			encodings++
		}
	}
	return hosts <= 1 && lengths <= 1 && (encodings == 0 || h.IsHTTP11())
}

// isToken is RFC 9110 5.6.2: what a header may be named.
func isToken(name []byte) bool {
	for _, b := range name {
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0:
		default:
			return false
		}
	}
	return len(name) > 0
}

// hertzRefusal recognises an answer that Hertz gave by itself, before any
// handler ran, and returns its status, else 0. It goes by the text, which no
// handler of ours sends (they answer JSON), because Hertz keeps no other
// trace of it on the way to the socket. An upgrade that rewords them fails
// TestServer_Refusal.
func hertzRefusal(response []byte) int {
	head, body, ok := bytes.Cut(response, []byte("\r\n\r\n"))
	if !ok || len(head) < len("HTTP/1.1 400") || !bytes.HasPrefix(head, []byte("HTTP/1.1 4")) {
		return 0
	}
	status, err := strconv.Atoi(string(head[9:12]))
	if err != nil {
		return 0
	}
	var text string
	switch status {
	case consts.StatusBadRequest:
		text = "Error when parsing request"
	case consts.StatusRequestTimeout:
		text = "Request timeout"
	case consts.StatusRequestEntityTooLarge:
		text = "Request Entity Too Large"
	case consts.StatusRequestHeaderFieldsTooLarge:
		text = "Request Header Fields Too Large"
	}
	if text == "" || string(body) != text {
		return 0
	}
	return status
}
