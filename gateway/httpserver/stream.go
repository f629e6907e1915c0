package httpserver

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http/httputil"
	"net/netip"
	"strconv"
	"time"

	"github.com/cloudwego/hertz/pkg/app"
)

const (
	// maxStreams is how many streamed bodies over usualRequest are read at once.
	maxStreams = 8
	// streamTime is the time for a whole streamed body: 12 MB at 1 Mbit/s, and some
	// more. Between two reads of it no more than ReadTimeout may pass.
	streamTime = 2 * time.Minute
	// maxTrailer bounds what stands behind the last chunk.
	maxTrailer = 4 << 10
)

// ErrCrowded is what Read of a streamed body returns when the body turns out to be
// one large one too many.
var ErrCrowded = errors.New("httpserver: too many large bodies are being read")

// ErrSlow is what it returns when the body took too long to arrive.
var ErrSlow = errors.New("httpserver: the body took too long to arrive")

// A request to a path below Options.StreamPath is streamed: its handler reads the body
// from the connection (Body), and is called as soon as the head has come. Only such a
// request may be larger than maxBodyBytes.
//
// Hertz reads a body before it looks for the handler, or streams the bodies of all
// requests. The latter costs every update two allocations, is not bounded by
// WithMaxRequestBodySize, and Hertz v0.10.6 then reads beyond the end of a body of over
// 8 KiB into the next request. So the connection hides the body from Hertz: it gives
// Hertz the head with the names of Content-Length and Transfer-Encoding overwritten, and
// keeps what follows. A head that two readers could read in two ways is not touched;
// Hertz and readHead refuse it as ever.

// streamed is the body of a streamed request.
type streamed struct {
	c      *conn
	rest   []byte // of the body, as it came with the head; behind the body, of the next request
	body   io.Reader
	chunks *bufio.Reader // under body, where it is chunked; else nil
	left   int64         // of a body with a length
	until  time.Time
	n      int64
	large  bool // it is counted in listener.streams
	done   bool // its end has been read
}

// beginStream looks at the first bytes of a request. Where they ask for a streamed path
// it reads the head, and returns true: c.head is then what Hertz reads.
func (c *conn) beginStream(first []byte) bool {
	path := c.l.opts.StreamPath
	if path == "" || !streams(first, path) {
		return false
	}
	text := bytes.Clone(first)
	for !bytes.Contains(text, []byte("\r\n\r\n")) && streams(text, path) && len(text) <= maxHeaderBytes {
		more := make([]byte, 4<<10)
		n, err := c.Conn.Read(more)
		text = append(text, more[:n]...)
		if err != nil {
			break // Hertz meets it again
		}
	}
	c.head, c.got = text, len(text)
	end := bytes.Index(text, []byte("\r\n\r\n"))
	if end < 0 || !streams(text, path) {
		return true
	}
	head, rest := text[:end+4], text[end+4:]
	length, ok := hideBody(head)
	if !ok {
		return true
	}
	c.head, c.got = head, len(head)
	c.stream = newStreamed(c, rest, length)
	return true
}

// streams reports whether a request that begins with text has a body and a streamed path,
// as far as it goes.
func streams(text []byte, path string) bool {
	for _, method := range [...]string{"POST ", "PUT ", "PATCH "} {
		if startsAlike(text, method) {
			return startsAlike(text[min(len(text), len(method)):], path)
		}
	}
	return false
}

// startsAlike reports whether text begins with line, as far as it goes.
func startsAlike(text []byte, line string) bool {
	n := min(len(text), len(line))
	return string(text[:n]) == line[:n]
}

const chunked = -1

// hideBody overwrites the name of the one header that says where the body ends, and
// returns the body's length or chunked. It reports false, and changes nothing, where
// there is no such header, or two, or anything that is not plain.
func hideBody(head []byte) (length int64, ok bool) {
	var name []byte
	lines := bytes.SplitAfter(head[:len(head)-2], []byte("\n"))
	for i, line := range lines {
		if len(line) == 0 {
			continue
		}
		text, crlf := bytes.CutSuffix(line, []byte("\r\n"))
		if !crlf || bytes.ContainsAny(text, "\r\x00") {
			return 0, false
		}
		if i == 0 {
			continue
		}
		key, value, colon := bytes.Cut(text, []byte(":"))
		if !colon || !isToken(key) {
			return 0, false
		}
		value = bytes.Trim(value, " ") // Hertz refuses a tab
		switch {
		case bytes.EqualFold(key, []byte("Content-Length")):
			if length, ok = decimal(value); !ok || name != nil {
				return 0, false
			}
			name = key
		case bytes.EqualFold(key, []byte("Transfer-Encoding")):
			if name != nil || !bytes.EqualFold(value, []byte("chunked")) || !bytes.HasSuffix(lines[0], []byte(" HTTP/1.1\r\n")) {
				return 0, false
			}
			length, name = chunked, key
		}
	}
	if name == nil {
		return 0, false
	}
	copy(name, "Streamed-Encoding") // as much of it as the name is long
	return length, true
}

