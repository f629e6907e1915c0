package api

import (
	"bytes"
	"strings"

	"github.com/cloudwego/hertz/pkg/app"
)

// prefers reports whether the request's Prefer headers (RFC 7240) name a preference with this
// value; both in any case. Of two of one name the first counts, and parameters are not looked
// at. A comma in a quoted value ends it: no preference that is known here has one.
func prefers(c *app.RequestContext, name, value string) bool {
	if len(c.Request.Header.Peek("Prefer")) == 0 { // as in most requests
		return false
	}
	for _, line := range c.Request.Header.PeekAll("Prefer") {
		for item := range bytes.SplitSeq(line, []byte(",")) {
			item, _, _ = bytes.Cut(item, []byte(";"))
			got, with, _ := bytes.Cut(item, []byte("="))
			if strings.EqualFold(string(bytes.TrimSpace(got)), name) {
				return strings.EqualFold(string(bytes.Trim(with, ` 	"`)), value)
			}
		}
	}
	return false
}
