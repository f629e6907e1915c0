package drive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// wire is one keep-alive HTTP/1.1 connection, one request at a time. It dials
// when it has to. Not safe for concurrent use.
type wire struct {
	addr  string
	local net.IP // whose connection this is, on loopback
	conn  net.Conn
	undo  func() bool
	in    []byte
}

// answer is a response. Its slices last until the next call.
type answer struct {
	status int
	etag   []byte
	body   []byte
}

// errShape is an answer that this parser does not read: chunked, or no HTTP.
var errShape = errors.New("drive: unreadable answer")

const dialWithin = 10 * time.Second

// call sends a whole request and reads the answer. After an error the next
// call dials again; no request is sent twice. The end of ctx closes the
// connection.
func (w *wire) call(ctx context.Context, request []byte, within time.Duration) (answer, error) {
	if err := w.dial(ctx); err != nil {
		return answer{}, err
	}
	_ = w.conn.SetDeadline(time.Now().Add(within))
	if _, err := w.conn.Write(request); err != nil {
		w.close()
		return answer{}, err
	}
	a, closing, err := w.read()
	if err != nil || closing {
		w.close()
	}
	return a, err
}

func (w *wire) dial(ctx context.Context) error {
	if w.conn != nil {
		return nil
	}
	dialer := net.Dialer{Timeout: dialWithin}
	if w.local != nil {
		dialer.LocalAddr = &net.TCPAddr{IP: w.local}
	}
	conn, err := dialer.DialContext(ctx, "tcp", w.addr)
	if err != nil {
		return err
	}
	w.conn, w.undo = conn, context.AfterFunc(ctx, func() { _ = conn.Close() })
	return nil
}

func (w *wire) close() {
	if w.conn != nil {
		w.undo()
		_ = w.conn.Close()
		w.conn = nil
	}
}

// read reads one answer.
func (w *wire) read() (a answer, closing bool, err error) {
	if w.in == nil {
		w.in = make([]byte, 1024) // an answer with its headers; students hold one each
	}
	have, head := 0, -1
	for head < 0 {
		n, err := w.fill(have)
		if err != nil {
			return a, false, err
		}
		from := max(0, have-3)
		have += n
		if at := bytes.Index(w.in[from:have], []byte("\r\n\r\n")); at >= 0 {
			head = from + at + 4
		}
	}
	a.status, err = statusOf(w.in[:head])
	if err != nil {
		return a, false, err
	}
	var length int
	a.etag, length, closing, err = headers(w.in[:head])
	if err != nil {
		return a, false, err
	}
	if a.status == http.StatusNotModified || a.status == http.StatusNoContent {
		length = 0 // whatever the header says
	}
	for have < head+length {
		before := w.in
		n, err := w.fill(have)
		if err != nil {
			return a, false, err
		}
		have += n
		if &before[0] != &w.in[0] { // it moved
			a.etag, _, _, _ = headers(w.in[:head])
		}
	}
	a.body = w.in[head : head+length]
	return a, closing, nil
}

func (w *wire) fill(have int) (int, error) {
	if have == len(w.in) {
		if have >= 1<<20 {
			return 0, errShape
		}
		w.in = append(w.in, make([]byte, len(w.in))...)
	}
	return w.conn.Read(w.in[have:])
}

// statusOf reads "HTTP/1.1 200 ...".
func statusOf(head []byte) (int, error) {
	if len(head) < 12 || string(head[:7]) != "HTTP/1." {
		return 0, errShape
	}
	return digits(head[9:12])
}

func digits(text []byte) (n int, err error) {
	for _, c := range text {
		if c < '0' || c > '9' || n > 1<<30 {
			return 0, fmt.Errorf("%w: %q is no number", errShape, text)
		}
		n = 10*n + int(c-'0')
	}
	return n, nil
}

// headers finds the few that matter.
func headers(head []byte) (etag []byte, length int, closing bool, err error) {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		value = bytes.TrimSpace(value)
		switch {
		case is(name, "content-length"):
			if length, err = digits(value); err != nil {
				return nil, 0, false, err
			}
		case is(name, "etag"):
			etag = value
		case is(name, "connection"):
			closing = is(value, "close")
		case is(name, "transfer-encoding"):
			return nil, 0, false, fmt.Errorf("%w: chunked", errShape)
		}
	}
	return etag, length, closing, nil
}

// is compares with a lower-case word.
func is(text []byte, word string) bool {
	if len(text) != len(word) {
		return false
	}
	for i, c := range text {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != word[i] {
			return false
		}
	}
	return true
}
