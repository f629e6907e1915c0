package api

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

// etags is an If-None-Match header. Nil means that there was none; it matches
// nothing.
type etags struct {
	any      bool
	versions []int64
}

func (e *etags) match(version int64) bool {
	return e != nil && (e.any || slices.Contains(e.versions, version))
}

// newest is the highest version of all; 0 for none.
func (e *etags) newest() (version int64) {
	if e != nil && len(e.versions) > 0 {
		version = slices.Max(e.versions)
	}
	return version
}

// lostAtMost is how much older than what a caller has seen a live store may be
// after a failover, in milliseconds. Stores lose seconds. The bound is there for a
// tag that is none of ours and happens to hold a large number: without it such a
// reader would see no location until its journey ended.
const lostAtMost = int64(time.Hour / time.Millisecond)

// behind reports whether v is older than a version that the caller has seen. A
// live store that fails over can lose its last moments, and the pin must not move
// back because of that. The next fix has a higher version than all of them.
func (e *etags) behind(v sessions.View) bool {
	return v.Location != nil && slices.ContainsFunc(e.versions, func(seen int64) bool {
		return seen > v.Version && seen-v.Version <= lostAtMost
	})
}

// validatorOf reads a request's If-None-Match; several are one list.
func validatorOf(c *app.RequestContext) *etags {
	return validator(bytes.Join(c.Request.Header.PeekAll("If-None-Match"), []byte(",")))
}

// validator reads If-None-Match (RFC 9110, section 13.1.2): "*", or a list of
// entity tags, weak or strong.
//
// A tag counts by the numbers in it, because proxies and clients rewrite tags on
// the way: Apache's mod_deflate sends "V-gzip" for our "V", others "V--gzip",
// "V;br" or "V"-gzip, and clients lose the quotes or encode them. A tag that is
// not recognized would end every wait at once, and a poll would become a busy
// loop (9,258 requests in 3 s were seen through Apache). Every run of digits is
// taken for a version, so that a number that was put before ours does no harm: a
// version is 13 digits long, and no other number in a tag is equal to it by
// chance. A tag without one of our versions matches nothing.
func validator(header []byte) *etags {
	header = bytes.TrimSpace(header)
	if len(header) == 0 {
		return nil
	}
	if string(header) == "*" {
		return &etags{any: true}
	}
	tags := &etags{}
	for i := 0; i < len(header); {
		if header[i] == '%' { // %22 is a quote, and no digit of what follows it
			i += 3
			continue
		}
		n := digits(header[i:])
		if n == 0 {
			i++
			continue
		}
		if v, err := strconv.ParseInt(string(header[i:i+n]), 10, 64); err == nil {
			tags.versions = append(tags.versions, v)
		}
		i += n
	}
	return tags
}

// digits is the length of the run of digits at the beginning of s.
func digits(s []byte) int {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}

func notModified(c *app.RequestContext, version int64) error {
	validators(c, version)
	c.SetStatusCode(http.StatusNotModified)
	return nil
}

// validators sets the ETag. A degraded answer has no version, which is 0, and gets
// none. The tag is weak, because two answers of one version can differ in etaSeconds.
func validators(c *app.RequestContext, version int64) {
	if version != 0 {
		setNumber(c, "ETag", `W/"`, version, `"`)
	}
}
