package api

import (
	"bytes"
	"compress/gzip"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/cloudwego/hertz/pkg/app"
)

// compressAbove is the size of a body, in bytes, above which it is compressed
// where the client asks for that. A smaller one fits into one packet as it is. An
// update's answer and a live read are under half of it, so they never pay for the
// work.
const compressAbove = 1 << 10

// encoder is gzip.Writer or brotli.Writer.
type encoder interface {
	io.WriteCloser
	Reset(w io.Writer)
}

// encoders by the name of the coding. Each has tables of some hundred kilobytes,
// so they are used again.
var encoders = map[string]*sync.Pool{
	"gzip": {New: func() any { return gzip.NewWriter(nil) }},
	"br":   {New: func() any { return brotli.NewWriterLevel(nil, 4) }}, // as fast as gzip, and 10 % smaller
}

// compress encodes the body of an answer as the request's Accept-Encoding asks
// (RFC 9110, section 12.5.3). An answer so large says that it varies even if it is
// not encoded.
//
// Compression that mixes a secret with what an attacker writes can give the secret
// away by the length (BREACH). So an answer that holds a code or a secret stays as it is,
// although the attacker must also make the victim's browser send the request with its
// rights, which are in a bearer token that no browser adds by itself.
func compress(c *app.RequestContext) {
	body := c.Response.Body()
	if len(body) <= compressAbove {
		return
	}
	c.Response.Header.Add("Vary", "Accept-Encoding")
	if len(c.Response.Header.ContentEncoding()) > 0 || recordOf(c).secret {
		return // the former: the OpenAPI document, or a file of the pages
	}
	if coding := acceptedCoding(c); coding != "" {
		c.Response.SetBody(encode(coding, body))
		c.Response.Header.SetContentEncoding(coding)
	}
}

func acceptedCoding(c *app.RequestContext) string {
	return preferred(string(bytes.Join(c.Request.Header.PeekAll("Accept-Encoding"), []byte(","))))
}

func encode(coding string, body []byte) []byte {
	var out bytes.Buffer
	e := encoders[coding].Get().(encoder) //nolint:forcetypeassert // what encoders is made of
	e.Reset(&out)
	_, _ = e.Write(body) // a bytes.Buffer cannot fail
	_ = e.Close()
	encoders[coding].Put(e)
	return out.Bytes()
}

// preferred is the coding that Accept-Encoding gives the highest weight, br where
// both are equal. It is empty where neither is asked for by name, and where the
// body as it is has more weight. "*" stands for any coding, but is what clients
// send that decode none.
func preferred(accept string) string {
	var best string
	var most, identity float64
	for item := range strings.SplitSeq(accept, ",") {
		name, parameters, _ := strings.Cut(item, ";")
		weight := weightOf(parameters)
		switch name = strings.ToLower(strings.TrimSpace(name)); name {
		case "x-gzip": // an old name: RFC 9110, section 8.4.1.3
			name = "gzip"
		case "identity":
			identity = weight
		}
		if encoders[name] != nil && (weight > most || weight == most && weight > 0 && name == "br") {
			best, most = name, weight
		}
	}
	if identity > most {
		return ""
	}
	return best
}

// weightOf is the q among the parameters of an item; 1 if there is none, and 0 if
// it cannot be read.
func weightOf(parameters string) float64 {
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, found := strings.Cut(parameter, "=")
		if !found || !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || q < 0 || q > 1 {
			return 0
		}
		return q
	}
	return 1
}
