package httpserver

import (
	"bytes"
	"strings"

	"github.com/cloudwego/hertz/pkg/protocol"
)

// readHead reads of the head of a request what Hertz does not. closes is true if
// Connection asks to close, in any case and anywhere in the list (RFC 9110,
// section 7.6.1); Hertz knows only a lone "close".
//
// sound is true if every proxy in front must have read the head as Hertz did. Where two readers disagree about Host or about the
// end of the body, the body that one sees is the next request that the other
// sees (request smuggling). Hertz v0.10.6 refuses most of such heads; it lets
// these pass (measured): two Host lines, two Content-Length lines, a folded line
// (RFC 9112, section 5.2), a line that ends in a bare LF, a header name that is
// not a token or is empty (RFC 9110, section 5.1), Transfer-Encoding in HTTP/1.0
// (RFC 9112, section 6.1), and a Host that is no host (RFC 9112, section 3.2).
func readHead(h *protocol.RequestHeader) (sound, closes bool) {
	var hosts, lengths, encodings int
	for raw := h.RawHeaders(); len(raw) > 0; {
		line, rest, _ := bytes.Cut(raw, []byte("\n"))
		raw = rest
		line, crlf := bytes.CutSuffix(line, []byte("\r"))
		if !crlf {
			return false, closes
		}
		if len(line) == 0 {
			break // the end of the head
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if !isToken(name) { // also refuses a folded line, which begins with a blank
			return false, closes
		}
		switch {
		case bytes.EqualFold(name, []byte("Host")):
			if hosts++; !isHost(bytes.Trim(value, " \t")) {
				return false, closes
			}
		case bytes.EqualFold(name, []byte("Content-Length")):
			lengths++
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			encodings++
		case bytes.EqualFold(name, []byte("Connection")):
			closes = closes || hasToken(value, "close")
		}
	}
	return hosts <= 1 && lengths <= 1 && (encodings == 0 || h.IsHTTP11()), closes
}

// hasToken reports whether a list (RFC 9110, section 5.6.1) holds token, which is
// in lower case.
func hasToken(list []byte, token string) bool {
	for item := range bytes.SplitSeq(list, []byte(",")) {
		if bytes.EqualFold(bytes.Trim(item, " \t"), []byte(token)) {
			return true
		}
	}
	return false
}

// isHost reports whether s has only characters that a host and a port may have
// (RFC 3986, section 3.2.2). An empty one is left to Hertz.
func isHost(s []byte) bool {
	for _, b := range s {
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		case strings.IndexByte("-._~%!$&'()*+,;=:[]", b) >= 0:
		default:
			return false
		}
	}
	return true
}

// isToken reports whether name may be a header's name (RFC 9110, section 5.6.2).
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