// decimal reads digits alone. ParseInt would take a sign.
func decimal(text []byte) (int64, bool) {
	n, err := strconv.ParseUint(string(text), 10, 62)
	return int64(n), err == nil
}

func newStreamed(c *conn, rest []byte, length int64) *streamed {
	s := &streamed{c: c, rest: rest, left: length, until: time.Now().Add(streamTime)}
	if length == chunked {
		s.chunks = bufio.NewReader(wire{s})
		s.body = httputil.NewChunkedReader(s.chunks)
	} else {
		s.body, s.done = wire{s}, length == 0
	}
	return s
}

// wire reads what stands on the connection behind the head.
type wire struct{ s *streamed }

func (w wire) Read(p []byte) (int, error) {
	s := w.s
	if len(s.rest) > 0 {
		n := copy(p, s.rest)
		s.rest = s.rest[n:]
		return n, nil
	}
	return s.c.readBody(p, s.until)
}

// Read implements io.Reader. Errors: ErrCrowded, ErrSlow, io.ErrUnexpectedEOF, and those
// of malformed chunks.
func (s *streamed) Read(p []byte) (int, error) {
	if s.done {
		return 0, io.EOF
	}
	if s.chunks == nil && int64(len(p)) > s.left {
		p = p[:s.left]
	}
	n, err := s.body.Read(p)
	s.n += int64(n)
	if s.chunks == nil {
		s.left -= int64(n)
		s.done = s.left == 0
	}
	if !s.admitLarge() {
		return 0, ErrCrowded
	}
	switch {
	case s.done:
		return n, nil
	case errors.Is(err, io.EOF) && s.chunks != nil:
		if err = s.readTrailer(); err == nil {
			s.done, err = true, io.EOF
		}
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// admitLarge takes a place for a body that turns out to be large.
func (s *streamed) admitLarge() bool {
	if s.large || s.n <= usualRequest {
		return true
	}
	if s.c.l.streams.Add(1) > maxStreams {
		s.c.l.streams.Add(-1)
		return false
	}
	s.large = true
	return true
}

// readTrailer reads to the empty line behind the last chunk.
func (s *streamed) readTrailer() error {
	for n := 0; n < maxTrailer; {
		line, err := s.chunks.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			return nil
		}
		n += len(line)
	}
	return errors.New("httpserver: a trailer that is too long")
}

// end gives the place back, and reports whether the connection can be used again: the
// body has been read, or came whole with the head, and nothing of another request has.
// Phones wait for the answer, so a request that came too early is not worth keeping: its
// client sends it again.
func (s *streamed) end() bool {
	if s.large {
		s.c.l.streams.Add(-1)
	}
	if !s.done && s.chunks == nil && s.left <= int64(len(s.rest)) {
		s.rest, s.done = s.rest[s.left:], true
	}
	behind := len(bytes.TrimLeft(s.rest, "\r\n"))
	if s.chunks != nil {
		early, _ := s.chunks.Peek(s.chunks.Buffered())
		behind += len(bytes.TrimLeft(early, "\r\n"))
	}
	return s.done && behind == 0
}

// readBody reads from the socket for a handler.
func (c *conn) readBody(p []byte, until time.Time) (int, error) {
	left := time.Until(until)
	if left <= 0 {
		return 0, ErrSlow
	}
	c.mu.Lock()
	c.limitReads(min(left, c.l.opts.ReadTimeout))
	c.mu.Unlock()
	n, err := c.Conn.Read(p)
	if isTimeout(err) {
		err = ErrSlow
	}
	return n, err
}

// Body is the body of a request. That of a streamed request can be read once, and only
// by the goroutine of its handler.
func Body(c *app.RequestContext) io.Reader {
	if on, _ := c.GetConn().(*served); on != nil && on.stream != nil {
		return on.stream
	}
	return bytes.NewReader(c.Request.Body())
}

// Client is the address that a request is counted under: that of the connection, or the
// client's behind a trusted proxy. It is not valid where there is none.
func Client(c *app.RequestContext) netip.Prefix {
	on, _ := c.GetConn().(*served)
	switch {
	case on == nil:
		return netip.Prefix{}
	case on.proxied:
		return clientOf(&c.Request.Header, on.l.opts.TrustedProxies, on.peer)
	}
	return on.peer
}
